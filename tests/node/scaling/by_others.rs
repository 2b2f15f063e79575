//! Counts that the resource does not say: those of whoever scales, by hand or by the bounds of an autoscaler.

use std::sync::Arc;

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use super::{assert_going_on, assert_new_sessions, assert_stayed, session_on_each, templates, wait_until_seen};
use crate::context::{Context, alone, trial};
use crate::scene::{Scene, redis};

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        trial(ctx, "scaling::counts_that_nobody_named_are_an_autoscalers", counts_of_others),
        trial(ctx, "scaling::a_count_is_let_go_and_taken_back", let_go_and_taken_back),
    ]
}

pub(super) fn timed(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![alone(ctx, "scaling::pods_that_others_ask_for_get_sessions_in_time", in_time)]
}

/// An autoscaler of a workload called `foo` that keeps to its bounds without any metrics.
pub(super) fn autoscaler(kind: &str, least: u32, most: u32) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "foo"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": kind, "name": "foo"},
            "minReplicas": least, "maxReplicas": most,
            "metrics": [{"type": "External", "external": {
                "metric": {"name": "of-nobody"}, "target": {"type": "Value", "value": "1"},
            }}],
        },
    })
}

fn counts_of_others(scene: &Scene<'_>) -> Result<(), Failed> {
    scene.start("foo", &json!({"sessionStorage": redis()}))?;
    let templates_before = templates(scene, "foo")?;
    let (fronts, servers) = (scene.pods("ReplicaSet")?, scene.pods("StatefulSet")?);
    let mut clients = session_on_each(scene, "foo", &["foo-0"])?;

    // By hand.
    scene.kubectl.run(&["scale", "deployment/foo", "--replicas=2"])?.ok()?;
    scene.kubectl.run(&["scale", "statefulset/foo", "--replicas=2"])?.ok()?;
    clients.extend(session_on_each(scene, "foo", &["foo-1"])?);
    assert_stayed(&fronts, &scene.wait_for_pods("ReplicaSet", 2)?);
    assert_stayed(&servers, &scene.wait_for_pods("StatefulSet", 2)?);

    // By an autoscaler.
    scene.apply(&autoscaler("Deployment", 3, 5))?;
    assert_stayed(&fronts, &scene.wait_for_pods("ReplicaSet", 3)?);
    scene.apply(&autoscaler("Deployment", 1, 2))?;
    scene.wait_for_pods("ReplicaSet", 2)?;
    scene.kubectl.run(&["delete", "hpa", "foo"])?.ok()?;

    assert_stayed(&servers, &scene.pods("StatefulSet")?);
    scene.wait_for_service("mcp-foo-proxy")?;
    assert_going_on(&mut clients, 2)?;
    assert_eq!(templates(scene, "foo")?, templates_before);

    // A change that rolls everything leaves the counts too.
    scene.patch(
        "mcpserver/foo",
        &json!({"spec": {"resourceOverrides": {"proxyDeployment": {"annotations": {"team": "a"}}}}}),
    )?;
    scene.wait_for_value("deployment/foo", "/metadata/annotations/team", &json!("a"))?;
    assert_eq!(scene.get("deployment/foo")?["spec"]["replicas"], 2);
    assert_eq!(scene.get("statefulset/foo")?["spec"]["replicas"], 2);
    Ok(())
}

/// From nil to n sets the count; from n to nil leaves what is live, and it is anybody's again.
fn let_go_and_taken_back(scene: &Scene<'_>) -> Result<(), Failed> {
    scene.start("foo", &json!({"sessionStorage": redis()}))?;
    let templates_before = templates(scene, "foo")?;
    let mut client = scene.connect("foo")?;
    let pod = client.whoami()?.pod;
    let counts = |fronts: usize, servers: usize| -> Result<_, Failed> {
        Ok((scene.wait_for_pods("ReplicaSet", fronts)?, scene.wait_for_pods("StatefulSet", servers)?))
    };
    let named = |field: &str, count: Value| -> Result<(), Failed> {
        scene.patch("mcpserver/foo", &json!({"spec": {field: count}}))?;
        Ok(wait_until_seen(scene, "mcpserver/foo")?)
    };
    let first = counts(1, 1)?;

    named("replicas", json!(3))?;
    named("backendReplicas", json!(2))?;
    let taken = counts(3, 2)?;
    assert_stayed(&first.0, &taken.0);
    assert_stayed(&first.1, &taken.1);

    // One after the other, so that neither goes with the other.
    named("replicas", Value::Null)?;
    assert_eq!(counts(3, 2)?, taken, "the live count stays");
    scene.kubectl.run(&["scale", "statefulset/foo", "--replicas=1"])?.ok()?;
    scene.wait_for_value("statefulset/foo", "/spec/replicas", &json!(2))?; // what is named is put back
    wait_until_seen(scene, "statefulset/foo")?;
    assert_eq!(counts(3, 2)?.0, taken.0);
    named("backendReplicas", Value::Null)?;
    let let_go = counts(3, 2)?;
    assert_stayed(&first.1, &let_go.1);
    scene.kubectl.run(&["scale", "deployment/foo", "--replicas=1"])?.ok()?;
    scene.kubectl.run(&["scale", "statefulset/foo", "--replicas=3"])?.ok()?;
    let scaled = counts(1, 3)?;
    assert_stayed(&let_go.0, &scaled.0);
    assert_stayed(&let_go.1, &scaled.1);
    scene.wait_for_service("mcp-foo-proxy")?;

    let answer = client.whoami()?;
    assert_eq!((answer.pod, answer.calls), (pod, 2), "a session goes on");
    assert_eq!(templates(scene, "foo")?, templates_before);
    Ok(())
}

/// By hand, and by an autoscaler.
fn in_time(scene: &Scene<'_>) -> Result<(), Failed> {
    scene.start("foo", &json!({"sessionStorage": redis()}))?;
    let mut clients = session_on_each(scene, "foo", &["foo-0"])?;
    scene.kubectl.run(&["scale", "statefulset/foo", "--replicas=2"])?.ok()?;
    clients.extend(assert_new_sessions(scene, "foo", &["foo-1"])?);
    scene.apply(&autoscaler("StatefulSet", 3, 5))?;
    clients.extend(assert_new_sessions(scene, "foo", &["foo-2"])?);
    Ok(assert_going_on(&mut clients, 2)?)
}
