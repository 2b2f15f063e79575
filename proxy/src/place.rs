//! Which pod gets a new session. Pure: the caller brings counts, time and chance.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::pods::PodId;
use crate::session::Counts;

/// How long a failed placement counts as a session of its pod, so that a pod that fails fast does not attract everything.
pub const PENALTY: Duration = Duration::from_secs(10);

/// Failures that are remembered: enough to shun a pod, and few enough to be counted at each placement.
const MOST_FAILURES: usize = 1_000;

/// A pod is behind when it lacks more sessions to the mean than counts that are a moment old explain.
const BEHIND: u64 = 8;

/// How a placement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// A session was pinned, and the counts include it now.
    Pinned,
    /// The pod answered without making a session.
    NoSession,
    /// The pod refused, broke, or answered a request for a session with a 5xx.
    Failed,
}

/// Placements of this replica that the counts do not show: those under way, and those that failed lately.
#[derive(Debug, Default)]
pub struct Placements {
    in_flight: Vec<(PodId, u32)>,
    /// Oldest first.
    failed: VecDeque<(PodId, Instant)>,
}

impl Placements {
    /// The pod for a new session among the ready ones, and counts the placement as under way: say how it ended with
    /// [`Placements::ended`]. `chance` is any random number. `None` only when no pod is ready.
    ///
    /// The pod with the fewest sessions, ties at random. Pods that are far behind, since they joined late, get about
    /// twice their share until they have caught up, not every new session. A pod that failed is passed over, the oftener
    /// it failed lately the more surely, as long as there is another.
    pub fn place(&mut self, ready: &[PodId], counts: &Counts, now: Instant, chance: u64) -> Option<PodId> {
        self.forgive(now);
        let trusted: Vec<_> = ready.iter().copied().filter(|pod| self.is_trusted(*pod, chance >> 32)).collect();
        let among = if trusted.is_empty() { ready } else { &trusted };
        let loads: Vec<(PodId, u64)> = among.iter().map(|pod| (*pod, self.load(*pod, counts))).collect();
        let pods = loads.len() as u64;
        let mean = loads.iter().map(|(_, load)| load).sum::<u64>() / pods.max(1);
        let limit = mean.saturating_sub(BEHIND + mean / 100);
        let (behind, others): (Vec<_>, Vec<_>) = loads.into_iter().partition(|(_, load)| *load < limit);
        let late = behind.len() as u64;
        // Twice the share of those behind, but never more than halfway from their share to everything.
        let share = (2 * late * 1000 / pods.max(1)).min(500 + late * 500 / pods.max(1));
        let among = if late > 0 && chance % 1000 < share { behind } else { others };
        let pod = fewest(&among, chance / 1000)?;
        self.start(pod);
        Some(pod)
    }

    /// The pod for one request that makes no session: the ready one with the fewest placements of this replica under
    /// way, ties at random. Counts as under way, as [`Placements::place`] does.
    pub fn place_once(&mut self, ready: &[PodId], now: Instant, chance: u64) -> Option<PodId> {
        self.forgive(now);
        let loads: Vec<_> = ready.iter().map(|pod| (*pod, self.load(*pod, &Counts::default()))).collect();
        let pod = fewest(&loads, chance)?;
        self.start(pod);
        Some(pod)
    }

    /// A placement ended.
    pub fn ended(&mut self, pod: PodId, how: Placed, now: Instant) {
        if let Some((_, count)) = self.in_flight.iter_mut().find(|(other, _)| *other == pod) {
            *count = count.saturating_sub(1);
        }
        self.in_flight.retain(|(_, count)| *count > 0);
        if how == Placed::Failed {
            if self.failed.len() >= MOST_FAILURES {
                self.failed.pop_front();
            }
            self.failed.push_back((pod, now));
        }
    }

    fn forgive(&mut self, now: Instant) {
        while self.failed.front().is_some_and(|(_, at)| now.saturating_duration_since(*at) >= PENALTY) {
            self.failed.pop_front();
        }
    }

    fn start(&mut self, pod: PodId) {
        match self.in_flight.iter_mut().find(|(other, _)| *other == pod) {
            Some((_, count)) => *count += 1,
            None => self.in_flight.push((pod, 1)),
        }
    }

    fn load(&self, pod: PodId, counts: &Counts) -> u64 {
        let in_flight = self.in_flight.iter().find(|(other, _)| *other == pod).map_or(0, |(_, count)| *count);
        u64::from(counts.of(pod)) + u64::from(in_flight) + self.failures(pod)
    }

    fn failures(&self, pod: PodId) -> u64 {
        self.failed.iter().filter(|(other, _)| *other == pod).count() as u64
    }

    /// One of as many chances as there were failures, and one more.
    fn is_trusted(&self, pod: PodId, chance: u64) -> bool {
        chance.is_multiple_of(self.failures(pod) + 1)
    }
}

/// The pod with the smallest load; among several, the one that chance takes.
fn fewest(loads: &[(PodId, u64)], chance: u64) -> Option<PodId> {
    let least = loads.iter().map(|(_, load)| *load).min()?;
    let ties: Vec<_> = loads.iter().filter(|(_, load)| *load == least).map(|(pod, _)| *pod).collect();
    ties.get((chance % ties.len() as u64) as usize).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn pods(count: u16) -> Vec<PodId> {
        (0..count).map(PodId).collect()
    }

    fn counts(of: &[u32]) -> Counts {
        pods(of.len() as u16).into_iter().zip(of.iter().copied()).collect()
    }

    /// A random number generator that needs nothing (xorshift).
    struct Chance(u64);

    impl Chance {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }
    }

    /// Replicas that place sessions at once; each knows the counts as of its own last pin.
    struct Replicas {
        store: HashMap<PodId, u32>,
        known: Vec<Counts>,
        placements: Vec<Placements>,
        under_way: VecDeque<(usize, PodId)>,
    }

    impl Replicas {
        fn new(replicas: usize, start: &[u32]) -> Self {
            Self {
                store: counts(start).iter().collect(),
                known: vec![counts(start); replicas],
                placements: std::iter::repeat_with(Placements::default).take(replicas).collect(),
                under_way: VecDeque::new(),
            }
        }

        fn place(&mut self, ready: &[PodId], sessions: usize, at_once: usize, chance: &mut Chance) {
            let now = Instant::now();
            for number in 0..sessions {
                let replica = number % self.known.len();
                let pod = self.placements[replica].place(ready, &self.known[replica], now, chance.next()).unwrap();
                self.under_way.push_back((replica, pod));
                if self.under_way.len() > at_once {
                    self.end_one(now);
                }
            }
            while !self.under_way.is_empty() {
                self.end_one(now);
            }
        }

        fn end_one(&mut self, now: Instant) {
            let Some((replica, pod)) = self.under_way.pop_front() else { return };
            *self.store.entry(pod).or_default() += 1;
            self.known[replica] = self.store.iter().map(|(pod, count)| (*pod, *count)).collect();
            self.placements[replica].ended(pod, Placed::Pinned, now);
        }
    }

    proptest! {
        // Each case is thousands of placements.
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn sessions_spread_within_five_percent(seed in 1u64.., at_once in 1..100usize) {
            let mut replicas = Replicas::new(3, &[0, 0, 0]);
            replicas.place(&pods(3), 3000, at_once, &mut Chance(seed));
            for (pod, count) in &replicas.store {
                prop_assert!((950..=1050).contains(count), "{} has {} of 3,000", pod, count);
            }
        }

        #[test]
        fn a_pod_that_joins_late_catches_up_without_taking_every_session(seed in 1u64..) {
            let mut replicas = Replicas::new(3, &[1000, 1000, 1000, 0]);
            let chance = &mut Chance(seed);
            replicas.place(&pods(4), 200, 30, chance);
            let taken = replicas.store[&PodId(3)];
            prop_assert!((60..=140).contains(&taken), "{} of the first 200", taken);
            replicas.place(&pods(4), 3000, 30, chance);
            for (pod, count) in &replicas.store {
                prop_assert!((1472..=1628).contains(count), "{} has {} of 6,200", pod, count);
            }
        }

        #[test]
        fn only_ready_pods_are_chosen(ready in proptest::collection::vec(0..9u16, 0..6), sessions: [u32; 9], chance: u64) {
            let ready: Vec<_> = ready.into_iter().map(PodId).collect();
            let mut placements = Placements::default();
            let pod = placements.place(&ready, &counts(&sessions), Instant::now(), chance);
            prop_assert_eq!(pod.is_some(), !ready.is_empty());
            prop_assert!(pod.is_none_or(|pod| ready.contains(&pod)));
        }
    }

    #[test]
    fn a_pod_that_fails_every_time_does_not_attract_all() {
        let (mut placements, mut chance, start) = (Placements::default(), Chance(1), Instant::now());
        let mut store = [50, 50, 0];
        let mut failures = 0;
        for number in 0..600u64 {
            // Twenty a second.
            let now = start + Duration::from_millis(number * 50);
            let pod = placements.place(&pods(3), &counts(&store), now, chance.next()).unwrap();
            let how = if pod == PodId(2) { Placed::Failed } else { Placed::Pinned };
            placements.ended(pod, how, now);
            match how {
                Placed::Failed => failures += 1,
                _ => store[usize::from(pod.0)] += 1,
            }
        }
        assert!(failures < 90, "{failures} of 600 failed");
        assert!(failures > 5, "it is tried again: {failures}");
    }

    #[test]
    fn a_failure_counts_for_ten_seconds() {
        let (mut placements, now) = (Placements::default(), Instant::now());
        placements.ended(PodId(0), Placed::Failed, now);
        let mut at = |after: u64, chance| {
            let pod =
                placements.place(&pods(2), &Counts::default(), now + Duration::from_millis(after), chance).unwrap();
            placements.ended(pod, Placed::NoSession, now);
            pod
        };
        for chance in (0..2000).step_by(1000) {
            assert_eq!(at(9_900, chance), PodId(1));
        }
        let later: Vec<_> = (0..2000).step_by(1000).map(|chance| at(10_000, chance)).collect();
        assert_eq!(later, pods(2), "chance decides again");
    }

    #[test]
    fn a_flood_of_failures_is_not_remembered_whole() {
        let (mut placements, now) = (Placements::default(), Instant::now());
        for _ in 0..100_000 {
            placements.ended(PodId(0), Placed::Failed, now);
        }
        assert_eq!(placements.failed.len(), MOST_FAILURES);
        assert_eq!(placements.place_once(&pods(2), now, 0), Some(PodId(1)), "and still counts");
    }

    #[test]
    fn requests_without_sessions_go_to_all_pods_however_many_sessions_those_have() {
        let mut placements = Placements::default();
        let mut seen: HashMap<PodId, u32> = HashMap::new();
        for chance in 0..300 {
            let pod = placements.place_once(&pods(3), Instant::now(), chance).unwrap();
            placements.ended(pod, Placed::NoSession, Instant::now());
            *seen.entry(pod).or_default() += 1;
        }
        assert_eq!(seen, pods(3).into_iter().map(|pod| (pod, 100)).collect());
        let first = placements.place_once(&pods(2), Instant::now(), 0).unwrap();
        let second = placements.place_once(&pods(2), Instant::now(), 0).unwrap();
        assert_ne!(first, second, "those under way count");
    }
}
