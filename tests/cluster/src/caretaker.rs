//! What leaves a cluster that was there before as it was, however its user ends.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::{Error, Result, wait_for};

/// Reads commands, one a line, and runs them at the end of file, the last one first. That end is what the owner's death
/// makes too; a Ctrl-C for the owner is none for this one.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
all=
while IFS= read -r line; do
    all="$line
$all"
done
eval "$all"
"#;

/// For all commands together; each has a bound of its own.
const BOUND: Duration = Duration::from_secs(600);

/// A process of its own that undoes what was done. Dropping it waits until that is through.
#[derive(Debug)]
pub(crate) struct Caretaker {
    child: Child,
    orders: Mutex<Option<ChildStdin>>,
}

impl Caretaker {
    /// Starts one. `lock` is held until it is through; what its commands say of failures goes to standard error.
    ///
    /// # Errors
    /// When there is no shell.
    pub(crate) fn start(lock: File) -> Result<Self> {
        let mut child = Command::new("sh")
            .args(["-c", SCRIPT, "berth-test-caretaker"])
            .stdin(Stdio::piped())
            .stdout(lock)
            .process_group(0)
            .spawn()
            .map_err(|cause| Error::new(format!("cannot run sh: {cause}")))?;
        let orders = Mutex::new(child.stdin.take());
        Ok(Self { child, orders })
    }

    /// Has a command run at the end, before all that were asked for before.
    ///
    /// # Errors
    /// When it does not listen any more.
    pub(crate) fn at_the_end(&self, program: &Path, arguments: &[&str]) -> Result<()> {
        let program = program.display().to_string();
        let words = [program.as_str()].into_iter().chain(arguments.iter().copied());
        let line: Vec<_> = words.map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let written = orders.as_mut().map(|orders| writeln!(orders, "{}", line.join(" ")));
        match written {
            Some(Ok(())) => Ok(()),
            _ => Err(Error::new("what would leave the cluster as it was has ended")),
        }
    }
}

impl Drop for Caretaker {
    fn drop(&mut self) {
        self.orders.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let ended = wait_for("a cluster that is as it was", BOUND, || {
            self.child.try_wait().map_err(|cause| Error::new(format!("cannot wait for sh: {cause}")))
        });
        if let Err(error) = ended {
            eprintln!("{error}");
        }
    }
}
