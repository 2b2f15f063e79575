//! Pins of this replica that are younger than a deletion of the same session, or than its pin to another pod.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;

use super::TOMBSTONES;
use crate::session::id::SessionKey;

/// The numbers that such deletions and moves have in the store. A store that fell back to before the new pin still has
/// the deletion; it is known by its number, and neither it nor the move concerns what this replica remembers.
#[derive(Debug, Default)]
pub(super) struct Renewed(Mutex<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    of: HashMap<SessionKey, u64>,
    /// Oldest first.
    order: VecDeque<SessionKey>,
}

impl Renewed {
    /// This replica pinned a session that had been deleted or was on another pod.
    pub(super) fn note(&self, key: SessionKey, number: u64) {
        let numbers = &mut *self.0.lock();
        if numbers.of.insert(key, number).is_none() {
            numbers.order.push_back(key);
        }
        // The store keeps no more deletions either.
        if numbers.order.len() > TOMBSTONES
            && let Some(oldest) = numbers.order.pop_front()
        {
            numbers.of.remove(&oldest);
        }
    }

    /// This replica deleted the session again.
    pub(super) fn forget(&self, key: &SessionKey) {
        self.0.lock().of.remove(key);
    }

    /// The number of the deletion or move that this replica's pin is younger than.
    pub(super) fn number(&self, key: &SessionKey) -> Option<u64> {
        self.0.lock().of.get(key).copied()
    }
}
