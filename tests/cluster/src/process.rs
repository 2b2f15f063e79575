//! Children that end with their owner, however that ends.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::{Error, Result, wait_for};

/// Runs `$@` as a child and does what it reads: the name of a signal to send to it. At end of file,
/// which is what the owner's death makes of it, the whole process group is killed.
///
/// The usual PR_SET_PDEATHSIG would follow the thread that spawned the child, and a test's thread
/// ends long before the test process does. A shell is there on every machine.
const SUPERVISOR: &str = r#"
exec 3<&0 </dev/null
"$@" 3<&- &
child=$!
echo "$child" > "$PID_FILE"
(
    exec >/dev/null 2>&1
    while read -r signal <&3; do kill -s "$signal" "$child"; done
    kill -s KILL 0
) &
exec 3<&-
wait "$child"
"#;

/// How long a process may take to end after SIGTERM before it is killed on drop.
const GRACE: Duration = Duration::from_secs(5);

/// A running program, its output in a file. Dropping it ends it: SIGTERM, and SIGKILL five seconds
/// later. It also ends, by SIGKILL, when the process that owns it dies of whatever cause.
#[derive(Debug)]
pub struct Process {
    name: String,
    start: Start,
    supervisor: Child,
    orders: Option<ChildStdin>,
    pid: u32,
    log: PathBuf,
}

/// What it takes to start the program again.
#[derive(Debug, Clone)]
struct Start {
    dir: PathBuf,
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
}

impl Process {
    /// Starts `program` with `arguments` and additional environment. `NAME.log` and `NAME.pid` are
    /// written in `dir`; a log that is there already is appended to.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start<A: AsRef<OsStr>>(
        dir: &Path,
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        environment: &[(String, String)],
    ) -> Result<Self> {
        let start = Start {
            dir: dir.to_owned(),
            program: program.to_owned(),
            arguments: arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect(),
            environment: environment.to_vec(),
        };
        Self::run(name, start)
    }

    fn run(name: &str, start: Start) -> Result<Self> {
        let Start { dir, program, arguments, environment } = &start;
        let log = dir.join(format!("{name}.log"));
        let pid_file = dir.join(format!("{name}.pid"));
        if !program.exists() {
            return Err(Error::new(format!("there is no program {}", program.display())));
        }
        if pid_file.exists() {
            fs::remove_file(&pid_file).map_err(Error::at("remove", &pid_file))?;
        }
        let output = File::options().create(true).append(true).open(&log).map_err(Error::at("write", &log))?;
        let errors = output.try_clone().map_err(Error::at("write", &log))?;
        let mut supervisor = Command::new("sh")
            .args(["-c", SUPERVISOR, name])
            .arg(program)
            .args(arguments)
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .env("PID_FILE", &pid_file)
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(Error::at("start", program))?;
        let orders = supervisor.stdin.take();
        let mut process = Self { name: name.to_owned(), start, supervisor, orders, pid: 0, log };
        process.pid = wait_for("the pid of a new process", GRACE, || {
            Ok(fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse().ok()))
        })?;
        Ok(process)
    }

    /// Kills the program where it still runs, and starts it again as it was started.
    ///
    /// # Errors
    /// When it does not end, or cannot be started.
    pub fn restart(&mut self) -> Result<()> {
        if self.exit_status()?.is_none() {
            self.kill()?;
        }
        *self = Self::run(&self.name, self.start.clone())?;
        Ok(())
    }

    /// The process id of the program itself.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The file that the program's output goes to.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of the log, for an error message.
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// The exit status, once the program has ended (128 + N after signal N, as a shell tells it).
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        self.supervisor.try_wait().map_err(|cause| Error::new(format!("cannot wait for {}: {cause}", self.name)))
    }

    /// # Errors
    /// When the program has ended, with the end of its log.
    pub(crate) fn fail_if_ended(&mut self) -> Result<()> {
        match self.exit_status()? {
            None => Ok(()),
            Some(status) => {
                Err(Error::new(format!("{} ended with {status}:\n{}", self.log.display(), self.log_tail())))
            }
        }
    }

    /// Sends a signal by its name without SIG, as in `TERM`; nothing happens when the program has
    /// ended already.
    ///
    /// # Errors
    /// When the program's state cannot be asked.
    pub fn signal(&mut self, signal: &str) -> Result<()> {
        if self.exit_status()?.is_none()
            && let Some(orders) = &mut self.orders
        {
            // A supervisor that has just ended reads nothing more, and has nobody to send it to.
            let _ = writeln!(orders, "{signal}");
        }
        Ok(())
    }

    /// Sends SIGTERM and waits for the end, for at most `bound`.
    ///
    /// # Errors
    /// When the program is still running after that.
    pub fn stop(&mut self, bound: Duration) -> Result<ExitStatus> {
        self.signal("TERM")?;
        let what = format!("the end of {} after SIGTERM", self.name);
        wait_for(&what, bound, || self.exit_status())
    }

    /// Kills the program (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// When it is not gone within five seconds.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.signal("KILL")?;
        let what = format!("the end of {} after SIGKILL", self.name);
        wait_for(&what, GRACE, || self.exit_status())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let start = Instant::now();
        let _ = self.signal("TERM");
        while start.elapsed() < GRACE && matches!(self.exit_status(), Ok(None)) {
            thread::sleep(Duration::from_millis(10));
        }
        self.orders = None;
        let _ = self.supervisor.wait();
    }
}
