//! Files that another process may be reading, or watching.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Mode of what only its owner may read.
const PRIVATE: u32 = 0o600;
/// Mode of what anyone may read.
const PUBLIC: u32 = 0o644;

/// Writes a file so that a reader sees the old content or the new one, and never half of it; `private` ones are never
/// readable by others, not even for a moment.
///
/// # Errors
/// When the directory cannot be written to.
pub fn write_atomically(path: &Path, content: &[u8], private: bool) -> io::Result<()> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let mode = if private { PRIVATE } else { PUBLIC };
    let written = write_new(&temporary, content, mode).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to tell; there may be nothing to remove.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    // One that a killed process with the same id left behind.
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    // A rename may reach the disk before the content does.
    file.sync_all()
}
