//! What Berth adds to a workload, and how to see it, and nothing else, in what is stored.

use berth_test_cluster::Result;
use serde_json::{Value, json};

use crate::context::Namespace;

pub(crate) const STAMP: &str = "toolhive.stacklok.dev/mcpserver-generation";
pub(crate) const PASSWORD: &str = "THV_SESSION_REDIS_PASSWORD";
pub(crate) const GENERATION: &str = "THV_MCPSERVER_GENERATION";
/// Berth's record of the env entries that it added.
pub(crate) const RECORD: &str = "berth.dev/injected-env";

/// The Deployment controller's annotation.
pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";

/// Annotations of a stored object that are neither its author's nor Berth's.
const OTHERS: [&str; 2] = ["kubectl.kubernetes.io/last-applied-configuration", REVISION];

/// What a workload is to carry beyond its manifest.
#[derive(Clone)]
pub(crate) struct Wiring {
    pub(crate) replicas: i64,
    pub(crate) grace_period_seconds: i64,
    pub(crate) stamp: Option<i64>,
    /// Entries at the end of the first container's env.
    pub(crate) env: Vec<Value>,
    pub(crate) record: Option<&'static str>,
}

impl Wiring {
    /// Fails unless `object` is what the API server makes of `manifest` where Berth has no say, plus this, and nothing
    /// else.
    pub(crate) fn assert_exact(&self, ns: &Namespace, manifest: &Value, object: &Value) -> Result<()> {
        let mut expected = ns.client.create_dry_run(&ns.name, &bystander(manifest, "untouched"))?;
        let spec = &mut expected["spec"];
        spec["replicas"] = json!(self.replicas);
        spec["template"]["spec"]["terminationGracePeriodSeconds"] = json!(self.grace_period_seconds);
        if let Some(stamp) = self.stamp {
            spec["template"]["metadata"]["annotations"] = json!({STAMP: stamp.to_string()});
        }
        let env = spec["template"]["spec"]["containers"][0]["env"].as_array_mut().expect("manifests here have an env");
        env.extend(self.env.iter().cloned());
        assert_same(&object["spec"], spec);

        let mut annotations = manifest["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
        if let Some(record) = self.record {
            annotations.insert(RECORD.to_owned(), json!(record));
        }
        assert_same(&own_annotations(object), &Value::Object(annotations));
        assert_same(&object["metadata"]["ownerReferences"], &manifest["metadata"]["ownerReferences"]);
        Ok(())
    }
}

/// Fails with the places where one differs from the other: whole objects are hard to read.
pub(crate) fn assert_same(found: &Value, expected: &Value) {
    let mut differences = Vec::new();
    compare("", found, expected, &mut differences);
    assert!(differences.is_empty(), "found, and expected:\n{}", differences.join("\n"));
}

fn compare(path: &str, found: &Value, expected: &Value, differences: &mut Vec<String>) {
    match (found, expected) {
        (Value::Object(one), Value::Object(other)) => {
            for key in one.keys().chain(other.keys().filter(|key| !one.contains_key(*key))) {
                compare(&format!("{path}/{key}"), &found[key], &expected[key], differences);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                compare(&format!("{path}/{index}"), one, other, differences);
            }
        }
        _ if found == expected => {}
        _ => differences.push(format!("{path}: {found}, and {expected}")),
    }
}

/// The same workload under another name, without what makes it Berth's business.
pub(crate) fn bystander(manifest: &Value, name: &str) -> Value {
    let mut bystander = manifest.clone();
    bystander["metadata"] = json!({"name": name, "annotations": {"example.com/a": "b"}});
    bystander
}

fn own_annotations(object: &Value) -> Value {
    let mut annotations = object["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    annotations.retain(|key, _| !OTHERS.contains(&key.as_str()));
    Value::Object(annotations)
}

/// All of an object that a write can change; the controllers write its status at any time.
pub(crate) fn without_status(object: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"]["annotations"] = own_annotations(&object);
    if let Some(managers) = object["metadata"]["managedFields"].as_array_mut() {
        managers.retain(|manager| manager["subresource"] != "status");
    }
    for (parent, field) in [("", "status"), ("/metadata", "resourceVersion")] {
        object.pointer_mut(parent).and_then(Value::as_object_mut).map(|parent| parent.remove(field));
    }
    object
}

/// The generation stamp of a workload's pod template.
pub(crate) fn stamp(workload: &Value) -> Option<&str> {
    workload["spec"]["template"]["metadata"]["annotations"][STAMP].as_str()
}

/// The env entries of a name in one container.
pub(crate) fn env_of(workload: &Value, container: usize, name: &str) -> Vec<Value> {
    let env = workload["spec"]["template"]["spec"]["containers"][container]["env"].as_array();
    env.into_iter().flatten().filter(|entry| entry["name"] == name).cloned().collect()
}

/// The entry that gives a container the Redis password.
pub(crate) fn password_env(secret: &str, key: &str) -> Value {
    json!({"name": PASSWORD, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
}

/// The entry that tells a pod its own stamp.
pub(crate) fn generation_env() -> Value {
    let path = format!("metadata.annotations['{STAMP}']");
    json!({"name": GENERATION, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}})
}
