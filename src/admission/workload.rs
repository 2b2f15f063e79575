//! A Deployment or StatefulSet of a review, read as far as the rules need it.

use std::cell::OnceCell;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::facts::{Answer, CrQuery, Facts, Freshness, Need, Unread};
use super::review::{Operation, Review};
use super::verdict::{Reason, Verdict};
use super::{sparse, stamp};
use crate::policy::{CodeWord, CustomResource, Metadata, Object, Problem, object};

/// What the rules read of a workload. Its pod template stays unread until a rule needs it.
#[derive(Debug, Deserialize)]
pub(super) struct Workload<'a> {
    #[serde(default, deserialize_with = "object")]
    pub(super) metadata: Metadata,
    #[serde(borrow, default, deserialize_with = "object")]
    pub(super) spec: WorkloadSpec<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WorkloadSpec<'a> {
    #[serde(default)]
    pub(super) replicas: Option<i64>,
    #[serde(default)]
    pub(super) service_name: Option<String>,
    #[serde(borrow, default)]
    template: Option<&'a RawValue>,
    #[serde(skip)]
    sparse: OnceCell<Result<Value, serde_json::Error>>,
}

impl<'a> Workload<'a> {
    pub(super) fn read(object: &'a RawValue) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<Object<Self>>(object.get()).map(|object| object.0)
    }

    /// The count that the API server stores: 1 where none is written.
    pub(super) fn count(&self) -> i64 {
        self.spec.replicas.unwrap_or(1)
    }

    /// The generation stamp of the pod template.
    pub(super) fn stamp(&self) -> Option<i64> {
        self.template().ok().and_then(stamp::of_template)
    }

    /// Of the pod template what the rules look at (see [`sparse`]); null when there is none.
    pub(super) fn template(&self) -> Result<&Value, &serde_json::Error> {
        self.spec.sparse.get_or_init(|| self.spec.template.map_or(Ok(Value::Null), sparse::template)).as_ref()
    }

    /// Whether the pod templates differ in what [`Workload::template`] leaves out.
    pub(super) fn template_differs_elsewhere(&self, other: &Workload<'_>) -> bool {
        sparse::templates_differ_elsewhere(self.spec.template, other.spec.template)
    }
}

/// A decision that ended before a rule was asked.
#[derive(Debug)]
pub(super) enum Interrupt {
    /// Something has to be looked up first.
    Need(Need),
    /// The answer is known already.
    Done(Verdict),
}

impl From<Need> for Interrupt {
    fn from(need: Need) -> Self {
        Self::Need(need)
    }
}

/// The answer to an object that is for us and cannot be read.
pub(super) fn unreadable(what: &str, error: &serde_json::Error) -> Interrupt {
    let problem = Problem::invalid(
        CodeWord::InvalidPolicy,
        "",
        Value::Null,
        format!("the {what} cannot be read: {error}; send it as the API server would store it"),
    );
    Interrupt::Done(Verdict::invalid(vec![problem], Vec::new()))
}

/// The answer to a review of a guarded kind that lacks what it must have.
pub(super) fn missing(what: &str, field: &str) -> Interrupt {
    let sentence = format!("the review of this {what} carries no {field}");
    Interrupt::Done(Verdict::refuse(400, Reason::BadRequest, None, &sentence))
}

/// The object of a review, and on UPDATE what it was before.
pub(super) fn objects<'a, T>(
    what: &str,
    review: &Review<'a>,
    read: impl Fn(&'a RawValue) -> Result<T, serde_json::Error>,
) -> Result<(T, Option<T>), Interrupt> {
    let read = |object| read(object).map_err(|error| unreadable(what, &error));
    let new = read(review.object.ok_or_else(|| missing(what, "object"))?)?;
    let old = match (review.operation, review.old_object) {
        (Operation::Update, None) => return Err(missing(what, "oldObject")),
        (Operation::Update, Some(old)) => Some(read(old)?),
        _ => None,
    };
    Ok((new, old))
}

/// The answer when an owner or a scale's parent could not be read.
pub(super) fn policy_not_found(what: &str, reason: &Unread) -> Interrupt {
    let sentence = format!("{what} could not be read ({reason}), so nothing is known of its policy; try again");
    Interrupt::Done(not_found(&sentence))
}

fn not_found(sentence: &str) -> Verdict {
    Verdict::refuse(500, Reason::InternalError, Some(CodeWord::PolicyNotFound), sentence)
}

/// A custom resource, and whether that is how it is now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'f> {
    pub(super) cr: &'f CustomResource,
    /// Why it could not be read anew, where this is a copy that may be outdated.
    pub(super) unread: Option<&'f Unread>,
}

impl Known<'_> {
    /// What becomes of a verdict that was found by it.
    ///
    /// What a copy allows is let through, as it would be where nobody answers at all. What it refuses may have been mended since,
    /// so that is not said of the object.
    pub(super) fn confirm(&self, verdict: Verdict) -> Verdict {
        let (Some(unread), Some(refusal)) = (self.unread, verdict.refusal()) else { return verdict };
        // The one code word of the message is of what stands in the way now.
        let problems = refusal.problems.iter().map(|problem| format!("{}: {}", problem.field, problem.detail));
        let sentence = format!(
            "{} \"{}\" could not be read ({unread}), and by what was known of it before: {}; try again",
            self.cr.kind.as_str(),
            self.cr.meta.name,
            problems.collect::<Vec<_>>().join("; "),
        );
        Verdict { warnings: verdict.warnings, ..not_found(&sentence) }
    }
}

/// The custom resource that controls an object, if there is one and it still exists.
///
/// `copies` says which will do; asked for only where there is an owner.
pub(super) fn owner<'f>(
    metadata: &Metadata,
    namespace: &str,
    copies: impl FnOnce() -> Copies,
    facts: &'f Facts,
) -> Result<Option<Known<'f>>, Interrupt> {
    let Some(controller) = metadata.controller() else { return Ok(None) };
    let copies = copies();
    let query = CrQuery {
        kind: controller.kind,
        namespace: namespace.to_owned(),
        name: controller.name,
        uid: (!controller.uid.is_empty()).then_some(controller.uid),
        freshness: copies.freshness,
    };
    custom_resource(query, copies.stand_in, facts)
}

/// Which copies of a custom resource will do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copies {
    pub(super) freshness: Freshness,
    /// Where the API server does not say how it is now; nothing where a copy would not do.
    pub(super) stand_in: Option<Freshness>,
}

/// A custom resource by query; a copy that stands in, where the API server does not answer.
pub(super) fn custom_resource(
    query: CrQuery,
    stand_in: Option<Freshness>,
    facts: &Facts,
) -> Result<Option<Known<'_>>, Interrupt> {
    let copy = stand_in.map(|freshness| CrQuery { freshness, ..query.clone() });
    let what = format!("{} \"{}\"", query.kind.as_str(), query.name);
    match facts.custom_resource(query)? {
        Answer::Found(cr) => Ok(Some(Known { cr, unread: None })),
        Answer::Absent => Ok(None),
        Answer::Unreadable(unread) => {
            // What the API server answers with an error is made up for by nothing.
            let Some(copy) = copy.filter(|_| !matches!(unread, Unread::Failed(_))) else {
                return Err(policy_not_found(&what, unread));
            };
            // One of the version that is stored is how it is now, wherever it comes from.
            let is_current = matches!(copy.freshness, Freshness::Cached(_));
            match facts.custom_resource(copy)? {
                Answer::Found(cr) => Ok(Some(Known { cr, unread: (!is_current).then_some(unread) })),
                Answer::Absent | Answer::Unreadable(_) => Err(policy_not_found(&what, unread)),
            }
        }
    }
}
