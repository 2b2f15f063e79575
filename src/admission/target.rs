//! What a review is about.

use super::review::Review;
use crate::policy::names::TOOLHIVE_GROUP;
use crate::policy::{CrKind, WorkloadKind};

/// An object whose replicas somebody counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalable {
    /// A Deployment or StatefulSet.
    Workload(WorkloadKind),
    /// A custom resource.
    CustomResource(CrKind),
}

impl Scalable {
    /// The kind's name in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Workload(kind) => kind.as_str(),
            Self::CustomResource(kind) => kind.as_str(),
        }
    }
}

/// The objects that Berth guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A Deployment or StatefulSet itself.
    Workload(WorkloadKind),
    /// A custom resource itself.
    CustomResource(CrKind),
    /// The `scale` subresource of either.
    Scale(Scalable),
    /// A HorizontalPodAutoscaler.
    Autoscaler,
}

impl Target {
    /// What the review is about; `None` when that is nothing that Berth guards.
    #[must_use]
    pub fn of(review: &Review<'_>) -> Option<Self> {
        let (group, resource) = (review.resource.group.as_str(), review.resource.resource.as_str());
        let by_resource = match group {
            "apps" => WorkloadKind::from_plural(resource).map(Scalable::Workload),
            TOOLHIVE_GROUP => CrKind::from_plural(resource).map(Scalable::CustomResource),
            _ => None,
        };
        let kind = review.kind.kind.as_str();
        match review.sub_resource.as_str() {
            "scale" => by_resource.map(Self::Scale),
            "" => match (review.kind.group.as_str(), by_resource) {
                ("autoscaling", _) if kind == "HorizontalPodAutoscaler" => Some(Self::Autoscaler),
                (_, Some(Scalable::Workload(kind))) => Some(Self::Workload(kind)),
                (_, Some(Scalable::CustomResource(kind))) => Some(Self::CustomResource(kind)),
                // A review that names no resource is still about its kind.
                ("apps", None) => WorkloadKind::from_kind(kind).map(Self::Workload),
                (TOOLHIVE_GROUP, None) => CrKind::from_kind(kind).map(Self::CustomResource),
                _ => None,
            },
            _ => None,
        }
    }

    /// A closed set of names for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Workload(kind) => kind.as_str(),
            Self::CustomResource(kind) => kind.as_str(),
            Self::Scale(_) => "Scale",
            Self::Autoscaler => "HorizontalPodAutoscaler",
        }
    }
}
