//! What is known of the pods now, and how it is asked for anew.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

use super::name::{Naming, PodId};
use super::snapshot::Snapshot;
use super::{dns, fixed};
use crate::route::Standing;
use crate::session::SessionKey;

/// How often the pods are asked for in the background.
const INTERVAL: Duration = Duration::from_secs(2);
/// At least this long between two questions, however many requests ask for one.
const PACE: Duration = Duration::from_millis(100);
/// How far two looks at one answer of a cache may seem to be apart: lifetimes are whole seconds, in each cache that passes
/// it on.
const ROUNDING: Duration = Duration::from_secs(2);
/// Pins on one missing pod that are told apart by when they were read. Those above it count as read with the last of them.
const READ: usize = 4_096;
/// Between two questions of one request that waits for a pod to be ready.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a request waits for a new answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How a question ended.
#[derive(Clone, Copy, Debug)]
struct Round {
    asked_at: Instant,
    /// When the pods were as the answer says, if it was good.
    as_of: Option<Instant>,
}

/// The pods of the server. One for the process.
#[derive(Debug)]
pub struct Pods {
    naming: Naming,
    source: Source,
    current: RwLock<Arc<Snapshot>>,
    version: AtomicU64,
    /// Pods that are not there.
    missed: Mutex<HashMap<PodId, Missed>>,
    wanted: Notify,
    round: watch::Sender<Option<Round>>,
}

/// A pod that is not there.
#[derive(Debug)]
struct Missed {
    since: Instant,
    /// When pins on it were read from the store that were not known here before.
    read: HashMap<SessionKey, Instant>,
}

impl Missed {
    fn since(now: Instant) -> Self {
        Self { since: now, read: HashMap::new() }
    }

    /// Since when a pin on it is known to be there.
    fn pinned_since(&mut self, key: &SessionKey, read_now: bool, now: Instant) -> Instant {
        if !read_now {
            return self.read.get(key).copied().unwrap_or(self.since);
        }
        if self.read.len() < READ || self.read.contains_key(key) {
            self.read.insert(*key, now);
        } else {
            self.since = now;
        }
        now
    }
}

#[derive(Debug)]
enum Source {
    Fixed,
    Dns(Box<dns::Resolver>),
}

impl Pods {
    /// Pods of this naming; those of a StatefulSet from the system's DNS. `ready_service` is the Service of pods that may get
    /// new sessions; without one, all may.
    ///
    /// # Errors
    /// The system's resolver configuration cannot be read.
    pub fn new(naming: Naming, ready_service: Option<&str>) -> io::Result<Self> {
        let source = match &naming {
            Naming::Fixed(_) => Source::Fixed,
            Naming::StatefulSet(set) => Source::Dns(Box::new(dns::Resolver::from_system(set, ready_service)?)),
        };
        Ok(Self::from_source(naming, source))
    }

    /// Pods of a StatefulSet from one DNS server.
    ///
    /// # Errors
    /// The resolver cannot be set up.
    pub fn with_dns_server(naming: Naming, ready_service: Option<&str>, server: SocketAddr) -> io::Result<Self> {
        let source = match &naming {
            Naming::Fixed(_) => Source::Fixed,
            Naming::StatefulSet(set) => Source::Dns(Box::new(dns::Resolver::from_server(set, ready_service, server)?)),
        };
        Ok(Self::from_source(naming, source))
    }

    fn from_source(naming: Naming, source: Source) -> Self {
        Self {
            naming,
            source,
            current: RwLock::default(),
            version: AtomicU64::new(0),
            missed: Mutex::default(),
            wanted: Notify::new(),
            round: watch::Sender::new(None),
        }
    }

    /// How the pods are called.
    #[must_use]
    pub fn naming(&self) -> &Naming {
        &self.naming
    }

    /// Grows whenever [`Pods::current`] changes.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The last good answer; empty before the first.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read())
    }

    /// Whether there was a good answer.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.version() > 0
    }

    /// Asks for the pods soon, since one of them did not accept a connection.
    pub fn ask_soon(&self) {
        self.wanted.notify_one();
    }

    /// Waits until a pod may get new sessions, as long as a request waits for an answer. Whoever waits for a server to be
    /// ready, as `kubectl wait` does, may hear of its first pod before the next look at DNS does.
    pub async fn wait_for_ready(&self) {
        let mut rounds = self.round.subscribe();
        let found = async {
            while self.current().ready().is_empty() {
                self.wanted.notify_one();
                let ready = rounds.wait_for(|_| !self.current().ready().is_empty());
                let _ = tokio::time::timeout(AGAIN, ready).await;
            }
        };
        // The caller looks what there is.
        let _ = tokio::time::timeout(PATIENCE, found).await;
    }

    /// How the pod of a pin stands, which was read from the store just now or had already. One that was read may be of a
    /// pod that has just joined, so the proof of its end has to be younger than that; for the others, younger than the
    /// answer that first lacked the pod.
    pub async fn standing_of(&self, pod: PodId, key: &SessionKey, read_now: bool) -> Standing {
        let since = {
            let (now, mut missed) = (Instant::now(), self.missed.lock());
            missed.entry(pod).or_insert_with(|| Missed::since(now)).pinned_since(key, read_now, now)
        };
        let standing = self.standing(pod, since).await;
        if standing == Standing::Gone
            && let Some(missed) = self.missed.lock().get_mut(&pod)
        {
            missed.read.remove(key);
        }
        standing
    }

    /// Whether the pod is there. That it is gone is proven only by a good answer to a question asked from now on, which no
    /// cache of DNS had from before `since`; a configured backend is never gone, whatever a look-up of its name says.
    pub async fn standing(&self, pod: PodId, since: Instant) -> Standing {
        let (mut rounds, asked) = (self.round.subscribe(), Instant::now());
        let answer = async {
            loop {
                if self.current().target(pod).is_some() {
                    return Standing::Present;
                }
                if matches!(self.source, Source::Fixed) {
                    return Standing::Unproven;
                }
                let round = *rounds.borrow_and_update();
                match round {
                    Some(round) if round.asked_at > asked => match round.as_of {
                        None => return Standing::Unproven,
                        Some(as_of) if as_of > since => return Standing::Gone,
                        Some(_) => self.wanted.notify_one(),
                    },
                    _ => self.wanted.notify_one(),
                }
                if rounds.changed().await.is_err() {
                    return Standing::Unproven;
                }
            }
        };
        tokio::time::timeout(PATIENCE, answer).await.unwrap_or(Standing::Unproven)
    }

    /// Asks every two seconds, and when a request needs it. Tells `changed` of each new answer. Runs until dropped.
    pub async fn run(&self, changed: impl Fn(&Snapshot)) {
        let mut newest = None;
        loop {
            let asked_at = Instant::now();
            let answer = match (&self.source, &self.naming) {
                (Source::Dns(resolver), _) => resolver.ask(&self.current()).await,
                (Source::Fixed, Naming::Fixed(backends)) => {
                    fixed::ask(backends, &self.current()).await.map(|snapshot| (snapshot, Duration::ZERO))
                }
                (Source::Fixed, Naming::StatefulSet(_)) => None,
            };
            let as_of = answer.as_ref().and_then(|(_, age)| asked_at.checked_sub(*age));
            // With several caches, an answer may be older than the one before.
            if let Some((snapshot, _)) = answer
                && as_of.is_none_or(|as_of| newest.is_none_or(|newest| as_of + ROUNDING >= newest))
            {
                self.learn(snapshot, &changed);
                newest = newest.max(as_of);
            }
            self.round.send_replace(Some(Round { asked_at, as_of }));
            tokio::time::sleep(PACE).await;
            // A wish during the question, or before it, is no reason to wait less for the next.
            let _ = tokio::time::timeout(INTERVAL - PACE, self.wanted.notified()).await;
        }
    }

    fn learn(&self, snapshot: Snapshot, changed: &impl Fn(&Snapshot)) {
        if self.is_known() && *self.current.read().as_ref() == snapshot {
            return;
        }
        tracing::info!(pods = snapshot.pods().count(), ready = snapshot.ready().len(), "the pods changed");
        changed(&snapshot);
        let snapshot = Arc::new(snapshot);
        let before = {
            let mut current = self.current.write();
            // Whoever sees the new one must not go on with a copy of the old one, believing that it is this version.
            self.version.fetch_add(1, Ordering::Release);
            std::mem::replace(&mut *current, Arc::clone(&snapshot))
        };
        let now = Instant::now();
        let mut missed = self.missed.lock();
        missed.retain(|pod, _| snapshot.target(*pod).is_none());
        missed.extend(before.pods().filter(|pod| snapshot.target(*pod).is_none()).map(|pod| (pod, Missed::since(now))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::{Backend, StatefulSetNaming, Target};

    /// As those do that come one by one with a session of a pod that is gone.
    #[test]
    fn who_reads_a_pin_does_not_hold_up_the_others() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let key = |number: u16| SessionKey::from_hex(&format!("{number:032x}")).unwrap();
        let mut missed = Missed::since(start);
        assert_eq!(missed.pinned_since(&key(1), true, at(1)), at(1));
        assert_eq!(missed.pinned_since(&key(2), true, at(2)), at(2));
        assert_eq!(missed.pinned_since(&key(1), false, at(3)), at(1), "another was read since");
        assert_eq!(missed.pinned_since(&key(3), false, at(3)), start, "known before");
        assert_eq!(missed.pinned_since(&key(1), true, at(4)), at(4), "read again");
        for number in 0..u16::try_from(READ).unwrap() + 9 {
            missed.pinned_since(&key(number), true, at(5));
        }
        assert_eq!(missed.read.len(), READ);
        assert_eq!(
            missed.pinned_since(&key(9_999), false, at(6)),
            at(5),
            "it may be among those that are not told apart"
        );
    }

    #[test]
    fn who_sees_a_new_answer_sees_its_version() {
        let pods = Pods::from_source(Naming::StatefulSet(StatefulSetNaming::web()), Source::Fixed);
        let target = Target { address: SocketAddr::from(([127, 0, 0, 1], 1)), h2c: false };
        let missed = pods.missed.lock();
        std::thread::scope(|scope| {
            // It cannot end before the lock is free.
            scope.spawn(|| pods.learn(Snapshot::new([(PodId(0), target)], [PodId(0)]), &|_| ()));
            let begun = Instant::now();
            while pods.current().ready().is_empty() {
                assert!(begun.elapsed() < Duration::from_secs(20), "never learned");
                std::thread::yield_now();
            }
            let version = pods.version();
            drop(missed);
            assert_eq!(version, 1);
        });
    }

    #[tokio::test]
    async fn a_configured_backend_is_never_gone() {
        let backend = Backend::parse("http://127.0.0.1:1").unwrap();
        let pods = Pods::new(Naming::Fixed(vec![backend]), None).unwrap();
        let since = Instant::now();
        let later = since + Duration::from_secs(1);
        pods.round.send_replace(Some(Round { asked_at: later, as_of: Some(later) }));
        assert_eq!(pods.standing(PodId(0), since).await, Standing::Unproven, "its name could not be looked up");
    }
}
