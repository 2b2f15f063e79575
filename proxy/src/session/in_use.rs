//! Sessions that are in use without being looked up: open streams, long requests.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::id::SessionKey;
use super::pin::Pin;

/// How many users each has.
#[derive(Debug, Default)]
pub(super) struct InUseTable {
    held: Mutex<HashMap<SessionKey, (Pin, usize)>>,
}

impl InUseTable {
    pub(super) fn add(&self, key: SessionKey, pin: Pin) {
        let mut held = self.held.lock();
        let entry = held.entry(key).or_insert((pin, 0));
        entry.0 = pin;
        entry.1 += 1;
    }

    pub(super) fn release(&self, key: &SessionKey) {
        let mut held = self.held.lock();
        if let Some((_, users)) = held.get_mut(key) {
            *users -= 1;
            if *users == 0 {
                held.remove(key);
            }
        }
    }

    /// A deleted session is not kept alive by those who have not noticed yet.
    pub(super) fn forget(&self, keys: &[SessionKey]) {
        let mut held = self.held.lock();
        for key in keys {
            held.remove(key);
        }
    }

    pub(super) fn all(&self) -> Vec<(SessionKey, Pin)> {
        self.held.lock().iter().map(|(key, (pin, _))| (*key, *pin)).collect()
    }
}
