//! Which custom resources are to be looked at, and when.
//!
//! A resource is in it once, however often it is added; nobody looks at one that another is looking at. One that failed
//! comes again after a pause of its own, so that it holds nobody up; and so does one that somebody else changes back each time.
//! Those that take long to fail, as where a webhook does not answer, have a share of the workers and no more.
//!
//! It takes in nothing while another replica leads: nobody would take it out.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::duel::{Duel, Written};
use crate::backoff::{Backoff, jitter};
use crate::cluster::CrKey;
use crate::metrics::Metrics;

/// The longest pause of one that others write to.
const SOON: Duration = Duration::from_secs(1);
/// One that failed after so long is slow.
const SLOW: Duration = Duration::from_secs(5);
/// So many slow ones are looked at at the same time, of all workers.
const SLOW_AT_ONCE: usize = 2;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether this replica leads.
    open: bool,
    due: Due,
    slow_running: usize,
    entries: HashMap<CrKey, Entry>,
    /// Nothing is handed out before.
    paused_until: Option<Instant>,
}

type ByTime = BTreeSet<(Instant, CrKey)>;

/// Those that wait for their time.
#[derive(Debug, Default)]
struct Due {
    quick: ByTime,
    slow: ByTime,
}

impl Due {
    fn of(&mut self, slow: bool) -> &mut ByTime {
        if slow { &mut self.slow } else { &mut self.quick }
    }

    fn len(&self) -> usize {
        self.quick.len() + self.slow.len()
    }
}

#[derive(Debug, Default)]
struct Entry {
    at: Option<Instant>,
    running: bool,
    backoff: Backoff,
    /// When the first look began that failed, of those since one succeeded.
    trouble_since: Option<Instant>,
    slow: bool,
    duel: Duel,
    /// Whatever happens to it, nobody looks at it before.
    held_until: Option<Instant>,
}

/// A look at a resource that is over.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) finished: Finished,
    pub(super) written: Written,
    pub(super) began: Instant,
}

/// What came of looking at a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finished {
    /// It is as it should be.
    Settled,
    /// It is worth another look after this time.
    Again(Duration),
    /// It failed.
    Failed,
    /// Somebody else wrote meanwhile.
    Outdated,
    /// The API server asks to be left alone for so long.
    Throttled(Duration),
}

impl Queue {
    /// One that is closed, and says in the metrics how many wait.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..Self::default() }
    }

    /// To be looked at as soon as possible, where this replica leads. What leads later looks at everything then.
    pub(super) fn add(&self, key: CrKey) {
        self.change(|state| state.schedule(key, Instant::now()));
    }

    /// This replica leads now: takes in what is added from here on.
    pub(super) fn open(&self) {
        self.lock().open = true;
    }

    /// Another leads, or nobody does: forgets everything.
    pub(super) fn close(&self) {
        self.change(State::close);
    }

    /// The next one that is due. [`Queue::finish`] must follow.
    pub(super) async fn next(&self) -> CrKey {
        loop {
            let wait = {
                match self.with(|state| state.take(Instant::now())) {
                    Ok(key) => {
                        // There may be more, and one more worker that waits.
                        self.changed.notify_one();
                        return key;
                    }
                    Err(wait) => wait,
                }
            };
            match wait {
                Some(at) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = self.changed.notified() => {}
                },
                None => self.changed.notified().await,
            }
        }
    }

    /// The look at it is over. `known`: whether the resource still exists.
    pub(super) fn finish(&self, key: &CrKey, looked: Looked, known: bool) {
        self.change(|state| state.finish(key, looked, known, Instant::now()));
    }

    /// When the first look at it began that failed; nothing when the last one succeeded.
    pub(super) fn trouble_since(&self, key: &CrKey) -> Option<Instant> {
        self.lock().entries.get(key)?.trouble_since
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.with(change);
        self.changed.notify_one();
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = work(&mut state);
        self.metrics.queue(state.due.len());
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn close(&mut self) {
        self.open = false;
        self.due = Due::default();
        // What is being looked at goes when that is over.
        self.entries.retain(|_, entry| {
            entry.at = None;
            entry.running
        });
    }

    fn schedule(&mut self, key: CrKey, at: Instant) {
        if !self.open {
            return;
        }
        let entry = self.entries.entry(key.clone()).or_default();
        let at = entry.held_until.map_or(at, |until| at.max(until));
        match entry.at {
            Some(earlier) if earlier <= at => return,
            Some(later) => {
                self.due.of(entry.slow).remove(&(later, key.clone()));
            }
            None => {}
        }
        entry.at = Some(at);
        if !entry.running {
            self.due.of(entry.slow).insert((at, key));
        }
    }

    /// One that is due, or when to ask again.
    fn take(&mut self, now: Instant) -> Result<CrKey, Option<Instant>> {
        let first = |due: &ByTime| due.first().map(|(at, _)| *at);
        // When one of those that run has finished, somebody asks again.
        let slow = first(&self.due.slow).filter(|_| self.slow_running < SLOW_AT_ONCE);
        let quick = first(&self.due.quick);
        let takes_slow = slow.is_some_and(|slow| quick.is_none_or(|quick| slow < quick));
        let at = if takes_slow { slow } else { quick };
        let at = at.map(|at| self.paused_until.map_or(at, |until| at.max(until)));
        if at.is_none_or(|at| at > now) {
            return Err(at);
        }
        let Some((_, key)) = self.due.of(takes_slow).pop_first() else { return Err(None) };
        self.slow_running += usize::from(takes_slow);
        let entry = self.entries.entry(key.clone()).or_default();
        (entry.at, entry.running) = (None, true);
        Ok(key)
    }

    fn finish(&mut self, key: &CrKey, Looked { finished, written, began }: Looked, known: bool, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        self.slow_running -= usize::from(entry.slow);
        if !self.open {
            self.entries.remove(key);
            return;
        }
        entry.running = false;
        entry.slow = finished == Finished::Failed && now.duration_since(began) >= SLOW;
        match finished {
            Finished::Failed => entry.trouble_since = entry.trouble_since.or(Some(began)),
            Finished::Settled | Finished::Again(_) => entry.trouble_since = None,
            Finished::Outdated | Finished::Throttled(_) => {}
        }
        entry.held_until = entry.duel.after(written, now).map(|pause| {
            tracing::warn!(resource = %key, seconds = pause.as_secs(), "somebody changes back what is written; waiting");
            now + pause
        });
        let pause = match finished {
            Finished::Settled => {
                entry.backoff.reset();
                None
            }
            Finished::Again(pause) => {
                entry.backoff.reset();
                Some(pause)
            }
            Finished::Failed => Some(entry.backoff.next()),
            // Nothing is wrong, so it need not wait long; what the other wrote may have been told already.
            Finished::Outdated => Some(entry.backoff.next().min(jitter(SOON))),
            Finished::Throttled(pause) => {
                self.paused_until = self.paused_until.max(Some(now + pause));
                Some(pause)
            }
        };
        // What was added meanwhile has waited for the end of this look. What failed waits all the same.
        let again = match (entry.at.take(), pause) {
            (Some(at), Some(pause)) if !matches!(finished, Finished::Failed | Finished::Outdated) => {
                Some(at.min(now + pause))
            }
            (_, Some(pause)) => Some(now + pause),
            (at, None) => at,
        };
        match again {
            Some(at) => {
                let at = entry.held_until.map_or(at, |until| at.max(until));
                entry.at = Some(at);
                self.due.of(entry.slow).insert((at, key.clone()));
            }
            None if !known => {
                self.entries.remove(key);
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::CrKind;

    fn key(name: &str) -> CrKey {
        CrKey { kind: CrKind::McpServer, namespace: "ns".to_owned(), name: name.to_owned() }
    }

    fn open() -> State {
        State { open: true, ..State::default() }
    }

    fn looked(finished: Finished) -> Looked {
        Looked { finished, written: Written::default(), began: Instant::now() }
    }

    #[test]
    fn one_that_is_being_looked_at_waits_for_the_end_of_that() {
        let (mut state, now) = (open(), Instant::now());
        state.schedule(key("a"), now);
        state.schedule(key("a"), now);
        assert_eq!(state.take(now), Ok(key("a")));
        assert_eq!(state.take(now), Err(None));
        state.schedule(key("a"), now);
        assert_eq!(state.take(now), Err(None), "it is running");
        state.finish(&key("a"), looked(Finished::Settled), true, now);
        assert_eq!(state.take(now), Ok(key("a")));
        state.finish(&key("a"), looked(Finished::Settled), false, now);
        assert!(state.entries.is_empty() && state.due.len() == 0, "one that is gone leaves nothing behind");
    }

    #[test]
    fn one_that_fails_holds_nobody_up_and_a_change_of_it_does_not_hurry_it() {
        let (mut state, now) = (open(), Instant::now());
        state.schedule(key("bad"), now);
        state.schedule(key("good"), now);
        assert_eq!(state.take(now), Ok(key("bad")));
        state.schedule(key("bad"), now);
        state.finish(&key("bad"), looked(Finished::Failed), true, now);
        assert_eq!(state.take(now), Ok(key("good")));
        assert!(state.take(now).is_err_and(|at| at.is_some_and(|at| at > now)));
    }

    #[test]
    fn one_that_others_write_to_comes_again_soon_however_often() {
        let (mut state, mut now) = (open(), Instant::now());
        state.schedule(key("a"), now);
        for round in 0..30 {
            assert_eq!(state.take(now), Ok(key("a")), "round {round}");
            state.schedule(key("a"), now);
            state.finish(&key("a"), looked(Finished::Outdated), true, now);
            assert!(state.take(now).is_err(), "not at once: round {round}");
            now += SOON;
        }
    }

    #[test]
    fn nothing_is_handed_out_while_the_api_server_wants_rest() {
        let (mut state, now) = (open(), Instant::now());
        state.schedule(key("a"), now);
        state.schedule(key("b"), now);
        let first = state.take(now).unwrap();
        state.finish(&first, looked(Finished::Throttled(Duration::from_secs(5))), true, now);
        assert_eq!(state.take(now), Err(Some(now + Duration::from_secs(5))));
        assert!(state.take(now + Duration::from_secs(5)).is_ok());
    }

    #[test]
    fn while_another_leads_nothing_is_kept() {
        let (mut state, now) = (State::default(), Instant::now());
        state.schedule(key("before"), now);
        assert!(state.entries.is_empty() && state.due.len() == 0, "nobody would take it out");
        state.open = true;
        for name in ["a", "b", "c"] {
            state.schedule(key(name), now);
        }
        assert_eq!((state.take(now), state.take(now)), (Ok(key("a")), Ok(key("b"))));
        state.schedule(key("a"), now);
        state.close();
        assert_eq!((state.take(now), state.due.len(), state.entries.len()), (Err(None), 0, 2));
        state.finish(&key("a"), looked(Finished::Failed), true, now);
        assert_eq!((state.due.len(), state.entries.len()), (0, 1), "only the look that goes on");
        // It leads again while that look goes on.
        state.open = true;
        state.schedule(key("b"), now);
        assert_eq!(state.take(now), Err(None), "nobody looks at it twice at once");
        state.finish(&key("b"), looked(Finished::Settled), true, now);
        assert_eq!(state.take(now), Ok(key("b")));
    }

    #[test]
    fn the_earlier_of_two_times_counts() {
        let (mut state, now) = (open(), Instant::now());
        state.schedule(key("a"), now + Duration::from_secs(9));
        state.schedule(key("a"), now + Duration::from_secs(1));
        state.schedule(key("a"), now + Duration::from_secs(5));
        assert_eq!(state.take(now), Err(Some(now + Duration::from_secs(1))));
        assert_eq!(state.due.len(), 1);
    }

    #[test]
    fn those_that_are_slow_to_fail_have_a_share() {
        let (mut state, start) = (open(), Instant::now());
        let slow: Vec<_> = (0..6).map(|number| key(&format!("slow{number}"))).collect();
        slow.iter().for_each(|key| state.schedule(key.clone(), start));
        let first: Vec<_> = (0..6).map(|_| state.take(start).unwrap()).collect();
        assert_eq!(first, slow, "nobody knows yet");
        let mut now = start + SLOW;
        let hung = |began| Looked { began, ..looked(Finished::Failed) };
        slow.iter().for_each(|key| state.finish(key, hung(start), true, now));
        now += Duration::from_secs(600);
        let running: Vec<_> = std::iter::from_fn(|| state.take(now).ok()).collect();
        assert_eq!(running.len(), SLOW_AT_ONCE, "{running:?}");
        state.schedule(key("other"), now);
        assert_eq!(state.take(now), Ok(key("other")), "it is held up by none of them");
        assert_eq!(state.take(now), Err(None), "it is asked again when one has finished");
        // One that hangs again leaves its place to the next; one that does not is like any other from then on.
        state.finish(&running[0], hung(now - SLOW), true, now);
        assert!(state.take(now).is_ok_and(|key| !running.contains(&key)));
        state.finish(&running[1], looked(Finished::Settled), true, now);
        assert!(state.take(now).is_ok());
        state.schedule(running[1].clone(), now);
        assert_eq!((state.take(now), state.take(now)), (Ok(running[1].clone()), Err(None)));
    }

    #[test]
    fn trouble_lasts_from_the_first_look_that_failed_until_one_does_not() {
        let (queue, now) = (Queue::default(), Instant::now());
        queue.open();
        let look = |finished, began| {
            queue.lock().schedule(key("a"), now);
            assert!(queue.lock().take(now + Duration::from_secs(600)).is_ok());
            queue.finish(&key("a"), Looked { began, ..looked(finished) }, true);
            queue.trouble_since(&key("a"))
        };
        assert_eq!(look(Finished::Settled, now), None);
        assert_eq!(look(Finished::Failed, now), Some(now));
        let later = now + Duration::from_millis(1);
        assert_eq!(look(Finished::Failed, later), Some(now));
        assert_eq!(look(Finished::Outdated, later), Some(now), "that says nothing of it");
        assert_eq!(look(Finished::Settled, later), None);
        assert_eq!(look(Finished::Failed, later), Some(later));
    }

    #[test]
    fn one_that_another_changes_back_waits_whatever_happens_to_it() {
        let (mut state, now) = (open(), Instant::now());
        let set_back = || {
            let mut written = Written::default();
            written.object(crate::controller::objects::ObjectKind::Deployment, "a", "the same");
            Looked { finished: Finished::Settled, written, began: now }
        };
        let mut rounds = 0;
        loop {
            state.schedule(key("a"), now);
            if state.take(now).is_err() {
                break;
            }
            // It was changed while it was looked at, and after.
            state.schedule(key("a"), now);
            state.finish(&key("a"), set_back(), true, now);
            rounds += 1;
            assert!(rounds < 20, "it is never held");
        }
        assert!(rounds > 3, "some times it is set back at once");
        state.schedule(key("b"), now);
        assert_eq!(state.take(now), Ok(key("b")), "it holds up nobody else");
        assert_eq!(state.take(now + Duration::from_secs(60)), Ok(key("a")));
    }
}
