//! What the input itself answers when a decision asks for an object.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::Identity;
use crate::admission::{Answer, CrQuery, Facts, Freshness, LiveWorkload, Need, Settings, WorkloadQuery};
use crate::policy::CustomResource;

/// The custom resources and workloads of an input.
#[derive(Debug, Default)]
pub(super) struct Known {
    custom_resources: Vec<(String, Arc<CustomResource>, Value)>,
    workloads: Vec<(WorkloadQuery, LiveWorkload)>,
}

impl Known {
    /// Adds an object, or what became of one that is known: the last one of a name counts, as it would in a cluster.
    pub(super) fn add(&mut self, identity: &Identity, value: &Value, settings: &Settings) {
        if let Some(kind) = identity.custom_resource()
            && let Ok(cr) = CustomResource::from_value(kind, value, settings.default_storage.as_ref())
        {
            self.custom_resources.push((identity.namespace.clone(), Arc::new(cr), value.clone()));
        }
        if let Some(kind) = identity.workload()
            && let Ok(workload) = LiveWorkload::deserialize(value)
        {
            let (namespace, name) = (identity.namespace.clone(), identity.name.clone());
            self.workloads.push((WorkloadQuery { kind, namespace, name }, workload));
        }
    }

    /// The custom resource that a query means. Manifests seldom carry a uid: one without is taken for the one meant.
    pub(super) fn custom_resource(&self, query: &CrQuery) -> Option<(Arc<CustomResource>, &Value)> {
        let (_, cr, value) = self.custom_resources.iter().rfind(|(namespace, cr, _)| {
            let meta = &cr.meta;
            let same_uid = query.uid.as_ref().is_none_or(|uid| meta.uid.is_empty() || meta.uid == *uid);
            cr.kind == query.kind && *namespace == query.namespace && meta.name == query.name && same_uid
        })?;
        let mut cr = CustomResource::clone(cr);
        cr.meta.uid = query.uid.clone().unwrap_or(cr.meta.uid);
        if cr.meta.generation == 0
            && let Freshness::Generation(generation) = query.freshness
        {
            // Nobody knows how often it has changed; a stamp that a workload carries is not to be called too high.
            cr.meta.generation = generation.max(1);
        }
        Some((Arc::new(cr), value))
    }

    fn workload(&self, query: &WorkloadQuery) -> Option<LiveWorkload> {
        self.workloads.iter().rfind(|(known, _)| known == query).map(|(_, workload)| workload.clone())
    }

    /// Adds the answer to what a decision asks for.
    pub(super) fn answer(&self, need: Need, facts: &mut Facts) {
        match need {
            Need::CustomResource(query) => {
                let found = self.custom_resource(&query).map_or(Answer::Absent, |(cr, _)| Answer::Found(cr));
                facts.add_custom_resource(query, found);
            }
            Need::Workload(query) => {
                let found = self.workload(&query).map_or(Answer::Absent, Answer::Found);
                facts.add_workload(query, found);
            }
        }
    }
}
