//! The `scale` subresource: `kubectl scale` and autoscalers.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::findings::{Count, Counted, judge_count, verdict};
use crate::admission::facts::{Answer, CrQuery, Facts, WorkloadQuery};
use crate::admission::review::Review;
use crate::admission::target::Scalable;
use crate::admission::verdict::Verdict;
use crate::admission::workload::{Interrupt, custom_resource, missing, owner, unreadable};
use crate::policy::{CrKind, Object, ScalingPolicy, WorkloadKind, object, resolve};

/// An autoscaling/v1 `Scale`. Of its parent it carries name and namespace, and nothing that says whose it is.
#[derive(Deserialize)]
struct Scale {
    #[serde(deserialize_with = "object")]
    spec: ScaleSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ScaleSpec {
    replicas: i64,
}

/// Judges a write of a scale.
pub(in crate::admission) fn scale(of: Scalable, review: &Review<'_>, facts: &Facts) -> Result<Verdict, Interrupt> {
    let Some(object) = review.object else { return Err(missing("Scale", "object")) };
    let new = read(object)?;
    // Without an old object there is nothing that the write could be better than.
    let old = review.old_object.map(read).transpose()?.map_or(0, |old| old.spec.replicas);
    let Some(parent) = parent(of, &review.namespace, &review.name, facts)? else { return Ok(Verdict::allow()) };
    let judge = |number| {
        judge_count(Count { counted: parent.counted, number, field: "spec.replicas", says: None }, &parent.policy)
    };
    let before: Vec<_> = judge(old).into_iter().collect();
    // kubectl prints this kind: the one that its user wrote.
    Ok(verdict(judge(new.spec.replicas).into_iter().collect(), &before, Vec::new()).about(of.as_str()))
}

fn read(object: &RawValue) -> Result<Scale, Interrupt> {
    serde_json::from_str::<Object<_>>(object.get()).map(|object| object.0).map_err(|error| unreadable("Scale", &error))
}

/// What a count is judged by when it is written from outside of its object.
pub(super) struct Parent {
    pub(super) policy: ScalingPolicy,
    pub(super) counted: Counted,
}

/// Nothing in the write of a count says how new the custom resource behind it is: a cached copy could still say redis,
/// or still say memory.
const AS_IT_IS_NOW: i64 = CrQuery::LIVE;

/// Whose count it is; `None` when that is nobody that Berth knows.
pub(super) fn parent(of: Scalable, namespace: &str, name: &str, facts: &Facts) -> Result<Option<Parent>, Interrupt> {
    match of {
        Scalable::CustomResource(kind) => custom_resource_parent(kind, namespace, name, facts),
        Scalable::Workload(kind) => workload_parent(kind, namespace, name, facts),
    }
}

fn custom_resource_parent(
    kind: CrKind,
    namespace: &str,
    name: &str,
    facts: &Facts,
) -> Result<Option<Parent>, Interrupt> {
    let query = CrQuery {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: None,
        min_generation: AS_IT_IS_NOW,
    };
    let cr = custom_resource(query, facts)?.filter(|cr| !cr.meta.is_deleting());
    Ok(cr.map(|cr| Parent { policy: cr.parsed.policy.clone(), counted: Counted::Replicas }))
}

fn unreadable_parent(kind: WorkloadKind, name: &str, reason: &str) -> Verdict {
    let kind = kind.as_str();
    Verdict::undecided(&format!(
        "{kind} \"{name}\" could not be read ({reason}), so it is not known whether it is Berth's"
    ))
}

fn workload_parent(
    kind: WorkloadKind,
    namespace: &str,
    name: &str,
    facts: &Facts,
) -> Result<Option<Parent>, Interrupt> {
    let query = WorkloadQuery { kind, namespace: namespace.to_owned(), name: name.to_owned() };
    let workload = match facts.workload(query)? {
        Answer::Found(workload) => workload,
        Answer::Absent => return Ok(None),
        // It may well be a bystander's, whose scales are not to depend on Berth.
        Answer::Unreadable(reason) => return Err(Interrupt::Done(unreadable_parent(kind, name, reason))),
    };
    if workload.metadata.is_deleting() {
        return Ok(None);
    }
    let cr = owner(&workload.metadata, namespace, || AS_IT_IS_NOW, facts)?.map(AsRef::as_ref);
    let resolved = resolve(kind, &workload.metadata, cr);
    Ok(resolved.map(|resolved| Parent { policy: resolved.parsed.policy, counted: Counted::of(resolved.role) }))
}
