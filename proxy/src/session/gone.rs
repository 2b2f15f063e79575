//! Deletions that the store was not told, or may have lost.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::id::SessionKey;
use crate::pods::PodId;

/// How long a deletion is remembered after the store took it: longer than it takes all replicas to hear of it.
const REMEMBERED: Duration = Duration::from_secs(15);
/// How long one is remembered that the store was not told: the pin has expired there by then, in all likelihood.
const UNTOLD: Duration = Duration::from_secs(24 * 60 * 60);
/// More than this many are not remembered once the store has them.
const MANY: usize = 50_000;

#[derive(Debug)]
struct Deletion {
    pod: PodId,
    at: Instant,
    told: bool,
}

/// This replica's own deletions of late.
#[derive(Debug, Default)]
pub(super) struct Gone {
    deletions: Mutex<HashMap<SessionKey, Deletion>>,
}

impl Gone {
    /// A session was deleted, and the store has it or has not.
    pub(super) fn add(&self, key: SessionKey, pod: PodId, told: bool) {
        let mut deletions = self.deletions.lock();
        if deletions.len() < MANY || !told {
            deletions.insert(key, Deletion { pod, at: Instant::now(), told });
        }
    }

    /// The same id is in use again.
    pub(super) fn remove(&self, key: &SessionKey) {
        self.deletions.lock().remove(key);
    }

    /// The store may have lost what it was told.
    pub(super) fn tell_again(&self) {
        self.deletions.lock().values_mut().for_each(|deletion| deletion.told = false);
    }

    /// Those that the store has to be told, at most `limit`; forgets those that it has had for long enough.
    pub(super) fn untold(&self, limit: usize) -> Vec<(SessionKey, PodId)> {
        let mut deletions = self.deletions.lock();
        deletions.retain(|_, deletion| deletion.at.elapsed() < if deletion.told { REMEMBERED } else { UNTOLD });
        let untold = deletions.iter().filter(|(_, deletion)| !deletion.told);
        untold.map(|(key, deletion)| (*key, deletion.pod)).take(limit).collect()
    }

    pub(super) fn told(&self, key: &SessionKey) {
        if let Some(deletion) = self.deletions.lock().get_mut(key) {
            (deletion.told, deletion.at) = (true, Instant::now());
        }
    }
}
