//! A Deployment or StatefulSet of a review, read as far as the rules need it.

use std::cell::OnceCell;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::facts::{Answer, CrQuery, Facts, Need};
use super::review::{Operation, Review};
use super::verdict::{Reason, Verdict};
use super::{sparse, stamp};
use crate::policy::{CodeWord, CrKind, CustomResource, Metadata, Object, Problem, object};

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

/// The answer when an owner or a scale's parent could not be read in time.
pub(super) fn policy_not_found(what: &str, reason: &str) -> Interrupt {
    let sentence = format!("{what} could not be read ({reason}), so nothing is known of its policy; try again");
    Interrupt::Done(Verdict::refuse(500, Reason::InternalError, Some(CodeWord::PolicyNotFound), &sentence))
}

/// The custom resource that controls an object, if there is one and it still exists.
///
/// `min_generation` is the highest generation that the object is known to have been made from; asked for only where
/// there is an owner.
pub(super) fn owner<'f>(
    metadata: &Metadata,
    namespace: &str,
    min_generation: impl FnOnce() -> i64,
    facts: &'f Facts,
) -> Result<Option<&'f Arc<CustomResource>>, Interrupt> {
    let Some(controller) = metadata.controller() else { return Ok(None) };
    let query = CrQuery {
        kind: controller.kind,
        namespace: namespace.to_owned(),
        name: controller.name,
        uid: (!controller.uid.is_empty()).then_some(controller.uid),
        min_generation: min_generation(),
    };
    custom_resource(query, facts)
}

/// A custom resource by query.
pub(super) fn custom_resource(query: CrQuery, facts: &Facts) -> Result<Option<&Arc<CustomResource>>, Interrupt> {
    let (kind, name): (CrKind, String) = (query.kind, query.name.clone());
    match facts.custom_resource(query)? {
        Answer::Found(cr) => Ok(Some(cr)),
        Answer::Absent => Ok(None),
        Answer::Unreadable(reason) => Err(policy_not_found(&format!("{} \"{name}\"", kind.as_str()), reason)),
    }
}
