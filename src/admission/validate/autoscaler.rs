//! HorizontalPodAutoscalers that point at something of Berth's.

use serde::Deserialize;

use super::findings::{Finding, verdict};
use super::scale::{Change, Parent};
use crate::admission::facts::Facts;
use crate::admission::review::{Operation, Review};
use crate::admission::target::Scalable;
use crate::admission::verdict::Verdict;
use crate::admission::workload::{Interrupt, objects};
use crate::policy::{CrKind, Metadata, Object, WorkloadKind, names::TOOLHIVE_GROUP, object};

const KIND: &str = "HorizontalPodAutoscaler";

#[derive(Deserialize)]
struct Autoscaler {
    #[serde(default, deserialize_with = "object")]
    metadata: Metadata,
    #[serde(deserialize_with = "object")]
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    scale_target_ref: TargetRef,
    max_replicas: i64,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct TargetRef {
    api_version: String,
    kind: String,
    name: String,
}

impl Autoscaler {
    fn target(&self) -> Option<(Scalable, &str)> {
        let target = &self.spec.scale_target_ref;
        let of = match target.api_version.split_once('/').map(|(group, _)| group) {
            Some("apps") => WorkloadKind::from_kind(&target.kind).map(Scalable::Workload),
            Some(TOOLHIVE_GROUP) => CrKind::from_kind(&target.kind).map(Scalable::CustomResource),
            _ => None,
        };
        of.map(|of| (of, target.name.as_str()))
    }
}

/// Judges a write of an autoscaler: what it may scale to, it will.
pub(in crate::admission) fn autoscaler(review: &Review<'_>, facts: &Facts) -> Result<Verdict, Interrupt> {
    let mut verdict = match judge(review, facts) {
        Err(Interrupt::Done(verdict)) => verdict,
        judged => judged?,
    };
    // kubectl 1.34 autoscale without --cpu prints another error in the place of a refusal; it does print warnings.
    if review.operation == Operation::Create
        && let Some(refusal) = verdict.refusal()
    {
        let mut reasons = refusal.problems.iter().map(ToString::to_string).collect::<Vec<_>>();
        if reasons.is_empty() {
            reasons.push(refusal.message.clone());
        }
        verdict.warnings.extend(reasons);
    }
    Ok(verdict)
}

fn judge(review: &Review<'_>, facts: &Facts) -> Result<Verdict, Interrupt> {
    let (new, old) = objects(KIND, review, |object| {
        serde_json::from_str::<Object<Autoscaler>>(object.get()).map(|object| object.0)
    })?;
    if old.as_ref().is_some_and(|old| old.metadata.is_deleting()) {
        return Ok(Verdict::allow());
    }
    let Some((of, name)) = new.target() else { return Ok(Verdict::allow()) };
    let namespace = if review.namespace.is_empty() { &new.metadata.namespace } else { &review.namespace };
    // An autoscaler that pointed elsewhere says nothing of this target.
    let old = old.filter(|old| old.target() == new.target()).map_or(0, |old| old.spec.max_replicas);
    let change = Change { old, new: new.spec.max_replicas, stored: None };
    let Some(parent) = Parent::of(of, namespace, name, change, facts)? else { return Ok(Verdict::allow()) };
    let judge = |number| -> Vec<Finding> { parent.judge(number, "spec.maxReplicas").into_iter().collect() };
    Ok(parent.confirm(verdict(judge(change.new), &judge(change.old), Vec::new())))
}
