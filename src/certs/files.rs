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

#[cfg(test)]
mod tests {
    use std::env;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    /// A directory of the test's own, gone with it.
    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = env::temp_dir().join(format!("berth-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> Vec<OsString> {
            fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name()).collect()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_reader_sees_the_old_content_or_the_new_one() {
        let scratch = Scratch::new("atomic");
        let path = scratch.0.join("file");
        let contents = [vec![b'a'; 100_000], vec![b'b'; 50_000]];
        write_atomically(&path, &contents[0], false).unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut reads = 0;
                while reads == 0 || !done.load(Ordering::Relaxed) {
                    assert!(contents.contains(&fs::read(&path).unwrap()));
                    reads += 1;
                }
            });
            for round in 0..200 {
                write_atomically(&path, &contents[round % 2], false).unwrap();
            }
            done.store(true, Ordering::Relaxed);
            reader.join().unwrap();
        });
        assert_eq!(scratch.names(), ["file"]);
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let scratch = Scratch::new("failed");
        let path = scratch.0.join("directory");
        fs::create_dir(&path).unwrap();
        assert!(write_atomically(&path, b"content", true).is_err());
        assert_eq!(scratch.names(), ["directory"]);
    }
}
