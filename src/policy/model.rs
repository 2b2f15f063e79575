//! The one type that everything works from, whatever a policy was written in.

use std::time::Duration;

use berth_proxy::address::Address;

use super::names::{DEFAULT_SESSION_CACHE_SIZE, DEFAULT_SESSION_TTL};
use super::problem::Problem;

/// What a workload asks for: how many, where sessions live, and how pods end.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalingPolicy {
    /// Desired replicas of the Deployment or StatefulSet; `None` is hands off, `0` is a value.
    pub replicas: Option<u32>,
    /// Desired replicas of an MCPServer's backend StatefulSet; `None` everywhere else.
    pub backend_replicas: Option<u32>,
    /// Where sessions live.
    pub storage: SessionStorage,
    /// How clients reach the server.
    pub transport: Transport,
    /// Seconds that pods get to end; `None` is the template's own.
    pub grace_period_seconds: Option<i64>,
    /// The container that holds the sessions, where the policy names one.
    pub container: Option<String>,
    /// Sessions that a proxy keeps in its local cache.
    pub session_cache_size: u32,
    /// How long an unused session lives.
    pub session_ttl: Duration,
}

impl Default for ScalingPolicy {
    fn default() -> Self {
        Self {
            replicas: None,
            backend_replicas: None,
            storage: SessionStorage::Memory,
            transport: Transport::StreamableHttp,
            grace_period_seconds: None,
            container: None,
            session_cache_size: DEFAULT_SESSION_CACHE_SIZE,
            session_ttl: DEFAULT_SESSION_TTL,
        }
    }
}

/// Where sessions live.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionStorage {
    /// In the memory of one pod.
    Memory,
    /// In a Redis that every replica reaches.
    Redis(RedisStorage),
}

impl SessionStorage {
    /// Whether another replica can find a session.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Redis(_))
    }

    /// The Redis, where there is one.
    #[must_use]
    pub fn redis(&self) -> Option<&RedisStorage> {
        match self {
            Self::Memory => None,
            Self::Redis(redis) => Some(redis),
        }
    }
}

/// A Redis as a policy names it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RedisStorage {
    /// `None` where the policy names none, which validation refuses.
    pub address: Option<Address>,
    /// Number of the database.
    pub db: u32,
    /// Prefix of the keys; empty is none.
    pub key_prefix: String,
    /// Where the password is kept, if there is one.
    pub password: Option<SecretRef>,
}

/// One entry of a Secret in the workload's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRef {
    /// Name of the Secret.
    pub name: String,
    /// Key in its data.
    pub key: String,
}

/// How clients reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One process, one client: cannot have replicas.
    Stdio,
    /// Streamable HTTP (MCP 2025-03-26 and later).
    StreamableHttp,
    /// HTTP with server-sent events (MCP 2024-11-05).
    Sse,
}

impl Transport {
    /// The name as users write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdio => "stdio",
            Self::StreamableHttp => "streamable-http",
            Self::Sse => "sse",
        }
    }
}

/// What came of reading a policy: what could be read, and what could not.
///
/// A field that cannot be read stands in `policy` at its safest value (sessions in memory, replicas hands off), so that
/// an object that was broken before Berth came can still be judged; only [`Parsed::into_result`] is a policy to act on.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// What could be read.
    pub policy: ScalingPolicy,
    /// What could not.
    pub problems: Vec<Problem>,
}

impl Parsed {
    /// The policy, if all of it could be read.
    ///
    /// # Errors
    /// Every field that could not be read.
    pub fn into_result(self) -> Result<ScalingPolicy, Vec<Problem>> {
        if self.problems.is_empty() { Ok(self.policy) } else { Err(self.problems) }
    }
}
