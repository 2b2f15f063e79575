//! How old an answer of DNS is, by how long it has still to live.
//!
//! A cache passes on what it heard earlier, and says so only by the lifetime that it takes off. An answer that lacks a pod
//! proves nothing of a pod that joined after the cache had heard it.

use std::time::{Duration, Instant};

/// After so many lifetimes without a whole one, the records live shorter than before.
const FORGET: u32 = 2;
/// Lifetimes are whole seconds: what is almost a second old has its whole lifetime still.
const ROUNDED: Duration = Duration::from_secs(1);

/// The lifetime that records have at their source: the longest that is seen.
#[derive(Debug, Default)]
pub(super) struct Lifetime {
    whole: u32,
    seen_at: Option<Instant>,
    /// Whether any was shorter, so that there is a cache.
    cached: bool,
}

impl Lifetime {
    /// The age of an answer that came `now` with so many seconds left.
    pub(super) fn age(&mut self, left: u32, now: Instant) -> Duration {
        let whole = Duration::from_secs(u64::from(self.whole));
        let forgotten = self.seen_at.is_none_or(|at| now.saturating_duration_since(at) > whole * FORGET);
        // Two that differ are two looks at one that ages.
        self.cached = !forgotten && (self.cached || left != self.whole);
        if left >= self.whole || forgotten {
            (self.whole, self.seen_at) = (left, Some(now));
        }
        let age = Duration::from_secs(u64::from(self.whole - left));
        if self.cached { age + ROUNDED } else { age }
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
    fn answers_from_the_source_are_new() {
        assert_eq!(ages(&[(0, 30), (2, 30), (4, 30)]), [0, 0, 0]);
        assert_eq!(ages(&[(0, 0), (2, 0), (4, 0)]), [0, 0, 0]);
    }

    #[test]
    fn answers_of_a_cache_are_as_old_as_their_lifetime_says_and_a_second_for_the_rounding() {
        assert_eq!(ages(&[(0, 30), (2, 28), (29, 1), (31, 30), (33, 28)]), [0, 3, 30, 1, 3]);
        assert_eq!(ages(&[(0, 12), (2, 10), (13, 30), (15, 28)]), [0, 3, 1, 3], "the first was not whole");
    }

    #[test]
    fn a_lifetime_that_is_not_seen_any_more_is_forgotten() {
        let mut changed = vec![(0, 30)];
        changed.extend((1..=31).map(|round| (2 * round, 5)));
        let ages = ages(&changed);
        assert_eq!((ages[30], ages[31]), (26, 0));
    }
}
