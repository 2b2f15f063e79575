//! The replica count that a write ends up with.

use serde_json::json;

use crate::admission::draft::Draft;
use crate::admission::review::Operation;
use crate::admission::workload::Workload;
use crate::admission::write::Write;
use crate::policy::{Resolved, Role, Transport, names};

const REPLICAS: [&str; 2] = ["spec", "replicas"];

/// Sets the count where the policy, and not the writer or an autoscaler, has the say.
pub(super) fn apply(write: &Write<'_, '_>, resolved: &Resolved<'_>, draft: &mut Draft, warnings: &mut Vec<String>) {
    let Some(wanted) = resolved.parsed.policy.replicas.map(i64::from) else { return };
    match (write.operation, resolved.role, &write.old) {
        // The count of an MCPServer's StatefulSet is its writer's.
        (_, Role::McpServerBackend, _) => {}
        // The resource got past the webhook: its count would be refused, and its controller asks for a safe one.
        (Operation::Create, role, _) if role.is_owned() && is_unsafe(resolved, wanted) && asks_for_one(&write.new) => {}
        (Operation::Create, _, _) => set(&write.new, wanted, draft),
        (Operation::Update, Role::Annotated, Some(old)) => {
            if is_policy_change(write, wanted) && !is_rollback(&write.new, old) {
                set(&write.new, wanted, draft);
                return;
            }
            // The live count may be an autoscaler's; a replace that omits replicas arrives as 1 and must not undo it.
            let live = old.count();
            if write.new.count() != live {
                warnings.push(format!(
                    "spec.replicas {} was put back to the live {live}: scale with kubectl scale, or change the annotation {} \
                     (now {wanted})",
                    write.new.count(),
                    names::REPLICAS
                ));
                set(&write.new, live, draft);
            }
        }
        // On update the controller of a custom resource writes the resource's count itself.
        _ => {}
    }
}

fn set(new: &Workload<'_>, count: i64, draft: &mut Draft) {
    if new.spec.replicas != Some(count) {
        draft.set(&REPLICAS, json!(count));
    }
}

fn is_unsafe(resolved: &Resolved<'_>, count: i64) -> bool {
    let policy = &resolved.parsed.policy;
    count > 1 && (!policy.storage.is_shared() || policy.transport == Transport::Stdio)
}

fn asks_for_one(new: &Workload<'_>) -> bool {
    new.spec.replicas.is_some_and(|count| count <= 1)
}

/// Whether the annotation says another count than the old object's did, if that was Berth's at all.
fn is_policy_change(write: &Write<'_, '_>, wanted: i64) -> bool {
    let before = write.resolve_old().filter(|old| old.role == Role::Annotated);
    before.and_then(|old| old.parsed.policy.replicas).map(i64::from) != Some(wanted)
}

/// `kubectl rollout undo` brings the old template back, and the old annotations with it.
fn is_rollback(new: &Workload<'_>, old: &Workload<'_>) -> bool {
    let (Some(given), Some(live)) = (new.stamp(), old.stamp()) else { return false };
    // Asked once more, after another webhook changed the object, the stamp has been raised, and the live count kept. A
    // change of the policy that was raised has the policy's count by then.
    given < live || (given == live.saturating_add(1) && new.count() == old.count())
}
