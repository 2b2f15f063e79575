//! A `VirtualMCPServer`: what its pods are given.

use std::sync::Arc;

use berth_test_cluster::{Installation, wait_for};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::context::{Context, trial};
use crate::scene::{BOUND, Scene, redis};

const PASSWORD: &str = "THV_SESSION_REDIS_PASSWORD";

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        trial(ctx, "virtual_server::is_given_its_storage_and_no_more", storages),
        trial(ctx, "virtual_server::its_template_reaches_the_pods_and_displaces_no_password", template),
    ]
}

/// One that is Berth's.
pub(crate) fn virtual_server(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "toolhive.stacklok.dev/v1beta1", "kind": "VirtualMCPServer",
        "metadata": {"name": name, "annotations": {"berth.dev/class": "berth", "berth.dev/termination-grace-period-seconds": "1"}},
        "spec": spec,
    })
}

fn storages(scene: &Scene<'_>) -> Result<(), Failed> {
    let with = |more: Value| {
        let mut storage = redis();
        storage.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Some(storage)
    };
    let address = redis()["address"].clone();
    let cases = [
        ("nil", None, Value::Null),
        ("memory", Some(json!({"provider": "memory"})), Value::Null),
        ("redis", with(json!({})), json!({"provider": "redis", "address": address, "db": 0})),
        (
            "empty-prefix",
            with(json!({"db": 0, "keyPrefix": ""})),
            json!({"provider": "redis", "address": address, "db": 0}),
        ),
        (
            "all",
            with(json!({"db": 3, "keyPrefix": "v:"})),
            json!({"provider": "redis", "address": address, "db": 3, "keyPrefix": "v:"}),
        ),
    ];
    for (name, storage, _) in &cases {
        let mut object = virtual_server(name, &json!({"config": {"groupRef": "tools", "backends": ["b", "a"]}}));
        if let Some(storage) = storage {
            object["spec"]["sessionStorage"] = storage.clone();
        }
        scene.apply(&object)?;
    }
    for (name, _, expected) in &cases {
        let deployment = format!("deployment/{name}");
        wait_for(&format!("{deployment} available"), BOUND, || {
            let all = scene.list("deployments")?;
            let found = all.iter().find(|one| one["metadata"]["name"] == *name);
            Ok(found.is_some_and(|found| found["status"]["availableReplicas"] == 1).then_some(()))
        })?;
        let container = scene.get(&deployment)?["spec"]["template"]["spec"]["containers"][0].clone();
        assert_eq!(container["name"], "vmcp");
        let mut whole = json!({"groupRef": "tools", "backends": ["b", "a"]});
        if !expected.is_null() {
            whole["sessionStorage"] = expected.clone();
        }
        // What the container says that it was given, which gets into its log a moment later, the end of it last.
        let mut log = String::new();
        wait_for(&format!("{whole} in the log of {name}"), BOUND, || {
            log = scene.kubectl.run(&["logs", &deployment])?.ok()?;
            Ok((configuration(&log) == Some(whole.clone())).then_some(()))
        })
        .map_err(|error| format!("{error}: {log}"))?;
        assert!(log.contains("arguments: serve --config=/etc/vmcp-config/config.yaml"), "{log}");
        let service = scene.get(&format!("service/vmcp-{name}"))?;
        assert_eq!(service["spec"]["ports"][0]["port"], 4483);
        assert_eq!(scene.get(&format!("configmap/{name}-vmcp-config"))?["data"].as_object().unwrap().len(), 1);
    }
    Ok(())
}

/// The configuration in what a container has printed, after its arguments and its environment.
fn configuration(log: &str) -> Option<Value> {
    let start = log.lines().take_while(|line| !line.starts_with("backends:") && !line.starts_with("groupRef:")).count();
    let config: String = log.lines().skip(start).map(|line| format!("{line}\n")).collect();
    serde_saphyr::from_str(&config).ok()
}

/// What is laid over its pods, and where the password is then.
fn template(scene: &Scene<'_>) -> Result<(), Failed> {
    let literal = format!("--from-literal=password={}", Installation::PASSWORD);
    scene.kubectl.run(&["create", "secret", "generic", "store", &literal])?.ok()?;
    let storage = json!({
        "provider": "redis", "address": Installation::LOCKED_REDIS, "passwordRef": {"name": "store", "key": "password"},
    });
    scene.apply(&virtual_server(
        "foo",
        &json!({
            "config": {"groupRef": "tools"}, "sessionStorage": storage,
            "podTemplateSpec": {
                "metadata": {"annotations": {"team": "a"}, "labels": {"tier": "front", "app": "displaced"}},
                "spec": {
                    "terminationGracePeriodSeconds": 99,
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                    "volumes": [{"name": "scratch", "emptyDir": {}}],
                    "containers": [{
                        "name": "vmcp",
                        "env": [{"name": "MORE", "value": "yes"}, {"name": PASSWORD, "value": "in-plain-text"}],
                        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
                    }],
                },
            },
        }),
    ))?;
    let name = scene.wait_for_pods("ReplicaSet", 1)?.into_keys().next().unwrap();
    let pod = scene.get(&format!("pod/{name}"))?;
    let metadata = &pod["metadata"];
    assert_eq!((&metadata["annotations"]["team"], &metadata["labels"]["tier"]), (&json!("a"), &json!("front")));
    assert_ne!(metadata["labels"]["app"], "displaced");
    assert_eq!(pod["spec"]["nodeSelector"], json!({"kubernetes.io/os": "linux"}));
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 1, "what the annotation says");
    let mounts = pod["spec"]["containers"][0]["volumeMounts"].to_string();
    assert!(mounts.contains("/scratch") && mounts.contains("/etc/vmcp-config"), "{mounts}");

    // What the container says that it was given, its configuration last: the Secret's content, once.
    scene.wait_for_line(&name, "groupRef:")?;
    let log = scene.kubectl.run(&["logs", &name])?.ok()?;
    let given: Vec<_> = log.lines().filter_map(|line| line.strip_prefix(&format!("{PASSWORD}="))).collect();
    assert_eq!(given, [Installation::PASSWORD], "{log}");
    assert!(log.lines().any(|line| line == "MORE=yes"), "{log}");
    let objects = scene.kubectl.run(&["get", "deployments,replicasets,pods,configmaps,events", "-o", "json"])?.ok()?;
    assert!(!objects.contains(Installation::PASSWORD) && !objects.contains("in-plain-text"), "{objects}");
    let config = scene.get("configmap/foo-vmcp-config")?["data"].to_string();
    assert!(config.contains(Installation::LOCKED_REDIS) && !config.contains("password"), "{config}");
    for field in ["terminationGracePeriodSeconds", "metadata.labels[app]", "env[THV_SESSION_REDIS_PASSWORD]"] {
        wait_for(&format!("a warning that names {field}"), BOUND, || {
            let events = scene.list("events")?;
            let told = events.iter().filter(|event| event["involvedObject"]["kind"] == "VirtualMCPServer");
            Ok(told.map(|event| event["message"].to_string()).any(|told| told.contains(field)).then_some(()))
        })?;
    }
    Ok(())
}
