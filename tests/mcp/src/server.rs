//! The server of `js/server` as a process on loopback.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use berth_test_cluster::{Error, Process, Result, RunDir, free_ports, wait_for};

use crate::Packages;

/// How long a server may take to listen, on a machine that is busy.
const START: Duration = Duration::from_secs(30);

/// What a server is told.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// What its tools call it.
    pub name: String,
    /// The Redis that it shares change events by, as `redis://…`.
    pub redis: Option<String>,
    /// Signs what clients carry from one call to the next; servers of one deployment have the same.
    pub state_key: Option<String>,
}

/// A server that ends when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    _process: Process,
    // After the process, which writes there.
    _dir: RunDir,
}

impl Server {
    /// Starts one on a free port, and waits until it listens.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(packages: &Packages, options: &ServerOptions) -> Result<Self> {
        let [port] = free_ports()?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let dir = RunDir::new()?;
        let mut arguments = vec![packages.server().display().to_string()];
        let named = [
            ("--listen", Some(address.to_string())),
            ("--name", Some(options.name.clone())),
            ("--redis", options.redis.clone()),
            ("--state-key", options.state_key.clone()),
        ];
        arguments.extend(named.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?))));
        let mut process = Process::start(dir.path(), "mcp-server", packages.node(), arguments, &[])?;
        wait_for("an MCP server that listens", START, || match process.exit_status()? {
            Some(status) => Err(Error::new(format!("the MCP server ended: {status}\n{}", process.log_tail()))),
            None => Ok(TcpStream::connect(address).ok().map(drop)),
        })?;
        Ok(Self { address, _process: process, _dir: dir })
    }

    /// Where it listens; streamable HTTP is at `/mcp`, the older transport at `/sse`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
