//! What a decision needs to know beyond its review, asked for one thing at a time.
//!
//! Decisions do no I/O. Where one needs an object that the review does not carry, it answers with the [`Need`]; whoever
//! called it finds the object, adds the answer to the [`Facts`] and asks again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::policy::{CrKind, CustomResource, Metadata, WorkloadKind, object};

/// An object that a decision cannot do without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// A custom resource.
    CustomResource(CrQuery),
    /// A Deployment or StatefulSet as it is stored now.
    Workload(WorkloadQuery),
}

/// Names a custom resource, and how fresh a copy has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrQuery {
    /// Its kind.
    pub kind: CrKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The uid it must have; a copy with another one is outdated, or the resource is gone. `None` for any.
    pub uid: Option<String>,
    /// Which copies will do.
    pub freshness: Freshness,
}

/// How new a copy of a custom resource has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Of this generation, or a later one. Where the cache has none, the API server is asked.
    Generation(i64),
    /// Of this `resourceVersion`, or a later one. Where the cache has none, the API server is asked.
    Version(u128),
    /// The API server is asked in any case.
    Now,
    /// Of this `resourceVersion`, or a later one, from the cache. The API server is not asked.
    Cached(u128),
    /// Any, from a cache that follows the cluster. The API server is not asked.
    Followed,
}

/// Names a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadQuery {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What came of looking for an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer<T> {
    /// Here it is.
    Found(T),
    /// It does not exist.
    Absent,
    /// It could not be read.
    Unreadable(Unread),
}

/// Why an object could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The API server answers with an error, or there is nothing to ask.
    Failed(String),
    /// The API server cannot be reached, or breaks off.
    Unanswered(String),
    /// No answer came in the time that there is for a review, which is this long.
    Late(Duration),
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(reason) | Self::Unanswered(reason) => f.write_str(reason),
            Self::Late(waited) => write!(f, "no answer within {} ms", waited.as_millis()),
        }
    }
}

/// A stored workload as far as the rules of others need it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct LiveWorkload {
    /// Its metadata.
    #[serde(default, deserialize_with = "object")]
    pub metadata: Metadata,
    /// Its counts.
    #[serde(default, deserialize_with = "object")]
    pub spec: LiveSpec,
}

/// The counts of a stored workload.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct LiveSpec {
    /// `spec.replicas`.
    pub replicas: Option<i64>,
}

/// Answers that were found so far.
#[derive(Debug, Default)]
pub struct Facts {
    custom_resources: Vec<(CrQuery, Answer<Arc<CustomResource>>)>,
    workloads: Vec<(WorkloadQuery, Answer<LiveWorkload>)>,
}

impl Facts {
    /// Adds what was found for a [`Need::CustomResource`].
    pub fn add_custom_resource(&mut self, query: CrQuery, answer: Answer<Arc<CustomResource>>) {
        self.custom_resources.push((query, answer));
    }

    /// Adds what was found for a [`Need::Workload`].
    pub fn add_workload(&mut self, query: WorkloadQuery, answer: Answer<LiveWorkload>) {
        self.workloads.push((query, answer));
    }

    /// The answer to a query, or the need to look for it.
    ///
    /// # Errors
    /// The need, when nobody has looked yet.
    pub(super) fn custom_resource(&self, query: CrQuery) -> Result<&Answer<Arc<CustomResource>>, Need> {
        let known = self.custom_resources.iter().find(|(asked, _)| *asked == query);
        known.map(|(_, answer)| answer).ok_or(Need::CustomResource(query))
    }

    /// The answer to a query, or the need to look for it.
    ///
    /// # Errors
    /// The need, when nobody has looked yet.
    pub(super) fn workload(&self, query: WorkloadQuery) -> Result<&Answer<LiveWorkload>, Need> {
        let known = self.workloads.iter().find(|(asked, _)| *asked == query);
        known.map(|(_, answer)| answer).ok_or(Need::Workload(query))
    }
}
