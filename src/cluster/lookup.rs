//! Where decisions find what they ask for.

use std::sync::Arc;
use std::time::Duration;

use super::Cluster;
use super::live::unreadable;
use crate::admission::{Answer, CrQuery, Facts, LiveWorkload, Need, Unread};
use crate::policy::CustomResource;

/// Finds objects: in a cluster, or among those that were given.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// In a cluster.
    Cluster(Cluster),
    /// Among these; any other object does not exist.
    Given(Given),
}

/// Objects that are known beforehand, of examples.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The custom resources.
    pub custom_resources: Vec<Arc<CustomResource>>,
    /// The workloads, each with its kind.
    pub workloads: Vec<(crate::policy::WorkloadKind, LiveWorkload)>,
    /// Names of custom resources that cannot be read, as when the API server does not answer.
    pub unreadable: Vec<String>,
}

/// What came of a [`Need`].
#[derive(Clone, Debug)]
pub enum Found {
    /// Of a custom resource.
    CustomResource(Answer<Arc<CustomResource>>),
    /// Of a workload.
    Workload(Answer<LiveWorkload>),
}

impl Lookup {
    /// Looks for what a decision needs.
    pub async fn find(&self, need: &Need) -> Found {
        match (self, need) {
            (Self::Cluster(cluster), Need::CustomResource(query)) => {
                Found::CustomResource(cluster.custom_resource(query).await)
            }
            (Self::Cluster(cluster), Need::Workload(query)) => Found::Workload(cluster.workload(query).await),
            (Self::Given(given), need) => given.find(need),
        }
    }
}

impl Given {
    /// Looks for what a decision needs.
    #[must_use]
    pub fn find(&self, need: &Need) -> Found {
        match need {
            Need::CustomResource(query) if self.unreadable.contains(&query.name) => {
                Found::CustomResource(unreadable("the API server does not answer".to_owned()))
            }
            Need::CustomResource(query) => {
                let found = self.custom_resources.iter().find(|resource| matches(query, resource));
                Found::CustomResource(found.map_or(Answer::Absent, |resource| Answer::Found(Arc::clone(resource))))
            }
            Need::Workload(query) => {
                let found = self.workloads.iter().find(|(kind, workload)| {
                    let meta = &workload.metadata;
                    *kind == query.kind && meta.namespace == query.namespace && meta.name == query.name
                });
                Found::Workload(found.map_or(Answer::Absent, |(_, workload)| Answer::Found(workload.clone())))
            }
        }
    }
}

fn matches(query: &CrQuery, resource: &CustomResource) -> bool {
    let meta = &resource.meta;
    resource.kind == query.kind
        && meta.namespace == query.namespace
        && meta.name == query.name
        && query.uid.as_ref().is_none_or(|uid| *uid == meta.uid)
}

impl Found {
    /// What comes of a need that nobody answers for so long.
    #[must_use]
    pub fn late(need: &Need, waited: Duration) -> Self {
        match need {
            Need::CustomResource(_) => Self::CustomResource(Answer::Unreadable(Unread::Late(waited))),
            Need::Workload(_) => Self::Workload(Answer::Unreadable(Unread::Late(waited))),
        }
    }

    /// Adds it to what is known, as the answer to `need`.
    pub fn add_to(self, facts: &mut Facts, need: Need) {
        match (self, need) {
            (Self::CustomResource(answer), Need::CustomResource(query)) => facts.add_custom_resource(query, answer),
            (Self::Workload(answer), Need::Workload(query)) => facts.add_workload(query, answer),
            // No other pair is made: `find` answers a need in its own terms.
            (Self::CustomResource(_), Need::Workload(_)) | (Self::Workload(_), Need::CustomResource(_)) => {}
        }
    }
}
