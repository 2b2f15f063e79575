//! Mutation: what a workload lacks to be safe to scale.

mod env;
mod replicas;

use json_patch::Patch;
use serde_json::{Map, Value, json};

use super::Webhook;
use super::draft::Draft;
use super::facts::Facts;
use super::review::Review;
use super::stamp::{self, Decision};
use super::template;
use super::verdict::{Outcome, Verdict};
use super::workload::{Interrupt, Workload, unreadable};
use super::write::Write;
use crate::policy::names::{self, DEFAULT_GRACE_PERIOD_SECONDS};
use crate::policy::{OptIn, Resolved, Role, ScalingPolicy, WorkloadKind, opt_in};

const GRACE: [&str; 4] = ["spec", "template", "spec", "terminationGracePeriodSeconds"];
const STAMP: [&str; 5] = ["spec", "template", "metadata", "annotations", names::STAMP];

/// Decides what to change in a workload.
pub(super) fn workload(kind: WorkloadKind, review: &Review<'_>, facts: &Facts) -> Result<Verdict, Interrupt> {
    let write = Write::read(Webhook::Mutate, kind, review, facts)?;
    let resolved = write.resolve();
    if resolved.is_none() && !opts_out(&write) {
        return Ok(Verdict::allow());
    }
    let template = write.new.template().map_err(|error| unreadable(kind.as_str(), error))?.clone();
    Ok(match &resolved {
        None => opted_out(&write, template),
        Some(resolved) => managed(&write, resolved, template),
    })
}

fn managed(write: &Write<'_, '_>, resolved: &Resolved<'_>, new_template: Value) -> Verdict {
    if let Some(refusal) = write.stale(resolved) {
        return refusal;
    }
    let policy = &resolved.parsed.policy;
    let owner_kind = resolved.owner.map(|owner| owner.kind);
    let container = template::container(&new_template, policy.container.as_deref(), owner_kind);
    // The backend's container is the user's own, of whatever name; nothing is written into it.
    let container_is_settled =
        container.is_ok() || (resolved.role == Role::McpServerBackend && new_template.is_object());
    let mut warnings = Vec::new();
    let mut draft = draft_of(&write.new, new_template);

    // What cannot be read is not acted on: validation refuses it, or lets it pass as it was. Only the stamp moves all the
    // same, since that must not fall, whatever else is wrong.
    if resolved.parsed.problems.is_empty() && container_is_settled {
        replicas::apply(write, resolved, &mut draft, &mut warnings);
        set_grace_period(policy, &mut draft);
        env::apply(write, resolved, container.ok().as_ref(), &mut draft, &mut warnings);
    }
    if let Some(stamp) = wanted_stamp(write, resolved, &draft) {
        // Compared as a number, so that a stamp that means the same is left as its writer wrote it.
        if stamp::of_template(draft.get(&["spec", "template"])) != Some(stamp) {
            draft.set(&STAMP, json!(stamp.to_string()));
        }
    }
    allowed(draft.into_patch(), warnings)
}

fn set_grace_period(policy: &ScalingPolicy, draft: &mut Draft) {
    let none = draft.get(&GRACE).is_null();
    if let Some(seconds) = policy.grace_period_seconds.or(none.then_some(DEFAULT_GRACE_PERIOD_SECONDS)) {
        draft.set(&GRACE, json!(seconds));
    }
}

/// Whether this write takes the annotation back by which the workload opted in, and there is something to remove. A
/// workload that its custom resource lets go of, or outlives, runs on as it is: to strip it would restart its pods.
fn opts_out(write: &Write<'_, '_>) -> bool {
    let opted_in = |old: &Workload<'_>| !matches!(opt_in(&old.metadata), OptIn::Absent | OptIn::Disabled);
    write.new.metadata.annotation(names::INJECTED_ENV).is_some() && write.old.as_ref().is_some_and(opted_in)
}

/// Removes what Berth added to a workload that is not Berth's any more. The stamp stays: it must not fall, should the
/// workload opt in again.
fn opted_out(write: &Write<'_, '_>, new_template: Value) -> Verdict {
    let mut draft = draft_of(&write.new, new_template);
    env::remove_all(write, &mut draft);
    allowed(draft.into_patch(), Vec::new())
}

fn allowed(patch: Patch, warnings: Vec<String>) -> Verdict {
    Verdict { outcome: Outcome::Allowed(patch), warnings }
}

fn wanted_stamp(write: &Write<'_, '_>, resolved: &Resolved<'_>, draft: &Draft) -> Option<i64> {
    if resolved.role != Role::Annotated {
        return match write.mcpserver_stamp(resolved)? {
            Decision::Stamp(stamp) => Some(stamp),
            Decision::Stale { .. } => None,
        };
    }
    let changed = write.old.as_ref().is_some_and(|old| {
        write.new.template_differs_elsewhere(old) || {
            let new = template::without_stamp(draft.get(&["spec", "template"]).clone());
            new != template::without_stamp(write.old_template().clone())
        }
    });
    let live = write.old.as_ref().and_then(Workload::stamp);
    Some(stamp::of_annotated(write.new.stamp(), live, changed))
}

/// The parts of a workload that mutation may change.
fn draft_of(workload: &Workload<'_>, template: Value) -> Draft {
    let mut object = Map::new();
    if workload.metadata.has_annotations() {
        // Of the annotations only Berth's own record is ever written.
        let mut annotations = Map::new();
        if let Some(record) = workload.metadata.annotation(names::INJECTED_ENV) {
            annotations.insert(names::INJECTED_ENV.to_owned(), record.clone());
        }
        object.insert("metadata".to_owned(), json!({ "annotations": annotations }));
    } else {
        object.insert("metadata".to_owned(), json!({}));
    }
    let mut spec = Map::new();
    if let Some(replicas) = workload.spec.replicas {
        spec.insert("replicas".to_owned(), json!(replicas));
    }
    spec.insert("template".to_owned(), template);
    object.insert("spec".to_owned(), Value::Object(spec));
    Draft::new(Value::Object(object))
}
