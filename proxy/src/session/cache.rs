//! What this replica remembers of a store that all share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::clock::{Clock, Tick, ticks};
use super::id::SessionKey;
use super::pin::Pin;
use super::table::{Held, Table};
use crate::pods::PodId;

/// Deletions that are told apart: more than are heard of during one look-up, unless many come at once.
const RECENT: usize = 1_024;

/// A bounded cache of pins. Evicting one costs a look-up, no session.
#[derive(Debug)]
pub(super) struct Cache {
    clock: Clock,
    ttl: AtomicU32,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    table: Table,
    /// Counted under the lock that every find takes anyway.
    hits: u64,
    deletions: Deletions,
}

/// The last deletions that were heard of. A look-up that began before one may bring what was deleted.
#[derive(Debug, Default)]
struct Deletions {
    /// How many there were before the first of `recent`.
    forgotten: u64,
    recent: VecDeque<SessionKey>,
}

impl Deletions {
    fn add(&mut self, key: SessionKey) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
            self.forgotten += 1;
        }
        self.recent.push_back(key);
    }

    /// Any session may have been deleted.
    fn add_all(&mut self) {
        self.forgotten = self.moment().0 + 1;
        self.recent.clear();
    }

    fn moment(&self) -> Moment {
        Moment(self.forgotten + self.recent.len() as u64)
    }

    /// Whether the session may have been deleted since.
    fn concern(&self, key: &SessionKey, since: Moment) -> bool {
        let Some(known) = since.0.checked_sub(self.forgotten) else { return true };
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        self.recent.iter().skip(known).any(|deleted| deleted == key)
    }
}

/// Before what deletions a look-up began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(u64);

impl Cache {
    pub(super) fn new(ttl: Duration, capacity: usize) -> Self {
        Self {
            clock: Clock::start(),
            ttl: AtomicU32::new(ticks(ttl)),
            kept: Mutex::new(Kept { table: Table::new(capacity), hits: 0, deletions: Deletions::default() }),
        }
    }

    /// The pod that is remembered. That is no use of the session.
    pub(super) fn pod(&self, key: &SessionKey) -> Option<PodId> {
        self.kept.lock().table.peek(key).map(|held| held.pin.pod)
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
        self.kept.lock().deletions.moment()
    }

    /// Remembers what the store said, unless the session's deletion was heard of meanwhile.
    pub(super) fn insert(&self, key: SessionKey, pin: Pin, asked: Moment) {
        let Kept { table, deletions, .. } = &mut *self.kept.lock();
        if !deletions.concern(&key, asked) {
            table.insert(key, pin, self.clock.now());
        }
    }

    pub(super) fn touch(&self, key: &SessionKey) {
        self.kept.lock().table.touch(key, self.clock.now());
    }

    /// Forgets sessions that were deleted.
    pub(super) fn forget(&self, keys: impl IntoIterator<Item = SessionKey>) {
        let Kept { table, deletions, .. } = &mut *self.kept.lock();
        for key in keys {
            deletions.add(key);
            table.remove(&key);
        }
    }

    /// Forgets a session that was deleted, if it is the one on this pod.
    pub(super) fn forget_on(&self, key: &SessionKey, pod: PodId) {
        let Kept { table, deletions, .. } = &mut *self.kept.lock();
        deletions.add(*key);
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
        let Kept { table, deletions, .. } = &mut *self.kept.lock();
        deletions.add_all();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::id::PathTag;

    #[test]
    fn only_the_deletion_of_a_session_keeps_what_was_asked_before_it_out() {
        let cache = Cache::new(Duration::from_secs(60), 100_000);
        let [own, other] = [1, 2].map(|number| SessionKey([number; 16]));
        let pin = Pin { pod: PodId(0), path: PathTag(1) };
        let asked = cache.moment();
        cache.forget([other]);
        cache.forget_on(&other, PodId(0));
        cache.insert(own, pin, asked);
        assert_eq!(cache.find(&own), Some(pin), "another session was deleted");
        for forget in [
            (|cache, key| cache.forget([key])) as fn(&Cache, SessionKey),
            |cache, key| cache.forget_on(&key, PodId(0)),
            |cache, _| cache.clear(),
            // More than can be told apart.
            |cache, _| cache.forget((0..10_000).map(|number| SessionKey(u128::to_be_bytes(number)))),
        ] {
            cache.forget([own]);
            let asked = cache.moment();
            forget(&cache, own);
            cache.forget([other]);
            cache.insert(own, pin, asked);
            assert_eq!(cache.find(&own), None);
            cache.insert(own, pin, cache.moment());
            assert_eq!(cache.find(&own), Some(pin), "asked after the deletion");
        }
    }
}
