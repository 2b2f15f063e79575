//! The store's password: where it is needed, and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use berth_test_cluster::{Installation, wait_for};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::context::{Context, trial};
use crate::scene::{BOUND, Scene, server};

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        trial(ctx, "password::is_where_it_is_needed_and_nowhere_else", only_where_needed),
        trial(ctx, "password::a_wrong_one_shows", wrong),
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

fn wrong(scene: &Scene<'_>) -> Result<(), Failed> {
    secret(scene, "close-sesame")?;
    scene.apply(&server("foo", &json!({"sessionStorage": locked_redis()})))?;
    let mut log = String::new();
    wait_for("a log that says what is wrong", BOUND, || {
        let pods = scene.pods("ReplicaSet")?;
        let Some(pod) = pods.keys().next() else { return Ok(None) };
        log = scene.kubectl.run(&["logs", pod])?.stdout;
        let said = log.to_lowercase();
        Ok((said.contains("password") || said.contains("wrongpass")).then_some(()))
    })?;
    assert!(!log.contains("close-sesame"), "{log}");
    // It stays so.
    std::thread::sleep(Duration::from_secs(3));
    let pods = scene.pods("ReplicaSet")?;
    assert!(pods.values().all(|pod| !pod.ready && pod.restarts == 0), "{pods:?}");
    assert_ne!(scene.get("mcpserver/foo")?["status"]["phase"], "Ready");
    Ok(())
}
