//! What no write is told, and its writer should know all the same: the webhook has no part in it.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Arrival, Identity};
use crate::admission::Settings;
use crate::controller::objects::{self, Facts, Plan, Reason};
use crate::policy::names::{self, ANNOTATION_PREFIX, INJECT};
use crate::policy::{CrKind, Metadata};

/// One line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Why Berth's controller builds nothing; `None` is advice.
    pub reason: Option<Reason>,
    /// One sentence. Where it is about a field, it begins with its path.
    pub text: String,
}

/// The annotations by which Berth remembers what it did; nobody writes them by hand.
const RECORDS: [&str; 5] =
    [names::INJECTED_ENV, names::STAMPED_SPEC, names::DEFAULT_IMAGE, names::DEFAULT_PULL_POLICY, names::APPLIED];

impl Remark {
    fn advice(text: String) -> Self {
        Self { reason: None, text }
    }

    /// All that there is to say of an object that may be written.
    pub(super) fn of(arrival: &Arrival, settings: &Settings) -> Vec<Self> {
        let identity = &arrival.identity;
        if identity.workload().is_some() {
            unheard(&arrival.value, identity)
        } else if let Some(kind) = identity.custom_resource() {
            unbuilt(&arrival.value, kind, identity, settings)
        } else {
            Vec::new()
        }
    }
}

/// Annotations that stand where nobody reads them.
fn unheard(workload: &Value, identity: &Identity) -> Vec<Remark> {
    let kind = &identity.kind.kind;
    let metadata = metadata(workload);
    let mut remarks = Vec::new();
    if metadata.annotation(INJECT).is_none() && metadata.controller().is_none() {
        let keys = metadata.unknown_annotations(&RECORDS);
        remarks.extend(keys.into_iter().map(|key| {
            Remark::advice(format!(
                "metadata.annotations[{key}]: it means nothing without {INJECT}: enabled beside it; Berth leaves the {kind} alone"
            ))
        }));
    }
    let template = workload.pointer("/spec/template/metadata/annotations").and_then(Value::as_object);
    // What stands on the workload too is heard there.
    let keys = template.into_iter().flatten().map(|(key, _)| key.as_str());
    let keys = keys.filter(|key| key.starts_with(ANNOTATION_PREFIX) && metadata.annotation(key).is_none());
    remarks.extend(keys.map(|key| {
        Remark::advice(format!(
            "spec.template.metadata.annotations[{key}]: it means nothing on a pod template; write it under \
             metadata.annotations of the {kind}"
        ))
    }));
    remarks
}

/// What Berth's controller would not build, where it is asked for by name.
fn unbuilt(resource: &Value, kind: CrKind, identity: &Identity, settings: &Settings) -> Vec<Remark> {
    let asked = metadata(resource).annotation(names::CLASS).and_then(Value::as_str) == Some(names::CLASS_BERTH);
    if !asked {
        return Vec::new();
    }
    let mut stored = resource.clone();
    if let Some(metadata) = stored.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("name".to_owned(), json!(identity.name));
        metadata.insert("namespace".to_owned(), json!(identity.namespace));
    }
    // Which images run does not matter to whether anything does.
    let settings = objects::Settings {
        proxy_image: String::new(),
        vmcp_image: String::new(),
        image_pull_policy: None,
        cluster_domain: "cluster.local".to_owned(),
        default_storage: settings.default_storage.clone(),
    };
    match objects::plan(&stored, kind, &settings, &Facts::default()) {
        Plan::Build(build) => build.warnings.into_iter().map(|warning| Remark::advice(warning.message)).collect(),
        Plan::Nothing { reason, message, .. } => {
            vec![Remark { reason: Some(reason), text: format!("{message} (Berth's controller builds nothing for it)") }]
        }
    }
}

fn metadata(object: &Value) -> Metadata {
    object.get("metadata").and_then(|metadata| Metadata::deserialize(metadata).ok()).unwrap_or_default()
}
