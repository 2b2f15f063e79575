//! Metadata of what is built: whose it is, and how its pods are selected.

use serde_json::{Map, Value, json};

use super::names;
use super::resource::{Fields, Resource};
use super::{Object, ObjectKind, Warning};
use crate::policy::CrKind;
use crate::policy::names::{ANNOTATION_PREFIX, STAMP};

/// What is selected by.
///
/// ToolHive's labels, letter for letter: the pods and ReplicaSets that its operator left are adopted when a server is
/// moved over, and what selects pods by them (network policies, dashboards) goes on doing so.
pub(super) type Labels = Vec<(&'static str, String)>;

const MCP_SERVER: &str = "mcpserver";
const VIRTUAL_MCP_SERVER: &str = "virtualmcpserver";

/// Labels of the pods that clients connect to.
pub(super) fn front_labels(resource: &Resource<'_>) -> Labels {
    let app = match resource.kind {
        CrKind::McpServer => MCP_SERVER,
        CrKind::VirtualMcpServer => VIRTUAL_MCP_SERVER,
    };
    let name = names::label_value(&resource.name);
    vec![
        ("app", app.to_owned()),
        ("app.kubernetes.io/instance", name.clone()),
        ("app.kubernetes.io/name", app.to_owned()),
        ("toolhive", "true".to_owned()),
        ("toolhive-name", name),
    ]
}

/// Labels of the pods of the server itself.
pub(super) fn server_labels(resource: &Resource<'_>) -> Labels {
    let name = names::label_value(&resource.name);
    let app = match name.as_str() {
        // The value that the pods in front have.
        MCP_SERVER | VIRTUAL_MCP_SERVER => format!("{name}-server"),
        name => name.to_owned(),
    };
    vec![("app", app), ("toolhive", "true".to_owned()), ("toolhive-name", name)]
}

/// Labels as JSON.
pub(super) fn map(labels: &Labels) -> Value {
    Value::Object(labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect())
}

/// One object of this resource; labels and annotations that a user gives come under Berth's own.
pub(super) fn object(
    resource: &Resource<'_>,
    kind: ObjectKind,
    name: String,
    labels: &Labels,
    users: Option<&Overrides>,
    rest: Value,
) -> Object {
    let mut all_labels = users.map(|users| users.labels.clone()).unwrap_or_default();
    all_labels.extend(labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))));
    all_labels.insert(MANAGED_BY.to_owned(), json!("berth"));
    let mut metadata = json!({
        "name": name,
        "labels": all_labels,
        "ownerReferences": [{
            "apiVersion": resource.api_version,
            "kind": resource.kind.as_str(),
            "name": resource.name,
            "uid": resource.uid,
            "controller": true,
            "blockOwnerDeletion": true,
        }],
    });
    let namespace = (!resource.namespace.is_empty()).then(|| json!(resource.namespace));
    let annotations = users.map(|users| &users.annotations).filter(|annotations| !annotations.is_empty());
    set(&mut metadata, "namespace", namespace);
    set(&mut metadata, "annotations", annotations.cloned().map(Value::Object));
    let mut json = json!({"apiVersion": kind.api_version(), "kind": kind.as_str(), "metadata": metadata});
    if let (Some(json), Value::Object(rest)) = (json.as_object_mut(), rest) {
        json.extend(rest);
    }
    Object { kind, json }
}

const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Labels and annotations that a user adds to what is built.
#[derive(Default)]
pub(super) struct Overrides {
    pub(super) labels: Map<String, Value>,
    pub(super) annotations: Map<String, Value>,
}

impl Overrides {
    /// What `fields` says, without what is not the user's to say.
    pub(super) fn read(
        fields: &Fields<'_>,
        own: &Labels,
        warnings: &mut Vec<Warning>,
    ) -> Result<Self, super::refusal::Refusal> {
        let mut overrides = Self::default();
        for (key, value) in fields.text_map("labels")? {
            let taken = key == MANAGED_BY || own.iter().any(|(own, text)| *own == key && text != value);
            if taken {
                warnings.push(ignored(&format!("{}[{key}]", fields.path("labels")), "Berth selects by it"));
            } else {
                overrides.labels.insert(key.to_owned(), json!(value));
            }
        }
        for (key, value) in fields.text_map("annotations")? {
            if is_own_annotation(key) {
                warnings
                    .push(ignored(&format!("{}[{key}]", fields.path("annotations")), "Kubernetes or Berth writes it"));
            } else {
                overrides.annotations.insert(key.to_owned(), json!(value));
            }
        }
        Ok(overrides)
    }
}

/// Whether an annotation is not the user's to write. Kubernetes would write its own over a user's, and Berth the user's over
/// that, for ever.
pub(super) fn is_own_annotation(key: &str) -> bool {
    key.starts_with(ANNOTATION_PREFIX) || key.starts_with("deployment.kubernetes.io/") || key == STAMP
}

/// An override that does not get through.
pub(super) fn ignored(field: &str, why: &str) -> Warning {
    Warning { reason: "OverrideIgnored", message: format!("{field} is not followed: {why}") }
}

/// Sets a field that there may be nothing for.
pub(super) fn set(object: &mut Value, field: &str, value: Option<Value>) {
    if let (Some(object), Some(value)) = (object.as_object_mut(), value) {
        object.insert(field.to_owned(), value);
    }
}
