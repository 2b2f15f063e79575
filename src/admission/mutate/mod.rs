//! Mutation: what a workload lacks to be safe to scale.

mod env;
mod replicas;

use std::cell::OnceCell;

use json_patch::Patch;
use serde_json::{Map, Value, json};

use super::draft::Draft;
use super::facts::Facts;
use super::review::{Operation, Review};
use super::stamp::{self, Decision};
use super::template;
use super::verdict::{Outcome, Reason, Verdict};
use super::workload::{Interrupt, Workload, owner, same_owner, unreadable};
use crate::policy::names::{self, DEFAULT_GRACE_PERIOD_SECONDS};
use crate::policy::{CodeWord, Resolved, Role, ScalingPolicy, WorkloadKind, resolve};

const GRACE: [&str; 4] = ["spec", "template", "spec", "terminationGracePeriodSeconds"];
const STAMP: [&str; 5] = ["spec", "template", "metadata", "annotations", names::STAMP];

/// One write of a workload, as mutation sees it.
struct Change<'a> {
    operation: Operation,
    new: &'a Workload<'a>,
    old: Option<&'a Workload<'a>>,
    old_template: OnceCell<Value>,
    /// Whether the same custom resource controlled the old object.
    same_owner: bool,
}

impl Change<'_> {
    /// The pod template of the old object; null when the object is new. Most writes never need it.
    fn old_template(&self) -> &Value {
        // An old template that cannot be read is one that nothing of the new one is equal to.
        self.old_template.get_or_init(|| self.old.and_then(|old| old.template().ok()).unwrap_or(Value::Null))
    }
}

/// Decides what to change in a workload.
pub(super) fn workload(kind: WorkloadKind, review: &Review<'_>, facts: &Facts) -> Result<Verdict, Interrupt> {
    let what = kind.as_str();
    let Some(object) = review.object else { return Ok(missing(what, "object")) };
    let new = Workload::read(object).map_err(|error| unreadable(what, &error))?;
    if new.metadata.is_deleting() {
        return Ok(Verdict::allow());
    }
    let old = match (review.operation, review.old_object) {
        (Operation::Update, None) => return Ok(missing(what, "oldObject")),
        (Operation::Update, Some(old)) => Some(Workload::read(old).map_err(|error| unreadable(what, &error))?),
        _ => None,
    };
    let namespace = namespace(review, &new);
    let cr = owner(&new.metadata, namespace, highest_stamp(&new, old.as_ref()), facts)?.map(AsRef::as_ref);
    let resolved = resolve(kind, &new.metadata, cr);
    if resolved.is_none() && new.metadata.annotation(names::INJECTED_ENV).is_none() {
        return Ok(Verdict::allow());
    }
    let new_template = new.template().map_err(|error| unreadable(what, &error))?;
    let same_owner = old.as_ref().is_some_and(|old| same_owner(&new.metadata, &old.metadata));
    let change =
        Change { operation: review.operation, new: &new, old: old.as_ref(), old_template: OnceCell::new(), same_owner };
    Ok(match &resolved {
        None => opted_out(&change, new_template),
        Some(resolved) => managed(kind, &change, resolved, new_template),
    })
}

/// The highest generation that either object is known to have been made from.
pub(super) fn highest_stamp(new: &Workload<'_>, old: Option<&Workload<'_>>) -> i64 {
    let live = old.and_then(Workload::stamp).unwrap_or(0);
    new.stamp().unwrap_or(0).max(live)
}

/// The namespace of a review's object.
pub(super) fn namespace<'a>(review: &'a Review<'_>, workload: &'a Workload<'_>) -> &'a str {
    if review.namespace.is_empty() { &workload.metadata.namespace } else { &review.namespace }
}

/// The answer to a review of a guarded kind that lacks what it must have.
pub(super) fn missing(what: &str, field: &str) -> Verdict {
    Verdict::refuse(400, Reason::BadRequest, None, &format!("the review of this {what} carries no {field}"))
}

/// The write is from an older state than the live object.
pub(super) fn stale(given: Option<i64>, live: i64, owner: &str) -> Verdict {
    let given = given.unwrap_or(0);
    let sentence = format!(
        "the pod template carries {} {given} and the live object has {live}: it was made from an older state of MCPServer \
         \"{owner}\", and the newer one stays; read the MCPServer again and build the template from that",
        names::STAMP
    );
    Verdict::refuse(403, Reason::Forbidden, Some(CodeWord::StaleGeneration), &sentence)
}

fn managed(kind: WorkloadKind, change: &Change<'_>, resolved: &Resolved<'_>, new_template: Value) -> Verdict {
    if let Some(refusal) = stale_write(change, resolved) {
        return refusal;
    }
    let policy = &resolved.parsed.policy;
    let owner_kind = resolved.owner.map(|owner| owner.kind);
    let container = template::container(&new_template, policy.container.as_deref(), owner_kind);
    // The backend's container is the user's own, of whatever name; nothing is written into it.
    let container_is_settled =
        container.is_ok() || (resolved.role == Role::McpServerBackend && new_template.is_object());
    let mut warnings = Vec::new();
    let mut draft = draft_of(change.new, new_template);

    // What cannot be read is not acted on: validation refuses it, or lets it pass as it was. Only the stamp moves all the
    // same, since that must not fall, whatever else is wrong.
    if resolved.parsed.problems.is_empty() && container_is_settled {
        replicas::apply(kind, change, resolved, &mut draft, &mut warnings);
        set_grace_period(policy, &mut draft);
        env::apply(change, resolved, container.ok().as_ref(), &mut draft, &mut warnings);
    }
    if let Some(stamp) = wanted_stamp(change, resolved, &draft) {
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

/// Removes what Berth added to a workload that is not Berth's any more. The stamp stays: it must not fall, should the
/// workload opt in again.
fn opted_out(change: &Change<'_>, new_template: Value) -> Verdict {
    let mut draft = draft_of(change.new, new_template);
    env::remove_all(change, &mut draft);
    allowed(draft.into_patch(), Vec::new())
}

fn allowed(patch: Patch, warnings: Vec<String>) -> Verdict {
    Verdict { outcome: Outcome::Allowed(patch), warnings }
}

fn stale_write(change: &Change<'_>, resolved: &Resolved<'_>) -> Option<Verdict> {
    let owner = resolved.owner.filter(|_| resolved.role.has_mcpserver_stamp())?;
    match mcpserver_stamp(change.new, change.old.filter(|_| change.same_owner), owner.meta.generation) {
        Decision::Stale { live } => Some(stale(change.new.stamp(), live, &owner.meta.name)),
        Decision::Stamp(_) => None,
    }
}

/// What becomes of the stamp of an MCPServer's workload; `old` only when the same MCPServer controlled it.
pub(super) fn mcpserver_stamp(new: &Workload<'_>, old: Option<&Workload<'_>>, generation: i64) -> Decision {
    stamp::of_mcpserver(new.stamp(), old.and_then(Workload::stamp), generation)
}

fn wanted_stamp(change: &Change<'_>, resolved: &Resolved<'_>, draft: &Draft) -> Option<i64> {
    match (resolved.role, resolved.owner) {
        (Role::Annotated, _) => {
            let live = change.old.and_then(Workload::stamp);
            let changed = change.old.is_some_and(|old| {
                // Text that is the same spares two copies of a template that may be large.
                let untouched = change.new.same_template_text(old) && !draft.changes_below("/spec/template");
                !untouched && {
                    let new = template::without_stamp(draft.get(&["spec", "template"]).clone());
                    new != template::without_stamp(change.old_template().clone())
                }
            });
            Some(stamp::of_annotated(change.new.stamp(), live, changed))
        }
        (Role::McpServerProxy | Role::McpServerBackend, Some(owner)) => {
            match mcpserver_stamp(change.new, change.old.filter(|_| change.same_owner), owner.meta.generation) {
                Decision::Stamp(stamp) => Some(stamp),
                Decision::Stale { .. } => None,
            }
        }
        _ => None,
    }
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
