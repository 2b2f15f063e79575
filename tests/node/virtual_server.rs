//! A `VirtualMCPServer`: what its pods are given.

use std::sync::Arc;

use berth_test_cluster::wait_for;
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::context::{Context, trial};
use crate::scene::{BOUND, Scene, redis};

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![trial(ctx, "virtual_server::is_given_its_storage_and_no_more", storages)]
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
        let mut object = json!({
            "apiVersion": "toolhive.stacklok.dev/v1beta1", "kind": "VirtualMCPServer",
            "metadata": {"name": name, "annotations": {"berth.dev/class": "berth", "berth.dev/termination-grace-period-seconds": "1"}},
            "spec": {"config": {"groupRef": "tools", "backends": ["b", "a"]}},
        });
        if let Some(storage) = storage {
            object["spec"]["sessionStorage"] = storage.clone();
        }
        scene.apply(&object)?;
    }
    for (name, _, expected) in &cases {
        let deployment = format!("deployment/{name}");
        wait_for(&format!("{deployment} available"), BOUND, || {
            let found = scene.kubectl.run(&["get", &deployment, "-o", "jsonpath={.status.availableReplicas}"])?;
            Ok((found.stdout == "1").then_some(()))
        })?;
        let container = scene.get(&deployment)?["spec"]["template"]["spec"]["containers"][0].clone();
        assert_eq!(container["name"], "vmcp");
        // What the container says that it was given.
        let log = scene.kubectl.run(&["logs", &deployment])?.ok()?;
        assert!(log.contains("arguments: serve --config=/etc/vmcp-config/config.yaml"), "{log}");
        let start =
            log.lines().take_while(|line| !line.starts_with("backends:") && !line.starts_with("groupRef:")).count();
        let config: String = log.lines().skip(start).map(|line| format!("{line}\n")).collect();
        let config: Value = serde_saphyr::from_str(&config).map_err(|error| format!("{error}: {log}"))?;
        let mut whole = json!({"groupRef": "tools", "backends": ["b", "a"]});
        if !expected.is_null() {
            whole["sessionStorage"] = expected.clone();
        }
        assert_eq!(config, whole, "{name}");
        let service = scene.get(&format!("service/vmcp-{name}"))?;
        assert_eq!(service["spec"]["ports"][0]["port"], 4483);
        assert_eq!(scene.get(&format!("configmap/{name}-vmcp-config"))?["data"].as_object().unwrap().len(), 1);
    }
    Ok(())
}
