//! Pins in this process alone. Nothing is evicted, since that would lose sessions: the bound is a refusal.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Known, SessionStore, Unavailable};
use crate::pods::PodId;
use crate::session::clock::{Clock, Tick, ticks};
use crate::session::id::SessionKey;
use crate::session::pin::{Counts, Pin, PinMode, PinOutcome};
use crate::session::table::{Held, Table};

/// Pins in memory, bounded by their lifetime and their number.
#[derive(Debug)]
pub(in crate::session) struct MemoryStore {
    clock: Clock,
    ttl: AtomicU32,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    table: Table,
    counts: HashMap<PodId, u32>,
    /// Counted under the lock that every find takes anyway.
    hits: u64,
}

impl MemoryStore {
    pub(in crate::session) fn new(ttl: Duration, max_sessions: usize) -> Self {
        let kept = Kept { table: Table::new(max_sessions), counts: HashMap::new(), hits: 0 };
        Self { clock: Clock::start(), ttl: AtomicU32::new(ticks(ttl)), kept: Mutex::new(kept) }
    }

    /// Takes another lifetime and another bound. Sessions above a smaller one stay, and new ones are refused.
    pub(in crate::session) fn reconfigure(&self, ttl: Duration, max_sessions: usize) {
        self.ttl.store(ticks(ttl), Ordering::Relaxed);
        self.kept.lock().table.set_capacity(max_sessions);
    }

    /// The pin of a session; that is a use of it.
    pub(in crate::session) fn find(&self, key: &SessionKey) -> Option<Pin> {
        let (now, since) = self.now_and_since();
        let mut kept = self.kept.lock();
        let found = kept.table.use_since(key, since, now);
        kept.hits += u64::from(found.is_some());
        found
    }

    pub(in crate::session) fn pin_now(&self, key: &SessionKey, pin: Pin, mode: PinMode) -> PinOutcome {
        let (now, since) = self.now_and_since();
        let mut kept = self.kept.lock();
        let live = kept.table.peek(key).filter(|held| held.used >= since);
        match live.map(|held| held.pin.pod) {
            Some(pod) if pod != pin.pod && mode != PinMode::Replace(pod) => return PinOutcome::AlreadyPinned(pod),
            Some(_) => {}
            None => {
                while kept.pop_unused(since) {}
                if kept.table.is_full() {
                    return PinOutcome::Full;
                }
            }
        }
        if let Some(held) = kept.table.remove(key) {
            kept.uncount(held);
        }
        kept.table.insert(*key, pin, now);
        *kept.counts.entry(pin.pod).or_default() += 1;
        PinOutcome::Pinned
    }

    pub(in crate::session) fn unpin_now(&self, key: &SessionKey, pod: PodId) {
        let mut kept = self.kept.lock();
        if kept.table.peek(key).is_some_and(|held| held.pin.pod == pod)
            && let Some(held) = kept.table.remove(key)
        {
            kept.uncount(held);
        }
    }

    /// Counts a session as used now.
    pub(in crate::session) fn touch(&self, key: &SessionKey) {
        let now = self.clock.now();
        self.kept.lock().table.touch(key, now);
    }

    /// Counts these as used now, and forgets up to `limit` that nobody used in time. Whether there may be more.
    pub(in crate::session) fn refresh(&self, in_use: impl Iterator<Item = SessionKey>, limit: usize) -> bool {
        let (now, since) = self.now_and_since();
        let mut kept = self.kept.lock();
        for key in in_use {
            kept.table.touch(&key, now);
        }
        (0..limit).all(|_| kept.pop_unused(since))
    }

    /// How many it holds, and how many were found so far.
    pub(in crate::session) fn len_and_hits(&self) -> (usize, u64) {
        let kept = self.kept.lock();
        (kept.table.len(), kept.hits)
    }

    /// Now, and the earliest use that is within a lifetime of it.
    fn now_and_since(&self) -> (Tick, Tick) {
        let now = self.clock.now();
        (now, now.saturating_sub(self.ttl.load(Ordering::Relaxed)))
    }
}

impl Kept {
    fn pop_unused(&mut self, since: Tick) -> bool {
        let popped = self.table.pop_unused(since);
        popped.map(|held| self.uncount(held)).is_some()
    }

    fn uncount(&mut self, held: Held) {
        if let Some(count) = self.counts.get_mut(&held.pin.pod) {
            *count = count.saturating_sub(1);
        }
    }
}

impl SessionStore for MemoryStore {
    async fn lookup(&self, key: &SessionKey) -> Result<Option<Pin>, Unavailable> {
        Ok(self.find(key))
    }

    async fn pin(&self, key: &SessionKey, pin: Pin, mode: PinMode) -> Result<PinOutcome, Unavailable> {
        Ok(self.pin_now(key, pin, mode))
    }

    async fn unpin(&self, key: &SessionKey, pod: PodId, _known: Known) -> Result<(), Unavailable> {
        self.unpin_now(key, pod);
        Ok(())
    }

    fn counts(&self) -> Arc<Counts> {
        Arc::new(self.kept.lock().counts.iter().map(|(pod, count)| (*pod, *count)).collect())
    }
}
