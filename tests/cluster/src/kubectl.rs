//! kubectl, as a user would run it.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::components::LESS_GARBAGE_COLLECTION;
use crate::{Error, Process, Result, wait_for};

/// kubectl repeats some refused writes without end; no command of a test takes this long.
const BOUND: Duration = Duration::from_secs(120);

/// What a command printed, and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The exit status; -1 when a signal ended it.
    pub status: i32,
}

impl Output {
    /// Whether the exit status is 0.
    pub fn success(&self) -> bool {
        self.status == 0
    }

    /// Standard output of a command that succeeded.
    ///
    /// # Errors
    /// When it did not, with what it printed.
    pub fn ok(self) -> Result<String> {
        if self.success() {
            return Ok(self.stdout);
        }
        Err(Error::new(format!("{} ended with {}: {}{}", self.command, self.status, self.stdout, self.stderr)))
    }
}

/// kubectl with one kubeconfig and, where set, one namespace.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
    namespace: Option<String>,
}

impl Kubectl {
    /// `program` with `kubeconfig`; `home` holds its caches.
    pub(crate) fn new(program: PathBuf, kubeconfig: PathBuf, home: PathBuf) -> Self {
        Self { program, kubeconfig, home, namespace: None }
    }

    /// The same, with `--namespace` in each command.
    pub fn in_namespace(&self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..self.clone() }
    }

    /// The same, as whoever `kubeconfig` says.
    pub fn with_kubeconfig(&self, kubeconfig: &Path) -> Self {
        Self { kubeconfig: kubeconfig.to_owned(), ..self.clone() }
    }

    /// The program that it runs.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The kubeconfig that it uses.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Runs a command to its end; a refusal is an [`Output`] like any other. Where Berth had no time to look at what a
    /// write is about, it is tried again, as Berth says ([`is_told_to_try_again`]).
    ///
    /// # Errors
    /// When it cannot be run, or is still running after two minutes.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.run_with_stdin(arguments, "")
    }

    /// Runs a command that reads `stdin`.
    ///
    /// # Errors
    /// As [`Kubectl::run`].
    pub fn run_with_stdin(&self, arguments: &[&str], stdin: &str) -> Result<Output> {
        let name = format!("kubectl {}", arguments.join(" "));
        wait_for(&format!("time of Berth's for {name}"), BOUND, || {
            let output = run_to_end(self.command(arguments), &name, stdin)?;
            Ok((!is_told_to_try_again(&output.stderr)).then_some(output))
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).env("HOME", &self.home).env_remove("KUBECONFIG");
        command.envs([LESS_GARBAGE_COLLECTION]);
        if let Some(namespace) = &self.namespace {
            command.args(["--namespace", namespace]);
        }
        command.args(arguments);
        command
    }

    /// Starts a command that goes on, its output in `NAME.log` of `dir`.
    pub(crate) fn start(&self, dir: &Path, name: &str, arguments: &[&str]) -> Result<Process> {
        let kubeconfig = self.kubeconfig.display().to_string();
        let mut all = vec!["--kubeconfig", &kubeconfig];
        if let Some(namespace) = &self.namespace {
            all.extend(["--namespace", namespace]);
        }
        all.extend(arguments);
        let environment = [("HOME".to_owned(), self.home.display().to_string())];
        Process::start(dir, name, &self.program, all, &environment)
    }

    /// `kubectl apply -f -` of a manifest.
    ///
    /// # Errors
    /// As [`Kubectl::run`]; a refusal is none.
    pub fn apply_yaml(&self, manifest: &str) -> Result<Output> {
        self.run_with_stdin(&["apply", "-f", "-"], manifest)
    }

    /// An object as stored, managedFields included; `what` as in `deployment/web`.
    ///
    /// # Errors
    /// When there is none.
    pub fn get_json(&self, what: &str) -> Result<Value> {
        let text = self.run(&["get", what, "-o", "json", "--show-managed-fields"])?.ok()?;
        serde_json::from_str(&text).map_err(|cause| Error::new(format!("kubectl get {what} printed no JSON: {cause}")))
    }
}

/// Whether this is said of a write of which Berth could not find out in time what it is about, which a busy machine is
/// reason enough for: nothing has been decided about it. Or of a scale that Berth did not look at within the two seconds
/// that the API server gives it, where one that nobody looked at is not let through.
pub fn is_told_to_try_again(text: &str) -> bool {
    let late = text.contains("could not be read (no answer within") && text.contains("[berth:PolicyNotFound]");
    late || text.contains("failed calling webhook \"scale.berth.dev\"") && text.contains("deadline exceeded")
}

/// Runs `command` with `stdin`, reading both its outputs meanwhile.
pub(crate) fn run_to_end(mut command: Command, name: &str, stdin: &str) -> Result<Output> {
    let failed = |cause: std::io::Error| Error::new(format!("cannot run {name}: {cause}"));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    let (input, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let stdout = scope.spawn(|| read(stdout));
        let stderr = scope.spawn(|| read(stderr));
        scope.spawn(move || {
            // A command that fails early does not read all; what it printed says more than this.
            let _ = input.map(|mut input| input.write_all(stdin.as_bytes()));
        });
        let ended = wait_for(&format!("the end of {name}"), BOUND, || child.try_wait().map_err(failed));
        if ended.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        Ok(Output {
            command: name.to_owned(),
            status: ended?.code().unwrap_or(-1),
            stdout: stdout.join().unwrap_or_default(),
            stderr: stderr.join().unwrap_or_default(),
        })
    })
}

fn read(stream: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    // What was read before an error is worth showing.
    let _ = stream.map(|mut stream| stream.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}
