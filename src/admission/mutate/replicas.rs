//! The replica count that a write ends up with.

use serde_json::json;

use super::Change;
use crate::admission::draft::Draft;
use crate::admission::review::Operation;
use crate::admission::workload::Workload;
use crate::policy::{Resolved, Role, WorkloadKind, names, resolve};

const REPLICAS: [&str; 2] = ["spec", "replicas"];

/// Sets the count where the policy, and not the writer or an autoscaler, has the say.
pub(super) fn apply(
    kind: WorkloadKind,
    change: &Change<'_>,
    resolved: &Resolved<'_>,
    draft: &mut Draft,
    warnings: &mut Vec<String>,
) {
    let Some(wanted) = resolved.parsed.policy.replicas.map(i64::from) else { return };
    match (change.operation, resolved.role, change.old) {
        // The count of an MCPServer's StatefulSet is its writer's.
        (_, Role::McpServerBackend, _) => {}
        (Operation::Create, _, _) => set(change.new, wanted, draft),
        (Operation::Update, Role::Annotated, Some(old)) => {
            if is_policy_change(kind, wanted, old) && !is_rollback(change.new, old) {
                set(change.new, wanted, draft);
                return;
            }
            // The live count may be an autoscaler's; a replace that omits replicas arrives as 1 and must not undo it.
            let live = old.count();
            if change.new.count() != live {
                warnings.push(format!(
                    "spec.replicas {} was put back to the live {live}: scale with kubectl scale, or change the annotation {} \
                     (now {wanted})",
                    change.new.count(),
                    names::REPLICAS
                ));
                set(change.new, live, draft);
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

/// Whether the annotation says another count than the old object's did, if that was Berth's at all.
fn is_policy_change(kind: WorkloadKind, wanted: i64, old: &Workload<'_>) -> bool {
    let before = resolve(kind, &old.metadata, None).and_then(|resolved| resolved.parsed.policy.replicas);
    before.map(i64::from) != Some(wanted)
}

/// `kubectl rollout undo` brings the old template back, and the old annotations with it.
fn is_rollback(new: &Workload<'_>, old: &Workload<'_>) -> bool {
    matches!((new.stamp(), old.stamp()), (Some(new), Some(old)) if new < old)
}
