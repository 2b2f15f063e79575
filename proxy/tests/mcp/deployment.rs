//! MCP servers, and replicas of the proxy before them, as processes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_test_cluster::{Process, Redis, RunDir, free_ports, http_get, wait_for};
use berth_test_mcp::{Packages, Server, ServerOptions};

/// How long a replica may take to be ready, on a machine that is busy.
const START: Duration = Duration::from_secs(30);

/// Held by a test while it runs: the suite has clocks of its own, which tests beside it would make it miss.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Some servers that share a Redis, as one deployment's do.
pub(crate) struct Servers {
    pub(crate) servers: Vec<Server>,
    redis: Redis,
}

impl Servers {
    pub(crate) fn start(packages: &Packages, count: usize) -> Self {
        let redis = Redis::start().unwrap();
        let options = |number: usize| ServerOptions {
            name: format!("server-{number}"),
            redis: Some(format!("redis://{}", redis.address())),
            state_key: Some("the same for all servers of a deployment".to_owned()),
        };
        let servers = (0..count).map(|number| Server::start(packages, &options(number)).unwrap()).collect();
        Self { servers, redis }
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(Server::address).collect()
    }
}

/// Replicas of the proxy that share a Redis.
pub(crate) struct Replicas {
    pub(crate) addresses: Vec<SocketAddr>,
    // They write to the directory, and to the Redis of the servers.
    _processes: Vec<Process>,
    _dir: RunDir,
}

impl Replicas {
    pub(crate) fn start(servers: &Servers, count: usize) -> Self {
        let dir = RunDir::new().unwrap();
        let mut replicas = Self { addresses: Vec::new(), _processes: Vec::new(), _dir: dir };
        for number in 0..count {
            replicas.add(servers, number);
        }
        replicas
    }

    fn add(&mut self, servers: &Servers, number: usize) {
        let [listen, admin] = free_ports().unwrap().map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let mut arguments = vec![format!("--listen={listen}"), format!("--admin={admin}")];
        arguments.push(format!("--redis=redis://{}", servers.redis.address()));
        arguments.extend(servers.addresses().iter().map(|address| format!("--backend=http://{address}")));
        arguments.extend(["--lame-duck=0s", "--drain-timeout=1s", "--threads=1"].map(str::to_owned));
        let program = Path::new(env!("CARGO_BIN_EXE_berth-proxy"));
        let name = format!("berth-proxy-{number}");
        let mut process = Process::start(self._dir.path(), &name, program, arguments, &[]).unwrap();
        wait_for("a replica that is ready", START, || {
            assert!(process.exit_status()?.is_none(), "the replica ended:\n{}", process.log_tail());
            Ok(http_get(admin, "/readyz").is_ok_and(|answer| answer.status == 200).then_some(()))
        })
        .unwrap();
        self.addresses.push(listen);
        self._processes.push(process);
    }
}
