//! Conditions for resources that got past the webhook.

use super::Facts;
use crate::policy::{CodeWord, CrKind, ScalingPolicy, Transport};

/// A condition besides `Ready`, without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its type.
    pub kind: &'static str,
    /// Whether its status is `True`.
    pub active: bool,
    /// A word.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

/// Every condition that applies to the kind. The types and the reasons are ToolHive's.
pub(super) fn of(kind: CrKind, policy: &ScalingPolicy, facts: &Facts) -> Vec<Condition> {
    let storage = session_storage(kind, policy, facts);
    match kind {
        CrKind::McpServer => vec![storage, stdio(policy)],
        CrKind::VirtualMcpServer => vec![storage],
    }
}

/// The count that is built of the one that was asked for. One that nobody asked for is another's to decide.
pub(super) fn safe_replicas(policy: &ScalingPolicy) -> Option<u32> {
    match policy.replicas {
        Some(replicas) if !policy.storage.is_shared() => Some(replicas.min(1)),
        replicas => replicas,
    }
}

fn session_storage(kind: CrKind, policy: &ScalingPolicy, facts: &Facts) -> Condition {
    let missing = |message: String| (true, CodeWord::SessionStorageMissingForReplicas.as_str(), message);
    let (active, reason, message) = match policy.replicas {
        _ if policy.storage.is_shared() => {
            (false, "SessionStorageConfigured", "sessions are kept in Redis".to_owned())
        }
        Some(asked) if asked > 1 => missing(format!(
            "spec.replicas is {asked}, and sessions are kept in memory, where other replicas cannot find them: 1 replica \
             is built; set spec.sessionStorage.provider to redis, or spec.replicas to 1 or 0"
        )),
        // Without the number, which an autoscaler changes: each would be another message, and another Event.
        None if facts.replicas > 1 => missing(
            "it is scaled to more than 1 replica, and sessions are kept in memory, where other replicas cannot find them; \
             set spec.sessionStorage.provider to redis, or scale it to 1 or 0"
                .to_owned(),
        ),
        _ => match several_backends(policy, facts).filter(|_| kind == CrKind::McpServer) {
            Some(what) => missing(format!(
                "{what}, and sessions are kept in memory: which pod holds which session is lost when the proxy restarts; set \
                 spec.sessionStorage.provider to redis"
            )),
            None => (false, "SessionStorageWarningNotApplicable", "spec.replicas is not more than 1".to_owned()),
        },
    };
    Condition { kind: "SessionStorageWarning", active, reason, message }
}

/// Several pods of a server, of which the proxy alone knows who holds which session. Without their number, as above.
fn several_backends(policy: &ScalingPolicy, facts: &Facts) -> Option<&'static str> {
    match policy.backend_replicas {
        Some(asked) if asked > 1 => Some("spec.backendReplicas is more than 1"),
        None if facts.backends > 1 => Some("the server is scaled to more than 1 pod"),
        _ => None,
    }
}

fn stdio(policy: &ScalingPolicy) -> Condition {
    let more = [("spec.replicas", policy.replicas), ("spec.backendReplicas", policy.backend_replicas)];
    let more = more.into_iter().find_map(|(field, count)| count.filter(|count| *count > 1).map(|count| (field, count)));
    let (active, reason, message) = match more {
        Some((field, count)) if policy.transport == Transport::Stdio => (
            true,
            CodeWord::StdioTransportCapAt1.as_str(),
            format!(
                "{field} is {count}, and a server on stdio has one client; set it to 1 or 0, or use another transport"
            ),
        ),
        _ => (false, "StdioReplicaCapNotActive", "no replicas of a server on stdio are asked for".to_owned()),
    };
    Condition { kind: "StdioReplicaCapped", active, reason, message }
}
