//! A look at the store from outside, for `berth sessions`.

use std::future::Future;
use std::time::Duration;

use redis::{FromRedisValue, RedisError, RedisResult};

use super::commands::WRITE;
use super::keys::Keys;
use super::link::Connection;
use super::trouble::Trouble;
use super::{TOMBSTONES, scripts};
use crate::address::Topology;
use crate::session::clock::unix_millis;
use crate::session::id::{Identity, SessionKey};
use crate::session::record::{self, Shown};
use crate::session::store::redis::RedisTarget;

/// Until it must be connected.
const CONNECT: Duration = Duration::from_secs(5);
/// Elements that one command looks at.
const COUNT: usize = 1000;

/// Session keys and records, as they come.
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// One session as the store has it. No session id is in it: the store has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSession {
    /// Its key.
    pub key: SessionKey,
    /// What its record says; `None` where it cannot be read, or holds control characters.
    pub record: Option<Shown>,
    /// How long it lives if nobody uses it; `None` where it has expired, or nothing is known of that.
    pub expires_in: Option<Duration>,
}

/// Why the store cannot be looked at, as the end of a sentence that starts with its address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// There is no answer.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// There is one, and it is not Redis's.
    #[error("does not answer as a Redis does: {0}")]
    NoRedis(String),
    /// The user, the password, or what the user may do.
    #[error("lets nobody in with these credentials: {0}")]
    Unauthorised(String),
    /// A key of ours is of another type.
    #[error("has something other than sessions at {0}")]
    OtherData(String),
    /// Each node of a Cluster knows its own keys alone.
    #[error("is a Cluster, which cannot tell what servers have sessions there")]
    ManyNodes,
    /// It refuses for another reason.
    #[error("cannot answer now: {0}")]
    Refused(String),
}

impl From<&RedisError> for InspectError {
    fn from(error: &RedisError) -> Self {
        let trouble = Trouble::of(error);
        let text = trouble.to_string();
        match trouble {
            Trouble::WrongPassword | Trouble::NoPassword | Trouble::NoRight => Self::Unauthorised(text),
            Trouble::NoDatabase | Trouble::Code(_) => Self::Refused(text),
            Trouble::NoRedis(_) => Self::NoRedis(text),
            Trouble::Silent(_) => Self::Unreachable(text),
        }
    }
}

/// Reads and removes pins of any server.
pub struct Inspector {
    connection: Connection,
    key_prefix: String,
    in_cluster: bool,
}

impl std::fmt::Debug for Inspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspector").field("key_prefix", &self.key_prefix).finish_non_exhaustive()
    }
}

impl Inspector {
    /// Connects.
    ///
    /// # Errors
    /// Why not.
    pub async fn connect(target: &RedisTarget, key_prefix: &str) -> Result<Self, InspectError> {
        let connect = tokio::time::timeout(CONNECT, target.connect()).await;
        let pair = connect.map_err(|_| silent())?.map_err(|error| InspectError::from(&error))?;
        let in_cluster = target.endpoints.topology == Topology::Cluster;
        Ok(Self { connection: pair.write, key_prefix: key_prefix.to_owned(), in_cluster })
    }

    /// The servers that have sessions there, sorted.
    ///
    /// # Errors
    /// Why they cannot be told; in a Cluster they never can.
    pub async fn servers(&mut self) -> Result<Vec<Identity>, InspectError> {
        if self.in_cluster {
            return Err(InspectError::ManyNodes);
        }
        let pattern = format!("{}*:pins", escape(&self.key_prefix));
        let mut found = Vec::new();
        let mut cursor = 0u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(COUNT);
            // As bytes: somebody else's keys need not be text.
            let (next, keys): (u64, Vec<Vec<u8>>) = ask(&pattern, scan.query_async(&mut self.connection)).await?;
            let keys = keys.iter().filter_map(|key| str::from_utf8(key).ok());
            found.extend(keys.filter_map(|key| Keys::server_of(&self.key_prefix, key)));
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        found.sort_by_key(ToString::to_string);
        found.dedup();
        Ok(found)
    }

    /// Sessions of a server from `cursor` on (0 at first), some at a time, in no order, and the next cursor; 0 at the end.
    ///
    /// # Errors
    /// Why they cannot be told.
    pub async fn sessions(
        &mut self,
        server: &Identity,
        cursor: u64,
    ) -> Result<(Vec<StoredSession>, u64), InspectError> {
        let keys = Keys::new(&self.key_prefix, server);
        let mut scan = redis::cmd("HSCAN");
        scan.arg(&keys.pins).arg(cursor).arg("COUNT").arg(COUNT);
        let (next, pairs): (u64, Pairs) = ask(&keys.pins, scan.query_async(&mut self.connection)).await?;
        let mut sessions = Vec::with_capacity(pairs.len());
        let mut scores = redis::pipe();
        for (hex, text) in &pairs {
            let Some(key) = str::from_utf8(hex).ok().and_then(SessionKey::from_hex) else { continue };
            let record = record::show(text);
            let pod = record.as_ref().map_or("", |record| &record.pod);
            scores.cmd("ZSCORE").arg(keys.pod(pod)).arg(hex);
            sessions.push(StoredSession { key, record, expires_in: None });
        }
        if !sessions.is_empty() {
            let scores: Vec<Option<f64>> = ask(&keys.pod_prefix, scores.query_async(&mut self.connection)).await?;
            let now = unix_millis();
            for (session, score) in sessions.iter_mut().zip(scores) {
                session.expires_in = score.filter(|score| *score > now as f64).map(|score| {
                    // A score is a number of milliseconds that this program wrote: whole, and not negative.
                    Duration::from_millis((score as u64).saturating_sub(now))
                });
            }
        }
        Ok((sessions, next))
    }

    /// One session of a server, if it is there.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub async fn session(&mut self, server: &Identity, key: SessionKey) -> Result<Option<StoredSession>, InspectError> {
        let keys = Keys::new(&self.key_prefix, server);
        let hex = key.to_hex();
        let mut get = redis::cmd("HGET");
        get.arg(&keys.pins).arg(&hex);
        let text: Option<Vec<u8>> = ask(&keys.pins, get.query_async(&mut self.connection)).await?;
        let Some(text) = text else { return Ok(None) };
        let record = record::show(&text);
        let set = keys.pod(record.as_ref().map_or("", |record| &record.pod));
        let mut score = redis::cmd("ZSCORE");
        score.arg(&set).arg(&hex);
        let score: Option<f64> = ask(&set, score.query_async(&mut self.connection)).await?;
        let left = score.map(|score| Duration::from_millis((score as u64).saturating_sub(unix_millis())));
        Ok(Some(StoredSession { key, record, expires_in: left.filter(|left| !left.is_zero()) }))
    }

    /// Unpins a session; all replicas hear of it within a second, and its client starts anew. False where it was pinned to
    /// another pod after it was seen, and stays.
    ///
    /// # Errors
    /// Why it cannot be done.
    pub async fn evict(&self, server: &Identity, session: &StoredSession) -> Result<bool, InspectError> {
        let keys = Keys::new(&self.key_prefix, server);
        let mut call = scripts::UNPIN.prepare_invoke();
        call.key(&keys.pins).key(&keys.state).key(&keys.gone);
        let pod = session.record.as_ref().map_or("", |record| &record.pod);
        call.arg(session.key.to_hex()).arg(pod).arg(&keys.pod_prefix).arg(TOMBSTONES);
        let removed: i64 = ask(&keys.pins, call.invoke_async(&mut self.connection.clone())).await?;
        Ok(removed == 1)
    }
}

/// The answer to a command that is about this key.
async fn ask<T: FromRedisValue>(key: &str, command: impl Future<Output = RedisResult<T>>) -> Result<T, InspectError> {
    match tokio::time::timeout(WRITE, command).await {
        Ok(Err(error)) if error.code() == Some("WRONGTYPE") => Err(InspectError::OtherData(key.to_owned())),
        Ok(reply) => reply.map_err(|error| InspectError::from(&error)),
        Err(_) => Err(silent()),
    }
}

fn silent() -> InspectError {
    InspectError::Unreachable("it does not answer in time".to_owned())
}

/// As a glob pattern of Redis that matches this text alone.
fn escape(text: &str) -> String {
    let special = |c: char| matches!(c, '*' | '?' | '[' | ']' | '^' | '\\');
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_prefix_is_matched_letter_by_letter() {
        assert_eq!(super::escape(r"a*b[c]\"), r"a\*b\[c\]\\");
    }
}
