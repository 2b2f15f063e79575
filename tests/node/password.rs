//! The store's password: where it is needed, and nowhere else.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use berth_test_cluster::{Error, Installation, http_get, wait_for};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::context::{Context, trial};
use crate::scene::{ADMIN_PORT, BOUND, Scene, server};

const WRONG: &str = "close-sesame";

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        trial(ctx, "password::is_where_it_is_needed_and_nowhere_else", only_where_needed),
        trial(ctx, "password::a_wrong_one_shows_and_is_mended", wrong),
    ]
}

fn locked_redis() -> Value {
    json!({"provider": "redis", "address": Installation::LOCKED_REDIS, "passwordRef": {"name": "store", "key": "password"}})
}

fn secret(scene: &Scene<'_>, password: &str) -> Result<(), Failed> {
    scene
        .kubectl
        .run(&["create", "secret", "generic", "store", &format!("--from-literal=password={password}")])?
        .ok()?;
    Ok(())
}

fn only_where_needed(scene: &Scene<'_>) -> Result<(), Failed> {
    secret(scene, Installation::PASSWORD)?;
    scene.start("foo", &json!({"replicas": 2, "backendReplicas": 2, "sessionStorage": locked_redis()}))?;
    let mut client = scene.connect("foo")?;
    let first = client.whoami()?;

    let before = scene.pods("ReplicaSet")?;
    let names: Vec<_> = before.keys().map(String::as_str).collect();
    scene.kubectl.run(&[&["delete", "pod"], &names[..]].concat())?.ok()?;
    let after = scene.wait_for_pods("ReplicaSet", 2)?;
    assert!(after.keys().all(|name| !before.contains_key(name)));
    scene.wait_for_service("mcp-foo-proxy")?;
    let answer = client.whoami()?;
    assert_eq!((answer.pod, answer.calls), (first.pod, 2), "the session goes on in the store");

    // By reference in the pod's environment, and as text nowhere that the API server or a log has.
    let entry = json!({"name": "THV_SESSION_REDIS_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "store", "key": "password"}}});
    let environment = scene.get("deployment/foo")?["spec"]["template"]["spec"]["containers"][0]["env"].clone();
    assert!(environment.as_array().is_some_and(|entries| entries.contains(&entry)), "{environment}");
    let kinds = "configmaps,deployments,statefulsets,replicasets,pods,services,events,mcpservers,controllerrevisions";
    let mut texts =
        vec![("objects".to_owned(), scene.kubectl.run(&["get", kinds, "-o", "json", "--show-managed-fields"])?.ok()?)];
    for pod in after.keys().chain(scene.pods("StatefulSet")?.keys()) {
        texts.push((pod.clone(), scene.kubectl.run(&["logs", pod])?.ok()?));
    }
    let system = scene.kubectl.in_namespace("berth-system");
    texts.push((
        "berth".to_owned(),
        system.run(&["logs", "--selector=app.kubernetes.io/name=berth", "--tail=-1"])?.ok()?,
    ));
    texts.push(("events of berth".to_owned(), system.run(&["get", "events", "-o", "json"])?.ok()?));
    for (whose, text) in texts {
        assert!(!text.contains(Installation::PASSWORD), "the password is in {whose}");
    }
    Ok(())
}

/// What somebody sees who has given a wrong password, from all sides; and how they mend it.
fn wrong(scene: &Scene<'_>) -> Result<(), Failed> {
    secret(scene, WRONG)?;
    scene.apply(&server("foo", &json!({"sessionStorage": locked_redis()})))?;
    // All the rest is well.
    scene.wait_for_pods("StatefulSet", 1)?;
    let pod = wait_for("a proxy that runs", BOUND, || {
        let pods =
            scene.list("pods")?.into_iter().filter(|pod| pod["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet");
        let running = pods.filter(|pod| !pod["status"]["containerStatuses"][0]["state"]["running"].is_null());
        Ok(running.map(|pod| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned()).next())
    })?;
    let admin = scene.pod_port(&pod, ADMIN_PORT)?;
    let said = wait_for("a proxy that says why it is not ready", BOUND, || {
        let answer = http_get(admin, "/readyz").ok();
        Ok(answer.filter(|answer| answer.body.contains("password")))
    })?;
    assert_eq!(said.status, 503, "{said:?}");
    let line = &scene.wait_for_line(&pod, "refuses the password")?;
    assert!(line.contains("WARN") && line.contains("session store"), "{line}");
    for (whose, text) in [("/readyz", said.body.as_str()), ("the log", line.as_str())] {
        // What is wrong, and where it is put right.
        let told =
            ["refuses the password", "THV_SESSION_REDIS_PASSWORD", "Secret"].iter().all(|word| text.contains(word));
        assert!(told && !text.contains(WRONG), "{whose}: {text}");
    }

    // It stays so, and is not restarted over it.
    thread::sleep(Duration::from_secs(3));
    let pods = scene.pods("ReplicaSet")?;
    assert_eq!(pods.len(), 1, "{pods:?}");
    assert!(pods.values().all(|pod| !pod.ready && pod.restarts == 0), "{pods:?}");
    let mut condition = Value::Null;
    wait_for("a condition that says where to look", BOUND, || {
        condition = ready(scene)?;
        let message = condition["message"].as_str().unwrap_or_default();
        let told = message.contains("no pod of the proxy is ready") && message.contains("kubectl logs deployment/foo");
        Ok(told.then_some(()))
    })
    .map_err(|error| format!("{error}: {condition}"))?;
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("NotReady")), "{condition}");
    assert_eq!(scene.get("mcpserver/foo")?["status"]["phase"], "Pending");
    assert!(scene.connect("foo").is_err(), "nobody is served by a proxy that cannot pin");

    // A container gets its variables when it starts.
    scene.patch("secret/store", &json!({"stringData": {"password": Installation::PASSWORD}}))?;
    scene.kubectl.run(&["rollout", "restart", "deployment", "foo"])?.ok()?;
    scene.wait_for_pods("ReplicaSet", 1)?;
    wait_for("a server that is ready", BOUND, || Ok((ready(scene)?["status"] == "True").then_some(())))?;
    scene.wait_for_service("mcp-foo-proxy")?;
    let mut client = scene.connect("foo")?;
    assert_eq!((client.whoami()?.calls, client.whoami()?.calls), (1, 2));
    Ok(())
}

fn ready(scene: &Scene<'_>) -> Result<Value, Error> {
    let conditions = scene.get("mcpserver/foo")?["status"]["conditions"].clone();
    let found = conditions.as_array().into_iter().flatten().find(|condition| condition["type"] == "Ready");
    Ok(found.cloned().unwrap_or_default())
}
