//! Replicas of one server around one Redis.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_proxy::address::Address;
use berth_proxy::pods::{Naming, PodId, StatefulSetNaming};
use berth_proxy::session::{
    DEFAULT_KEY_PREFIX, Found, Identity, PathTag, Pin, PinMode, PinOutcome, Readiness, RedisTarget, SessionKey,
    SessionSettings, Sessions,
};
use berth_test_cluster::Redis;

/// How long anything may take that is not measured.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

pub(crate) fn settings(name: &str) -> SessionSettings {
    let naming = StatefulSetNaming {
        statefulset: name.into(),
        service: format!("mcp-{name}-headless"),
        namespace: "team".into(),
        domain: "cluster.local".into(),
        port: 8080,
    };
    SessionSettings {
        identity: Identity { namespace: "team".into(), name: name.into() },
        naming: Naming::StatefulSet(naming),
        ttl: Duration::from_secs(7200),
        cache_size: 1000,
        max_sessions: 1000,
    }
}

pub(crate) fn target(address: &str) -> RedisTarget {
    let endpoints = Address::parse(address).and_then(|address| address.endpoints()).expect("an address");
    RedisTarget { endpoints, db: 0, username: None, password: None, ca: None }
}

/// One replica of the proxy, with a runtime of its own, so that dropping it is like killing it.
pub(crate) struct Replica {
    pub(crate) sessions: Arc<Sessions>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Replica {
    pub(crate) fn of(settings: SessionSettings, target: RedisTarget) -> Self {
        Self::with_pods(settings, target, &[PodId(0), PodId(1), PodId(2)])
    }

    pub(crate) fn with_pods(settings: SessionSettings, target: RedisTarget, pods: &[PodId]) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let sessions = Sessions::in_redis(settings, target, DEFAULT_KEY_PREFIX);
        if !pods.is_empty() {
            sessions.set_pods(pods);
        }
        runtime.spawn(Arc::clone(&sessions).run());
        Self { sessions, runtime: Some(runtime) }
    }

    /// A replica of the server `web` that is connected.
    pub(crate) fn on(redis: &Redis) -> Self {
        let replica = Self::of(settings("web"), target(&redis.address()));
        replica.ready();
        replica
    }

    pub(crate) fn ready(&self) {
        wait("a replica that is ready", || self.sessions.readiness() == Readiness::Ready);
    }

    pub(crate) fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("a runtime").block_on(what)
    }

    /// Starts something that goes on meanwhile.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        what: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.as_ref().expect("a runtime").spawn(what)
    }

    pub(crate) fn key(&self, id: &str) -> SessionKey {
        self.sessions.key(id.as_bytes())
    }

    pub(crate) fn pin(&self, id: &str, pod: u16) -> PinOutcome {
        self.wait(self.sessions.pin(&self.key(id), PodId(pod), PathTag::default(), PinMode::First))
    }

    pub(crate) fn find(&self, id: &str) -> Found {
        self.wait(self.sessions.find(&self.key(id)))
    }

    /// As [`Replica::find`], when it does not matter that the store may be in doubt for a while.
    pub(crate) fn settled(&self, id: &str) -> Found {
        let mut found = self.find(id);
        wait("a store without doubt", || {
            found = self.find(id);
            found != Found::Unavailable
        });
        found
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(crate) fn on_pod(pod: u16) -> Found {
    Found::Pinned(Pin { pod: PodId(pod), path: PathTag::default() })
}

/// Waits for a condition, for at most [`BOUND`].
pub(crate) fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < BOUND, "did not see {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
