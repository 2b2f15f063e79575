//! An object as it is stored, as far as decisions about it go.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::Resource;
use kube::core::DynamicResourceScope;
use kube::discovery::ApiResource;
use serde::Deserialize;
use serde_json::Value;

use super::{COUNT_KEEPER, FIELD_MANAGER};
use crate::admission::stamp;
use crate::policy::names::{self, TOOLHIVE_GROUP, TOOLHIVE_MANAGERS};
use crate::policy::{ControllerRef, CrKind};

/// What is kept of an object; nothing of its content.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::controller) struct Live {
    pub(in crate::controller) uid: String,
    /// `resourceVersion`.
    pub(in crate::controller) version: String,
    pub(in crate::controller) deleting: bool,
    /// The uid of whatever controls it.
    pub(in crate::controller) controller: Option<Box<str>>,
    /// The custom resource that controls it, where that is one.
    pub(in crate::controller) owner: Option<ControllerRef>,
    /// Whether ToolHive writes it.
    pub(in crate::controller) of_toolhive: bool,
    /// Its field managers, for people.
    pub(in crate::controller) managers: Vec<Box<str>>,
    /// Our entry of its managed fields, as JSON.
    pub(in crate::controller) fields: Option<Box<str>>,
    /// Whether somebody else is an owner of its count.
    pub(in crate::controller) count_is_shared: bool,
    pub(in crate::controller) applied: Option<Box<str>>,
    pub(in crate::controller) stamped_spec: Option<Box<str>>,
    pub(in crate::controller) default_image: Option<Box<str>>,
    pub(in crate::controller) default_pull_policy: Option<Box<str>>,
    pub(in crate::controller) workload: Workload,
}

/// The numbers of a Deployment or StatefulSet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::controller) struct Workload {
    /// `spec.replicas`.
    pub(in crate::controller) count: Option<i64>,
    /// The generation stamp of the pod template.
    pub(in crate::controller) stamp: Option<i64>,
    /// `spec.selector.matchLabels` as a label selector.
    pub(in crate::controller) selector: Box<str>,
    /// `status.replicas`.
    pub(in crate::controller) pods: i64,
    /// `status.readyReplicas`.
    pub(in crate::controller) ready: i64,
}

/// An object on its way into the cache. Of a Service or a ConfigMap only the metadata comes.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::controller) struct Arriving {
    #[serde(default)]
    pub(in crate::controller) metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    replicas: Option<i64>,
    // A Service's selector is another shape, and of no interest.
    selector: Value,
    template: Template,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Template {
    metadata: TemplateMetadata,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct TemplateMetadata {
    annotations: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    replicas: Option<i64>,
    ready_replicas: Option<i64>,
}

impl Arriving {
    /// What to keep of it.
    pub(in crate::controller) fn live(&self) -> Live {
        let template = serde_json::json!({"metadata": {"annotations": self.spec.template.metadata.annotations}});
        let workload = Workload {
            count: self.spec.replicas,
            stamp: stamp::of_template(&template),
            selector: selector(&self.spec.selector).into(),
            pods: self.status.replicas.unwrap_or(0),
            ready: self.status.ready_replicas.unwrap_or(0),
        };
        Live { workload, ..Live::of(&self.metadata) }
    }
}

fn selector(selector: &Value) -> String {
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    let pairs = labels.into_iter().flatten().filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
    pairs.collect::<Vec<_>>().join(",")
}

impl Live {
    /// What the metadata alone say.
    pub(in crate::controller) fn of(meta: &ObjectMeta) -> Self {
        let annotation = |key: &str| meta.annotations.as_ref()?.get(key).map(|value| value.as_str().into());
        let controller =
            meta.owner_references.iter().flatten().find(|reference| reference.controller.unwrap_or_default());
        let owner = controller.and_then(|reference| {
            let (group, _) = reference.api_version.split_once('/')?;
            let kind = CrKind::from_kind(&reference.kind).filter(|_| group == TOOLHIVE_GROUP)?;
            Some(ControllerRef { kind, name: reference.name.clone(), uid: reference.uid.clone() })
        });
        let entries = meta.managed_fields.as_deref().unwrap_or_default();
        let manager = |entry: &ManagedFieldsEntry| entry.manager.clone().unwrap_or_default();
        let fields = entries.iter().find(|entry| is_ours(entry)).and_then(|entry| entry.fields_v1.as_ref());
        let mut managers: Vec<Box<str>> = entries.iter().map(|entry| manager(entry).into()).collect();
        managers.dedup();
        Self {
            uid: meta.uid.clone().unwrap_or_default(),
            version: meta.resource_version.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            controller: controller.map(|reference| reference.uid.as_str().into()),
            owner,
            of_toolhive: entries.iter().any(|entry| TOOLHIVE_MANAGERS.contains(&manager(entry).as_str())),
            managers,
            fields: fields.map(|fields| fields.0.to_string().into()),
            count_is_shared: entries.iter().any(|entry| !is_ours(entry) && owns_count(entry)),
            applied: annotation(names::APPLIED),
            stamped_spec: annotation(names::STAMPED_SPEC),
            default_image: annotation(names::DEFAULT_IMAGE),
            default_pull_policy: annotation(names::DEFAULT_PULL_POLICY),
            workload: Workload::default(),
        }
    }

    /// The fields that are ours; null when there are none.
    pub(in crate::controller) fn fields(&self) -> Value {
        self.fields.as_deref().and_then(|fields| serde_json::from_str(fields).ok()).unwrap_or_default()
    }

    /// Whether an annotation is still as it was applied.
    pub(in crate::controller) fn owns_annotation(&self, name: &str) -> bool {
        let fields = self.fields();
        fields
            .pointer("/f:metadata/f:annotations")
            .is_some_and(|annotations| annotations.get(format!("f:{name}")).is_some())
    }

    /// Its version as a number. API servers count upwards, through all objects of a kind.
    pub(super) fn number(&self) -> Option<u128> {
        self.version.parse().ok()
    }

    /// Whether this copy was stored before the other, which may be of another object of the name. Where an API server does not
    /// count, nothing is older.
    pub(super) fn is_older_than(&self, other: &Self) -> bool {
        self.number().zip(other.number()).is_some_and(|(this, other)| this < other)
    }
}

fn is_ours(entry: &ManagedFieldsEntry) -> bool {
    let none = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
    entry.manager.as_deref() == Some(FIELD_MANAGER)
        && entry.operation.as_deref() == Some("Apply")
        && none(&entry.subresource)
}

fn owns_count(entry: &ManagedFieldsEntry) -> bool {
    let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
    fields.is_some_and(|fields| fields.pointer("/f:spec/f:replicas").is_some())
}

#[cfg(test)]
impl Live {
    /// What an API server would hold of an object that was applied.
    pub(in crate::controller) fn applied(object: &Value) -> Self {
        let mut meta: ObjectMeta = serde_json::from_value(object["metadata"].clone()).unwrap_or_default();
        meta.resource_version = Some("1".to_owned());
        meta.managed_fields = Some(vec![ManagedFieldsEntry {
            manager: Some(FIELD_MANAGER.to_owned()),
            operation: Some("Apply".to_owned()),
            fields_v1: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1(fields_of(object))),
            ..ManagedFieldsEntry::default()
        }]);
        let template = object.pointer("/spec/template").cloned().unwrap_or_default();
        let workload = Workload {
            count: object.pointer("/spec/replicas").and_then(Value::as_i64),
            stamp: stamp::of_template(&template),
            ..Workload::default()
        };
        Self { workload, ..Self::of(&meta) }
    }

    /// Takes a field out of what is ours, as when another writes it.
    pub(in crate::controller) fn disown(&mut self, parent: &str, field: &str) {
        let mut fields = self.fields();
        fields.pointer_mut(parent).and_then(Value::as_object_mut).and_then(|parent| parent.remove(field));
        self.fields = Some(fields.to_string().into());
    }
}

/// Lists of a pod template whose items have keys: an API server takes no note of one that is empty.
#[cfg(test)]
const WITH_KEYS: [&str; 12] = [
    "containers",
    "initContainers",
    "env",
    "ports",
    "volumes",
    "volumeMounts",
    "volumeDevices",
    "imagePullSecrets",
    "hostAliases",
    "topologySpreadConstraints",
    "resourceClaims",
    "claims",
];

/// A `fieldsV1` of all of an object.
#[cfg(test)]
fn fields_of(value: &Value) -> Value {
    use serde_json::json;
    let noted = |(key, value): &(&String, &Value)| **value != json!([]) || !WITH_KEYS.contains(&key.as_str());
    match value {
        Value::Object(map) => {
            map.iter().filter(noted).map(|(key, value)| (format!("f:{key}"), fields_of(value))).collect()
        }
        Value::Array(items) if !items.is_empty() && items.iter().all(|item| item["name"].is_string()) => {
            items.iter().map(|item| (format!("k:{}", json!({"name": item["name"]})), fields_of(item))).collect()
        }
        _ => json!({}),
    }
}

impl Resource for Arriving {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl fmt::Display for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let managers: Vec<&str> =
            self.managers.iter().map(AsRef::as_ref).filter(|name| *name != COUNT_KEEPER).collect();
        write!(f, "written by {}", if managers.is_empty() { "nobody known".to_owned() } else { managers.join(", ") })
    }
}
