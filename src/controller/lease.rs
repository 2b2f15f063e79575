//! Who may lead, by a Lease and a clock of one's own. Pure.
//!
//! Clocks of different machines are never compared. A replica takes a lease over when it has seen it unchanged for as long
//! as the lease says; a leader stops writing early enough that whatever it began is over by then.

use std::time::Duration;

use tokio::time::Instant;

use super::write::WRITE;

/// How long a lease lasts that nobody renews.
pub(super) const LEASE: Duration = Duration::from_secs(20);
/// Between attempts to renew or to get it.
pub(super) const RETRY: Duration = Duration::from_secs(2);
/// How long after its last renewal a leader may begin a write: it has ended before the lease does, with a second to
/// spare for clocks that run at different speeds.
pub(super) const WRITES: Duration = LEASE.saturating_sub(WRITE).saturating_sub(Duration::from_secs(1));

/// What a lease says, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Empty when it was released.
    pub(super) holder: String,
    /// Seconds.
    pub(super) duration: u64,
    /// When the holder says that it renewed it; compared for change only.
    pub(super) renewed: String,
    pub(super) transitions: i32,
}

/// What one replica has seen of a lease.
#[derive(Debug, Default)]
pub(super) struct Observer {
    seen: Option<(Record, Instant)>,
}

impl Observer {
    /// Takes note of the lease as it was read; says whether this replica may write itself into it.
    pub(super) fn may_take(&mut self, record: &Record, me: &str, now: Instant) -> bool {
        let since = match &self.seen {
            Some((seen, since)) if seen == record => *since,
            _ => {
                self.seen = Some((record.clone(), now));
                now
            }
        };
        record.holder.is_empty() || record.holder == me || now >= since + lasts(record)
    }
}

fn lasts(record: &Record) -> Duration {
    // A lease that says nothing of its length, or nonsense, lasts as long as ours.
    match record.duration {
        0 => LEASE,
        seconds => Duration::from_secs(seconds.min(3600)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::write::REQUEST;

    fn held(by: &str, renewed: &str) -> Record {
        Record { holder: by.to_owned(), duration: LEASE.as_secs(), renewed: renewed.to_owned(), transitions: 1 }
    }

    #[test]
    fn a_lease_is_taken_when_it_was_seen_unchanged_for_its_length() {
        let (mut observer, start) = (Observer::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert!(!observer.may_take(&held("other", "t1"), "me", start), "old as its time may be, it was seen just now");
        assert!(!observer.may_take(&held("other", "t1"), "me", start + LEASE - second));
        let renewed = start + LEASE + second;
        assert!(!observer.may_take(&held("other", "t2"), "me", renewed), "it was renewed");
        assert!(!observer.may_take(&held("other", "t2"), "me", renewed + LEASE - second));
        assert!(observer.may_take(&held("other", "t2"), "me", renewed + LEASE));

        let short = Record { duration: 3, ..held("other", "t3") };
        assert!(!observer.may_take(&short, "me", start));
        assert!(observer.may_take(&short, "me", start + second * 3), "as long as it says, not as ours");
    }

    #[test]
    fn a_released_lease_and_ones_own_are_taken_at_once() {
        let mut observer = Observer::default();
        assert!(observer.may_take(&held("", "t"), "me", Instant::now()));
        assert!(observer.may_take(&held("me", "t"), "me", Instant::now()));
    }

    #[test]
    fn what_a_leader_begins_is_over_before_another_can_lead() {
        // Whatever a leader begins is one request (see the tests of `write`).
        assert!(WRITES + WRITE.max(REQUEST) < LEASE);
        assert!(WRITES > RETRY * 2, "one renewal may fail");
    }
}
