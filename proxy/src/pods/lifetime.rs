//! How old an answer of DNS is, by how long it has still to live.
//!
//! A cache passes on what it heard earlier, and says so only by the lifetime that it takes off. An answer that lacks a pod
//! proves nothing of a pod that joined after the cache had heard it.

use std::time::{Duration, Instant};

/// After so many lifetimes without a whole one, the records live shorter than before.
const FORGET: u32 = 10;
/// Lifetimes are whole seconds: what is almost a second old has its whole lifetime still. And what comes from a cache can
/// be told by that only when a second has passed.
const ROUNDED: Duration = Duration::from_secs(1);
/// What clusters usually let their names live for, in CoreDNS and in caches of it. Of a cache, the whole lifetime may not
/// be seen for long: no answer counts as newer than this says.
const USUAL: u32 = 30;

/// The lifetime that records have at their source: the longest that is seen.
#[derive(Debug, Default)]
pub(super) struct Lifetime {
    first: Option<Instant>,
    whole: u32,
    seen_at: Option<Instant>,
    /// The shortest and the longest since then.
    since: Option<(u32, u32)>,
    /// Whether any was shorter, so that there is a cache.
    cached: bool,
}

impl Lifetime {
    /// The age of an answer that came `now` with so many seconds left.
    pub(super) fn age(&mut self, left: u32, now: Instant) -> Duration {
        let first = *self.first.get_or_insert(now);
        // Two that differ are two looks at one that ages.
        self.cached |= self.seen_at.is_some() && left != self.whole;
        let (shortest, longest) = self.since.map_or((left, left), |(low, high)| (low.min(left), high.max(left)));
        let patience = Duration::from_secs(u64::from(self.whole)) * FORGET;
        if left >= self.whole {
            (self.whole, self.seen_at, self.since) = (left, Some(now), None);
        } else if self.seen_at.is_some_and(|at| now.saturating_duration_since(at) > patience) {
            (self.whole, self.seen_at, self.since) = (longest, Some(now), None);
            self.cached = shortest != longest;
        } else {
            self.since = Some((shortest, longest));
        }
        if !self.cached && now.saturating_duration_since(first) > ROUNDED {
            return Duration::ZERO;
        }
        Duration::from_secs(u64::from(self.whole.max(USUAL) - left)) + ROUNDED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ages(lifetimes: &[(u64, u32)]) -> Vec<u64> {
        let (mut lifetime, start) = (Lifetime::default(), Instant::now());
        let age = |&(at, left): &(u64, u32)| lifetime.age(left, start + Duration::from_secs(at)).as_secs();
        lifetimes.iter().map(age).collect()
    }

    #[test]
    fn answers_from_the_source_are_new_once_it_is_known_to_be_the_source() {
        assert_eq!(ages(&[(0, 30), (2, 30), (4, 30)]), [1, 0, 0]);
        assert_eq!(ages(&[(0, 5), (1, 5), (2, 5)]), [26, 26, 0]);
        assert_eq!(ages(&[(0, 0), (2, 0), (4, 0)]), [31, 0, 0]);
    }

    #[test]
    fn answers_of_a_cache_are_as_old_as_their_lifetime_says_and_a_second_for_the_rounding() {
        assert_eq!(ages(&[(0, 30), (2, 28), (29, 1), (31, 30), (33, 28)]), [1, 3, 30, 1, 3]);
        assert_eq!(ages(&[(0, 60), (2, 58), (61, 60)]), [1, 3, 1]);
    }

    #[test]
    fn no_answer_of_a_cache_is_taken_for_newer_than_it_can_be() {
        assert_eq!(ages(&[(0, 12), (2, 10), (13, 20), (15, 18)]), [19, 21, 11, 13], "a whole one was not seen yet");
        assert_eq!(ages(&[(0, 30), (2, 28), (70, 7), (90, 12)]), [1, 3, 24, 19], "nor for long");
    }

    #[test]
    fn a_lifetime_that_is_not_seen_any_more_is_forgotten() {
        let later = |lefts: [u32; 2]| {
            let mut changed = vec![(0, 60)];
            changed.extend((1..=61).map(|round| (10 * round, lefts[usize::from(round % 2 == 0)])));
            let ages = ages(&changed);
            (ages[59], ages[61])
        };
        assert_eq!(later([5, 5]), (56, 0), "the source itself");
        assert_eq!(later([40, 30]), (21, 1), "a cache");
    }
}
