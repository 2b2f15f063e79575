//! What the controller builds, applied to a real API server as the controller does: every field is known there, none is
//! changed on the way, and a second apply writes nothing.

use std::sync::Arc;

use berth::controller::objects::{Facts, Plan, Settings, plan};
use berth::policy::CrKind;
use berth_test_cluster::Result;
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::context::{Context, Namespace, trial};

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        trial(ctx, "built::an_apply_is_taken_as_it_is_and_a_second_writes_nothing", resources_are_built),
        trial(ctx, "built::a_plain_pod_template_is_taken", pod_templates_are_taken),
    ]
}

/// The objects of a custom resource that is stored, in the order in which they are applied.
pub(crate) fn objects_of(ns: &Namespace, kind: CrKind, name: &str) -> Result<Vec<Value>> {
    let cr = ns.kubectl.get_json(&format!("{}/{name}", kind.plural()))?;
    let settings = Settings {
        proxy_image: "berth-proxy:test".into(),
        vmcp_image: "vmcp:test".into(),
        image_pull_policy: Some("IfNotPresent".into()),
        cluster_domain: "cluster.local".into(),
        default_storage: None,
    };
    let stamp = cr["metadata"]["generation"].as_i64().unwrap();
    match plan(&cr, kind, &settings, &Facts { stamp, ..Facts::default() }) {
        Plan::Build(build) => Ok(build.objects.into_iter().map(|object| object.json).collect()),
        Plan::Nothing { reason, message, .. } => panic!("{reason}: {message}"),
    }
}

/// Applies as the controller does; the stored object.
pub(crate) fn apply(ns: &Namespace, object: &Value) -> Result<Value> {
    let arguments =
        ["apply", "--server-side", "--field-manager=berth", "-o", "json", "--show-managed-fields", "-f", "-"];
    let output = ns.kubectl.run_with_stdin(&arguments, &object.to_string())?;
    assert_eq!(output.stderr, "", "{object}");
    Ok(serde_json::from_str(&output.ok()?).expect("kubectl prints JSON"))
}

fn build(ns: &Namespace, kind: CrKind, name: &str, spec: Value) -> Result<()> {
    let cr = json!({"apiVersion": "toolhive.stacklok.dev/v1beta1", "kind": kind.as_str(), "metadata": {"name": name}, "spec": spec});
    ns.kubectl.apply_yaml(&cr.to_string())?.ok()?;
    for object in objects_of(ns, kind, name)? {
        let first = apply(ns, &object)?;
        let changed = differs("", &object, &first);
        assert_eq!(changed, None, "{object}");
        let second = apply(ns, &object)?;
        // Not the resourceVersion, which the workloads' own controllers move by their statuses.
        assert_eq!(written(&first), written(&second), "{object}");
    }
    Ok(())
}

/// What a write of ours would move: when it was, and the count of the spec's changes.
fn written(object: &Value) -> (Value, Value) {
    let fields = object["metadata"]["managedFields"].as_array().expect("the API server keeps who owns which field");
    let own = fields.iter().find(|entry| entry["manager"] == "berth" && entry["operation"] == "Apply");
    (own.expect("it was applied").clone(), object["metadata"]["generation"].clone())
}

/// The first field that is stored otherwise than it was written. The API server may add, and leave out what is empty.
fn differs(path: &str, written: &Value, stored: &Value) -> Option<String> {
    match (written, stored) {
        (Value::Object(written), Value::Object(stored)) => written.iter().find_map(|(key, value)| {
            let empty = *value == json!(false) || *value == "";
            let stored = stored.get(key).unwrap_or(&Value::Null);
            if empty && stored.is_null() { None } else { differs(&format!("{path}.{key}"), value, stored) }
        }),
        (Value::Array(written), Value::Array(stored)) if written.len() == stored.len() => {
            written.iter().zip(stored).find_map(|(written, stored)| differs(path, written, stored))
        }
        _ => (written != stored).then(|| format!("{path}: {written} is stored as {stored}")),
    }
}

fn redis() -> Value {
    json!({"provider": "redis", "address": "redis:6379", "db": 3, "keyPrefix": "p:", "passwordRef": {"name": "s", "key": "k"}})
}

fn resources_are_built(_: &Context, ns: &Namespace) -> std::result::Result<(), Failed> {
    let server = |more: Value| {
        let mut spec = json!({"image": "server:1", "transport": "streamable-http"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    build(ns, CrKind::McpServer, "plain", server(json!({})))?;
    build(ns, CrKind::McpServer, "stopped", server(json!({"replicas": 0, "backendReplicas": 0})))?;
    build(ns, CrKind::McpServer, "a.dotted.name", server(json!({})))?;
    build(ns, CrKind::McpServer, &"long".repeat(50), server(json!({"proxyPort": 80, "sessionAffinity": "ClientIP"})))?;
    build(
        ns,
        CrKind::McpServer,
        "full",
        server(json!({
            "transport": "sse", "proxyPort": 9090, "mcpPort": 3000, "replicas": 3, "backendReplicas": 2, "args": ["--x"],
            "env": [{"name": "A", "value": "b"}], "secrets": [{"name": "s", "key": "k", "targetEnvName": "TOKEN"}],
            "volumes": [{"name": "data", "hostPath": "/srv", "mountPath": "/data", "readOnly": true}],
            "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}}, "sessionStorage": redis(),
            "resourceOverrides": {
                "proxyDeployment": {"annotations": {"a": "1"}, "labels": {"b": "2"}, "env": [{"name": "RUST_LOG", "value": "debug"}],
                                    "podTemplateMetadataOverrides": {"labels": {"c": "3"}}, "imagePullSecrets": [{"name": "pull"}]},
                "proxyService": {"annotations": {"d": "4"}}},
        })),
    )?;
    build(ns, CrKind::VirtualMcpServer, "empty", json!({}))?;
    let endpoint = json!({
        "replicas": 2, "config": {"name": "v", "list": [3, 1, 2]}, "sessionStorage": redis(), "serviceType": "NodePort",
        "sessionAffinity": "ClientIP", "imagePullSecrets": [{"name": "pull"}],
        "podTemplateSpec": {"spec": {"nodeSelector": {"a": "b"}}},
    });
    build(ns, CrKind::VirtualMcpServer, "endpoint", endpoint)?;
    Ok(())
}

/// One of each list that is merged by a key, doubled, since the API server refuses doubles.
fn pod_templates_are_taken(_: &Context, ns: &Namespace) -> std::result::Result<(), Failed> {
    let container = json!({
        "name": "mcp", "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
        "ports": [{"containerPort": 9000}, {"containerPort": 9000, "protocol": "UDP"}, {"containerPort": 9000, "name": "more"}],
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "tmp", "mountPath": "/tmp"}],
        "readinessProbe": {"httpGet": {"path": "/ok", "port": 9000}},
        "securityContext": {"readOnlyRootFilesystem": true},
    });
    let sidecar = json!({"name": "sidecar", "image": "sidecar:1", "env": [{"name": "B", "value": "1"}, {"name": "B", "value": "2"}]});
    let spec = json!({
        "containers": [container, sidecar], "initContainers": [{"name": "init", "image": "init:1"}],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}, {"name": "tmp", "emptyDir": {"sizeLimit": "2Gi"}}],
        "imagePullSecrets": [{"name": "a"}, {"name": "a"}], "tolerations": [{"key": "x", "operator": "Exists"}],
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}, {"ip": "10.0.0.1", "hostnames": ["b"]}],
        "topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"},
                                      {"topologyKey": "zone", "maxSkew": 2, "whenUnsatisfiable": "ScheduleAnyway",
                                       "labelSelector": {"matchLabels": {"team": "x"}}}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]}}},
    });
    let template = json!({"metadata": {"labels": {"team": "x"}, "annotations": {"note": "y"}}, "spec": spec});
    let server = json!({"image": "server:1", "transport": "sse", "podTemplateSpec": template});
    build(ns, CrKind::McpServer, "template", server)?;
    Ok(())
}
