//! Scaling moves pods and nothing else; and who decides of a count decides alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_test_cluster::{Result, wait_for};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::context::{Context, trial};
use crate::scene::{BOUND, Pod, Scene, redis};

/// How soon a new pod is given sessions. The promise is 10 s; a machine under test is slower.
const NEW_SESSIONS: Duration = Duration::from_secs(30);

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        trial(ctx, "scaling::by_the_resource_restarts_nothing", by_the_resource),
        trial(ctx, "scaling::counts_that_nobody_named_are_an_autoscalers", counts_of_others),
    ]
}

/// The pods that were there before are the same, and none has been restarted.
fn assert_stayed(before: &BTreeMap<String, Pod>, after: &BTreeMap<String, Pod>) {
    for (name, pod) in before {
        if let Some(now) = after.get(name) {
            assert_eq!((&now.uid, now.restarts), (&pod.uid, pod.restarts), "{name} was restarted");
        }
    }
    let stayed = before.keys().filter(|name| after.contains_key(*name)).count();
    assert_eq!(stayed, before.len().min(after.len()), "{before:?} {after:?}");
}

/// What a change of a pod template would move.
fn templates(scene: &Scene<'_>, server: &str) -> Result<Value> {
    let (deployment, set) = (scene.get(&format!("deployment/{server}"))?, scene.get(&format!("statefulset/{server}"))?);
    let replica_sets = scene.list("replicasets")?.iter().map(|set| set["metadata"]["name"].clone()).collect::<Vec<_>>();
    Ok(json!({
        "front": deployment["spec"]["template"],
        "server": set["spec"]["template"],
        "replicaSets": replica_sets,
        "revision": set["status"]["updateRevision"],
    }))
}

/// Waits until a session is placed on this pod.
fn wait_for_session_on(scene: &Scene<'_>, server: &str, pod: &str) -> Result<()> {
    wait_for(&format!("a new session on {pod}"), NEW_SESSIONS, || {
        Ok((scene.connect(server)?.whoami()?.pod == pod).then_some(()))
    })
}

fn by_the_resource(scene: &Scene<'_>) -> Result<(), Failed> {
    scene.start("foo", &json!({"replicas": 2, "backendReplicas": 3, "sessionStorage": redis()}))?;
    let templates_before = templates(scene, "foo")?;
    let (fronts, servers) = (scene.pods("ReplicaSet")?, scene.pods("StatefulSet")?);
    let mut clients = (0..3).map(|_| scene.connect("foo")).collect::<Result<Vec<_>>>()?;
    let pods = clients.iter_mut().map(|client| Ok(client.whoami()?.pod)).collect::<Result<Vec<_>>>()?;

    scene.patch("mcpserver/foo", &json!({"spec": {"replicas": 4, "backendReplicas": 5}}))?;
    let more = scene.wait_for_pods("ReplicaSet", 4)?;
    assert_stayed(&fronts, &more);
    assert_stayed(&servers, &scene.wait_for_pods("StatefulSet", 5)?);
    for pod in ["foo-3", "foo-4"] {
        wait_for_session_on(scene, "foo", pod)?;
    }

    scene.patch("mcpserver/foo", &json!({"spec": {"replicas": 2}}))?;
    assert_stayed(&more, &scene.wait_for_pods("ReplicaSet", 2)?);
    assert_eq!(templates(scene, "foo")?, templates_before);
    for (client, pod) in clients.iter_mut().zip(&pods) {
        let answer = client.whoami()?;
        assert_eq!((&answer.pod, answer.calls), (pod, 2), "a session goes on");
    }

    // A count of nothing stops the server, and says so.
    scene.patch("mcpserver/foo", &json!({"spec": {"replicas": 0, "backendReplicas": 0}}))?;
    scene.wait_for_pods("ReplicaSet", 0)?;
    scene.wait_for_pods("StatefulSet", 0)?;
    scene.wait_for_value("mcpserver/foo", "/status/readyReplicas", &json!(0))?;
    wait_for("a status that says that it is stopped", BOUND, || {
        let phase = scene.get("mcpserver/foo")?["status"]["phase"].clone();
        Ok((phase == "Stopped").then_some(()))
    })?;
    Ok(())
}

fn counts_of_others(scene: &Scene<'_>) -> Result<(), Failed> {
    scene.start("foo", &json!({"sessionStorage": redis()}))?;
    let templates_before = templates(scene, "foo")?;
    let (fronts, servers) = (scene.pods("ReplicaSet")?, scene.pods("StatefulSet")?);
    let mut client = scene.connect("foo")?;
    let pod = client.whoami()?.pod;

    // By hand.
    scene.kubectl.run(&["scale", "deployment/foo", "--replicas=2"])?.ok()?;
    scene.kubectl.run(&["scale", "statefulset/foo", "--replicas=2"])?.ok()?;
    assert_stayed(&fronts, &scene.wait_for_pods("ReplicaSet", 2)?);
    assert_stayed(&servers, &scene.wait_for_pods("StatefulSet", 2)?);

    // By an autoscaler, which keeps to its bounds without any metrics.
    let autoscaler = |least: u32, most: u32| {
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "foo"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "foo"},
                "minReplicas": least, "maxReplicas": most,
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}],
            },
        })
    };
    scene.apply(&autoscaler(3, 5))?;
    assert_stayed(&fronts, &scene.wait_for_pods("ReplicaSet", 3)?);
    scene.apply(&autoscaler(1, 2))?;
    scene.wait_for_pods("ReplicaSet", 2)?;
    scene.kubectl.run(&["delete", "hpa", "foo"])?.ok()?;

    // nil to n sets it; n to nil leaves what is live.
    scene.patch("mcpserver/foo", &json!({"spec": {"replicas": 3}}))?;
    scene.wait_for_pods("ReplicaSet", 3)?;
    scene.patch("mcpserver/foo", &json!({"spec": {"replicas": null}}))?;
    let generation = scene.get("mcpserver/foo")?["metadata"]["generation"].clone();
    scene.wait_for_value("mcpserver/foo", "/status/observedGeneration", &generation)?;
    assert_eq!(scene.wait_for_pods("ReplicaSet", 3)?.len(), 3);
    scene.kubectl.run(&["scale", "deployment/foo", "--replicas=1"])?.ok()?;
    scene.wait_for_pods("ReplicaSet", 1)?;

    assert_stayed(&servers, &scene.pods("StatefulSet")?);
    let answer = client.whoami()?;
    assert_eq!((answer.pod, answer.calls), (pod, 2), "a session goes on");
    assert_eq!(templates(scene, "foo")?, templates_before);

    // A change that rolls everything leaves the counts too.
    scene.kubectl.run(&["scale", "deployment/foo", "--replicas=2"])?.ok()?;
    scene.patch(
        "mcpserver/foo",
        &json!({"spec": {"resourceOverrides": {"proxyDeployment": {"annotations": {"team": "a"}}}}}),
    )?;
    scene.wait_for_value("deployment/foo", "/metadata/annotations/team", &json!("a"))?;
    assert_eq!(scene.get("deployment/foo")?["spec"]["replicas"], 2);
    assert_eq!(scene.get("statefulset/foo")?["spec"]["replicas"], 2);
    Ok(())
}
