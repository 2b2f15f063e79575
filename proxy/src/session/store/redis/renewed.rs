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
    /// Oldest first, with those that are forgotten or have another number by now.
    order: VecDeque<(SessionKey, u64)>,
}

impl Renewed {
    /// This replica pinned a session that had been deleted or was on another pod.
    pub(super) fn note(&self, key: SessionKey, number: u64) {
        let Numbers { of, order } = &mut *self.0.lock();
        if of.insert(key, number) == Some(number) {
            return;
        }
        order.push_back((key, number));
        let holds = |of: &HashMap<SessionKey, u64>, (key, number): &(SessionKey, u64)| of.get(key) == Some(number);
        if order.len() > TOMBSTONES * 2 {
            order.retain(|noted| holds(of, noted));
        }
        // The store keeps no more deletions either.
        while of.len() > TOMBSTONES
            && let Some(oldest) = order.pop_front()
        {
            if holds(of, &oldest) {
                of.remove(&oldest.0);
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_numbers_go_and_none_that_was_noted_again_since() {
        let renewed = Renewed::default();
        let key = |number: usize| SessionKey((number as u128).to_be_bytes());
        let (again, old) = (key(0), key(1));
        for (number, key) in (0..).zip([again, old]) {
            renewed.note(key, number);
        }
        renewed.forget(&again);
        assert_eq!(renewed.number(&again), None);
        renewed.note(again, 2);
        for number in 3..=TOMBSTONES {
            renewed.note(key(number), number as u64);
        }
        assert_eq!([again, old].map(|key| renewed.number(&key)), [Some(2), Some(1)], "as many as are kept");
        renewed.note(key(TOMBSTONES + 1), 0);
        assert_eq!([again, old].map(|key| renewed.number(&key)), [Some(2), None], "one more");
        for number in 0..TOMBSTONES as u64 * 10 {
            renewed.forget(&again);
            renewed.note(again, number);
        }
        assert!(renewed.number(&key(TOMBSTONES)).is_some(), "one session takes one place");
        assert!(renewed.0.lock().order.len() <= TOMBSTONES * 2);
    }
}
