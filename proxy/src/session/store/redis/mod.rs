//! Pins in a Redis that all replicas share. Needs Redis 6.2 (or a server that speaks like it).

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use redis::{FromRedisValue, Pipeline};
use tokio::sync::{Notify, watch};

use super::{Known, SessionStore, Unavailable};
use crate::pods::{Naming, PodId};
use crate::session::clock::{millis, unix_millis};
use crate::session::id::{Identity, SessionKey};
use crate::session::pin::{Counts, Pin, PinMode, PinOutcome};
use crate::session::record;

mod commands;
mod epoch;
mod inspect;
mod keys;
mod link;
mod renewed;
mod scripts;
mod trouble;
mod upkeep;

pub use inspect::{InspectError, Inspector, StoredSession};
pub use keys::DEFAULT_KEY_PREFIX;
pub use link::RedisTarget;
pub(in crate::session) use upkeep::{Adopted, Deletions, Following, Poll, RESTORE_BATCH};

use commands::{Link, LinkState, READ, REPEAT, WRITE};
use epoch::{Judgement, State};
use keys::Keys;
use renewed::Renewed;
use upkeep::WRITE_BACK;

/// Tombstones that are kept. A replica that missed more forgets all that it cached.
const TOMBSTONES: usize = 10_000;
/// Attempts to count the sessions of the first pods that a replica waits for before it is ready.
const COUNTS: u32 = 3;
/// Ignored records that are logged. More would be a log of what an attacker can write; a counter says how many.
const TOLD: usize = 100;

/// Pins in Redis.
#[derive(Debug)]
pub(in crate::session) struct RedisStore {
    target: RedisTarget,
    keys: Keys,
    naming: Naming,
    /// How long a pin lives in the store without being refreshed, in ms.
    lifetime: AtomicU64,
    link: watch::Sender<LinkState>,
    view: Mutex<View>,
    pods: RwLock<Arc<[PodId]>>,
    counts: RwLock<Arc<Counts>>,
    renewed: Renewed,
    errors: AtomicU64,
    /// What it answered to the last command that failed.
    objection: Mutex<Option<String>>,
    bad_records: AtomicU64,
    /// Sessions whose records were ignored, as far as the log has them: each once.
    told: Mutex<HashSet<SessionKey>>,
    /// How often there were other pods.
    changes: AtomicU64,
    /// After how many of these changes the sessions of all pods were last counted.
    counted: AtomicU64,
    /// Counts that failed.
    uncounted: AtomicU32,
    /// Asks for an early look at the store: it failed, or is not the one that was known.
    pub(in crate::session) attention: Notify,
}

/// What is known of the store.
#[derive(Debug, Default)]
struct View {
    state: State,
    /// Until when a session that is not found may be one that is being written back.
    doubtful_until: Option<Instant>,
    /// Redis' own id of its data set: another one after a failover or a restart.
    replication_id: Option<String>,
}

impl View {
    /// Takes it from the store that lost pins are written back for longer.
    fn honour(&mut self, until: u64) {
        if until != self.state.until {
            self.state.until = until;
            // Another replica's clock may be off; what it means is at most the whole span from now.
            let left = Duration::from_millis(until.saturating_sub(unix_millis())).min(WRITE_BACK);
            self.doubtful_until = self.doubtful_until.max(Instant::now().checked_add(left));
        }
    }
}

impl RedisStore {
    /// A store that is not connected yet; [`RedisStore::connect`] does that.
    pub(in crate::session) fn new(
        target: RedisTarget,
        key_prefix: &str,
        identity: &Identity,
        naming: Naming,
        lifetime: Duration,
    ) -> Self {
        Self {
            target,
            keys: Keys::new(key_prefix, identity),
            naming,
            lifetime: AtomicU64::new(millis(lifetime)),
            link: watch::Sender::new(LinkState::Never),
            view: Mutex::default(),
            pods: RwLock::new(Arc::new([])),
            counts: RwLock::default(),
            renewed: Renewed::default(),
            errors: AtomicU64::new(0),
            objection: Mutex::default(),
            bad_records: AtomicU64::new(0),
            told: Mutex::default(),
            changes: AtomicU64::new(0),
            counted: AtomicU64::new(0),
            uncounted: AtomicU32::new(0),
            attention: Notify::new(),
        }
    }

    /// Takes another lifetime, for pins and refreshes from now on.
    pub(in crate::session) fn set_lifetime(&self, lifetime: Duration) {
        self.lifetime.store(millis(lifetime), Ordering::Relaxed);
    }

    fn lifetime(&self) -> u64 {
        self.lifetime.load(Ordering::Relaxed)
    }

    /// Failed commands, and records that were ignored, so far.
    pub(in crate::session) fn troubles(&self) -> (u64, u64) {
        (self.errors.load(Ordering::Relaxed), self.bad_records.load(Ordering::Relaxed))
    }

    pub(in crate::session) fn set_pods(&self, pods: &[PodId]) {
        *self.pods.write() = pods.into();
        self.changes.fetch_add(1, Ordering::Release);
        self.attention.notify_one();
    }

    /// Whether the sessions of the first pods were counted, or that was tried for long enough.
    pub(in crate::session) fn is_counted(&self) -> bool {
        self.changes.load(Ordering::Acquire) == 0
            || self.counted.load(Ordering::Acquire) > 0
            || self.uncounted.load(Ordering::Relaxed) >= COUNTS
    }

    fn read_record(&self, key: &SessionKey, text: &[u8]) -> Option<Pin> {
        record::read(&self.naming, text)
            .inspect_err(|why| {
                self.bad_records.fetch_add(1, Ordering::Relaxed);
                let mut told = self.told.lock();
                if told.len() < TOLD && told.insert(*key) {
                    tracing::warn!(session = %key, why, "ignoring a record of the session store");
                }
            })
            .ok()
    }

    /// Adds the state to what is asked, so that an answer can be believed or not.
    fn ask_state<'a>(&self, commands: &'a mut Pipeline) -> &'a mut Pipeline {
        commands.cmd("HMGET").arg(&self.keys.state).arg(&["epoch", "seq", "gone", "until"])
    }

    fn known(&self) -> State {
        self.view.lock().state.clone()
    }

    /// Whether "not there" means that there is no such session.
    fn believes(&self, known: &State, seen: &State) -> bool {
        if epoch::judge(known, seen) != Judgement::Same {
            self.attention.notify_one();
            return false;
        }
        let mut view = self.view.lock();
        view.honour(seen.until);
        view.doubtful_until.is_none_or(|until| until <= Instant::now())
    }

    async fn look_up(&self, link: &Arc<Link>, until: Instant, key: &SessionKey) -> Result<Option<Pin>, Unavailable> {
        let known = self.known();
        let hex = key.to_hex();
        let left = || until.saturating_duration_since(Instant::now());
        // A pin may move to another pod between the two questions; once more then, and no more than that.
        for _ in 0..3 {
            let mut commands = redis::pipe();
            commands.cmd("HGET").arg(&self.keys.pins).arg(&hex);
            let (text, state): (Option<Vec<u8>>, RawState) =
                self.read(link, left(), self.ask_state(&mut commands)).await?;
            let none = |store: &Self| match store.believes(&known, &state.read()) {
                true => Ok(None),
                false => Err(Unavailable),
            };
            let Some(text) = text else { return none(self) };
            let Some(pin) = self.read_record(key, &text) else { return none(self) };
            let Some(label) = self.naming.label(pin.pod) else { return none(self) };
            let mut commands = redis::pipe();
            commands.cmd("ZSCORE").arg(self.keys.pod(&label)).arg(&hex);
            commands.cmd("HGET").arg(&self.keys.pins).arg(&hex);
            let (expiry, again): (Option<f64>, Option<Vec<u8>>) = self.read(link, left(), &commands).await?;
            if again.as_ref() != Some(&text) {
                continue;
            }
            return match expiry.is_some_and(|expiry| expiry > unix_millis() as f64) {
                true => Ok(Some(pin)),
                false => none(self),
            };
        }
        Err(Unavailable)
    }

    async fn pin_over(
        &self,
        link: &Arc<Link>,
        until: Instant,
        key: &SessionKey,
        pin: Pin,
        mode: PinMode,
    ) -> Result<PinOutcome, Unavailable> {
        let mut replaces = Vec::new();
        // Once more when the record in the way is of the pod to replace, or unreadable; it may change meanwhile.
        for _ in 0..3 {
            let in_the_way = self.try_pin(link, until, key, pin, &replaces).await?;
            if in_the_way.is_empty() {
                return Ok(PinOutcome::Pinned);
            }
            match self.read_record(key, &in_the_way) {
                Some(other) if mode != PinMode::Replace(other.pod) => {
                    return Ok(PinOutcome::AlreadyPinned(other.pod));
                }
                _ => replaces = in_the_way,
            }
        }
        Err(Unavailable)
    }

    async fn try_pin(
        &self,
        link: &Arc<Link>,
        until: Instant,
        key: &SessionKey,
        pin: Pin,
        replaces: &[u8],
    ) -> Result<Vec<u8>, Unavailable> {
        let (Some(text), Some(label)) = (record::write(&self.naming, pin), self.naming.label(pin.pod)) else {
            return Err(Unavailable);
        };
        let known = self.known();
        let pods = Arc::clone(&self.pods.read());
        let now = unix_millis();
        let mut call = scripts::PIN.prepare_invoke();
        call.key(&self.keys.pins).key(&self.keys.pods).key(&self.keys.state).key(&self.keys.gone);
        let counted: Vec<_> = pods.iter().filter_map(|pod| Some((*pod, self.naming.label(*pod)?))).collect();
        for (_, label) in &counted {
            call.key(self.keys.pod(label));
        }
        call.arg(key.to_hex()).arg(text).arg(label).arg(now.saturating_add(self.lifetime())).arg(now).arg(replaces);
        call.arg(&self.keys.pod_prefix).arg(TOMBSTONES);
        let mut connection = link.pair.write.clone();
        let invoke = async { call.invoke_async::<Vec<redis::Value>>(&mut connection).await };
        let reply = self.write_until(link, until, invoke).await?;
        let mut reply = reply.into_iter();
        let (Some(in_the_way), Some(epoch), Some(seq), Some(renewed)) =
            (reply.next(), reply.next(), reply.next(), reply.next())
        else {
            return Err(Unavailable);
        };
        if let Some(number) = String::from_redis_value(renewed).ok().and_then(|number| number.parse().ok()) {
            self.renewed.note(*key, number);
        }
        let number = |value| i64::from_redis_value(value).ok().and_then(|number| u64::try_from(number).ok());
        let seq = number(seq).unwrap_or(0);
        let epoch = String::from_redis_value(epoch).ok().filter(|epoch| !epoch.is_empty());
        self.saw_seq(&known, State { epoch, seq, ..State::default() });
        let counts = counted.iter().zip(reply).map(|((pod, _), count)| (*pod, saturate(number(count).unwrap_or(0))));
        *self.counts.write() = Arc::new(counts.collect());
        Vec::from_redis_value(in_the_way).map_err(|_| Unavailable)
    }

    /// Takes note of how many pins there are, or that the store is another one.
    fn saw_seq(&self, known: &State, seen: State) {
        let seen = State { gone: known.gone, ..seen };
        if epoch::judge(known, &seen) != Judgement::Same {
            self.attention.notify_one();
            return;
        }
        let mut view = self.view.lock();
        if view.state.epoch == seen.epoch {
            view.state.seq = view.state.seq.max(seen.seq);
        }
    }
}

impl SessionStore for RedisStore {
    async fn lookup(&self, key: &SessionKey) -> Result<Option<Pin>, Unavailable> {
        let until = Instant::now() + READ;
        loop {
            let link = self.link_until(until).await?;
            match self.look_up(&link, until, key).await {
                // The link was lost meanwhile. The next one may be there in time.
                Err(Unavailable) if link.is_down() => {}
                found => return found,
            }
        }
    }

    async fn pin(&self, key: &SessionKey, pin: Pin, mode: PinMode) -> Result<PinOutcome, Unavailable> {
        let (begun, mut sent) = (Instant::now(), false);
        loop {
            // To give up what was sent means to throw the session away.
            let Ok(link) = self.link_until(begun + if sent { REPEAT } else { READ }).await else {
                return if sent { Err(Unavailable) } else { Ok(PinOutcome::NotSent) };
            };
            match self.pin_over(&link, begun + WRITE, key, pin, mode).await {
                // What may be pinned already can be pinned there once more.
                Err(Unavailable) if link.is_down() && begun.elapsed() < REPEAT => sent = true,
                outcome => return outcome,
            }
        }
    }

    async fn unpin(&self, key: &SessionKey, pod: PodId, known: Known) -> Result<(), Unavailable> {
        let link = self.link()?;
        let Some(label) = self.naming.label(pod) else { return Ok(()) };
        self.renewed.forget(key);
        let mut call = scripts::UNPIN.prepare_invoke();
        call.key(&self.keys.pins).key(&self.keys.state).key(&self.keys.gone);
        call.arg(key.to_hex()).arg(label).arg(&self.keys.pod_prefix).arg(TOMBSTONES);
        call.arg(if known == Known::ToNobody { "unknown" } else { "" });
        let mut connection = link.pair.write.clone();
        let invoke = async { call.invoke_async::<i64>(&mut connection).await };
        self.write(&link, invoke).await.map(|_| ())
    }

    fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts.read())
    }
}

/// The reply to [`RedisStore::ask_state`].
type RawFields = (Option<String>, Option<u64>, Option<u64>, Option<u64>);

struct RawState(RawFields);

impl RawState {
    fn read(&self) -> State {
        let (epoch, seq, gone, until) = &self.0;
        State { epoch: epoch.clone(), seq: seq.unwrap_or(0), gone: gone.unwrap_or(0), until: until.unwrap_or(0) }
    }
}

impl FromRedisValue for RawState {
    fn from_redis_value(value: redis::Value) -> Result<Self, redis::ParsingError> {
        RawFields::from_redis_value(value).map(Self)
    }
}

fn saturate(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
