//! The `scale` subresource: `kubectl scale` and autoscalers.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::findings::{Count, Counted, Finding, judge_count, verdict};
use crate::admission::facts::{Answer, CrQuery, Facts, Freshness, Unread, WorkloadQuery};
use crate::admission::review::Review;
use crate::admission::target::Scalable;
use crate::admission::verdict::Verdict;
use crate::admission::workload::{Copies, Interrupt, Known, custom_resource, missing, owner, unreadable};
use crate::policy::{CrKind, Object, ScalingPolicy, WorkloadKind, object, resolve};

/// An autoscaling/v1 `Scale`. Of its parent it carries name, namespace, uid and version, and nothing that says whose it is.
#[derive(Deserialize)]
struct Scale {
    #[serde(default, deserialize_with = "object")]
    metadata: ScaleMetadata,
    #[serde(deserialize_with = "object")]
    spec: ScaleSpec,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ScaleMetadata {
    resource_version: Option<String>,
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
    let old = review.old_object.map(read).transpose()?;
    // The parent as it is stored; Kubernetes writes no other than this one.
    let stored = old.as_ref().and_then(|old| old.metadata.resource_version.as_deref()?.parse().ok());
    // Without an old object there is nothing that the write could be better than.
    let old = old.map_or(0, |old| old.spec.replicas);
    let new = new.spec.replicas;
    let Some(parent) = Parent::of(of, &review.namespace, &review.name, Change { old, new, stored }, facts)? else {
        return Ok(Verdict::allow());
    };
    let judge = |number| parent.judge(number, "spec.replicas");
    let before: Vec<_> = judge(old).into_iter().collect();
    let verdict = parent.confirm(verdict(judge(new).into_iter().collect(), &before, Vec::new()));
    // kubectl prints this kind: the one that its user wrote.
    Ok(verdict.about(of.as_str()))
}

fn read(object: &RawValue) -> Result<Scale, Interrupt> {
    serde_json::from_str::<Object<_>>(object.get()).map(|object| object.0).map_err(|error| unreadable("Scale", &error))
}

/// The write of a count from outside of its object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) old: i64,
    pub(super) new: i64,
    /// The `resourceVersion` of the object as it is stored, where the write tells.
    pub(super) stored: Option<u128>,
}

impl Change {
    /// Whether a rule may refuse it: all are about more than one replica, and none about fewer than there were.
    fn may_be_refused(self) -> bool {
        self.new > self.old.max(1)
    }

    /// Which copies will do of the custom resource that is scaled, or whose workload is.
    ///
    /// A scale that nobody answers for passes, as it is registered: better that one is judged by what was known last.
    fn copies(self, of: Scalable) -> Copies {
        match (self.may_be_refused(), of, self.stored) {
            // Only a warning hangs on it.
            (false, ..) => Copies { freshness: Freshness::Generation(0), stand_in: None },
            (true, Scalable::CustomResource(_), Some(stored)) => {
                // An older copy is known to be outdated.
                Copies { freshness: Freshness::Version(stored), stand_in: Some(Freshness::Cached(stored)) }
            }
            // Nothing in the write says how new the custom resource behind it is: a copy could still say redis, or still
            // say memory.
            (true, ..) => Copies { freshness: Freshness::Now, stand_in: Some(Freshness::Followed) },
        }
    }
}

/// What a count is judged by when it is written from outside of its object.
pub(super) struct Parent<'f> {
    policy: ScalingPolicy,
    counted: Counted,
    known: Option<Known<'f>>,
}

impl<'f> Parent<'f> {
    /// Whose count it is; `None` when that is nobody that Berth knows, or nothing hangs on it.
    pub(super) fn of(
        of: Scalable,
        namespace: &str,
        name: &str,
        change: Change,
        facts: &'f Facts,
    ) -> Result<Option<Self>, Interrupt> {
        if change.new <= 1 {
            return Ok(None);
        }
        let parent = match of {
            Scalable::CustomResource(kind) => of_custom_resource(kind, namespace, name, change.copies(of), facts),
            Scalable::Workload(kind) => of_workload(kind, namespace, name, change.copies(of), facts),
        };
        match parent {
            // It could not be read, which is no reason to hold up what nothing would refuse.
            Err(Interrupt::Done(_)) if !change.may_be_refused() => Ok(None),
            parent => parent,
        }
    }

    /// The rule that a count in this field breaks.
    pub(super) fn judge(&self, number: i64, field: &str) -> Option<Finding> {
        judge_count(Count { counted: self.counted, number, field, says: None }, &self.policy)
    }

    /// What becomes of a verdict, where the custom resource could not be read in time.
    pub(super) fn confirm(&self, verdict: Verdict) -> Verdict {
        match self.known {
            Some(known) => known.confirm(verdict),
            None => verdict,
        }
    }
}

fn of_custom_resource<'f>(
    kind: CrKind,
    namespace: &str,
    name: &str,
    Copies { freshness, stand_in }: Copies,
    facts: &'f Facts,
) -> Result<Option<Parent<'f>>, Interrupt> {
    let query = CrQuery { kind, namespace: namespace.to_owned(), name: name.to_owned(), uid: None, freshness };
    let known = custom_resource(query, stand_in, facts)?.filter(|known| !known.cr.meta.is_deleting());
    Ok(known.map(|known| Parent {
        policy: known.cr.parsed.policy.clone(),
        counted: Counted::Replicas,
        known: Some(known),
    }))
}

fn unreadable_parent(kind: WorkloadKind, name: &str, reason: &Unread) -> Interrupt {
    let kind = kind.as_str();
    Interrupt::Done(Verdict::undecided(&format!(
        "{kind} \"{name}\" could not be read ({reason}), so it is not known whether it is Berth's"
    )))
}

fn of_workload<'f>(
    kind: WorkloadKind,
    namespace: &str,
    name: &str,
    copies: Copies,
    facts: &'f Facts,
) -> Result<Option<Parent<'f>>, Interrupt> {
    let query = WorkloadQuery { kind, namespace: namespace.to_owned(), name: name.to_owned() };
    let workload = match facts.workload(query)? {
        Answer::Found(workload) => workload,
        Answer::Absent => return Ok(None),
        // It may well be a bystander's, whose scales are not to depend on Berth.
        Answer::Unreadable(reason) => return Err(unreadable_parent(kind, name, reason)),
    };
    if workload.metadata.is_deleting() {
        return Ok(None);
    }
    let known = owner(&workload.metadata, namespace, || copies, facts)?;
    let resolved = resolve(kind, &workload.metadata, known.map(|known| known.cr));
    Ok(resolved.map(|resolved| Parent { policy: resolved.parsed.policy, counted: Counted::of(resolved.role), known }))
}
