//! An object as it reaches the webhook when it is created.

use std::fmt;

use json_patch::{AddOperation, Patch, PatchOperation};
use jsonptr::PointerBuf;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{PreviewError, apply};
use crate::admission::{GroupResource, GroupVersionKind, Operation, Review};
use crate::policy::names::TOOLHIVE_GROUP;
use crate::policy::{CrKind, WorkloadKind};

/// What an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Group, version and kind.
    pub kind: GroupVersionKind,
    /// Group and plural name.
    pub resource: GroupResource,
    /// Its namespace, or the one that it would get.
    pub namespace: String,
    /// Its name, or what its name will begin with.
    pub name: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.kind, self.name)
    }
}

impl Identity {
    /// What an object of Kubernetes is; `None` for what Berth does not guard.
    pub(super) fn of(object: &Value, namespace: &str) -> Option<Self> {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let kind = text(object.get("kind"));
        let api_version = text(object.get("apiVersion"));
        let (group, version) = api_version.split_once('/')?;
        let resource = match group {
            "apps" => WorkloadKind::from_kind(&kind)?.plural(),
            TOOLHIVE_GROUP => CrKind::from_kind(&kind)?.plural(),
            "autoscaling" if kind == "HorizontalPodAutoscaler" => "horizontalpodautoscalers",
            _ => return None,
        };
        let meta = |key: &str| text(object.pointer(&format!("/metadata/{key}")));
        let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
        Some(Self {
            kind: GroupVersionKind { group: group.to_owned(), version: version.to_owned(), kind },
            resource: GroupResource { group: group.to_owned(), resource: resource.to_owned() },
            namespace: or(meta("namespace"), namespace),
            name: or(meta("name"), &meta("generateName")),
        })
    }

    /// The workload's kind, when it is one.
    #[must_use]
    pub fn workload(&self) -> Option<WorkloadKind> {
        WorkloadKind::from_kind(&self.kind.kind).filter(|_| self.kind.group == "apps")
    }

    /// The custom resource's kind, when it is one.
    #[must_use]
    pub fn custom_resource(&self) -> Option<CrKind> {
        CrKind::from_kind(&self.kind.kind).filter(|_| self.kind.group == TOOLHIVE_GROUP)
    }
}

/// An object with what the API server has filled in before it asks a webhook.
pub(crate) struct Arrival {
    pub(crate) identity: Identity,
    pub(crate) value: Value,
}

impl Arrival {
    pub(crate) fn of(object: &Value, namespace: &str) -> Option<Self> {
        let identity = Identity::of(object, namespace)?;
        let mut value = object.clone();
        if identity.workload().is_some() {
            fill_in(&mut value);
        }
        Some(Self { identity, value })
    }

    pub(super) fn review<'a>(&self, object: &'a RawValue, old_object: Option<&'a RawValue>) -> Review<'a> {
        Review {
            api_version: "admission.k8s.io/v1".to_owned(),
            uid: String::new(),
            kind: self.identity.kind.clone(),
            resource: self.identity.resource.clone(),
            sub_resource: String::new(),
            name: self.identity.name.clone(),
            namespace: self.identity.namespace.clone(),
            operation: if old_object.is_some() { Operation::Update } else { Operation::Create },
            object: Some(object),
            old_object,
        }
    }

    /// The object as it would be stored.
    pub(crate) fn patched(&self, patch: &[PatchOperation]) -> Result<Self, PreviewError> {
        let mut value = self.value.clone();
        apply(&mut value, patch, &self.identity)?;
        Ok(Self { identity: self.identity.clone(), value })
    }

    /// The same changes for the object as it is written, which lacks what the API server fills in.
    pub(crate) fn as_written(&self, patch: &[PatchOperation], object: &Value) -> Result<Patch, PreviewError> {
        let mut written = object.clone();
        let mut operations = Vec::new();
        if !patch.is_empty() && object.get("spec").is_none_or(Value::is_null) {
            let operation = PatchOperation::Add(AddOperation { path: spec_path(), value: json!({}) });
            apply(&mut written, std::slice::from_ref(&operation), &self.identity)?;
            operations.push(operation);
        }
        for operation in patch {
            let missing = written.pointer(operation.path().as_str()).is_none();
            let operation = match operation {
                PatchOperation::Replace(replace) if missing => {
                    PatchOperation::Add(AddOperation { path: replace.path.clone(), value: replace.value.clone() })
                }
                PatchOperation::Remove(_) if missing => continue,
                other => other.clone(),
            };
            apply(&mut written, std::slice::from_ref(&operation), &self.identity)?;
            operations.push(operation);
        }
        Ok(Patch(operations))
    }
}

/// Fills in what the API server does, where Berth's rules look at it. Nothing of this gets into anybody's file. The grace
/// period is not among it: Berth sets the same one where there is none, and its reader should see that.
fn fill_in(workload: &mut Value) {
    if let Some(workload) = workload.as_object_mut() {
        absent(workload, "spec", json!({}));
    }
    let Some(spec) = workload.get_mut("spec").and_then(Value::as_object_mut) else { return };
    absent(spec, "replicas", json!(1));
    let Some(pod) = spec.get_mut("template").and_then(|template| template.get_mut("spec")) else { return };
    let Some(pod) = pod.as_object_mut() else { return };
    for list in ["containers", "initContainers"] {
        let containers = pod.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        let env = containers.filter_map(|container| container.get_mut("env")?.as_array_mut()).flatten();
        for field_ref in env.filter_map(|entry| entry.get_mut("valueFrom")?.get_mut("fieldRef")?.as_object_mut()) {
            absent(field_ref, "apiVersion", json!("v1"));
        }
    }
}

fn spec_path() -> PointerBuf {
    PointerBuf::from_tokens(["spec"])
}

fn absent(object: &mut serde_json::Map<String, Value>, key: &str, value: Value) {
    let slot = object.entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = value;
    }
}
