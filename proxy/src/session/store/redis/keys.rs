//! The layout of one server's sessions in Redis.
//!
//! | key | type | what |
//! |---|---|---|
//! | `P:pins` | hash | session key → record (JSON) |
//! | `P:pod:<pod>` | sorted set | session key, score: when it expires (Unix ms). Counts and refreshes go by these |
//! | `P:pods` | set | pods that have such a set |
//! | `P:gone` | sorted set | deleted session keys, score: the number of the deletion; with a `+`: pinned anew after it, or moved to another pod by it |
//! | `P:state` | hash | `epoch` (random, new when pins may have been lost), `until` (Unix ms: the end of the time in which they are written back), `seq` (pins so far), `gone` (deletions so far) |
//!
//! `P` is `<prefix><namespace>/<name>/{<namespace>/<name>}`: all keys of a server lie in one slot of a Cluster, so that
//! scripts can work on them.

use crate::session::id::{Identity, SessionKey};

/// Prefix of all keys where none is given.
pub const DEFAULT_KEY_PREFIX: &str = "berth:session:";

/// The names of one server's keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    pub(super) pins: String,
    pub(super) pods: String,
    pub(super) gone: String,
    pub(super) state: String,
    /// The set of a pod is this and its label.
    pub(super) pod_prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str, identity: &Identity) -> Self {
        let all = format!("{prefix}{identity}/{{{identity}}}");
        Self {
            pins: format!("{all}:pins"),
            pods: format!("{all}:pods"),
            gone: format!("{all}:gone"),
            state: format!("{all}:state"),
            pod_prefix: format!("{all}:pod:"),
        }
    }

    /// The server that a key `P:pins` belongs to.
    pub(super) fn server_of(prefix: &str, pins: &str) -> Option<Identity> {
        let (server, _) = pins.strip_prefix(prefix)?.split_once("/{")?;
        let (namespace, name) = server.split_once('/')?;
        // Whoever writes to a Redis may name keys as he likes, also to deceive a terminal.
        let identity = Identity::new(namespace, name)?;
        (Self::new(prefix, &identity).pins == pins).then_some(identity)
    }

    /// The session that a member of `P:gone` is of, and whether it has a pin again.
    pub(super) fn read_gone(member: &str) -> Option<(SessionKey, bool)> {
        let renewed = member.strip_suffix('+');
        Some((SessionKey::from_hex(renewed.unwrap_or(member))?, renewed.is_some()))
    }

    pub(super) fn pod(&self, label: &str) -> String {
        format!("{}{label}", self.pod_prefix)
    }
}
