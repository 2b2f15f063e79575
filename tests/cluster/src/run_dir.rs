//! One directory for each run, locked by the process that owns it, so that the next run can tell
//! what a killed one left behind, and removes it.

use std::env;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Error, Result, cgroups};

static RUNS: AtomicU32 = AtomicU32::new(0);

/// A directory that nobody else reads (it holds keys), removed when dropped.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    // The lock goes with the process, also when it is killed.
    owner: File,
}

impl RunDir {
    /// Makes one, after having removed what killed runs left.
    ///
    /// # Errors
    /// When there is no place for it that is the user's own.
    pub fn new() -> Result<Self> {
        let base = base()?;
        // Held while directories come and go, so that no one's new directory looks abandoned.
        let door = open(&base.join("lock"))?;
        door.lock().map_err(Error::at("lock", &base))?;
        for entry in fs::read_dir(&base).map_err(Error::at("read", &base))?.flatten() {
            if entry.path().is_dir() {
                remove_if_abandoned(&entry.path());
            }
        }
        cgroups::remove_all_without_directory(&base);
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("{}-{number}", process::id()));
        private_dir(&path)?;
        let owner = open(&path.join("owner"))?;
        owner.lock().map_err(Error::at("lock", &path))?;
        Ok(Self { path, owner })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The lock, for another process that needs the directory for longer.
    pub(crate) fn lock(&self) -> Result<File> {
        self.owner.try_clone().map_err(Error::at("lock", &self.path))
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        cgroups::remove(&self.path);
        if env::var_os("BERTH_TEST_KEEP").is_none_or(|value| value.is_empty()) {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Makes a directory that only its owner may enter.
pub(crate) fn private_dir(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::at("make", path))
}

/// `berth-test-UID` in the directory for temporary files. One that another user made is refused:
/// whoever owns it could read the keys in it.
fn base() -> Result<PathBuf> {
    let me = Path::new("/proc/self");
    let uid = me.metadata().map_err(Error::at("read", me))?.uid();
    let base = env::temp_dir().join(format!("berth-test-{uid}"));
    private_dir(&base)?;
    let metadata = fs::symlink_metadata(&base).map_err(Error::at("read", &base))?;
    if !metadata.is_dir() || metadata.uid() != uid || metadata.mode() & 0o077 != 0 {
        return Err(Error::new(format!("{} is open to others; remove it, or set TMPDIR", base.display())));
    }
    Ok(base)
}

fn open(path: &Path) -> Result<File> {
    File::options().create(true).truncate(false).write(true).open(path).map_err(Error::at("open", path))
}

fn remove_if_abandoned(dir: &Path) {
    let abandoned = match open(&dir.join("owner")).map(|file| file.try_lock()) {
        Ok(Ok(())) => true,
        Ok(Err(TryLockError::WouldBlock)) => false,
        Ok(Err(TryLockError::Error(_))) | Err(_) => false,
    };
    if abandoned {
        end_processes_of(dir);
        let _ = fs::remove_dir_all(dir);
    }
}

/// A process outlives its owner only when its supervisor was killed too. Its environment says
/// whether a process id still means the process that the file `NAME.pid` was written for.
fn end_processes_of(dir: &Path) {
    for pid_file in fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if pid_file.extension().is_none_or(|extension| extension != "pid") {
            continue;
        }
        let Some(pid) = fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse::<u32>().ok()) else {
            continue;
        };
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mark = format!("PID_FILE={}", pid_file.display());
        if environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes()) {
            let _ = process::Command::new("sh").args(["-c", "kill -s KILL \"$0\"", &pid.to_string()]).status();
        }
    }
}
