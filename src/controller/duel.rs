//! Notices when somebody else changes back what the controller writes, each time. Pure.
//!
//! A resource that is worth a write each time it is looked at is nothing special: its pods come up one by one. That the same
//! is written to the same place again is, since nobody has to write what stands. It happens once when a person changes an
//! object by hand; another controller goes on for ever, and as fast as both can.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::objects::ObjectKind;
use crate::backoff::Backoff;

/// So often what was changed is set back at once.
const AT_ONCE: u32 = 5;
/// After that, the longest pause.
const LONGEST: Duration = Duration::from_secs(60);
/// After so long, what happens is another story.
const FORGOTTEN: Duration = Duration::from_secs(180);

/// What one look has written: to what place, and what. Hashes, since there is one for each object of the cluster.
#[derive(Debug, Default)]
pub(super) struct Written(Vec<(u64, u64)>);

impl Written {
    /// An object, with the hash of what was applied.
    pub(super) fn object(&mut self, kind: ObjectKind, name: &str, applied: &str) {
        self.0.push((hash(&(kind, name)), hash(&applied)));
    }

    /// A status.
    pub(super) fn status(&mut self, status: &Value) {
        let mut status = status.clone();
        for condition in status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
            // Moves with each write of it.
            condition.as_object_mut().and_then(|condition| condition.remove("lastTransitionTime"));
        }
        self.0.push((hash(&"status"), hash(&status.to_string())));
    }
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// What is remembered of one resource.
#[derive(Debug)]
pub(super) struct Duel {
    last: HashMap<u64, u64>,
    rounds: u32,
    since: Option<Instant>,
    backoff: Backoff,
}

impl Default for Duel {
    fn default() -> Self {
        Self { last: HashMap::new(), rounds: 0, since: None, backoff: Backoff::up_to(LONGEST) }
    }
}

impl Duel {
    /// Takes note of a look; says how long to leave the resource alone, where somebody else does not.
    pub(super) fn after(&mut self, written: Written, now: Instant) -> Option<Duration> {
        let mut again = false;
        for (place, what) in written.0 {
            again |= self.last.insert(place, what) == Some(what);
        }
        if !again {
            return None;
        }
        if self.since.is_none_or(|since| now.duration_since(since) > FORGOTTEN) {
            self.rounds = 0;
            self.backoff.reset();
        }
        self.since = Some(now);
        self.rounds = self.rounds.saturating_add(1);
        (self.rounds > AT_ONCE).then(|| self.backoff.next())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn applied(hash: &str) -> Written {
        let mut written = Written::default();
        written.object(ObjectKind::Deployment, "foo", hash);
        written
    }

    fn status(ready: u32, time: &str) -> Written {
        let mut written = Written::default();
        written.status(&json!({"readyReplicas": ready, "conditions": [{"type": "Ready", "lastTransitionTime": time}]}));
        written
    }

    #[test]
    fn another_writer_is_answered_ever_more_slowly() {
        for round in [|_| applied("a"), |time: u64| status(1, &time.to_string())] {
            let (mut duel, start) = (Duel::default(), Instant::now());
            let mut now = start;
            let mut rounds = 0;
            while now < start + Duration::from_secs(600) {
                now += Duration::from_millis(10);
                now += duel.after(round(rounds), now).unwrap_or_default();
                rounds += 1;
                if rounds == u64::from(AT_ONCE) {
                    assert!(now < start + Duration::from_secs(1), "the first are answered at once");
                }
            }
            assert!((15..50).contains(&rounds), "{rounds} in ten minutes");
        }
    }

    #[test]
    fn what_follows_the_pods_or_the_resource_is_never_held_up() {
        let (mut duel, now) = (Duel::default(), Instant::now());
        for round in 0..100 {
            // A rollout, as in pods that come and go in turns.
            assert_eq!(duel.after(status(round % 2, "t"), now), None);
            assert_eq!(duel.after(applied(&round.to_string()), now), None);
            assert_eq!(duel.after(Written::default(), now), None);
        }
    }

    #[test]
    fn edits_by_hand_now_and_then_are_set_back_at_once() {
        let (mut duel, mut now) = (Duel::default(), Instant::now());
        for _ in 0..50 {
            now += FORGOTTEN * 2;
            assert_eq!(duel.after(applied("a"), now), None);
        }
    }
}
