//! The proxies that are compared, and the servers behind them: started alike, on cores of their own.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_test_cluster::{Process, Redis, http_get, wait_for};

use crate::Result;
use crate::proxy::configuration;

/// The core of load, servers and Redis, which the harness itself is started on.
const PROXY_CORE: &str = "1";
const READY: Duration = Duration::from_secs(10);

/// Which proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// None: a server is asked directly.
    Direct,
    HaProxy,
    Nginx,
    Berth,
    BerthRedis,
}

impl Kind {
    /// In the order of a round.
    pub(crate) const ALL: [Self; 5] = [Self::Direct, Self::HaProxy, Self::Nginx, Self::Berth, Self::BerthRedis];

    /// As the tables call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::HaProxy => "HAProxy",
            Self::Nginx => "nginx",
            Self::Berth => "Berth, memory",
            Self::BerthRedis => "Berth, Redis",
        }
    }

    /// Whether a session goes to the server that issued it, and not only always to the same.
    pub(crate) fn pins(self) -> bool {
        !matches!(self, Self::Direct | Self::Nginx)
    }
}

/// What a proxy is to be good for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Sessions that fit.
    pub(crate) sessions: usize,
    /// The longest id; HAProxy sets this much aside for each.
    pub(crate) id_length: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self { sessions: 1 << 20, id_length: 128 }
    }
}

/// What all are started with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub(crate) berth_proxy: &'a Path,
    /// For configurations and logs.
    pub(crate) dir: &'a Path,
    /// Behind the proxies.
    pub(crate) servers: [SocketAddr; 3],
}

/// A proxy that runs.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) kind: Kind,
    /// Where to send requests.
    pub(crate) address: SocketAddr,
    /// None where a server is asked directly.
    process: Option<Process>,
    _redis: Option<Redis>,
}

impl Candidate {
    /// Starts it and waits until it listens.
    pub(crate) fn start(kind: Kind, size: Size, with: &Surroundings<'_>) -> Result<Self> {
        let address = free_address()?;
        let file = with.dir.join(format!("{kind:?}-{}.conf", address.port()));
        let file_name = file.display().to_string();
        let (mut redis, mut readiness) = (None, None);
        let (program, arguments): (PathBuf, Vec<String>) = match kind {
            Kind::Direct => {
                return Ok(Self { kind, address: with.servers[0], process: None, _redis: None });
            }
            Kind::HaProxy => {
                fs::write(&file, configuration::haproxy(address, &with.servers, size))?;
                (program("haproxy")?, vec!["-db".into(), "-f".into(), file_name])
            }
            Kind::Nginx => {
                fs::write(&file, configuration::nginx(address, &with.servers, with.dir))?;
                (program("nginx")?, vec!["-c".into(), file_name])
            }
            Kind::Berth | Kind::BerthRedis => {
                if kind == Kind::BerthRedis {
                    redis = Some(Redis::start()?);
                }
                let store = redis.as_ref().map(Redis::address);
                let admin = free_address()?;
                readiness = Some(admin);
                (with.berth_proxy.to_owned(), configuration::berth(address, admin, &with.servers, size, store))
            }
        };
        let mut command = vec!["-c".to_owned(), PROXY_CORE.to_owned(), program.display().to_string()];
        command.extend(arguments);
        let name = format!("{kind:?}-{}", address.port());
        let mut process = Process::start(with.dir, &name, &self::program("taskset")?, &command, &[])?;
        wait_until_listening(kind.name(), &mut process, address)?;
        if let Some(admin) = readiness {
            // It listens before it has reached its store.
            wait_for("a ready Berth", READY, || Ok(http_get(admin, "/readyz").ok().filter(|it| it.status == 200)))?;
        }
        Ok(Self { kind, address, process: Some(process), _redis: redis })
    }

    /// The process of the proxy, if there is one.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }
}

/// One nginx worker as three servers of sessions.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) addresses: [SocketAddr; 3],
    process: Process,
}

impl Servers {
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        let addresses = [free_address()?, free_address()?, free_address()?];
        let file = dir.join("servers.conf");
        fs::write(&file, configuration::servers(&addresses, dir)?)?;
        let arguments = ["-c".to_owned(), file.display().to_string()];
        let mut process = Process::start(dir, "servers", &program("nginx")?, &arguments, &[])?;
        for address in addresses {
            wait_until_listening("the servers", &mut process, address)?;
        }
        Ok(Self { addresses, process })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

fn wait_until_listening(what: &str, process: &mut Process, address: SocketAddr) -> Result<()> {
    let listening = wait_for(&format!("{what} to listen"), READY, || {
        if process.exit_status()?.is_some() {
            return Err(berth_test_cluster::Error::new(format!("{what} ended: {}", process.log_tail())));
        }
        Ok(TcpStream::connect(address).ok())
    });
    listening.map_err(|error| format!("{error}\n{}", process.log_tail()))?;
    Ok(())
}

/// A program of the system.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    let found = places.map(|place| place.join(name)).find(|file| file.exists());
    found.ok_or_else(|| format!("{name} is missing; benches/run proxy installs it").into())
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
