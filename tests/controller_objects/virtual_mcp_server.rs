//! A VirtualMCPServer's objects.

use berth::controller::objects::{Build, ObjectKind};
use serde_json::{Value, json};

use crate::plans::{built, container, deployment, env, find, virtual_mcp_server, warnings};

fn config(build: &Build) -> Value {
    let map = find(build, ObjectKind::ConfigMap, "foo-vmcp-config");
    serde_saphyr::from_str(map["data"]["config.yaml"].as_str().unwrap()).unwrap()
}

/// Everything that a plain VirtualMCPServer gives, letter for letter; see [`crate::mcp_server::a_plain_server`].
#[test]
fn a_plain_endpoint() {
    let build = built(&virtual_mcp_server(json!({
        "replicas": 2, "config": {"name": "foo", "groupRef": "g", "aggregation": {"conflictResolution": "prefix"}},
        "groupRef": {"name": "g"}, "incomingAuth": {"type": "anonymous"}, "sessionStorage": {
            "provider": "redis", "address": "redis:6379", "db": 0, "passwordRef": {"name": "s", "key": "k"}},
    })));
    let objects: Vec<&Value> = build.objects.iter().map(|object| &object.json).collect();
    let text = serde_json::to_string_pretty(&objects).unwrap() + "\n";
    assert!(text == include_str!("virtual_mcp_server.json"), "the objects are now\n{text}");
    assert_eq!(build.url, "http://vmcp-foo.team.svc.cluster.local:4483/mcp");
    assert_eq!(build.warnings, []);
}

#[test]
fn session_storage_is_written_for_redis_alone() {
    let storage = |storage: Value| {
        let build = built(&virtual_mcp_server(json!({"config": {"name": "x"}, "sessionStorage": storage})));
        config(&build).get("sessionStorage").cloned()
    };
    assert_eq!(storage(json!(null)), None);
    assert_eq!(storage(json!({"provider": "memory", "address": "redis:6379"})), None);
    let redis = |more: Value| {
        let mut all = json!({"provider": "redis", "address": "redis:6379"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        storage(all)
    };
    let written = |more: Value| {
        let mut all = json!({"provider": "redis", "address": "redis:6379", "db": 0});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Some(all)
    };
    assert_eq!(redis(json!({})), written(json!({})), "db is written even when it is 0");
    assert_eq!(redis(json!({"db": 0, "keyPrefix": ""})), written(json!({})), "an empty prefix is not written");
    assert_eq!(redis(json!({"db": 3, "keyPrefix": "p:"})), written(json!({"db": 3, "keyPrefix": "p:"})));
    let secret = json!({"passwordRef": {"name": "s", "key": "k"}});
    assert_eq!(redis(secret), written(json!({})), "no reference to a credential");
}

#[test]
fn the_configuration_is_handed_on_as_it_is() {
    let given = json!({
        "b": ["z", "a", {"k": [3, 1, 2]}], "a": {"y": null, "x": 1.5, "empty": {}, "none": []},
        "text": ["yes", "on", "null", "0x10", "1e3", "08", "", " x ", "a: b", "# no", "line\nbreak\n", "~", "2001-01-01", "1_000",
                 "é🦀", "\u{7}", "{}", "-", "? x", "|", "%TAG", "@x", "`x", "true", "12:30:45", ".5", "0o7", "<<"],
        "numbers": [0, -1, 9_007_199_254_740_993_i64, u64::MAX, 1e300, 0.1, -0.5], "on": true, "yes": false,
    });
    let build = built(&virtual_mcp_server(json!({"config": given.clone()})));
    assert_eq!(config(&build), given);
    // What the aggregator's YAML library, and older ones, would take for something else stands in quotes.
    let map = find(&build, ObjectKind::ConfigMap, "foo-vmcp-config");
    let text = map["data"]["config.yaml"].as_str().unwrap();
    for line in [
        "- \"yes\"",
        "- \"0x10\"",
        "- \"08\"",
        "- \"1_000\"",
        "- \"2001-01-01\"",
        "- \"0o7\"",
        "- \"<<\"",
        "\"on\": true",
    ] {
        assert!(text.lines().any(|known| known.trim() == line), "{line}\n{text}");
    }
}

#[test]
fn a_change_of_the_configuration_rolls_the_pods_and_a_count_does_not() {
    let template = |spec: Value| deployment(&virtual_mcp_server(spec))["spec"]["template"].clone();
    let storage = json!({"provider": "redis", "address": "redis:6379"});
    let one = template(json!({"config": {"a": 1}, "replicas": 1, "sessionStorage": storage}));
    assert_eq!(one, template(json!({"config": {"a": 1}, "replicas": 5, "sessionStorage": storage})));
    assert_ne!(one, template(json!({"config": {"a": 2}, "replicas": 1, "sessionStorage": storage})));
    assert_ne!(one, template(json!({"config": {"a": 1}, "replicas": 1})));
}

#[test]
fn a_pod_template_does_not_displace_the_password() {
    let cr = virtual_mcp_server(json!({
        "sessionStorage": {"provider": "redis", "address": "redis:6379", "passwordRef": {"name": "s", "key": "k"}},
        "podTemplateSpec": {"spec": {"containers": [{"name": "vmcp", "env": [
            {"name": "THV_SESSION_REDIS_PASSWORD", "value": "hunter2"}, {"name": "A", "value": "1"}]}]}},
    }));
    let workload = deployment(&cr);
    let vmcp = container(&workload, "vmcp");
    assert_eq!(env(vmcp, "A").unwrap()["value"], "1");
    let password = env(vmcp, "THV_SESSION_REDIS_PASSWORD").unwrap();
    assert_eq!(password["valueFrom"], json!({"secretKeyRef": {"name": "s", "key": "k"}}));
    assert!(!workload.to_string().contains("hunter2"));
    assert!(warnings(&cr)[0].contains("env[THV_SESSION_REDIS_PASSWORD] is not followed"), "{:?}", warnings(&cr));
}

#[test]
fn the_rest_of_the_fields_is_honoured() {
    let cr = virtual_mcp_server(json!({
        "serviceType": "NodePort", "sessionAffinity": "ClientIP", "serviceAccount": "sa", "imagePullSecrets": [{"name": "pull"}],
    }));
    let service = find(&built(&cr), ObjectKind::Service, "vmcp-foo")["spec"].clone();
    assert_eq!((&service["type"], &service["sessionAffinity"]), (&json!("NodePort"), &json!("ClientIP")));
    let workload = deployment(&cr);
    let pod = &workload["spec"]["template"]["spec"];
    assert_eq!((&pod["serviceAccountName"], &pod["imagePullSecrets"][0]["name"]), (&json!("sa"), &json!("pull")));
    assert_eq!(workload["spec"].get("replicas"), None);
}

#[test]
fn what_is_not_handed_on_is_told() {
    let cr =
        virtual_mcp_server(json!({"groupRef": {"name": "g"}, "config": {"sessionStorage": {"provider": "redis"}}}));
    let warnings = warnings(&cr).join("\n");
    assert!(warnings.contains("spec.config.sessionStorage is not followed"), "{warnings}");
    assert!(warnings.contains("spec.groupRef has no effect"), "{warnings}");
    assert_eq!(config(&built(&cr)), json!({}));
}
