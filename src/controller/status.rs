//! What the status of a custom resource says. Pure.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::decide::{Action, Outcome};
use super::objects::{Condition, ObjectKind};
use super::owned::{Snapshot, Workload};
use crate::policy::{CrKind, derived};

/// The condition that sums up the others.
pub(super) const READY: &str = "Ready";
/// The condition that says that an object is somebody else's.
pub(super) const MANAGED_ELSEWHERE: &str = "ManagedElsewhere";
/// Why a resource is not ready when the API server refuses an object.
pub(super) const APPLY_FAILED: &str = "ApplyFailed";

/// What a message may have; the definitions take 32 KiB. The API server's sentences about a wrong object can be as long as the
/// object, and so can a field's name.
const LONGEST_MESSAGE: usize = 700;

/// What is known of one resource.
pub(super) struct Known<'a> {
    pub(super) kind: CrKind,
    /// The resource as it was read.
    pub(super) cr: &'a Value,
    pub(super) action: &'a Action,
    /// Its objects after the steps.
    pub(super) snapshot: &'a Snapshot,
    /// What the API server said against an object.
    pub(super) failure: Option<&'a str>,
    /// Fields of the status that the installed definition does not keep.
    pub(super) not_kept: &'a BTreeSet<&'static str>,
    pub(super) now: &'a str,
}

/// The fields besides the conditions.
pub(super) const FIELDS: [&str; 6] = ["phase", "url", "replicas", "readyReplicas", "selector", "observedGeneration"];

struct Summary {
    phase: &'static str,
    ready: bool,
    reason: &'static str,
    message: String,
}

/// The status to apply, or nothing when it stands already.
pub(super) fn change(known: &Known<'_>) -> Option<Value> {
    let wanted = wanted(known);
    let there = known.cr.get("status").unwrap_or(&Value::Null);
    let same = wanted.as_object()?.iter().all(|(key, value)| match key.as_str() {
        "conditions" => value.as_array().into_iter().flatten().all(|wanted| {
            let there = condition(there, wanted["type"].as_str().unwrap_or_default());
            there.is_some_and(|there| without_time(there) == without_time(wanted))
        }),
        _ => there.get(key) == Some(value),
    });
    (!same).then_some(wanted)
}

/// Whether a condition says something else than it did.
pub(super) fn is_news(cr: &Value, kind: &str, reason: &str, message: &str) -> bool {
    let there = cr.get("status").and_then(|status| condition(status, kind));
    there.is_none_or(|there| there["reason"] != reason || there["message"] != *shortened(message))
}

fn wanted(known: &Known<'_>) -> Value {
    let text = |pointer| known.cr.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let workload = |kind| known.snapshot.workload(kind, text("/metadata/name"), text("/metadata/uid"));
    let mut status = Map::new();
    let mut conditions = Vec::new();
    if !known.action.is_of_toolhive() {
        // Else the rest of the status is ToolHive's, too.
        let front = workload(ObjectKind::Deployment).map(|live| &live.workload);
        let back = workload(ObjectKind::StatefulSet).map(|live| &live.workload);
        let summary = summary(known, front, back);
        let url = match &known.action.outcome {
            Outcome::Built { url } => url.as_str(),
            _ => "",
        };
        let fields = [
            json!(summary.phase),
            json!(url),
            json!(front.map_or(0, |front| front.pods)),
            json!(front.map_or(0, |front| front.ready)),
            json!(front.map_or("", |front| &*front.selector)),
            known.cr.pointer("/metadata/generation").cloned().unwrap_or(json!(0)),
        ];
        let kept = FIELDS.into_iter().zip(fields).filter(|(name, _)| !known.not_kept.contains(name));
        status.extend(kept.map(|(name, value)| (name.to_owned(), value)));
        conditions.push((READY, summary.ready, summary.reason, summary.message));
        let others = known.action.conditions.iter();
        conditions.extend(
            others.map(|Condition { kind, active, reason, message }| (*kind, *active, *reason, message.clone())),
        );
    }
    match &known.action.outcome {
        Outcome::Elsewhere { message, .. } => {
            conditions.push((MANAGED_ELSEWHERE, true, MANAGED_ELSEWHERE, message.clone()))
        }
        // It is said to be over only where it was.
        outcome if known.cr.get("status").and_then(|status| condition(status, MANAGED_ELSEWHERE)).is_some() => {
            let message = match outcome {
                Outcome::Refused { .. } => "ToolHive has nothing of it",
                _ => "every object is this resource's",
            };
            conditions.push((MANAGED_ELSEWHERE, false, "Own", message.to_owned()));
        }
        _ => {}
    }
    let conditions = conditions
        .into_iter()
        .map(|(kind, active, reason, message)| full_condition(known, kind, active, reason, &message));
    status.insert("conditions".to_owned(), conditions.collect());
    Value::Object(status)
}

fn summary(known: &Known<'_>, front: Option<&Workload>, back: Option<&Workload>) -> Summary {
    let not_ready = |phase, reason, message: &str| Summary { phase, ready: false, reason, message: message.to_owned() };
    match &known.action.outcome {
        Outcome::Refused { reason, message } => return not_ready("Failed", reason.as_str(), message),
        Outcome::Elsewhere { message, .. } => return not_ready("Failed", MANAGED_ELSEWHERE, message),
        Outcome::Waiting { message } => return not_ready("Pending", "Waiting", message),
        Outcome::Built { .. } => {}
    }
    if let Some(failure) = known.failure {
        return not_ready("Failed", APPLY_FAILED, failure);
    }
    let name = known.cr.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let deployment = format!("deployment/{}", derived::deployment(name));
    let stateful_set = format!("statefulset/{}", derived::stateful_set(name));
    let parts = match known.kind {
        CrKind::McpServer => vec![("proxy", deployment, front), ("server", stateful_set, back)],
        CrKind::VirtualMcpServer => vec![("server", deployment, front)],
    };
    // VirtualMCPServer's phase has no such word.
    let stopped = if known.kind == CrKind::McpServer { "Stopped" } else { "Pending" };
    for (what, _, part) in &parts {
        if part.is_some_and(|part| part.count == Some(0)) {
            return not_ready(stopped, "Stopped", &format!("the {what} is scaled to 0"));
        }
    }
    // Without numbers, which would be a write for each pod.
    for (what, workload, part) in &parts {
        if part.is_none_or(|part| part.ready == 0) {
            let message =
                format!("no pod of the {what} is ready; kubectl logs {workload} and kubectl describe pod say why");
            return not_ready("Pending", "NotReady", &message);
        }
    }
    Summary { phase: "Ready", ready: true, reason: READY, message: "every part has a pod that is ready".to_owned() }
}

fn full_condition(known: &Known<'_>, kind: &str, active: bool, reason: &str, message: &str) -> Value {
    let status = if active { "True" } else { "False" };
    let there = known.cr.get("status").and_then(|status| condition(status, kind));
    let same = there.filter(|there| there["status"] == status);
    let since = same.and_then(|there| there["lastTransitionTime"].as_str()).unwrap_or(known.now);
    json!({
        "type": kind, "status": status, "reason": reason, "message": shortened(message), "lastTransitionTime": since,
        "observedGeneration": known.cr.pointer("/metadata/generation").cloned().unwrap_or(json!(0)),
    })
}

fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status.get("conditions")?.as_array()?.iter().find(|condition| condition["type"] == kind)
}

fn without_time(condition: &Value) -> Value {
    let mut condition = condition.clone();
    if let Some(condition) = condition.as_object_mut() {
        condition.remove("lastTransitionTime");
    }
    condition
}

fn shortened(message: &str) -> Cow<'_, str> {
    match message.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{}…", message.get(..end).unwrap_or_default()).into(),
        None => message.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::objects::Reason;

    #[test]
    fn a_message_of_any_length_fits_and_is_news_once() {
        let message = format!("spec.{}: Berth does not know this field", "é".repeat(40_000));
        let outcome = Outcome::Refused { reason: Reason::UnsupportedField, message: message.clone() };
        let warning =
            Condition { kind: "SessionStorageWarning", active: true, reason: "Word", message: message.clone() };
        let action = Action { steps: Vec::new(), outcome, conditions: vec![warning], warnings: Vec::new() };
        let mut cr = json!({"metadata": {"name": "foo", "uid": "u", "generation": 1}});
        let change = |cr: &Value| {
            let (kind, snapshot, not_kept) = (CrKind::McpServer, &Snapshot::default(), &BTreeSet::new());
            change(&Known { kind, cr, action: &action, snapshot, failure: None, not_kept, now: "t" })
        };
        cr["status"] = change(&cr).unwrap();
        for kind in [READY, "SessionStorageWarning"] {
            let text = condition(&cr["status"], kind).unwrap()["message"].as_str().unwrap();
            assert!(text.len() < 32 * 1024 && text.starts_with("spec.éé") && text.ends_with('…'), "{}", text.len());
        }
        assert_eq!(change(&cr), None, "it stands already");
        assert!(!is_news(&cr, READY, "UnsupportedField", &message));
    }
}
