//! Admission: a review and what is known of the cluster in, a verdict out. Pure and synchronous.

mod draft;
mod facts;
mod mutate;
mod review;
mod sparse;
pub mod stamp;
mod target;
mod template;
mod validate;
mod verdict;
mod workload;
mod write;

pub use facts::{Answer, CrQuery, Facts, Freshness, LiveSpec, LiveWorkload, Need, Unread, WorkloadQuery};
pub use review::{GroupResource, GroupVersionKind, Operation, Review, ReviewError};
pub use target::{Scalable, Target};
pub(crate) use template::{generation_entry, password_entry};
pub use verdict::{Outcome, Reason, Refusal, Verdict};

use serde_json::Value;

use crate::policy::{CrKind, Problem, RedisStorage};
use workload::Interrupt;

/// Which of the two webhooks is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Webhook {
    /// `POST /mutate`.
    Mutate,
    /// `POST /validate`.
    Validate,
}

impl Webhook {
    /// A closed set of names for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mutate => "mutate",
            Self::Validate => "validate",
        }
    }
}

/// What the operator of Berth has set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Stands in for the session storage of custom resources that name none.
    pub default_storage: Option<RedisStorage>,
}

/// Decides one review.
///
/// # Errors
/// The [`Need`], when something has to be looked up first: find it, add it to `facts`, call again. A decision needs at
/// most three things.
pub fn decide(webhook: Webhook, review: &Review<'_>, facts: &Facts, settings: &Settings) -> Result<Verdict, Need> {
    let Some(target) = Target::of(review) else { return Ok(Verdict::allow()) };
    let decided = match (review.operation, webhook, target) {
        // Nothing is lost when an object goes, and a connection writes none.
        (Operation::Delete | Operation::Connect, _, _) => Ok(Verdict::allow()),
        (Operation::Unknown, _, target) => Ok(unknown_operation(target)),
        (_, Webhook::Mutate, Target::Workload(kind)) => mutate::workload(kind, review, facts),
        (_, Webhook::Mutate, _) => Ok(Verdict::allow()),
        (_, Webhook::Validate, Target::Workload(kind)) => validate::workload(kind, review, facts),
        (_, Webhook::Validate, Target::CustomResource(kind)) => {
            validate::custom_resource(kind, review, facts, settings)
        }
        (_, Webhook::Validate, Target::Scale(of)) => validate::scale(of, review, facts),
        (_, Webhook::Validate, Target::Autoscaler) => validate::autoscaler(review, facts),
    };
    match decided {
        Ok(verdict) => Ok(verdict),
        Err(Interrupt::Done(verdict)) => Ok(verdict),
        Err(Interrupt::Need(need)) => Err(need),
    }
}

/// Name of the container of a pod template that holds the sessions: the one that the policy names, else the one that the
/// owner's kind implies, else kubectl's default container, else the only one.
///
/// # Errors
/// Why there is none, or which ones there are.
pub fn session_container(pod_template: &Value, named: Option<&str>, owner: Option<CrKind>) -> Result<String, Problem> {
    template::container(pod_template, named, owner).map(|container| container.name)
}

fn unknown_operation(target: Target) -> Verdict {
    let sentence = format!("the review of this {} names no operation that Berth knows", target.as_str());
    Verdict::refuse(400, Reason::BadRequest, None, &sentence)
}
