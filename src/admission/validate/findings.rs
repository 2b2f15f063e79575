//! The rules that count, and how an object that was broken before is judged.

use serde_json::Value;

use crate::admission::verdict::Verdict;
use crate::policy::{CodeWord, Metadata, Problem, Role, ScalingPolicy, Transport};

/// Which of an object's counts a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// Replicas that clients reach through one Service.
    Replicas,
    /// Replicas of an MCPServer's backend, which the session proxy tells apart.
    Backends,
}

impl Counted {
    pub(super) fn of(role: Role) -> Self {
        if role == Role::McpServerBackend { Self::Backends } else { Self::Replicas }
    }
}

/// A broken rule, with what tells whether another write made it worse.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    pub(super) problem: Problem,
    /// The count that breaks it, where it is a rule that counts.
    pub(super) count: Option<(Counted, i64)>,
    /// Whether it refuses the write; else it only warns.
    pub(super) refuses: bool,
}

impl Finding {
    /// A rule that refuses, and that does not count.
    pub(super) fn broken(problem: Problem) -> Self {
        Self { problem, count: None, refuses: true }
    }

    /// Whether `old` shows that this was so before, and no better.
    fn was_so(&self, old: &Self) -> bool {
        if self.problem.word != old.problem.word {
            return false;
        }
        match (self.count, old.count) {
            (Some((counted, now)), Some((before, was))) => counted == before && now <= was,
            // There is one such field at most, and it moves when another entry comes before it.
            (None, None) if self.problem.word == CodeWord::PlaintextPassword => true,
            (None, None) => self.problem.field == old.problem.field,
            _ => false,
        }
    }
}

/// A count as an object names it: the field, and what stands there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count<'a> {
    pub(super) counted: Counted,
    pub(super) number: i64,
    pub(super) field: &'a str,
    /// What the field says, where that is not the count itself.
    pub(super) says: Option<&'a str>,
}

/// The rules about more than one replica.
pub(super) fn judge_count(count: Count<'_>, policy: &ScalingPolicy) -> Option<Finding> {
    if count.number <= 1 {
        return None;
    }
    let finding = |word, refuses, detail: String| {
        let value = count.says.map_or_else(|| Value::from(count.number), Value::from);
        let problem = Problem::invalid(word, count.field, value, detail);
        Some(Finding { problem, count: Some((count.counted, count.number)), refuses })
    };
    let running = count.says.map(|_| format!("{} replicas run, and ", count.number)).unwrap_or_default();
    match (policy.transport, count.counted) {
        (Transport::Stdio, _) => finding(
            CodeWord::StdioTransportCapAt1,
            true,
            format!(
                "{running}a stdio server is one process with one client; use the transport streamable-http or sse, or keep \
                 replicas at 1 or 0"
            ),
        ),
        _ if policy.storage.is_shared() => None,
        (_, Counted::Replicas) => finding(
            CodeWord::SessionStorageMissingForReplicas,
            true,
            format!(
                "{running}sessions are kept in memory; set the session provider to redis, or keep replicas at 1 or 0"
            ),
        ),
        (_, Counted::Backends) => finding(
            CodeWord::SessionStorageMissingForReplicas,
            false,
            format!(
                "{running}which backend holds a session is kept in the proxy's memory and lost when it restarts; set the \
                 session provider to redis"
            ),
        ),
    }
}

/// A line for each annotation in Berth's name that means nothing, since it was written to mean something.
pub(super) fn unknown_annotations(kind: &str, meta: &Metadata, known: &[&str]) -> Vec<String> {
    let article = if kind.starts_with("MCP") { "an" } else { "a" };
    let line = |key: &str| {
        let key: String = key.chars().filter(|c| !c.is_control()).take(100).collect();
        format!(
            "metadata.annotations[{key}] means nothing on {article} {kind}; the known ones are {}",
            known.join(", ")
        )
    };
    meta.unknown_annotations(known).into_iter().map(line).collect()
}

/// Turns findings into the answer: what the old object had already broken, and no better, is only a warning.
pub(super) fn verdict(new: Vec<Finding>, old: &[Finding], mut warnings: Vec<String>) -> Verdict {
    let mut problems = Vec::new();
    for finding in new {
        if !finding.refuses {
            warnings.push(finding.problem.to_string());
        } else if old.iter().any(|before| finding.was_so(before)) {
            warnings.push(format!("{} (let through, because it was so before)", finding.problem));
        } else {
            problems.push(finding.problem);
        }
    }
    // The API server drops a warning with a newline in it without a trace.
    for warning in &mut warnings {
        if warning.contains(['\n', '\r']) {
            *warning = warning.replace(['\n', '\r'], " ");
        }
    }
    if problems.is_empty() { Verdict { warnings, ..Verdict::allow() } } else { Verdict::invalid(problems, warnings) }
}
