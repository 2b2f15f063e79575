//! Three servers, two replicas of the proxy, and a store that both share.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use berth_example_mcp_server::Server;
use berth_proxy::drain::Pauses;
use berth_proxy::pods::{Backend, Naming, Pods};
use berth_proxy::proxy::{Proxy, ProxySettings};
use berth_proxy::route::Names;
use berth_proxy::session::{Identity, SessionSettings, Sessions};
use berth_proxy::worker::Limits;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Any free port of this machine.
const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// As the pods of a StatefulSet are called.
const SERVERS: [&str; 3] = ["notes-0", "notes-1", "notes-2"];
/// What the replicas are called.
pub(super) const REPLICAS: [&str; 2] = ["A", "B"];
/// A demo is left open for a day at most.
const TTL: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_SESSIONS: usize = 10_000;
/// Until the proxy has noticed that connections to a server are broken, and how often it is tried.
const NOTICE: Duration = Duration::from_millis(50);
const TRIES: usize = 100;

pub(super) struct Stage {
    servers: Vec<Held>,
    replicas: [Option<Proxy>; REPLICAS.len()],
    naming: Naming,
    sessions: Arc<Sessions>,
}

/// A server: where it is, and what runs it.
struct Held {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Held {
    async fn start(address: SocketAddr, name: &str) -> io::Result<Self> {
        let server = Server::bind(address, name).await?;
        Ok(Self { address: server.address, task: tokio::spawn(server.serve(std::future::pending())) })
    }
}

impl Stage {
    pub(super) async fn start() -> io::Result<Self> {
        let mut servers = Vec::new();
        for name in SERVERS {
            servers.push(Held::start(ANYWHERE, name).await?);
        }
        let backends: Result<_, _> =
            servers.iter().map(|server| Backend::parse(&format!("http://{}", server.address))).collect();
        let naming = Naming::Fixed(backends.map_err(io::Error::other)?);
        let sessions = Sessions::in_memory(SessionSettings {
            identity: Identity { namespace: "demo".to_owned(), name: "notes".to_owned() },
            naming: naming.clone(),
            ttl: TTL,
            cache_size: MAX_SESSIONS,
            max_sessions: MAX_SESSIONS,
        });
        let mut stage = Self { servers, replicas: [None, None], naming, sessions };
        for replica in 0..REPLICAS.len() {
            stage.start_replica(replica).await?;
        }
        Ok(stage)
    }

    /// Starts a replica, which shares the store of the other one.
    pub(super) async fn start_replica(&mut self, replica: usize) -> io::Result<()> {
        let pods = Pods::new(self.naming.clone(), None).map_err(io::Error::other)?;
        let settings = ProxySettings {
            listen: ANYWHERE,
            admin: None,
            threads: 1,
            limits: Limits::default(),
            names: Names::default(),
            pauses: Pauses { lame_duck: Duration::ZERO, drain: Duration::ZERO },
        };
        let proxy = Proxy::start(settings, Arc::clone(&self.sessions), Arc::new(pods)).await?;
        if let Some(place) = self.replicas.get_mut(replica) {
            *place = Some(proxy);
        }
        Ok(())
    }

    /// Ends a replica, and waits for no request.
    pub(super) async fn end_replica(&mut self, replica: usize) {
        if let Some(proxy) = self.replicas.get_mut(replica).and_then(Option::take) {
            proxy.drain().await;
        }
    }

    /// Ends a server as a crash does: its connections break, and what it knew is gone.
    pub(super) async fn kill_server(&mut self, name: &str) -> io::Result<()> {
        let server = self.server(name)?;
        server.task.abort();
        for _ in 0..TRIES {
            tokio::time::sleep(NOTICE).await;
            if TcpStream::connect(server.address).await.is_err() {
                return Ok(());
            }
        }
        Err(io::Error::other(format!("{name} cannot be ended")))
    }

    /// Starts a server again under its old name and address, as a StatefulSet does.
    pub(super) async fn restart_server(&mut self, name: &str) -> io::Result<()> {
        let server = self.server(name)?;
        *server = Held::start(server.address, name).await?;
        Ok(())
    }

    fn server(&mut self, name: &str) -> io::Result<&mut Held> {
        let at = SERVERS.iter().position(|known| *known == name);
        at.and_then(|at| self.servers.get_mut(at)).ok_or_else(|| io::Error::other(format!("{name} is no server")))
    }

    pub(super) fn server_names(&self) -> Vec<&'static str> {
        SERVERS.to_vec()
    }

    /// Where each server is reached without a proxy.
    pub(super) fn server_urls(&self) -> Vec<(&'static str, String)> {
        SERVERS.into_iter().zip(self.servers.iter().map(|server| url(server.address))).collect()
    }

    /// How many sessions each server has.
    pub(super) fn counts(&self) -> Vec<(&'static str, u32)> {
        let counts = self.sessions.counts();
        let of = |at: usize| u16::try_from(at).map_or(0, |at| counts.of(berth_proxy::pods::PodId(at)));
        SERVERS.into_iter().enumerate().map(|(at, name)| (name, of(at))).collect()
    }

    /// Where each replica is reached; `None` for one that has ended.
    pub(super) fn replica_urls(&self) -> [Option<String>; REPLICAS.len()] {
        self.replicas.each_ref().map(|replica| replica.as_ref().map(|proxy| url(proxy.address)))
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.replicas.iter().flatten().map(|proxy| proxy.address).collect()
    }
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}/mcp")
}
