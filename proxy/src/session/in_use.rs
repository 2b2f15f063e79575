//! Sessions that are in use without being looked up: open streams, long requests.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::id::SessionKey;
use super::pin::Pin;

/// How many users each has.
#[derive(Debug, Default)]
pub(super) struct InUseTable {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    uses: HashMap<SessionKey, Use>,
    generations: u64,
}

#[derive(Debug)]
struct Use {
    pin: Pin,
    users: usize,
    /// Another one after it was forgotten: who used it before that has no part in it.
    generation: u64,
}

impl InUseTable {
    /// Gives what [`InUseTable::release`] takes.
    pub(super) fn add(&self, key: SessionKey, pin: Pin) -> u64 {
        let Held { uses, generations } = &mut *self.held.lock();
        let entry = uses.entry(key).or_insert_with(|| {
            *generations += 1;
            Use { pin, users: 0, generation: *generations }
        });
        entry.pin = pin;
        entry.users += 1;
        entry.generation
    }

    pub(super) fn release(&self, key: &SessionKey, generation: u64) {
        let uses = &mut self.held.lock().uses;
        if let Some(entry) = uses.get_mut(key).filter(|entry| entry.generation == generation) {
            entry.users -= 1;
            if entry.users == 0 {
                uses.remove(key);
            }
        }
    }

    /// A deleted session is not kept alive by those who have not noticed yet.
    pub(super) fn forget(&self, keys: &[SessionKey]) {
        let uses = &mut self.held.lock().uses;
        for key in keys {
            uses.remove(key);
        }
    }

    pub(super) fn all(&self) -> Vec<(SessionKey, Pin)> {
        self.held.lock().uses.iter().map(|(key, entry)| (*key, entry.pin)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::PodId;
    use crate::session::id::PathTag;

    #[test]
    fn who_used_a_session_before_it_was_deleted_does_not_end_the_use_of_the_next() {
        let (table, key) = (InUseTable::default(), SessionKey([1; 16]));
        let [old, new] = [0, 1].map(|pod| Pin { pod: PodId(pod), path: PathTag(1) });
        let before = table.add(key, old);
        assert_eq!(table.add(key, old), before, "two users of one session");
        table.forget(&[key]);
        let after = table.add(key, new);
        table.release(&key, before);
        table.release(&key, before);
        assert_eq!(table.all(), [(key, new)]);
        table.release(&key, after);
        assert_eq!(table.all(), []);
    }
}
