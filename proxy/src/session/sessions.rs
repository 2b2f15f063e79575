//! What the rest of the proxy asks about sessions.

use std::sync::Arc;
use std::time::Duration;

use super::id::{Hasher, Identity, PathTag, SessionKey};
use crate::pods::{Naming, PodId};

/// Where a session lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The pod that holds it. The pod may be gone: whoever unpins it for that needs a DNS answer that was asked for
    /// after this pin was found.
    pub pod: PodId,
    /// The path of the request that made it ([`Sessions::path`]).
    pub path: PathTag,
}

/// What is known of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It lives there.
    Pinned(Pin),
    /// No replica knows it: 404.
    Unknown,
    /// The store cannot be asked, or may have lost pins that are being written back: 503.
    Unavailable,
}

/// What happens to a pin that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinMode {
    /// The first pin wins.
    First,
    /// Replaces a pin to this pod, and no other: for a pod that is known to be gone.
    Replace(PodId),
}

/// What came of pinning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinOutcome {
    /// Stored, and known to every replica from now on (also when it was pinned to this pod before).
    Pinned,
    /// Another pod has it; nothing was changed.
    AlreadyPinned(PodId),
    /// The store did not confirm in time. The pin may still arrive there; it expires like any other.
    Unavailable,
    /// `--max-sessions` live sessions are kept in memory.
    Full,
}

/// Why a session is forgotten; a closed set, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnpinReason {
    /// DELETE, answered 2xx or 404.
    Deleted,
    /// Its pod answered 404 on the path that made it.
    NotFound,
    /// Its pod is gone.
    PodGone,
    /// The stream that was the session (2024-11-05 transport) ended.
    StreamEnded,
}

impl UnpinReason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Deleted, Self::NotFound, Self::PodGone, Self::StreamEnded];

    /// As metrics and logs name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::NotFound => "not_found",
            Self::PodGone => "pod_gone",
            Self::StreamEnded => "stream_ended",
        }
    }
}

/// Sessions of each pod, over all replicas, as the store said last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(Vec<(PodId, u32)>);

impl Counts {
    /// Sessions of a pod; 0 for one that nothing is known of.
    #[must_use]
    pub fn of(&self, pod: PodId) -> u32 {
        self.0.iter().find(|(known, _)| *known == pod).map_or(0, |(_, count)| *count)
    }

    /// Every pod that something is known of.
    pub fn iter(&self) -> impl Iterator<Item = (PodId, u32)> {
        self.0.iter().copied()
    }
}

impl FromIterator<(PodId, u32)> for Counts {
    fn from_iter<T: IntoIterator<Item = (PodId, u32)>>(iter: T) -> Self {
        Self(iter.into_iter().collect())
    }
}

/// Whether this replica can tell where sessions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The store was not reached yet.
    Starting,
    /// Everything works.
    Ready,
    /// The store was reached before and is not now: sessions in the cache go on. A replica is still of use then, so it
    /// should stay ready: an outage of the store must not take every replica out of its Service.
    Degraded,
}

/// What happened so far; counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Sessions found in the local cache.
    pub hits: u64,
    /// Sessions that the store was asked for.
    pub misses: u64,
    /// Commands to the store that failed or timed out.
    pub store_errors: u64,
    /// Records of the store that named no pod of this server, or could not be read.
    pub bad_records: u64,
    /// Unpinned sessions, in the order of [`UnpinReason::ALL`].
    pub unpins: [u64; UnpinReason::ALL.len()],
    /// Sessions in the local cache now.
    pub cached: u64,
}

/// What [`Sessions`] needs to know.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// Which server.
    pub identity: Identity,
    /// How its pods are called.
    pub naming: Naming,
    /// How long an unused session lives.
    pub ttl: Duration,
    /// Sessions in the local cache, at least 1.
    pub cache_size: usize,
    /// Sessions in memory where there is no Redis, at least 1.
    pub max_sessions: usize,
}

/// Where every session is. One for the process, shared by all threads.
#[derive(Debug)]
pub struct Sessions {
    hasher: Hasher,
}

impl Sessions {
    /// Sessions kept in this process alone.
    #[must_use]
    pub fn in_memory(settings: SessionSettings) -> Arc<Self> {
        Arc::new(Self { hasher: Hasher::new(&settings.identity) })
    }

    /// Does what has to be done in the background: keeps the connection to the store, refreshes what is in use, hears of
    /// deletions. Runs until dropped; spawn it once, on a runtime that outlives the workers.
    pub async fn run(self: Arc<Self>) {
        std::future::pending().await
    }

    /// The key of a session id, whatever its bytes. About 0.1 µs.
    #[must_use]
    pub fn key(&self, id: &[u8]) -> SessionKey {
        self.hasher.session(id)
    }

    /// What stands for a path (without its query) in a [`Pin`].
    #[must_use]
    pub fn path(&self, path: &str) -> PathTag {
        self.hasher.path(path)
    }

    /// The pin of a session, where it can be told without asking anybody: no await, no allocation. Counts as use.
    ///
    /// `None` says nothing of the session: ask [`Sessions::find`].
    #[must_use]
    pub fn find_cached(&self, _key: &SessionKey) -> Option<Pin> {
        None
    }

    /// The pin of a session, from the cache or the store. Counts as use. Answers within a second.
    pub async fn find(&self, _key: &SessionKey) -> Found {
        Found::Unavailable
    }

    /// Stores where a session lives. When this says [`PinOutcome::Pinned`], every replica finds it.
    ///
    /// The same id on the same pod again is [`PinOutcome::Pinned`] too; a server that repeats its id on every response
    /// is told by [`Pin`] alone, without asking here.
    pub async fn pin(&self, _key: &SessionKey, _pod: PodId, _path: PathTag, _mode: PinMode) -> PinOutcome {
        PinOutcome::Unavailable
    }

    /// Forgets a session, everywhere, if it lives on this pod. Never fails: what the store cannot be told now is told
    /// when it is back.
    pub async fn unpin(&self, _key: &SessionKey, _pod: PodId, _reason: UnpinReason) {}

    /// Keeps a session in use for as long as the guard lives: for responses that stream, and requests that last longer
    /// than a second (a short one counts as use by being looked up).
    #[must_use]
    pub fn in_use(self: &Arc<Self>, key: SessionKey, _pin: Pin) -> InUse {
        InUse { sessions: Arc::clone(self), key }
    }

    /// Sessions of each pod, over all replicas: as of this replica's last pin, which brings the counts of all pods.
    #[must_use]
    pub fn counts(&self) -> Arc<Counts> {
        Arc::default()
    }

    /// Says which pods there are, so that their sessions are counted. Call it when they change.
    pub fn set_pods(&self, _pods: &[PodId]) {}

    /// Whether this replica can tell where sessions are.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        Readiness::Starting
    }

    /// What happened so far.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        Statistics::default()
    }
}

/// A session in use; see [`Sessions::in_use`].
#[derive(Debug)]
pub struct InUse {
    sessions: Arc<Sessions>,
    key: SessionKey,
}

impl Drop for InUse {
    fn drop(&mut self) {
        let _ = self.sessions.find_cached(&self.key);
    }
}
