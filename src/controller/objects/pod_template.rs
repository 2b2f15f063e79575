//! A user's pod template over the one that Berth builds.

use k8s_openapi::api::core::v1::{Container, PodSpec};
use serde_json::{Map, Value, json};

use super::Warning;
use super::metadata::{self, Labels, Overrides, ignored};
use super::quantity::{quantities, with_quantities};
use super::refusal::Refusal;
use super::resource::{Fields, typed};
use crate::policy::ScalingPolicy;
use crate::policy::names::DEFAULT_GRACE_PERIOD_SECONDS;

/// What a user says of a pod template.
#[derive(Default)]
pub(super) struct UserTemplate {
    metadata: Overrides,
    spec: Map<String, Value>,
    path: String,
}

/// What of a template nobody but Berth decides.
pub(super) struct Own<'a> {
    /// Labels that the workload selects its pods by.
    pub(super) labels: &'a Labels,
    /// Annotations of the pods.
    pub(super) annotations: Map<String, Value>,
    /// Seconds that pods get to end.
    pub(super) grace_period: i64,
}

impl UserTemplate {
    /// Reads a field that is a pod template, or a part of one.
    pub(super) fn read(
        fields: &Fields<'_>,
        field: &str,
        labels: &Labels,
        warnings: &mut Vec<Warning>,
    ) -> Result<Self, Refusal> {
        let template = fields.object(field)?;
        if let Some((key, _)) = template.iter().find(|(key, _)| !matches!(*key, "metadata" | "spec")) {
            return Err(Refusal::invalid(
                &template.path(key),
                "a pod template has metadata and spec, and no such field",
            ));
        }
        let metadata = Overrides::read(&template.object("metadata")?, labels, warnings)?;
        let spec = template.object("spec")?;
        let mut checked = Map::new();
        for (key, value) in spec.iter() {
            checked.insert(key.to_owned(), check(&spec, key, value)?);
        }
        Ok(Self { metadata, spec: checked, path: spec.path("terminationGracePeriodSeconds") })
    }

    /// Only metadata.
    pub(super) fn of_metadata(metadata: Overrides) -> Self {
        Self { metadata, ..Self::default() }
    }

    /// Seconds that pods get to end: the policy's, else the template's own, else Kubernetes' default.
    pub(super) fn grace_period(&self, policy: &ScalingPolicy, warnings: &mut Vec<Warning>) -> i64 {
        let own = self.spec.get(GRACE_PERIOD).and_then(Value::as_i64);
        match (policy.grace_period_seconds, own) {
            (Some(policy), Some(own)) if policy != own => {
                let why = format!("the resource's annotation says {policy} seconds");
                warnings.push(ignored(&self.path, &why));
                policy
            }
            (policy, own) => policy.or(own).unwrap_or(DEFAULT_GRACE_PERIOD_SECONDS),
        }
    }

    /// The template that is built, with the user's over it and Berth's own over that.
    pub(super) fn over(self, spec: Value, own: Own<'_>) -> Value {
        let mut labels = self.metadata.labels;
        labels.extend(own.labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))));
        let mut annotations = self.metadata.annotations;
        annotations.extend(own.annotations);
        let mut spec = spec;
        merge(&mut spec, Value::Object(self.spec));
        if let Some(spec) = spec.as_object_mut() {
            spec.insert(GRACE_PERIOD.to_owned(), json!(own.grace_period));
        }
        json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": spec})
    }
}

const GRACE_PERIOD: &str = "terminationGracePeriodSeconds";

/// One field of a pod's spec, in the API's own shape. Field by field, so that a message says which.
fn check(spec: &Fields<'_>, key: &str, value: &Value) -> Result<Value, Refusal> {
    let path = spec.path(key);
    let value = match key {
        "overhead" => quantities(value, &path)?,
        _ => with_quantities(value, key, &path)?,
    };
    if matches!(key, "containers" | "initContainers") {
        let list = value.as_array().ok_or_else(|| Refusal::invalid(&path, "it must be a list"))?;
        let container = |(index, container): (usize, &Value)| {
            let path = format!("{path}[{index}]");
            match container.get("name").and_then(Value::as_str) {
                Some(name) if crate::policy::is_dns_label(name) => typed::<Container>(container, &path),
                _ => Err(Refusal::invalid(&format!("{path}.name"), "a container needs a name")),
            }
        };
        return list.iter().enumerate().map(container).collect();
    }
    let one = Value::Object(Map::from_iter([(key.to_owned(), value)]));
    if let Err(error) = serde_json::from_value::<PodSpec>(one.clone()) {
        return Err(Refusal::invalid(&path, error));
    }
    let mut checked = typed::<PodSpec>(&one, spec.path("").trim_end_matches('.'))?;
    Ok(checked.get_mut(key).map(Value::take).unwrap_or_default())
}

/// Lays `over` on `base` as `kubectl patch` would: objects field by field, lists with keys entry by entry, everything else
/// as a whole.
fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                match (keyed(&key), value) {
                    (Some(list), Value::Array(entries)) => {
                        let slot = base.entry(key).or_insert_with(|| json!([]));
                        merge_list(slot, entries, list);
                    }
                    (_, value) => match base.get_mut(&key) {
                        Some(slot) => merge(slot, value),
                        None => {
                            base.insert(key, value);
                        }
                    },
                }
            }
        }
        (base, over) => *base = over,
    }
}

/// How the entries of a list are told apart, and whether one that is there is completed or replaced.
struct Keyed {
    keys: &'static [&'static str],
    completes: bool,
}

fn keyed(list: &str) -> Option<Keyed> {
    let (keys, completes): (&[&str], bool) = match list {
        "containers" | "initContainers" => (&["name"], true),
        "ports" => (&["containerPort", "protocol"], true),
        // What these have in them excludes each other: two sources of a volume, or of a variable's value, are refused.
        "env" | "volumes" | "imagePullSecrets" | "resourceClaims" | "claims" | "schedulingGates" => (&["name"], false),
        "volumeMounts" => (&["mountPath"], false),
        "volumeDevices" => (&["devicePath"], false),
        "hostAliases" => (&["ip"], false),
        "topologySpreadConstraints" => (&["topologyKey", "whenUnsatisfiable"], false),
        _ => return None,
    };
    Some(Keyed { keys, completes })
}

/// Whether the items of a list have keys, by the name that it has in a pod template.
pub(in crate::controller) fn has_keys(list: &str) -> bool {
    keyed(list).is_some()
}

fn merge_list(slot: &mut Value, entries: Vec<Value>, Keyed { keys, completes }: Keyed) {
    let Some(list) = slot.as_array_mut() else {
        *slot = Value::Array(entries);
        return;
    };
    for mut entry in entries {
        if let Some(port) = entry.as_object_mut().filter(|_| keys.contains(&"protocol")) {
            // A key of the list, so it has to be there; the API server's default.
            port.entry("protocol").or_insert_with(|| json!("TCP"));
        }
        let same = |known: &&mut Value| keys.iter().all(|key| known.get(key) == entry.get(key));
        match list.iter_mut().find(same) {
            Some(known) if completes => merge(known, entry),
            Some(known) => *known = entry,
            None => {
                // Through a merge, so that the lists in it are without doubles too.
                let mut new = json!({});
                merge(&mut new, entry);
                list.push(new);
            }
        }
    }
}

/// The container of this name in a pod's spec.
pub(super) fn container<'t>(template: &'t mut Value, name: &str) -> Option<&'t mut Map<String, Value>> {
    let containers = template.pointer_mut("/spec/containers")?.as_array_mut()?;
    let named = |container: &&mut Value| container.get("name").and_then(Value::as_str) == Some(name);
    containers.iter_mut().find(named)?.as_object_mut()
}

/// The security settings that Kubernetes calls restricted, for a pod whose processes run as `user`.
pub(super) fn restricted(user: u32) -> (Value, Value) {
    let pod = json!({
        "runAsNonRoot": true, "runAsUser": user, "runAsGroup": user, "fsGroup": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    let container = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
    });
    (pod, container)
}

/// The references of `imagePullSecrets` in a custom resource.
pub(super) fn pull_secrets(fields: &Fields<'_>) -> Result<Vec<Value>, Refusal> {
    let mut secrets = json!([]);
    let given = fields.objects("imagePullSecrets")?;
    let given =
        given.iter().map(|entry| Ok(json!({"name": entry.required("name")?}))).collect::<Result<Vec<_>, _>>()?;
    if let Some(list) = keyed("imagePullSecrets") {
        merge_list(&mut secrets, given, list);
    }
    Ok(secrets.as_array().cloned().unwrap_or_default())
}

/// Metadata of a pod template, from a field that has only that.
pub(super) fn metadata_only(
    fields: &Fields<'_>,
    labels: &Labels,
    warnings: &mut Vec<Warning>,
) -> Result<UserTemplate, Refusal> {
    Ok(UserTemplate::of_metadata(metadata::Overrides::read(fields, labels, warnings)?))
}
