//! What a resource asks of its pods reaches them; what it may not displace, it does not; what Berth does not do is not built.

use std::sync::Arc;

use berth_test_cluster::{Result, wait_for};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::context::{Context, trial};
use crate::scene::{BOUND, STAMP, Scene, redis, server};

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        trial(ctx, "fields::reach_the_pods_and_displace_nothing", reach_the_pods),
        trial(ctx, "fields::what_cannot_be_done_is_said_and_not_built", not_built),
    ]
}

/// A server that prints its environment, and a file of its node's.
fn teller(spec: Value) -> Value {
    let mut object = server("foo", &spec);
    object["spec"]["image"] = json!("berth-test/busybox:1");
    object["spec"]["args"] = json!(["-c", "env; cat /node/passwd; exec httpd -f -p 8080 -h /"]);
    object
}

fn warnings(scene: &Scene<'_>) -> Result<Vec<String>> {
    let events = scene.list("events")?.into_iter().filter(|event| event["type"] == "Warning");
    let of_resource = events.filter(|event| event["involvedObject"]["kind"] == "MCPServer");
    Ok(of_resource.map(|event| format!("{}: {}", event["reason"], event["message"])).collect())
}

fn reach_the_pods(scene: &Scene<'_>) -> Result<(), Failed> {
    scene.kubectl.run(&["create", "serviceaccount", "waiter"])?.ok()?;
    scene.kubectl.run(&["create", "secret", "generic", "keys", "--from-literal=key=from-a-secret"])?.ok()?;
    scene.apply(&teller(json!({
        "sessionStorage": redis(),
        "env": [{"name": "GREETING", "value": "hello"}],
        "secrets": [{"name": "keys", "key": "key", "targetEnvName": "API_KEY"}],
        "serviceAccount": "waiter",
        "volumes": [{"name": "users", "hostPath": "/etc/passwd", "mountPath": "/node/passwd", "readOnly": true}],
        "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "10m", "memory": "16Mi"}},
        "podTemplateSpec": {
            "metadata": {"annotations": {STAMP: "99", "team": "a"}},
            "spec": {
                "terminationGracePeriodSeconds": 99,
                "containers": [{"name": "mcp", "env": [{"name": "MORE", "value": "yes"}]}],
            },
        },
        "resourceOverrides": {
            "proxyDeployment": {
                "labels": {"tier": "front"},
                "podTemplateMetadataOverrides": {
                    "annotations": {"scrape": "yes", STAMP: "98"},
                    "labels": {"zone": "a", "app": "displaced"},
                },
                "env": [{"name": "RUST_LOG", "value": "info"}, {"name": "THV_SESSION_REDIS_PASSWORD", "value": "in-plain-text"}],
            },
            "proxyService": {"annotations": {"balancer": "inner"}, "labels": {"tier": "door", "app": "displaced"}},
        },
    })))?;
    scene.wait_for_pods("StatefulSet", 1)?;
    let front = scene.wait_for_pods("ReplicaSet", 1)?.into_keys().next().unwrap();

    // The last that it prints.
    scene.wait_for_line("foo-0", "root:")?;
    let environment = scene.kubectl.run(&["logs", "foo-0"])?.ok()?;
    for line in ["GREETING=hello", "API_KEY=from-a-secret", "MORE=yes", "MCP_PORT=8080"] {
        assert!(environment.lines().any(|given| given == line), "{line}: {environment}");
    }
    let pod = scene.get("pod/foo-0")?;
    assert_eq!(pod["spec"]["serviceAccountName"], "waiter");
    assert_eq!(pod["spec"]["containers"][0]["resources"]["limits"], json!({"cpu": "500m", "memory": "64Mi"}));
    assert_eq!(pod["metadata"]["annotations"]["team"], "a");
    assert!(environment.lines().any(|line| line.starts_with("root:")), "a file of the node's: {environment}");
    // Not theirs to say.
    assert_eq!(pod["metadata"]["annotations"][STAMP], "1");
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 6);
    assert_eq!(scene.get("deployment/foo")?["metadata"]["labels"]["tier"], "front");
    let front = scene.get(&format!("pod/{front}"))?;
    let (annotations, labels) = (&front["metadata"]["annotations"], &front["metadata"]["labels"]);
    assert_eq!((&annotations["scrape"], &annotations[STAMP]), (&json!("yes"), &json!("1")));
    assert_eq!((&labels["zone"], &labels["app"]), (&json!("a"), &json!("mcpserver")));
    let variables = front["spec"]["containers"][0]["env"].to_string();
    assert!(variables.contains("RUST_LOG") && !variables.contains("in-plain-text"), "{variables}");
    // The Service still leads to it.
    let service = scene.get("service/mcp-foo-proxy")?["metadata"].clone();
    assert_eq!((&service["annotations"]["balancer"], &service["labels"]["tier"]), (&json!("inner"), &json!("door")));
    assert_eq!(service["labels"]["app"], "mcpserver");
    scene.wait_for_service("mcp-foo-proxy")?;
    for field in [
        "terminationGracePeriodSeconds",
        "podTemplateSpec.metadata.annotations[toolhive.stacklok.dev/mcpserver-generation]",
        "podTemplateMetadataOverrides.annotations[toolhive.stacklok.dev/mcpserver-generation]",
        "podTemplateMetadataOverrides.labels[app]",
        "proxyService.labels[app]",
        "THV_SESSION_REDIS_PASSWORD",
    ] {
        wait_for(&format!("a warning that names {field}"), BOUND, || {
            Ok(warnings(scene)?.iter().any(|warning| warning.contains(field)).then_some(()))
        })
        .map_err(|error| format!("{error}: {:?}", warnings(scene)))?;
    }
    Ok(())
}

fn not_built(scene: &Scene<'_>) -> Result<(), Failed> {
    // Somebody else's, of a name that a server's object would have.
    scene.kubectl.run(&["create", "configmap", "taken-runconfig", "--from-literal=mine=yes"])?.ok()?;
    scene.apply(&server("stdio", &json!({"transport": "stdio"})))?;
    scene.apply(&server("guarded", &json!({"oidcConfig": {"type": "kubernetes"}})))?;
    scene.apply(&server("taken", &json!({})))?;
    scene.start("fine", &json!({}))?;
    for (name, word) in [("stdio", "TransportUnsupported"), ("guarded", "oidcConfig"), ("taken", "taken-runconfig")] {
        let what = format!("mcpserver/{name}");
        wait_for(&format!("a condition of {name} that says {word}"), BOUND, || {
            let status = scene.get(&what)?["status"].clone();
            Ok((status["phase"] != "Ready" && status["conditions"].to_string().contains(word)).then_some(()))
        })
        .map_err(|error| format!("{error}: {}", scene.get(&what).unwrap_or_default()["status"]))?;
    }
    let workloads = scene.list("deployments")?.iter().map(|one| one["metadata"]["name"].clone()).collect::<Vec<_>>();
    assert!(!workloads.contains(&json!("stdio")) && !workloads.contains(&json!("guarded")), "{workloads:?}");
    assert_eq!(scene.get("configmap/taken-runconfig")?["data"], json!({"mine": "yes"}));
    // The others are not held up, and the controller has not ended over it.
    let system = scene.kubectl.in_namespace("berth-system");
    let restarts =
        system.run(&["get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[*].restartCount}"])?.ok()?;
    assert!(restarts.split(' ').all(|count| count == "0"), "{restarts}");
    Ok(())
}
