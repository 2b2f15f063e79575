//! What replicas do in the background: connect, poll, refresh, write back, remove.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redis::{RedisResult, Value};
use ring::rand::{SecureRandom, SystemRandom};

use super::commands::{Link, LinkState, SILENCE};
use super::epoch::{self, Judgement, State};
use super::keys::Keys;
use super::trouble::Trouble;
use super::{RawState, RedisStore, Unavailable, saturate, scripts};
use crate::address::Topology;
use crate::pods::PodId;
use crate::session::clock::{millis, unix_millis};
use crate::session::id::SessionKey;
use crate::session::pin::Pin;
use crate::session::record;
use crate::session::store::redis::link::Connection;

/// Until a connection must be there and checked.
const CONNECT: Duration = Duration::from_secs(2);
/// How long lost pins are written back.
pub(super) const WRITE_BACK: Duration = Duration::from_secs(5);
/// Pins in one script that writes back: a few milliseconds of Redis' time, and few enough for Lua's `unpack`.
pub(in crate::session) const RESTORE_BATCH: usize = 1_000;
/// How long a batch that is not the last says that more may follow, should that take longer. Between two there may be a
/// look at the store, some deletions, or another connection.
const NEXT_BATCH: Duration = Duration::from_secs(4);
/// As long as other replicas may take to notice that a new epoch is not theirs, where a replica that knew none makes one.
const NOTICE: Duration = Duration::from_secs(2);

/// Sessions that were deleted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::session) struct Deletions {
    /// They have no pin.
    pub(in crate::session) deleted: Vec<SessionKey>,
    /// They have a pin again, or another one than before: what was known of them is old.
    pub(in crate::session) renewed: Vec<SessionKey>,
}

/// What one look at the state brought.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::session) enum Poll {
    /// These were deleted since the last look.
    Deleted(Deletions),
    /// More were deleted than the store tells.
    DeletedTooMany,
    /// Pins may have been lost.
    Adopted(Adopted),
}

/// A store that may have lost pins.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::session) struct Adopted {
    /// All that was deleted in it and has no pin.
    pub(in crate::session) deleted: Vec<SessionKey>,
    /// Whether this replica knew it before, and so may have pins that it lacks.
    pub(in crate::session) write_back: bool,
}

/// What a batch that is written back says of those that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum Following {
    /// It is the last.
    Nothing,
    /// The store may have lost what follows if it had lost any of this batch.
    IfLost,
    /// The store may have lost what follows.
    Lost,
}

impl RedisStore {
    /// Connects and looks at the state. What that brings is heard before anybody else uses the connection: others may be
    /// waiting for it, and what is gone must not be found meanwhile.
    pub(in crate::session) async fn connect(&self, hear: impl FnOnce(Poll)) -> Result<(), String> {
        let attempt = async {
            let pair = self.target.connect().await.map_err(|error| Trouble::of(&error).advice())?;
            let link = Arc::new(Link::new(pair));
            let id = match self.target.endpoints.topology {
                // Its nodes have an id each; the counters alone tell there.
                Topology::Cluster => None,
                Topology::Single | Topology::Sentinel { .. } => {
                    replication_id(link.pair.read.clone()).await.map_err(|error| Trouble::of(&error).advice())?
                }
            };
            let another = {
                let view = self.view.lock();
                view.replication_id.is_some() && view.replication_id != id
            };
            *self.objection.lock() = None;
            let unanswered =
                |Unavailable| self.objection.lock().take().unwrap_or_else(|| "it does not answer".to_owned());
            let poll = self.poll_on(&link, another).await.map_err(unanswered)?;
            self.view.lock().replication_id = id;
            Ok::<_, String>((link, poll))
        };
        let (link, poll) =
            tokio::time::timeout(CONNECT, attempt).await.map_err(|_| "it does not answer in time".to_owned())??;
        hear(poll);
        self.link.send_replace(LinkState::Up(link));
        Ok(())
    }

    /// One command: is it still the same store, and what was deleted?
    pub(in crate::session) async fn poll(&self) -> Result<Poll, Unavailable> {
        let link = self.link()?;
        self.poll_on(&link, false).await
    }

    async fn poll_on(&self, link: &Arc<Link>, another: bool) -> Result<Poll, Unavailable> {
        let known = self.known();
        let seen = self.state(link).await?;
        let judgement = match epoch::judge(&known, &seen) {
            Judgement::Same if another => Judgement::Lost,
            judgement => judgement,
        };
        match judgement {
            Judgement::Same => {
                let poll = match seen.gone > known.gone {
                    true => self.deleted_since(link, known.gone).await?,
                    false => Poll::Deleted(Deletions::default()),
                };
                let mut view = self.view.lock();
                view.state.seq = view.state.seq.max(seen.seq);
                view.state.gone = seen.gone;
                view.honour(seen.until);
                Ok(poll)
            }
            Judgement::Lost => {
                self.mark_lost(link, &known, &seen).await?;
                let seen = self.state(link).await?;
                self.adopt(link, &known, seen).await
            }
            Judgement::Moved => self.adopt(link, &known, seen).await,
        }
    }

    pub(super) async fn state(&self, link: &Arc<Link>) -> Result<State, Unavailable> {
        let mut commands = redis::pipe();
        let (state,): (RawState,) = self.read(link, SILENCE, self.ask_state(&mut commands)).await?;
        Ok(state.read())
    }

    async fn mark_lost(&self, link: &Arc<Link>, known: &State, seen: &State) -> Result<(), Unavailable> {
        let span = if known.epoch.is_some() { WRITE_BACK } else { NOTICE };
        let mut call = scripts::MARK.prepare_invoke();
        call.key(&self.keys.state).arg(seen.epoch.as_deref().unwrap_or_default());
        call.arg(random_epoch().ok_or(Unavailable)?).arg(unix_millis() + millis(span));
        let mut connection = link.pair.write.clone();
        let first: i64 = self.write(link, async { call.invoke_async(&mut connection).await }).await?;
        if first == 1 && known.epoch.is_some() {
            tracing::warn!("the session store has lost data; all replicas write back what they remember");
        }
        Ok(())
    }

    /// From now on this is the store that is known.
    async fn adopt(&self, link: &Arc<Link>, known: &State, seen: State) -> Result<Poll, Unavailable> {
        if seen.epoch.is_none() {
            return Err(Unavailable);
        }
        // What is known of a session that has a pin again stays, and is written back or refused: the store may have lost
        // that pin.
        let deleted = match self.deleted_since(link, 0).await? {
            Poll::Deleted(Deletions { deleted, .. }) => deleted,
            Poll::DeletedTooMany | Poll::Adopted(_) => Vec::new(),
        };
        let write_back = known.epoch.is_some();
        // Another replica's clock may be off; what it means is at most the whole span from now.
        let told = Duration::from_millis(seen.until.saturating_sub(unix_millis())).min(WRITE_BACK);
        let doubt = if write_back { WRITE_BACK } else { told };
        let mut view = self.view.lock();
        view.doubtful_until = Instant::now().checked_add(doubt);
        view.state = seen;
        Ok(Poll::Adopted(Adopted { deleted, write_back }))
    }

    async fn deleted_since(&self, link: &Arc<Link>, number: u64) -> Result<Poll, Unavailable> {
        let mut commands = redis::pipe();
        commands.cmd("ZRANGEBYSCORE").arg(&self.keys.gone).arg(format!("({number}")).arg("+inf").arg("WITHSCORES");
        let (deleted,): (Vec<(String, u64)>,) = self.read(link, SILENCE, &commands).await?;
        // Numbers follow each other; one that is deleted again has moved on to its last number.
        let complete = number == 0
            || deleted.len() < super::TOMBSTONES
            || deleted.first().is_none_or(|(_, first)| *first == number + 1);
        if !complete {
            return Ok(Poll::DeletedTooMany);
        }
        let mut deletions = Deletions::default();
        for (member, number) in deleted {
            let Some((key, renewed)) = Keys::read_gone(&member) else { continue };
            if self.renewed.number(&key) != Some(number) {
                let keys = if renewed { &mut deletions.renewed } else { &mut deletions.deleted };
                keys.push(key);
            }
        }
        Ok(Poll::Deleted(deletions))
    }

    /// Tells the store when sessions of one pod were used. One command.
    pub(in crate::session) async fn refresh(
        &self,
        pod: PodId,
        used: &[(SessionKey, Instant)],
    ) -> Result<(), Unavailable> {
        let link = self.link()?;
        let Some(label) = self.naming.label(pod) else { return Ok(()) };
        let mut command = redis::cmd("ZADD");
        // Only those that are there, and never back in time: another replica may have seen a later use.
        command.arg(self.keys.pod(&label)).arg("XX").arg("GT");
        for (key, at) in used {
            command.arg(self.expiry(at.elapsed())).arg(key.to_hex());
        }
        let mut connection = link.pair.write.clone();
        self.write(&link, async { command.query_async::<Value>(&mut connection).await }).await.map(|_| ())
    }

    fn expiry(&self, used_ago: Duration) -> u64 {
        unix_millis().saturating_add(self.lifetime()).saturating_sub(millis(used_ago))
    }

    /// Writes pins back that the store may have lost. Returns those that it refused: deleted, or pinned elsewhere.
    pub(in crate::session) async fn write_back(
        &self,
        pins: &[(SessionKey, Pin, Duration)],
        following: Following,
    ) -> Result<Vec<SessionKey>, Unavailable> {
        let mut refused = Vec::new();
        let mut rest = pins;
        while !rest.is_empty() {
            let (pins, others) = rest.split_at(rest.len().min(RESTORE_BATCH));
            let following = match following {
                Following::Nothing if !others.is_empty() => Following::IfLost,
                following => following,
            };
            refused.extend(self.restore(pins, following).await?);
            rest = others;
        }
        Ok(refused)
    }

    async fn restore(
        &self,
        pins: &[(SessionKey, Pin, Duration)],
        following: Following,
    ) -> Result<Vec<SessionKey>, Unavailable> {
        let link = self.link()?;
        let mut call = scripts::RESTORE.prepare_invoke();
        call.key(&self.keys.pins).key(&self.keys.pods).key(&self.keys.state).key(&self.keys.gone);
        let (more, if_lost) = match following {
            Following::Nothing => (0, ""),
            Following::IfLost => (unix_millis().saturating_add(millis(NEXT_BATCH)), "lost"),
            Following::Lost => (unix_millis().saturating_add(millis(NEXT_BATCH)), ""),
        };
        call.arg(&self.keys.pod_prefix).arg(more).arg(if_lost);
        // What pins of one pod have in common is sent once.
        let mut pods: HashMap<PodId, usize> = HashMap::new();
        for (_, pin, _) in pins {
            if !pods.contains_key(&pin.pod)
                && let Some(label) = self.naming.label(pin.pod)
                && let Some((before, after)) = record::around_path(&self.naming, pin.pod)
            {
                pods.insert(pin.pod, pods.len() + 1);
                call.key(self.keys.pod(&label)).arg(label).arg(before).arg(after);
            }
        }
        if pods.is_empty() {
            return Ok(Vec::new());
        }
        for (key, pin, used_ago) in pins {
            let Some(number) = pods.get(&pin.pod) else { continue };
            call.arg(*number).arg(key.to_hex()).arg(self.expiry(*used_ago)).arg(pin.path.to_hex());
            call.arg(self.renewed.number(key).map(|number| number.to_string()).unwrap_or_default());
        }
        let mut connection = link.pair.write.clone();
        let refused: Vec<String> = self.write(&link, async { call.invoke_async(&mut connection).await }).await?;
        Ok(refused.iter().filter_map(|key| SessionKey::from_hex(key)).collect())
    }

    /// The labels of all pods that have pins, whether they still are or not. One command.
    pub(in crate::session) async fn pinned_pods(&self) -> Result<Vec<String>, Unavailable> {
        let link = self.link()?;
        let mut commands = redis::pipe();
        commands.cmd("SMEMBERS").arg(&self.keys.pods);
        let (labels,): (Vec<String>,) = self.read(&link, SILENCE, &commands).await?;
        Ok(labels)
    }

    /// Removes what has expired of one pod, at most `limit`. Returns how many those were.
    pub(in crate::session) async fn reap(&self, label: &str, limit: usize) -> Result<usize, Unavailable> {
        let link = self.link()?;
        let mut call = scripts::REAP.prepare_invoke();
        call.key(&self.keys.pins).key(&self.keys.pods).key(&self.keys.state).key(&self.keys.gone);
        call.key(self.keys.pod(label));
        let day = Duration::from_secs(24 * 60 * 60);
        call.arg(label)
            .arg(unix_millis())
            .arg(limit)
            .arg(self.lifetime().saturating_mul(2).saturating_add(millis(day)));
        let mut connection = link.pair.write.clone();
        self.write(&link, async { call.invoke_async(&mut connection).await }).await
    }

    /// Counts the sessions of all pods anew where there are other pods than were counted.
    pub(in crate::session) async fn recount(&self) -> Result<(), Unavailable> {
        match self.counted.load(Ordering::Acquire) == self.changes.load(Ordering::Acquire) {
            true => Ok(()),
            false => self.count().await,
        }
    }

    /// Counts the sessions of all pods anew. One command a pod.
    pub(in crate::session) async fn count(&self) -> Result<(), Unavailable> {
        let changes = self.changes.load(Ordering::Acquire);
        match self.count_now().await {
            Ok(()) => self.counted.store(changes, Ordering::Release),
            Err(Unavailable) => {
                self.uncounted.fetch_add(1, Ordering::Relaxed);
                return Err(Unavailable);
            }
        }
        Ok(())
    }

    async fn count_now(&self) -> Result<(), Unavailable> {
        let link = self.link()?;
        let pods = Arc::clone(&self.pods.read());
        let counted: Vec<_> = pods.iter().filter_map(|pod| Some((*pod, self.naming.label(*pod)?))).collect();
        if counted.is_empty() {
            return Ok(());
        }
        let mut commands = redis::pipe();
        for (_, label) in &counted {
            commands.cmd("ZCOUNT").arg(self.keys.pod(label)).arg(format!("({}", unix_millis())).arg("+inf");
        }
        let counts: Vec<u64> = self.read(&link, SILENCE, &commands).await?;
        let counts = counted.iter().zip(counts).map(|((pod, _), count)| (*pod, saturate(count)));
        *self.counts.write() = Arc::new(counts.collect());
        Ok(())
    }
}

/// `master_replid` of `INFO replication`; `None` where a server of another make has none.
async fn replication_id(mut connection: Connection) -> RedisResult<Option<String>> {
    let text: String = redis::cmd("INFO").arg("replication").query_async(&mut connection).await?;
    Ok(text.lines().find_map(|line| line.strip_prefix("master_replid:")).map(|id| id.trim().to_owned()))
}

fn random_epoch() -> Option<String> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(format!("{:032x}", u128::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use berth_test_cluster::Redis;

    use super::*;
    use crate::address::Address;
    use crate::pods::{Naming, StatefulSetNaming};
    use crate::session::id::{Identity, PathTag};
    use crate::session::pin::PinMode;
    use crate::session::store::redis::{COUNTS, RedisTarget};
    use crate::session::store::{Known, SessionStore};

    fn unconnected(redis: &Redis) -> RedisStore {
        let endpoints = Address::parse(&redis.address()).and_then(|address| address.endpoints()).unwrap();
        let target = RedisTarget { endpoints, db: 0, username: None, password: None, ca: None };
        let naming = Naming::StatefulSet(StatefulSetNaming::web());
        let identity = Identity { namespace: "team".into(), name: "web".into() };
        RedisStore::new(target, "berth:session:", &identity, naming, Duration::from_secs(60))
    }

    async fn store(redis: &Redis) -> RedisStore {
        let store = unconnected(redis);
        store.connect(|_| ()).await.unwrap();
        store
    }

    fn pin(pod: u16) -> Pin {
        Pin { pod: PodId(pod), path: PathTag(1) }
    }

    /// Who waits for a connection may ask for what is gone.
    #[tokio::test]
    async fn what_connecting_brings_is_heard_before_anybody_can_ask() {
        let redis = Redis::start().unwrap();
        let store = unconnected(&redis);
        let mut heard = None;
        store.connect(|poll| heard = Some((poll, store.is_connected()))).await.unwrap();
        assert!(matches!(heard, Some((Poll::Adopted(_), false))), "{heard:?}");
        assert!(store.is_connected());
    }

    /// However late it comes, and whatever it believes.
    #[tokio::test]
    async fn writing_back_never_undoes_a_deletion_or_moves_a_pin() {
        let redis = Redis::start().unwrap();
        let store = store(&redis).await;
        let [gone, moved, lost, same] = [1, 2, 3, 4].map(|number| SessionKey([number; 16]));
        store.pin(&gone, pin(0), PinMode::First).await.unwrap();
        store.unpin(&gone, PodId(0), Known::ToClients).await.unwrap();
        store.pin(&moved, pin(1), PinMode::First).await.unwrap();
        store.pin(&same, pin(0), PinMode::First).await.unwrap();
        let remembered = [gone, moved, lost, same].map(|key| (key, pin(0), Duration::ZERO));
        let refused = store.write_back(&remembered, Following::Nothing).await.unwrap();
        assert_eq!(refused, [gone, moved]);
        assert_eq!(store.lookup(&moved).await, Ok(Some(pin(1))));
        assert_eq!(store.lookup(&lost).await, Ok(Some(pin(0))));
        assert_eq!(store.lookup(&same).await, Ok(Some(pin(0))));
    }

    /// As where a stream goes on whose session was pinned anew.
    #[tokio::test]
    async fn pins_of_several_pods_are_written_back_at_once_each_session_to_one() {
        let redis = Redis::start().unwrap();
        let store = store(&redis).await;
        store.set_pods(&[PodId(0), PodId(1), PodId(2)]);
        let remembered: Vec<_> = (0..5_000u16)
            .map(|number| (SessionKey(u128::from(number).to_be_bytes()), pin(number % 3), Duration::ZERO))
            .collect();
        assert_eq!(store.write_back(&[], Following::Nothing).await, Ok(Vec::new()));
        assert_eq!(store.write_back(&remembered, Following::Nothing).await, Ok(Vec::new()));
        for (key, pin, _) in remembered.iter().step_by(100) {
            assert_eq!(store.lookup(key).await, Ok(Some(*pin)));
        }
        let (one, other) = (SessionKey(*b"sixteen bytes..."), SessionKey([0; 16]));
        let twice = [(one, 1), (one, 2), (other, 0)].map(|(key, pod)| (key, pin(pod), Duration::ZERO));
        assert_eq!(store.write_back(&twice, Following::Nothing).await, Ok(vec![one]), "the second");
        assert_eq!(store.lookup(&one).await, Ok(Some(pin(1))));
        store.count().await.unwrap();
        assert_eq!([0, 1, 2].map(|pod| store.counts().of(PodId(pod))), [1_667, 1_668, 1_666]);
    }

    #[tokio::test]
    async fn pods_whose_sessions_could_not_be_counted_are_counted_the_next_time() {
        let redis = Redis::start().unwrap();
        let store = unconnected(&redis);
        let key = SessionKey([1; 16]);
        super::tests::store(&redis).await.pin(&key, pin(1), PinMode::First).await.unwrap();
        store.set_pods(&[PodId(0), PodId(1)]);
        assert_eq!(store.recount().await, Err(Unavailable));
        assert!(!store.is_counted());
        store.connect(|_| ()).await.unwrap();
        store.recount().await.unwrap();
        assert!(store.is_counted());
        assert_eq!(store.counts().of(PodId(1)), 1);
    }

    /// A replica that Redis does not let count gets ready all the same.
    #[tokio::test]
    async fn counting_is_not_waited_for_for_ever() {
        let redis = Redis::start().unwrap();
        let store = unconnected(&redis);
        store.set_pods(&[PodId(0)]);
        for _ in 0..COUNTS {
            assert!(!store.is_counted());
            assert_eq!(store.recount().await, Err(Unavailable));
        }
        assert!(store.is_counted());
    }

    /// However long it takes, what is still to come is not said to be unknown.
    #[tokio::test]
    async fn writing_back_keeps_the_store_in_doubt_for_as_long_as_more_follows() {
        let redis = Redis::start().unwrap();
        let store = store(&redis).await;
        let [lost, nobody] = [1, 2].map(|number| SessionKey([number; 16]));
        for _ in 0..500 {
            if store.lookup(&nobody).await == Ok(None) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(store.lookup(&nobody).await, Ok(None));
        let remembered = [(lost, pin(0), Duration::ZERO)];
        let longer = async |following| {
            let before = store.known().until;
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert_eq!(store.write_back(&remembered, following).await, Ok(Vec::new()));
            store.poll().await.unwrap();
            store.known().until > before
        };
        assert!(!longer(Following::Nothing).await, "it was the last");
        assert!(!longer(Following::IfLost).await, "it was not lost any more");
        assert!(longer(Following::Lost).await, "whether or not it was lost");
        assert!(longer(Following::Lost).await);
        store.unpin(&lost, PodId(0), Known::ToClients).await.unwrap();
        redis.command(&format!("DEL {}", store.keys.gone)).unwrap();
        assert!(longer(Following::IfLost).await);
        // As another replica does, whose clock is an hour fast.
        let fast = unix_millis() + 3_600_000;
        redis.command(&format!("HSET {} until {fast}", store.keys.state)).unwrap();
        assert_eq!(store.lookup(&nobody).await, Err(Unavailable));
        assert_eq!(store.lookup(&lost).await, Ok(Some(pin(0))));
        let doubtful = store.view.lock().doubtful_until.unwrap();
        assert!(doubtful <= Instant::now() + WRITE_BACK, "not for an hour");
    }

    #[tokio::test]
    async fn who_missed_more_deletions_than_are_kept_is_told_so() {
        let redis = Redis::start().unwrap();
        let store = store(&redis).await;
        assert_eq!(store.poll().await, Ok(Poll::Deleted(Deletions::default())));
        let key = SessionKey([1; 16]);
        store.unpin(&key, PodId(0), Known::ToClients).await.unwrap();
        let deletions = Deletions { deleted: vec![key], renewed: Vec::new() };
        assert_eq!(store.poll().await, Ok(Poll::Deleted(deletions)));
        let (gone, state) = (&store.keys.gone, &store.keys.state);
        let many = super::super::TOMBSTONES as u64;
        redis
            .command(&format!(
                "EVAL \"for n = 10, 9 + {many} do redis.call('ZADD', '{gone}', n, string.format('%032x', n)) end \
                 redis.call('HSET', '{state}', 'gone', 9 + {many}) return 1\" 0"
            ))
            .unwrap();
        assert_eq!(store.poll().await, Ok(Poll::DeletedTooMany));
    }

    /// Many of these must not push out those that others need.
    #[tokio::test]
    async fn a_deletion_that_concerns_nobody_leaves_no_tombstone() {
        let redis = Redis::start().unwrap();
        let store = store(&redis).await;
        let [nobody, pinned] = [1, 2].map(|number| SessionKey([number; 16]));
        store.pin(&pinned, pin(0), PinMode::First).await.unwrap();
        for key in [nobody, pinned] {
            store.unpin(&key, PodId(0), Known::ToNobody).await.unwrap();
        }
        assert_eq!(store.lookup(&pinned).await.ok().flatten(), None);
        let deletions = Deletions { deleted: vec![pinned], renewed: Vec::new() };
        assert_eq!(store.poll().await, Ok(Poll::Deleted(deletions)));
    }

    #[tokio::test]
    async fn what_has_expired_is_removed_and_the_rest_counted() {
        let redis = Redis::start().unwrap();
        let store = store(&redis).await;
        store.set_pods(&[PodId(0), PodId(1)]);
        store.set_lifetime(Duration::from_millis(1));
        store.pin(&SessionKey([1; 16]), pin(0), PinMode::First).await.unwrap();
        store.set_lifetime(Duration::from_secs(60));
        store.pin(&SessionKey([2; 16]), pin(1), PinMode::First).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        store.count().await.unwrap();
        assert_eq!([0, 1].map(|pod| store.counts().of(PodId(pod))), [0, 1], "an expired one does not count");
        assert_eq!(store.reap("web-0", 100).await, Ok(1));
        assert_eq!(store.reap("web-1", 100).await, Ok(0));
        assert_eq!(store.pinned_pods().await, Ok(vec!["web-1".to_owned()]));
        assert!(redis.command(&format!("HLEN {}", store.keys.pins)).unwrap().starts_with(":1"));
        let ttl = redis.command(&format!("PTTL {}", store.keys.pins)).unwrap();
        assert!(!ttl.starts_with(":-"), "it ends with its server: {ttl}");
    }
}
