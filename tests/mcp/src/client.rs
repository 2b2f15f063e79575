//! Clients on the official SDKs, which talk to two replicas in turn and fail where they notice.

use std::fs;
use std::path::Path;
use std::time::Duration;

use berth_test_cluster::{Error, Process, Result, RunDir, wait_for};

use crate::Packages;

/// For one client; an idle machine takes two seconds.
const RUN: Duration = Duration::from_secs(120);

/// An SDK with a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sdk {
    /// `mcp` of PyPI.
    Python,
    /// `@modelcontextprotocol/sdk` of npm.
    TypeScript,
}

/// What a client does; `js/client` and `python` say which request goes to which replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequence {
    /// All that can be done with a session of 2025-03-26 to 2025-11-25, at `/mcp`.
    Streamable,
    /// All that can be done with HTTP and server-sent events of 2024-11-05, at `/sse`.
    Sse,
    /// Calls and messages at `/mcp`, all at the first URL, until [`Client::stop`].
    Rolling,
}

/// A running client.
#[derive(Debug)]
pub struct Client {
    name: String,
    process: Process,
    // After the process, which writes there.
    _dir: RunDir,
}

impl Client {
    /// Starts one that talks to the replicas at two URLs, as in `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(packages: &Packages, sdk: Sdk, sequence: Sequence, a: &str, b: &str) -> Result<Self> {
        let dir = RunDir::new()?;
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/client.py");
        let (program, script) = match sdk {
            // Without leaving compiled files in the tree.
            Sdk::Python => (packages.python(), vec!["-B".to_owned(), python.display().to_string()]),
            Sdk::TypeScript => (packages.node(), vec![packages.client().display().to_string()]),
        };
        let name = match sequence {
            Sequence::Streamable => "streamable",
            Sequence::Sse => "sse",
            Sequence::Rolling => "rolling",
        };
        let arguments = script.into_iter().chain([name, a, b].map(str::to_owned));
        let process = Process::start(dir.path(), "client", program, arguments, &[])?;
        Ok(Self { name: format!("{sdk:?}, {sequence:?}"), process, _dir: dir })
    }

    /// Waits until one that does [`Sequence::Rolling`] has a session and a stream.
    ///
    /// # Errors
    /// When it ends before that, or took too long: what the client printed.
    pub fn wait_until_begun(&mut self) -> Result<()> {
        let begun = wait_for("a client that has begun", RUN, || match self.process.exit_status()? {
            Some(status) => Err(Error::new(status.to_string())),
            None => Ok(self.process.log_tail().contains("begun").then_some(())),
        });
        begun.map_err(|error| self.failed(&error.to_string()))
    }

    fn failed(&self, how: &str) -> Error {
        Error::new(format!("{}: {how}\n{}", self.name, self.process.log_tail()))
    }

    /// Waits until it is done. Gives the name of the server that answered each of its sessions, from the first call of
    /// the session to the last.
    ///
    /// # Errors
    /// When anything was not as with one server, or took too long: what the client printed.
    pub fn finish(mut self) -> Result<Vec<String>> {
        let ended = wait_for("the end of an MCP client", RUN, || self.process.exit_status());
        match ended {
            Ok(status) if status.success() => Ok(self.servers()),
            Ok(status) => Err(self.failed(&status.to_string())),
            Err(error) => Err(self.failed(&error.to_string())),
        }
    }

    fn servers(&self) -> Vec<String> {
        let text = fs::read_to_string(self.process.log()).unwrap_or_default();
        text.lines().filter_map(|line| line.strip_prefix("answered by ")).map(str::to_owned).collect()
    }

    /// Tells it to come to its end, and waits for that.
    ///
    /// # Errors
    /// As [`Client::finish`].
    pub fn stop(mut self) -> Result<Vec<String>> {
        self.process.signal("TERM")?;
        self.finish()
    }
}
