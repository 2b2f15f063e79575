//! What this replica remembers of a store that all share.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::clock::{Clock, Tick, ticks};
use super::id::SessionKey;
use super::pin::Pin;
use super::table::{Held, Table};
use crate::pods::PodId;

/// A bounded cache of pins. Evicting one costs a look-up, no session.
#[derive(Debug)]
pub(super) struct Cache {
    clock: Clock,
    ttl: AtomicU32,
    kept: Mutex<Kept>,
    /// Grows with every deletion that is heard of. A look-up that began before one may bring what was deleted.
    deletions: AtomicU64,
}

#[derive(Debug)]
struct Kept {
    table: Table,
    /// Counted under the lock that every find takes anyway.
    hits: u64,
}

/// Before what deletions a look-up began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(u64);

impl Cache {
    pub(super) fn new(ttl: Duration, capacity: usize) -> Self {
        Self {
            clock: Clock::start(),
            ttl: AtomicU32::new(ticks(ttl)),
            kept: Mutex::new(Kept { table: Table::new(capacity), hits: 0 }),
            deletions: AtomicU64::new(0),
        }
    }

    /// Takes another lifetime and another bound. A smaller one evicts what was used least recently.
    pub(super) fn reconfigure(&self, ttl: Duration, capacity: usize) {
        self.ttl.store(ticks(ttl), Ordering::Relaxed);
        let mut kept = self.kept.lock();
        kept.table.set_capacity(capacity);
        while kept.table.len() > capacity.max(1) && kept.table.pop_unused(Tick::MAX).is_some() {}
    }

    /// The earliest use that is within a lifetime of now.
    fn since(&self, now: Tick) -> Tick {
        now.saturating_sub(self.ttl.load(Ordering::Relaxed))
    }

    /// The pin, unless it was not used for a lifetime: then another replica may have used it. That is a use of it.
    pub(super) fn find(&self, key: &SessionKey) -> Option<Pin> {
        let now = self.clock.now();
        let mut kept = self.kept.lock();
        let found = kept.table.use_since(key, self.since(now), now);
        kept.hits += u64::from(found.is_some());
        found
    }

    /// Take this before asking the store for what [`Cache::insert`] then puts in.
    pub(super) fn moment(&self) -> Moment {
        Moment(self.deletions.load(Ordering::Acquire))
    }

    /// Remembers what the store said, unless a deletion was heard of meanwhile.
    pub(super) fn insert(&self, key: SessionKey, pin: Pin, asked: Moment) {
        let table = &mut self.kept.lock().table;
        if self.deletions.load(Ordering::Acquire) == asked.0 {
            table.insert(key, pin, self.clock.now());
        }
    }

    pub(super) fn touch(&self, key: &SessionKey) {
        self.kept.lock().table.touch(key, self.clock.now());
    }

    /// Forgets sessions that were deleted.
    pub(super) fn forget(&self, keys: impl IntoIterator<Item = SessionKey>) {
        let table = &mut self.kept.lock().table;
        self.deletions.fetch_add(1, Ordering::AcqRel);
        for key in keys {
            table.remove(&key);
        }
    }

    /// Forgets a session that was deleted, if it is the one on this pod.
    pub(super) fn forget_on(&self, key: &SessionKey, pod: PodId) {
        let table = &mut self.kept.lock().table;
        self.deletions.fetch_add(1, Ordering::AcqRel);
        if table.peek(key).is_some_and(|held| held.pin.pod == pod) {
            table.remove(key);
        }
    }

    /// Forgets a session that nobody has used for its lifetime.
    pub(super) fn drop_unused(&self, key: &SessionKey) {
        let since = self.since(self.clock.now());
        let table = &mut self.kept.lock().table;
        if table.peek(key).is_some_and(|held| held.used < since) {
            table.remove(key);
        }
    }

    /// Forgets everything: deletions were missed.
    pub(super) fn clear(&self) {
        let table = &mut self.kept.lock().table;
        self.deletions.fetch_add(1, Ordering::AcqRel);
        table.clear();
    }

    /// How many it holds, and how many were found in it so far.
    pub(super) fn len_and_hits(&self) -> (usize, u64) {
        let kept = self.kept.lock();
        (kept.table.len(), kept.hits)
    }

    /// How many places [`Cache::sweep`] has to look at.
    pub(super) fn places(&self) -> usize {
        self.kept.lock().table.places()
    }

    /// Up to `limit` places of the table from `cursor` on: pins used since they were last given here, or all, each with
    /// how long ago it was used. Returns the next cursor.
    pub(super) fn sweep(
        &self,
        cursor: usize,
        limit: usize,
        all: bool,
        mut visit: impl FnMut(SessionKey, Pin, Duration),
    ) -> Option<usize> {
        let now = self.clock.now();
        let since = self.since(now);
        self.kept.lock().table.sweep(cursor, limit, all, |Held { key, pin, used }| {
            if used >= since {
                visit(key, pin, Duration::from_millis(u64::from(now - used.min(now)) * 100));
            }
        })
    }
}
