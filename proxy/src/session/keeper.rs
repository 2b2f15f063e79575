//! What a replica does for its sessions in the background.
//!
//! Each round is one look at the store (one command), and what little else there is to tell it. The cost in commands is
//! budgeted: in steady use at most two a second, whatever the number of sessions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::cache::Cache;
use super::gone::Gone;
use super::id::SessionKey;
use super::in_use::InUseTable;
use super::pin::Pin;
use super::store::redis::{Adopted, Deletions, Following, Poll, RESTORE_BATCH, RedisStore};
use super::store::{SessionStore, Unavailable};
use crate::pods::PodId;

/// Between two looks at the store. A deletion through another replica must be heard of within a second.
const ROUND: Duration = Duration::from_millis(800);
/// Between two rounds that something asked for.
const SHORTEST_ROUND: Duration = Duration::from_millis(50);
/// Commands that a round earns besides its look: with 1.25 looks a second, two a second in all.
const CREDIT: f64 = 0.6;
/// Sessions in one refresh: about a megabyte.
const BATCH: usize = 20_000;
/// Deletions that the store is told in one round, one by one.
const TELL_BATCH: usize = 500;
/// How long a round may tell the store of deletions while there is something to write back.
const TELL_SLICE: Duration = Duration::from_millis(200);
/// How long after a loss was noticed a batch still says that lost pins may follow: a store that takes them more slowly must
/// not leave all replicas in doubt for ever.
const LONGEST_DOUBT: Duration = Duration::from_secs(120);
/// How long a round may write back before it looks for deletions again.
const WRITE_BACK_SLICE: Duration = Duration::from_millis(400);
/// Expired pins that one script removes.
const REAP_BATCH: usize = 1_000;
/// Reasons that are logged of one outage.
const TOLD: usize = 10;
/// Waits between attempts to connect.
const BACKOFF: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(200), Duration::from_millis(400), Duration::from_millis(800)];

/// Sessions of a store that all replicas share, as this replica has them.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) cache: Cache,
    pub(super) store: RedisStore,
    pub(super) in_use: InUseTable,
    pub(super) gone: Gone,
    /// Whether the store was ever reached.
    pub(super) was_connected: AtomicBool,
    /// Why it cannot be reached, as last seen.
    pub(super) trouble: Mutex<Option<Arc<str>>>,
    /// How long an unused session lives.
    pub(super) ttl: Mutex<Duration>,
}

/// How often the store is told that a session is in use.
fn refresh_interval(ttl: Duration) -> Duration {
    (ttl / 10).clamp(ROUND, Duration::from_secs(60))
}

/// How long a pin lives in the store: longer than the session, by the time that a refresh may take to get there.
pub(super) fn lifetime(ttl: Duration) -> Duration {
    ttl + refresh_interval(ttl) * 3
}

/// What is left to do from round to round.
#[derive(Debug)]
struct Tasks {
    /// Uses that the store was not told of.
    used: HashMap<PodId, Vec<(SessionKey, Instant)>>,
    /// Where the sweep for such uses goes on.
    sweep: usize,
    /// Where writing back goes on, while it is under way.
    write_back: Option<WriteBack>,
    /// Pods to remove expired pins of.
    reap: Vec<String>,
    reap_next: Instant,
    /// Commands that may be sent.
    credit: f64,
}

/// Where writing back goes on.
#[derive(Clone, Copy, Debug, Default)]
struct WriteBack {
    cursor: usize,
    /// When it was noticed that the store has lost pins, if it has.
    lost_at: Option<Instant>,
}

impl WriteBack {
    /// What a batch says if the next one is this.
    fn following(self, next: Option<usize>) -> Following {
        match (next, self.lost_at) {
            (None, _) => Following::Nothing,
            (Some(_), Some(lost_at)) if lost_at.elapsed() < LONGEST_DOUBT => Following::Lost,
            (Some(_), _) => Following::IfLost,
        }
    }
}

impl Shared {
    /// How often the store is told of the use of a session.
    fn interval(&self) -> Duration {
        refresh_interval(*self.ttl.lock())
    }

    /// Keeps the connection and everything behind it. Never ends.
    pub(super) async fn run(&self) {
        let started = Instant::now();
        let mut tasks = Tasks {
            used: HashMap::new(),
            sweep: 0,
            write_back: None,
            reap: Vec::new(),
            reap_next: started + self.interval() * 2,
            credit: 0.0,
        };
        let mut last_seen = started;
        let mut failures = 0;
        let mut told = HashSet::new();
        loop {
            let began = Instant::now();
            let worked;
            if self.store.is_connected() {
                match self.store.poll().await {
                    Ok(poll) => {
                        last_seen = Instant::now();
                        self.heard(poll, &mut tasks);
                        worked = self.store.watching(self.work(&mut tasks)).await;
                    }
                    // Where the connection is lost, that is said when it cannot be made anew.
                    Err(_) if !self.store.is_connected() => continue,
                    Err(Unavailable) => worked = Err(Unavailable),
                }
            } else {
                match self.store.connect(|poll| self.heard(poll, &mut tasks)).await {
                    Ok(()) => {
                        // A server that breaks connections again and again is told of once.
                        if failures > 0 || !self.was_connected.load(Ordering::Acquire) {
                            tracing::info!(after = ?last_seen.elapsed(), "connected to the session store");
                        }
                        // Pins that nobody could refresh may have expired there.
                        if last_seen.elapsed() > self.interval() {
                            tasks.write_back = Some(WriteBack { cursor: 0, ..tasks.write_back.unwrap_or_default() });
                        }
                        last_seen = Instant::now();
                        tasks.reap_next = last_seen + self.interval() * 2;
                        failures = 0;
                        told.clear();
                        *self.trouble.lock() = None;
                        // Who is ready places sessions, and needs to know how many each pod has.
                        let _ = self.store.count().await;
                        self.was_connected.store(true, Ordering::Release);
                        worked = self.store.watching(self.work(&mut tasks)).await;
                    }
                    Err(why) => {
                        let why: Arc<str> = why.into();
                        // Each reason once: a store that is there again may ask for another password now.
                        if told.len() < TOLD && told.insert(Arc::clone(&why)) {
                            self.tell(&why);
                        }
                        *self.trouble.lock() = Some(why);
                        let wait = BACKOFF.get(failures).or(BACKOFF.last()).copied().unwrap_or(ROUND);
                        failures += 1;
                        tokio::time::sleep(wait).await;
                        continue;
                    }
                }
            }
            if tasks.write_back.is_some() && worked.is_ok() && self.store.is_connected() {
                continue;
            }
            let rest = ROUND.saturating_sub(began.elapsed());
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = self.store.attention.notified() => {
                    tokio::time::sleep(SHORTEST_ROUND.saturating_sub(began.elapsed())).await;
                }
            }
            // Rounds that were cut short earn less.
            tasks.credit = (tasks.credit + CREDIT * began.elapsed().as_secs_f64() / ROUND.as_secs_f64()).min(3.0);
        }
    }

    fn tell(&self, why: &str) {
        if self.was_connected.load(Ordering::Acquire) {
            tracing::warn!(why, "cannot reach the session store; sessions in the cache go on");
        } else {
            tracing::warn!(why, "cannot reach the session store; this replica is not ready before it is");
        }
    }

    fn heard(&self, poll: Poll, tasks: &mut Tasks) {
        match poll {
            Poll::Deleted(Deletions { deleted, renewed }) => {
                self.forget(&deleted);
                // Only what is remembered of these is old: who uses them now may well use the new pin.
                self.cache.forget(renewed);
            }
            Poll::DeletedTooMany => self.cache.clear(),
            Poll::Adopted(Adopted { deleted, write_back }) => {
                self.forget(&deleted);
                if write_back {
                    self.gone.tell_again();
                    tasks.write_back = Some(WriteBack { cursor: 0, lost_at: Some(Instant::now()) });
                }
            }
        }
    }

    fn forget(&self, keys: &[SessionKey]) {
        self.cache.forget(keys.iter().copied());
        self.in_use.forget(keys);
    }

    async fn work(&self, tasks: &mut Tasks) -> Result<(), Unavailable> {
        let began = Instant::now();
        for (key, pod, known) in self.gone.untold(TELL_BATCH) {
            // What is written back is waited for.
            if tasks.write_back.is_some() && began.elapsed() > TELL_SLICE {
                break;
            }
            // It may have been pinned to the same pod again meanwhile.
            if self.gone.is_untold(&key, pod) {
                self.store.unpin(&key, pod, known).await?;
                self.gone.ended(&key, true);
            }
        }
        self.write_back(tasks).await?;
        // What fails is done in the next round.
        let _ = self.store.recount().await;
        self.collect_used(tasks);
        self.refresh(tasks).await?;
        self.reap(tasks).await
    }

    /// Writes back a part of what this replica remembers.
    async fn write_back(&self, tasks: &mut Tasks) -> Result<(), Unavailable> {
        let began = Instant::now();
        while let Some(writing) = tasks.write_back {
            // Two at a time: one is prepared and sent while the store is at the other.
            let (one, second) = self.remembered(writing.cursor);
            let (other, next) = second.map_or((Vec::new(), None), |cursor| self.remembered(cursor));
            let (one, other) = tokio::join!(
                self.store.write_back(&one, writing.following(second)),
                self.store.write_back(&other, writing.following(next)),
            );
            // What one of them refused is known, whatever became of the other.
            for refused in [&one, &other].into_iter().flatten() {
                self.forget(refused);
            }
            one.and(other)?;
            tasks.write_back = next.map(|cursor| WriteBack { cursor, ..writing });
            if began.elapsed() > WRITE_BACK_SLICE {
                break;
            }
        }
        Ok(())
    }

    /// A batch of what to write back, and where the next one starts.
    fn remembered(&self, cursor: usize) -> (Vec<(SessionKey, Pin, Duration)>, Option<usize>) {
        let mut pins = Vec::new();
        let next = self.cache.sweep(cursor, RESTORE_BATCH, true, |key, pin, ago| pins.push((key, pin, ago)));
        if next.is_none() {
            // Streams go on although their session may have left the cache. Where the cache has another pin that one is
            // younger; to have the older one refused would end the use of both.
            let in_use = self.in_use.all().into_iter();
            let in_use = in_use.filter(|(key, pin)| self.cache.pod(key).is_none_or(|pod| pod == pin.pod));
            pins.extend(in_use.map(|(key, pin)| (key, pin, Duration::ZERO)));
        }
        (pins, next)
    }

    /// Looks for uses in as much of the cache as makes it whole in one interval.
    fn collect_used(&self, tasks: &mut Tasks) {
        let now = Instant::now();
        let rounds = (self.interval().as_secs_f64() / ROUND.as_secs_f64()).max(1.0);
        let limit = (self.cache.places() as f64 / rounds).ceil() as usize;
        let used = &mut tasks.used;
        let mut add = |key, pod, ago| {
            let at = now.checked_sub(ago).unwrap_or(now);
            used.entry(pod).or_default().push((key, at));
        };
        let next = self.cache.sweep(tasks.sweep, limit, false, |key, pin, ago| add(key, pin.pod, ago));
        if next.is_none() {
            for (key, pin) in self.in_use.all() {
                self.cache.touch(&key);
                add(key, pin.pod, Duration::ZERO);
            }
        }
        tasks.sweep = next.unwrap_or(0);
    }

    /// Tells the store of uses, pod by pod, as far as the budget goes.
    async fn refresh(&self, tasks: &mut Tasks) -> Result<(), Unavailable> {
        while tasks.credit >= 1.0 {
            let most = tasks.used.iter().max_by_key(|(_, used)| used.len()).map(|(pod, _)| *pod);
            let Some((pod, mut used)) = most.and_then(|pod| tasks.used.remove_entry(&pod)) else { break };
            let rest = used.split_off(used.len().min(BATCH));
            let sent = self.store.refresh(pod, &used).await;
            tasks.credit -= 1.0;
            let left = if sent.is_ok() { rest } else { used.into_iter().chain(rest).collect() };
            if !left.is_empty() {
                tasks.used.entry(pod).or_default().extend(left);
            }
            sent?;
        }
        Ok(())
    }

    /// Removes expired pins, pod by pod, with what the budget leaves.
    async fn reap(&self, tasks: &mut Tasks) -> Result<(), Unavailable> {
        if tasks.credit < 1.0 || !tasks.used.is_empty() {
            return Ok(());
        }
        if tasks.reap.is_empty() && tasks.reap_next <= Instant::now() {
            tasks.reap_next = Instant::now() + self.interval() * 5;
            tasks.reap = self.store.pinned_pods().await?;
            tasks.credit -= 1.0;
        } else if let Some(label) = tasks.reap.pop() {
            let removed = self.store.reap(&label, REAP_BATCH).await?;
            if removed == REAP_BATCH {
                tasks.reap.push(label);
            }
            // The script itself, and what it does at most, however many pins that are.
            tasks.credit -= 12.0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_keeps_the_store_in_doubt_while_another_follows_but_not_for_ever() {
        let lost = |ago| WriteBack { cursor: 0, lost_at: Instant::now().checked_sub(ago) };
        let outage = WriteBack::default();
        for (writing, next, following) in [
            (lost(Duration::ZERO), Some(1), Following::Lost),
            (lost(Duration::ZERO), None, Following::Nothing),
            (lost(LONGEST_DOUBT), Some(1), Following::IfLost),
            (outage, Some(1), Following::IfLost),
            (outage, None, Following::Nothing),
        ] {
            assert_eq!(writing.following(next), following, "{writing:?}, {next:?}");
        }
    }
}
