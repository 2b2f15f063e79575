//! Which generation of its resource a proxy is of, while two of them run side by side.

use std::sync::Arc;
use std::time::Duration;

use berth_test_cluster::{MCP_SERVER_IMAGE, Result, wait_for};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::context::{Context, trial};
use crate::scene::{BOUND, PROXY_PORT, Pod, Scene, redis};

/// Longer than the trial.
const NEVER: Duration = Duration::from_secs(300);

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![trial(ctx, "generation::a_pod_that_restarts_in_the_middle_of_a_rollout_stays_of_its_own", restarted)]
}

/// The proxies whose pods carry this stamp.
fn proxies(scene: &Scene<'_>, generation: &str) -> Result<Vec<Pod>> {
    Ok(scene.pods("ReplicaSet")?.into_values().filter(|pod| pod.generation == generation).collect())
}

fn restarted(scene: &Scene<'_>) -> Result<(), Failed> {
    let pull_never = json!({"spec": {"containers": [{"name": "mcp", "imagePullPolicy": "Never"}]}});
    scene.start(
        "foo",
        &json!({"replicas": 2, "backendReplicas": 2, "sessionStorage": redis(), "podTemplateSpec": pull_never}),
    )?;
    // The pod that a rollout comes to last.
    let mut client = wait_for("a session on foo-0", BOUND, || {
        let mut client = scene.connect("foo")?;
        Ok((client.whoami()?.pod == "foo-0").then_some(client))
    })?;
    let old = proxies(scene, "1")?;
    assert_eq!(old.len(), 2, "{old:?}");

    // A rollout that stays in its middle, of the proxies and of the server: new pods take too long, or do not start.
    scene.patch("deployment/foo", &json!({"spec": {"minReadySeconds": NEVER.as_secs()}}))?;
    let image = format!("{MCP_SERVER_IMAGE}-that-is-not-there");
    scene.patch("mcpserver/foo", &json!({"spec": {"image": image}}))?;
    wait_for("a proxy of the next generation that is ready", BOUND, || {
        Ok(proxies(scene, "2")?.iter().any(|pod| pod.ready).then_some(()))
    })?;
    // The server's rollout, too: the pod that it came to first takes no sessions any more.
    wait_for("a pod of the next generation that does not start", BOUND, || {
        Ok(scene.pods("StatefulSet")?.get("foo-1").is_some_and(|pod| pod.generation == "2").then_some(()))
    })?;
    // The file that both have mounted is the next one's.
    for pod in &old {
        let line = scene.wait_for_line(&pod.name, "of a newer generation")?;
        assert!(line.contains("file=2") && line.contains("pod=1"), "{line}");
    }

    // One ends, in its pod, which starts it again.
    let Pod { name, uid, .. } = &old[0];
    let image =
        ["--image=berth-test/busybox:1", "--image-pull-policy=Never", "--target=toolhive", "--profile=restricted"];
    let kill = ["--quiet", "--", "/bin/sh", "-c", "kill 1"];
    scene.kubectl.run(&[&["debug", name], &image[..], &kill[..]].concat())?.ok()?;
    wait_for("a proxy that was started again in its pod", BOUND, || {
        let now = scene.pods("ReplicaSet")?;
        Ok(now.get(name).filter(|pod| pod.uid == *uid && pod.restarts == 1 && pod.ready).map(|_| ()))
    })?;
    let line = scene.wait_for_line(name, "overrides the generation")?;
    assert!(line.contains("file=2") && line.contains("pod=1"), "{line}");
    assert_eq!(proxies(scene, "1")?.len(), 2, "it is still one of the old ones");

    // It serves what there was, and what is new.
    let itself = scene.pod_port(name, PROXY_PORT)?;
    client.go_through(itself);
    let answer = client.whoami()?;
    assert_eq!(answer.pod, "foo-0");
    assert_eq!(client.whoami()?.calls, answer.calls + 1);
    let mut new = crate::client::Client::connect(itself)?;
    assert_eq!((new.whoami()?.calls, new.whoami()?.calls), (1, 2));

    // And it goes when the rollout goes on.
    scene.patch("deployment/foo", &json!({"spec": {"minReadySeconds": 0}}))?;
    let now = wait_for("proxies of the next generation alone", BOUND, || {
        let now = proxies(scene, "2")?;
        Ok((now.len() == 2 && proxies(scene, "1")?.is_empty() && now.iter().all(|pod| pod.ready)).then_some(now))
    })?;
    client.go_through(scene.pod_port(&now[0].name, PROXY_PORT)?);
    assert_eq!(client.whoami()?.calls, answer.calls + 2);
    assert_eq!(scene.get("deployment/foo")?["spec"]["minReadySeconds"], Value::Null);
    Ok(())
}
