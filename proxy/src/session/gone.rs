//! Deletions that the store was not told, or may have lost.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::id::SessionKey;
use super::store::Known;
use crate::pods::PodId;

/// How long a deletion is remembered after the store took it: longer than it takes all replicas to hear of it.
const REMEMBERED: Duration = Duration::from_secs(15);
/// How long one is remembered that the store was not told: the pin has expired there by then, in all likelihood.
const UNTOLD: Duration = Duration::from_secs(24 * 60 * 60);
/// After this long nobody is telling the store any more, though nobody said so: the request was given up.
const TELLING: Duration = Duration::from_secs(10);
/// More than this many are not remembered once the store has them, or where no client heard of the session.
const MANY: usize = 50_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Whoever deleted it is telling the store.
    Telling,
    /// That failed, or the store may have lost it.
    Untold,
    Told,
}

#[derive(Debug)]
struct Deletion {
    pod: PodId,
    known: Known,
    at: Instant,
    stage: Stage,
}

/// This replica's own deletions of late.
#[derive(Debug, Default)]
pub(super) struct Gone {
    deletions: Mutex<HashMap<SessionKey, Deletion>>,
}

impl Gone {
    /// A session was deleted, and the store is being told.
    pub(super) fn telling(&self, key: SessionKey, pod: PodId, known: Known) {
        let mut deletions = self.deletions.lock();
        // Clients may know of the session that was deleted before.
        let known =
            deletions.get(&key).map_or(known, |before| if known == before.known { known } else { Known::ToClients });
        deletions.insert(key, Deletion { pod, known, at: Instant::now(), stage: Stage::Telling });
    }

    /// The store took it, or did not.
    pub(super) fn ended(&self, key: &SessionKey, told: bool) {
        let mut deletions = self.deletions.lock();
        let many = deletions.len() > MANY;
        let Some(deletion) = deletions.get_mut(key) else { return };
        // A pin that nobody heard of and that stays is no harm: it expires.
        if many && (told || deletion.known == Known::ToNobody) {
            deletions.remove(key);
        } else {
            deletion.stage = if told { Stage::Told } else { Stage::Untold };
            deletion.at = Instant::now();
        }
    }

    /// The same id is in use again.
    pub(super) fn remove(&self, key: &SessionKey) {
        self.deletions.lock().remove(key);
    }

    /// The same id is being pinned: what is deleted from now on is meant for the new pin.
    pub(super) fn taken(&self, key: SessionKey) -> Taken<'_> {
        Taken { gone: self, key, deletion: self.deletions.lock().remove(&key) }
    }

    /// Whether the store may still have the pin to this pod only since it was not told yet.
    pub(super) fn is_untold(&self, key: &SessionKey, pod: PodId) -> bool {
        let deletions = self.deletions.lock();
        deletions.get(key).is_some_and(|deletion| deletion.pod == pod && deletion.stage != Stage::Told)
    }

    /// The store may have lost what it was told.
    pub(super) fn tell_again(&self) {
        for deletion in self.deletions.lock().values_mut().filter(|deletion| deletion.stage == Stage::Told) {
            deletion.stage = Stage::Untold;
        }
    }

    /// Those that the store has to be told, at most `limit`; forgets those that are old.
    pub(super) fn untold(&self, limit: usize) -> Vec<(SessionKey, PodId, Known)> {
        let mut deletions = self.deletions.lock();
        deletions.retain(|_, deletion| {
            let age = deletion.at.elapsed();
            if deletion.stage == Stage::Telling && age > TELLING {
                deletion.stage = Stage::Untold;
            }
            age < if deletion.stage == Stage::Told { REMEMBERED } else { UNTOLD }
        });
        let untold = deletions.iter().filter(|(_, deletion)| deletion.stage == Stage::Untold);
        untold.map(|(key, deletion)| (*key, deletion.pod, deletion.known)).take(limit).collect()
    }
}

/// The deletion of a session that is being pinned again. It comes back unless that succeeds.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    gone: &'a Gone,
    key: SessionKey,
    deletion: Option<Deletion>,
}

impl Taken<'_> {
    /// The new pin is stored.
    pub(super) fn discard(mut self) {
        self.deletion = None;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(deletion) = self.deletion.take() {
            self.gone.deletions.lock().entry(self.key).or_insert(deletion);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known = Known::ToClients;

    #[test]
    fn a_deletion_is_told_again_only_when_it_failed_or_was_lost() {
        let (gone, key, pod) = (Gone::default(), SessionKey([1; 16]), PodId(0));
        gone.telling(key, pod, KNOWN);
        assert_eq!(gone.untold(9), [], "somebody is at it");
        gone.ended(&key, false);
        assert_eq!(gone.untold(9), [(key, pod, KNOWN)]);
        gone.ended(&key, true);
        assert_eq!(gone.untold(9), []);
        gone.tell_again();
        assert_eq!(gone.untold(9), [(key, pod, KNOWN)]);
        gone.remove(&key);
        assert_eq!(gone.untold(9), [], "the id is in use again");
    }

    #[test]
    fn a_deletion_outlives_a_new_pin_that_fails() {
        let (gone, key, [old, new]) = (Gone::default(), SessionKey([1; 16]), [0, 1].map(PodId));
        gone.telling(key, old, KNOWN);
        assert!(gone.is_untold(&key, old) && !gone.is_untold(&key, new));
        gone.ended(&key, false);
        let taken = gone.taken(key);
        assert_eq!(gone.untold(9), [], "it may be meant for the new pin");
        drop(taken);
        assert_eq!(gone.untold(9), [(key, old, KNOWN)]);
        let taken = gone.taken(key);
        gone.telling(key, new, KNOWN);
        gone.ended(&key, false);
        drop(taken);
        assert_eq!(gone.untold(9), [(key, new, KNOWN)], "a later one stays");
        gone.taken(key).discard();
        assert_eq!(gone.untold(9), []);
    }

    /// As where clients make sessions without end while the store takes nothing.
    #[test]
    fn only_so_many_deletions_are_kept_of_sessions_that_nobody_heard_of() {
        let (gone, pod) = (Gone::default(), PodId(0));
        let key = |number: usize| SessionKey((number as u128).to_be_bytes());
        let fail = |number, known| {
            gone.telling(key(number), pod, known);
            gone.ended(&key(number), false);
        };
        (0..MANY + 10).for_each(|number| fail(number, Known::ToNobody));
        assert_eq!(gone.untold(usize::MAX).len(), MANY);
        fail(MANY + 10, KNOWN);
        assert!(gone.is_untold(&key(MANY + 10), pod), "a client's session");
        fail(MANY + 10, Known::ToNobody);
        assert!(gone.is_untold(&key(MANY + 10), pod), "it was a client's");
    }
}
