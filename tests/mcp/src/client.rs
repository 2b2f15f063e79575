//! Clients on the official SDKs, which talk to two replicas in turn and fail where they notice.

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

/// What the client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Of 2025-03-26 to 2025-11-25, at `/mcp`.
    StreamableHttp,
    /// HTTP and server-sent events of 2024-11-05, at `/sse`.
    Sse,
}

/// Runs a client through everything that it can do with a session, its requests spread over the two replicas at these
/// URLs, as in `http://127.0.0.1:8080`; `js/client` and `python` say which request goes where.
///
/// # Errors
/// When anything was not as with one server, or took too long: what the client printed.
pub fn run_client(packages: &Packages, sdk: Sdk, transport: Transport, a: &str, b: &str) -> Result<()> {
    let dir = RunDir::new()?;
    let sequence = match transport {
        Transport::StreamableHttp => "streamable",
        Transport::Sse => "sse",
    };
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/client.py");
    let (program, arguments) = match sdk {
        // Without leaving compiled files in the tree.
        Sdk::Python => (packages.python(), vec!["-B".to_owned(), python.display().to_string()]),
        Sdk::TypeScript => (packages.node(), vec![packages.client().display().to_string()]),
    };
    let arguments = arguments.into_iter().chain([sequence, a, b].map(str::to_owned));
    let mut client = Process::start(dir.path(), "client", program, arguments, &[])?;
    let status = wait_for("the end of an MCP client", RUN, || client.exit_status());
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::new(format!("{sdk:?}, {transport:?}: {status}\n{}", client.log_tail()))),
        Err(error) => Err(Error::new(format!("{sdk:?}, {transport:?}: {error}\n{}", client.log_tail()))),
    }
}
