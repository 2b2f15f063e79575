//! Servers, a Redis, and replicas of the proxy as processes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use berth_test_cluster::{HttpResponse, Process, Redis, RunDir, free_ports, http_get, wait_for};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::namespace::zones;
use crate::support::{CALL, Client, INITIALIZE, Pod, Reply};

/// More than anything takes on a machine that is busy.
pub(crate) const BOUND: Duration = Duration::from_secs(60);
/// Every pod's port.
const PORT: u16 = 8080;

static SETS: AtomicU8 = AtomicU8::new(1);

/// A StatefulSet of servers, and what its replicas are told.
pub(crate) struct World {
    name: String,
    network: u8,
    pub(crate) pods: BTreeMap<u16, Pod>,
    /// `host:port` or URL of the store; none is memory.
    pub(crate) store: Option<String>,
    /// Arguments of `berth-proxy` besides.
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) redis: Option<Redis>,
    dir: RunDir,
}

impl World {
    /// So many pods named `0`, `1`…, and a Redis.
    pub(crate) async fn new(name: &str, pods: u16) -> Self {
        let redis = Redis::start().unwrap();
        let mut world = Self::without_store(name, pods).await;
        world.store = Some(redis.address());
        world.redis = Some(redis);
        world
    }

    pub(crate) async fn without_store(name: &str, pods: u16) -> Self {
        let arguments = ["--lame-duck=0s", "--drain-timeout=1s", "--threads=1"].map(str::to_owned).to_vec();
        let mut world = Self {
            name: name.to_owned(),
            network: SETS.fetch_add(1, Ordering::Relaxed),
            pods: BTreeMap::new(),
            store: None,
            arguments,
            environment: Vec::new(),
            redis: None,
            dir: RunDir::new().unwrap(),
        };
        for ordinal in 0..pods {
            world.add_pod(ordinal).await;
        }
        world
    }

    /// The address of a pod's first life.
    pub(crate) fn ip(&self, ordinal: u16) -> Ipv4Addr {
        Ipv4Addr::new(127, self.network, 0, 10 + u8::try_from(ordinal).unwrap())
    }

    /// Starts a pod, and tells DNS.
    pub(crate) async fn add_pod(&mut self, ordinal: u16) {
        self.start_pod(ordinal, self.ip(ordinal)).await;
    }

    /// Starts a pod at an address that may be another than before, and tells DNS.
    pub(crate) async fn start_pod(&mut self, ordinal: u16, ip: Ipv4Addr) {
        let listener = TcpListener::bind((ip, PORT)).await.unwrap();
        self.pods.insert(ordinal, Pod::start_on(&ordinal.to_string(), listener).await);
        let zone = zones().of(&self.name);
        let mut zone = zone.lock();
        zone.pods.insert(ordinal, ip);
        zone.ready = zone.pods.values().copied().collect();
    }

    /// Takes a pod out of DNS; it was stopped before, or is not.
    pub(crate) fn forget_pod(&mut self, ordinal: u16) {
        let zone = zones().of(&self.name);
        let mut zone = zone.lock();
        zone.pods.remove(&ordinal);
        zone.ready = zone.pods.values().copied().collect();
    }

    /// Sessions that live on the servers.
    pub(crate) fn living(&self) -> usize {
        self.pods.values().map(|pod| pod.state.sessions.lock().len()).sum()
    }

    pub(crate) fn redis(&mut self) -> &mut Redis {
        self.redis.as_mut().unwrap()
    }

    /// A replica that is ready.
    pub(crate) fn replica(&self) -> Replica {
        self.replica_with(&json!({}))
    }

    /// A replica with more in its RunConfig.
    pub(crate) fn replica_with(&self, more: &Value) -> Replica {
        let [listen, admin] = free_ports().unwrap().map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let name = format!("replica-{}", listen.port());
        let mut config = json!({
            "schema_version": "v0.1.0",
            "name": self.name,
            "transport": "streamable-http",
            "host": "127.0.0.1",
            "port": listen.port(),
            "target_port": PORT,
            "session_cache_size": 10_000,
            "scaling_config": {
                "headless_service": {
                    "statefulset_name": self.name,
                    "service_name": format!("mcp-{}-headless", self.name),
                    "namespace": "team",
                    "replicas": 1,
                    "ready_service_name": format!("mcp-{}", self.name),
                },
            },
        });
        if let Some(store) = &self.store {
            config["scaling_config"]["session_redis"] = json!({"address": store, "db": 0});
        }
        let file = self.dir.path().join(format!("{name}.json"));
        let config = Config { file: file.clone(), text: config };
        config.write(more);
        let mut arguments = vec![format!("--config={}", file.display()), format!("--admin={admin}")];
        arguments.extend(self.arguments.iter().cloned());
        let process = Process::start(self.dir.path(), &name, program(), arguments, &self.environment).unwrap();
        let mut replica = Replica { listen, admin, process, config };
        replica.wait_until_ready();
        replica
    }
}

/// A RunConfig in its file.
struct Config {
    file: PathBuf,
    text: Value,
}

impl Config {
    /// Writes it with more in it.
    fn write(&self, more: &Value) {
        let mut text = self.text.clone();
        text.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        std::fs::write(&self.file, text.to_string()).unwrap();
    }
}

/// The program under test.
pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_berth-proxy"))
}

/// A running `berth-proxy`.
pub(crate) struct Replica {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) process: Process,
    config: Config,
}

impl Replica {
    fn wait_until_ready(&mut self) {
        wait_for("a replica that is ready", BOUND, || {
            assert!(self.process.exit_status()?.is_none(), "the replica ended:\n{}", self.process.log_tail());
            Ok(http_get(self.admin, "/readyz").is_ok_and(|answer| answer.status == 200).then_some(()))
        })
        .unwrap();
    }

    /// Changes what its configuration has besides the usual.
    pub(crate) fn rewrite_config(&self, more: &Value) {
        self.config.write(more);
    }

    /// Starts it again after its end, on the same ports.
    pub(crate) fn restart(&mut self) {
        self.process.restart().unwrap();
        self.wait_until_ready();
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.listen).await
    }

    /// One request over a connection of its own.
    pub(crate) async fn post(&self, session: Option<&str>, body: &str) -> Reply {
        self.client().await.post(session, body).await
    }

    pub(crate) async fn call(&self, session: &Session) -> Reply {
        self.post(Some(&session.id), CALL).await
    }

    /// A session that begins here.
    pub(crate) async fn initialize(&self) -> Session {
        let reply = self.post(None, INITIALIZE).await;
        assert_eq!(reply.status, 200, "{reply:?}\n{}", self.process.log_tail());
        Session { id: reply.session(), pod: reply.body }
    }

    /// So many sessions, over one connection.
    pub(crate) async fn sessions(&self, count: usize) -> Vec<Session> {
        let mut client = self.client().await;
        let mut sessions = Vec::with_capacity(count);
        for _ in 0..count {
            let reply = client.post(None, INITIALIZE).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            sessions.push(Session { id: reply.session(), pod: reply.body });
        }
        sessions
    }

    /// Waits until an unknown session is no longer in doubt, as it is for a while after a store was first seen.
    pub(crate) async fn settle(&self) {
        self.eventually("a store without doubt", Some("nobody"), |reply| reply.status == 404).await;
    }

    /// Repeats a call until its answer is the one that is waited for; gives that.
    pub(crate) async fn eventually(
        &self,
        what: &str,
        session: Option<&str>,
        mut wanted: impl FnMut(&Reply) -> bool,
    ) -> Reply {
        let begun = Instant::now();
        loop {
            let reply = self.post(session, if session.is_some() { CALL } else { INITIALIZE }).await;
            if wanted(&reply) {
                return reply;
            }
            assert!(begun.elapsed() < BOUND, "never saw {what}, but {reply:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn metrics(&self) -> HttpResponse {
        http_get(self.admin, "/metrics").unwrap()
    }
}

/// A session, and the pod that holds it.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) pod: String,
}

impl Session {
    /// Fails unless this is the answer of its own pod.
    pub(crate) fn check(&self, reply: &Reply) {
        assert_eq!((reply.status, &reply.body), (200, &self.pod), "{self:?}: {reply:?}");
    }
}

/// Runs something that blocks, while everything else goes on.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < BOUND, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether a reply sends its client away for a while, and not for ever.
pub(crate) fn is_later(reply: &Reply) -> bool {
    reply.status == 503 && reply.header("retry-after").is_some()
}
