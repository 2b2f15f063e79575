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
    servers: Vec<Server>,
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
    replicas: Vec<Replica>,
    // They write there.
    _dir: RunDir,
}

struct Replica {
    listen: SocketAddr,
    admin: SocketAddr,
    process: Process,
}

impl Replicas {
    /// Starts some with these arguments beside the usual ones, and waits until they are ready.
    pub(crate) fn start(servers: &Servers, count: usize, arguments: &[&str]) -> Self {
        let dir = RunDir::new().unwrap();
        let replicas = (0..count).map(|number| {
            let [listen, admin] = free_ports().unwrap().map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
            let mut all = vec![format!("--listen={listen}"), format!("--admin={admin}"), "--threads=1".to_owned()];
            all.push(format!("--redis=redis://{}", servers.redis.address()));
            all.extend(servers.addresses().iter().map(|address| format!("--backend=http://{address}")));
            all.extend(arguments.iter().map(|&argument| argument.to_owned()));
            let program = Path::new(env!("CARGO_BIN_EXE_berth-proxy"));
            let process = Process::start(dir.path(), &format!("berth-proxy-{number}"), program, all, &[]).unwrap();
            Replica { listen, admin, process }
        });
        let mut replicas: Vec<_> = replicas.collect();
        replicas.iter_mut().for_each(Replica::wait);
        // For a while after a store was first seen, an unknown session may be one that it lost: 503, not yet 404.
        for replica in &replicas {
            wait_for("a store without doubt", START, || {
                let answer = http_get(replica.listen, "/mcp?sessionId=nobody");
                Ok(answer.is_ok_and(|answer| answer.status == 404).then_some(()))
            })
            .unwrap();
        }
        Self { replicas, _dir: dir }
    }

    /// Where they listen, and where their `/readyz` is.
    pub(crate) fn addresses(&self) -> Vec<(SocketAddr, SocketAddr)> {
        self.replicas.iter().map(|replica| (replica.listen, replica.admin)).collect()
    }

    /// Ends one with SIGTERM, and starts it again at the same addresses.
    pub(crate) fn replace(&mut self, number: usize) {
        let replica = &mut self.replicas[number];
        let status = replica.process.stop(START).unwrap();
        assert!(status.success(), "the replica ended with {status}:\n{}", replica.process.log_tail());
        replica.process.restart().unwrap();
        replica.wait();
    }
}

impl Replica {
    fn wait(&mut self) {
        wait_for("a replica that is ready", START, || {
            assert!(self.process.exit_status()?.is_none(), "the replica ended:\n{}", self.process.log_tail());
            Ok(http_get(self.admin, "/readyz").is_ok_and(|answer| answer.status == 200).then_some(()))
        })
        .unwrap();
    }
}
