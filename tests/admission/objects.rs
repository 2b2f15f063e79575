//! Manifests, as short as the API server takes them.

use berth_test_cluster::Result;
use serde_json::{Value, json};

use crate::context::Namespace;

/// Both kinds of workload.
pub(crate) const WORKLOADS: [&str; 2] = ["Deployment", "StatefulSet"];
/// Both kinds of custom resource.
pub(crate) const RESOURCES: [&str; 2] = ["MCPServer", "VirtualMCPServer"];
/// The versions of both.
pub(crate) const VERSIONS: [&str; 2] = ["v1beta1", "v1alpha1"];

/// A Deployment or StatefulSet with one container, `app`, that nobody but its author has to do with.
pub(crate) fn workload(kind: &str, name: &str) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind,
        "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "app", "image": "example"}]},
            },
        },
    });
    if kind == "StatefulSet" {
        object["spec"]["serviceName"] = json!(format!("mcp-{name}-headless"));
    }
    object
}

/// The same, opted in, with annotations of Berth's (`replicas` for `berth.dev/replicas`).
pub(crate) fn opted_in(kind: &str, name: &str, annotations: &[(&str, &str)]) -> Value {
    let mut object = workload(kind, name);
    object["metadata"]["annotations"] = json!({"berth.dev/inject": "enabled"});
    annotate(&mut object, annotations);
    object
}

/// The same, its sessions in Redis.
pub(crate) fn in_redis(kind: &str, name: &str, annotations: &[(&str, &str)]) -> Value {
    let mut object = opted_in(kind, name, &[("session-provider", "redis"), ("session-address", "redis.example:6379")]);
    annotate(&mut object, annotations);
    object
}

fn annotate(object: &mut Value, annotations: &[(&str, &str)]) {
    for (key, value) in annotations {
        object["metadata"]["annotations"][format!("berth.dev/{key}")] = json!(value);
    }
}

/// The object with another count.
pub(crate) fn replicas(mut object: Value, count: i64) -> Value {
    object["spec"]["replicas"] = json!(count);
    object
}

/// The object without a count, which is left to the policy.
pub(crate) fn uncounted(mut object: Value) -> Value {
    object["spec"].as_object_mut().expect("it has a spec").remove("replicas");
    object
}

/// An `MCPServer` (over streamable HTTP) or a `VirtualMCPServer` with these fields of its spec too.
pub(crate) fn resource(kind: &str, version: &str, name: &str, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": format!("toolhive.stacklok.dev/{version}"), "kind": kind,
        "metadata": {"name": name}, "spec": {},
    });
    if kind == "MCPServer" {
        object["spec"] = json!({"image": "example", "transport": "streamable-http"});
    }
    for (field, value) in spec.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    object
}

/// Session storage in Redis, for a resource's spec.
pub(crate) fn redis() -> Value {
    json!({"provider": "redis", "address": "redis.example:6379"})
}

/// The name of a resource for kubectl: that of its kind at its version.
pub(crate) fn resource_path(kind: &str, version: &str, name: &str) -> String {
    format!("{kind}.{version}.toolhive.stacklok.dev/{name}")
}

/// A workload of the same name that the stored resource controls, in the container that its kind implies.
pub(crate) fn owned(ns: &Namespace, resource: &str, kind: &str) -> Result<Value> {
    let owner = stored(ns, resource)?;
    let name = owner["metadata"]["name"].as_str().unwrap_or_default();
    let mut object = workload(kind, name);
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": name, "uid": owner["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true,
    }]);
    let container = if owner["kind"] == "MCPServer" { "toolhive" } else { "vmcp" };
    object["spec"]["template"]["spec"]["containers"][0]["name"] = json!(container);
    Ok(object)
}

/// An autoscaler of autoscaling/v2.
pub(crate) fn autoscaler(name: &str, target: &Value, max: i64) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {
            "maxReplicas": max,
            "scaleTargetRef": {
                "apiVersion": target["apiVersion"], "kind": target["kind"], "name": target["metadata"]["name"],
            },
        },
    })
}

/// Creates an object that a trial begins with. Where kubectl is not what is tried, this is ten times as fast.
pub(crate) fn put(ns: &Namespace, object: &Value) -> Result<()> {
    ns.client.create(&ns.name, object).map(drop)
}

/// An object as it is stored; `what` as kubectl takes it, a resource's version and group or not.
pub(crate) fn stored(ns: &Namespace, what: &str) -> Result<Value> {
    let (kind, name) = what.split_once('/').unwrap_or((what, ""));
    match kind.split('.').next() {
        Some("hpa") => ns.stored(&format!("HorizontalPodAutoscaler/{name}")),
        short => ns.stored(&format!("{}/{name}", short.unwrap_or(kind))),
    }
}
