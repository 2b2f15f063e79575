//! What the rest of the proxy asks about sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::cache::Cache;
use super::gone::Gone;
use super::id::{Hasher, Identity, PathTag, SessionKey};
use super::in_use::InUseTable;
use super::keeper::{self, Shared};
use super::pin::{Counts, Found, Pin, PinMode, PinOutcome, UnpinReason};
use super::store::memory::MemoryStore;
use super::store::redis::{RedisStore, RedisTarget};
use super::store::{SessionStore, Unavailable};
use crate::pods::{Naming, PodId};

/// Between two looks for expired sessions in memory.
const SHORTEST_REFRESH: Duration = Duration::from_millis(50);
const LONGEST_REFRESH: Duration = Duration::from_secs(60);
/// Sessions that expire under one lock.
const EXPIRE_BATCH: usize = 1000;

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
    ttl: Mutex<Duration>,
    kept: Kept,
    misses: AtomicU64,
    unpins: [AtomicU64; UnpinReason::ALL.len()],
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one in a process")]
enum Kept {
    /// In this process alone.
    Memory { store: MemoryStore, in_use: InUseTable },
    /// In a store that all replicas share, with a cache before it.
    Shared(Shared),
}

impl Sessions {
    /// Sessions kept in this process alone.
    #[must_use]
    pub fn in_memory(settings: SessionSettings) -> Arc<Self> {
        let store = MemoryStore::new(settings.ttl, settings.max_sessions);
        Self::new(&settings, Kept::Memory { store, in_use: InUseTable::default() })
    }

    /// Sessions kept in a Redis that all replicas share. Connects in [`Sessions::run`]. `key_prefix` stands before all
    /// keys, usually [`DEFAULT_KEY_PREFIX`](super::DEFAULT_KEY_PREFIX).
    #[must_use]
    pub fn in_redis(settings: SessionSettings, target: RedisTarget, key_prefix: &str) -> Arc<Self> {
        let ttl = settings.ttl;
        let store =
            RedisStore::new(target, key_prefix, &settings.identity, settings.naming.clone(), keeper::lifetime(ttl));
        let shared = Shared {
            cache: Cache::new(ttl, settings.cache_size),
            store,
            in_use: InUseTable::default(),
            gone: Gone::default(),
            was_connected: AtomicBool::new(false),
            trouble: Mutex::default(),
            ttl: Mutex::new(ttl),
        };
        Self::new(&settings, Kept::Shared(shared))
    }

    fn new(settings: &SessionSettings, kept: Kept) -> Arc<Self> {
        Arc::new(Self {
            hasher: Hasher::new(&settings.identity),
            ttl: Mutex::new(settings.ttl),
            kept,
            misses: AtomicU64::new(0),
            unpins: Default::default(),
        })
    }

    /// Does what has to be done in the background: keeps the connection to the store, refreshes what is in use, hears of
    /// deletions. Runs until dropped; spawn it once, on a runtime that outlives the workers.
    pub async fn run(self: Arc<Self>) {
        match &self.kept {
            Kept::Shared(shared) => shared.run().await,
            Kept::Memory { store, in_use } => loop {
                let interval = (*self.ttl.lock() / 10).clamp(SHORTEST_REFRESH, LONGEST_REFRESH);
                tokio::time::sleep(interval).await;
                while store.refresh(in_use.all().into_iter().map(|(key, _)| key), EXPIRE_BATCH) {
                    tokio::task::yield_now().await;
                }
            },
        }
    }

    /// Takes what may change while running: the lifetime, and the bounds of cache and memory.
    pub fn reconfigure(&self, settings: &SessionSettings) {
        *self.ttl.lock() = settings.ttl;
        match &self.kept {
            Kept::Memory { store, .. } => store.reconfigure(settings.ttl, settings.max_sessions),
            Kept::Shared(shared) => {
                *shared.ttl.lock() = settings.ttl;
                shared.store.set_lifetime(keeper::lifetime(settings.ttl));
                shared.cache.reconfigure(settings.ttl, settings.cache_size);
            }
        }
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
    pub fn find_cached(&self, key: &SessionKey) -> Option<Pin> {
        match &self.kept {
            Kept::Memory { store, .. } => store.find(key),
            Kept::Shared(shared) => shared.cache.find(key),
        }
    }

    /// The pin of a session, from the cache or the store. Counts as use. Answers within a second.
    pub async fn find(&self, key: &SessionKey) -> Found {
        if let Some(pin) = self.find_cached(key) {
            return Found::Pinned(pin);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let Kept::Shared(shared) = &self.kept else { return Found::Unknown };
        let asked = shared.cache.moment();
        match shared.store.lookup(key).await {
            // Nobody has told the store yet that it was deleted.
            Ok(Some(pin)) if shared.gone.is_untold(key, pin.pod) => Found::Unknown,
            Ok(Some(pin)) => {
                shared.cache.insert(*key, pin, asked);
                shared.gone.remove(key);
                Found::Pinned(pin)
            }
            Ok(None) => {
                // An entry that is no use any more would only be asked for again.
                shared.cache.drop_unused(key);
                Found::Unknown
            }
            Err(Unavailable) => Found::Unavailable,
        }
    }

    /// Stores where a session lives. When this says [`PinOutcome::Pinned`], every replica finds it.
    ///
    /// The same id on the same pod again is [`PinOutcome::Pinned`] too; a server that repeats its id on every response
    /// is told by [`Pin`] alone, without asking here.
    pub async fn pin(&self, key: &SessionKey, pod: PodId, path: PathTag, mode: PinMode) -> PinOutcome {
        let pin = Pin { pod, path };
        match &self.kept {
            Kept::Memory { store, .. } => store.pin_now(key, pin, mode),
            Kept::Shared(shared) => {
                let asked = shared.cache.moment();
                let deletion = shared.gone.taken(*key);
                match shared.store.pin(key, pin, mode).await {
                    Ok(PinOutcome::Pinned) => {
                        deletion.discard();
                        shared.cache.insert(*key, pin, asked);
                        PinOutcome::Pinned
                    }
                    Ok(outcome) => outcome,
                    Err(Unavailable) => PinOutcome::Unavailable,
                }
            }
        }
    }

    /// Forgets a session, everywhere, if it lives on this pod. Never fails: what the store cannot be told now is told
    /// when it is back.
    pub async fn unpin(&self, key: &SessionKey, pod: PodId, reason: UnpinReason) {
        if let Some(counter) = self.unpins.get(reason as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        tracing::debug!(session = %key, %pod, reason = reason.as_str(), "unpinned");
        match &self.kept {
            Kept::Memory { store, .. } => store.unpin_now(key, pod),
            Kept::Shared(shared) => {
                // Noted before the store is asked, in case this is dropped meanwhile.
                shared.gone.telling(*key, pod, reason.into());
                shared.cache.forget_on(key, pod);
                let told = shared.store.unpin(key, pod, reason.into()).await.is_ok();
                shared.gone.ended(key, told);
                // A look-up that was under way may have brought it back.
                shared.cache.forget_on(key, pod);
            }
        }
    }

    /// Keeps a session in use for as long as the guard lives: for responses that stream, and requests that last longer
    /// than a second (a short one counts as use by being looked up).
    #[must_use]
    pub fn in_use(self: &Arc<Self>, key: SessionKey, pin: Pin) -> InUse {
        let generation = self.in_use_table().add(key, pin);
        InUse { sessions: Arc::clone(self), key, generation }
    }

    fn in_use_table(&self) -> &InUseTable {
        match &self.kept {
            Kept::Memory { in_use, .. } => in_use,
            Kept::Shared(shared) => &shared.in_use,
        }
    }

    /// Sessions of each pod, over all replicas: as of this replica's last pin, which brings the counts of all pods.
    #[must_use]
    pub fn counts(&self) -> Arc<Counts> {
        match &self.kept {
            Kept::Memory { store, .. } => store.counts(),
            Kept::Shared(shared) => shared.store.counts(),
        }
    }

    /// Says which pods there are, so that their sessions are counted. Call it when they change.
    pub fn set_pods(&self, pods: &[PodId]) {
        if let Kept::Shared(shared) = &self.kept {
            shared.store.set_pods(pods);
        }
    }

    /// Whether this replica can tell where sessions are.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let Kept::Shared(shared) = &self.kept else { return Readiness::Ready };
        // Its pods may be known only after the store was reached; without their counts it would place blindly.
        let was_ready = shared.was_connected.load(Ordering::Acquire) && shared.store.is_counted();
        match (shared.store.is_connected(), was_ready) {
            (true, true) => Readiness::Ready,
            (false, true) => Readiness::Degraded,
            (_, false) => Readiness::Starting,
        }
    }

    /// Why the store cannot be reached, as last seen, and what to do about it where that is known; `None` while it is.
    #[must_use]
    pub fn trouble(&self) -> Option<Arc<str>> {
        let Kept::Shared(shared) = &self.kept else { return None };
        shared.trouble.lock().clone()
    }

    /// What happened so far.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let ((cached, hits), (store_errors, bad_records)) = match &self.kept {
            Kept::Memory { store, .. } => (store.len_and_hits(), (0, 0)),
            Kept::Shared(shared) => (shared.cache.len_and_hits(), shared.store.troubles()),
        };
        Statistics {
            hits,
            misses: self.misses.load(Ordering::Relaxed),
            store_errors,
            bad_records,
            unpins: self.unpins.each_ref().map(|count| count.load(Ordering::Relaxed)),
            cached: cached as u64,
        }
    }
}

/// A session in use; see [`Sessions::in_use`].
#[derive(Debug)]
pub struct InUse {
    sessions: Arc<Sessions>,
    key: SessionKey,
    generation: u64,
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.sessions.in_use_table().release(&self.key, self.generation);
        // It was in use until now.
        match &self.sessions.kept {
            Kept::Memory { store, .. } => store.touch(&self.key),
            Kept::Shared(shared) => shared.cache.touch(&self.key),
        }
    }
}
