//! Counts that the resource says.

use std::sync::Arc;

use berth_test_cluster::wait_for;
use libtest_mimic::{Failed, Trial};
use serde_json::json;

use super::{assert_going_on, assert_new_sessions, assert_stayed, session_on_each, templates};
use crate::context::{Context, alone};
use crate::scene::{BOUND, Scene, redis, server};
use crate::sessions::wait_for_the_end;

pub(super) fn timed(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![alone(ctx, "scaling::by_the_resource_restarts_nothing", by_the_resource)]
}

fn by_the_resource(scene: &Scene<'_>) -> Result<(), Failed> {
    let mut object = server("foo", &json!({"replicas": 2, "backendReplicas": 3, "sessionStorage": redis()}));
    // As users have it: of these seconds, five are for the Service to learn that a proxy ends.
    object["metadata"]["annotations"]["berth.dev/termination-grace-period-seconds"] = json!("30");
    scene.start_object(&object)?;
    let templates_before = templates(scene, "foo")?;
    let (fronts, servers) = (scene.pods("ReplicaSet")?, scene.pods("StatefulSet")?);
    let mut clients = session_on_each(scene, "foo", &["foo-0", "foo-1", "foo-2"])?;

    // Out.
    scene.patch("mcpserver/foo", &json!({"spec": {"replicas": 4, "backendReplicas": 5}}))?;
    let mut late = assert_new_sessions(scene, "foo", &["foo-3", "foo-4"])?;
    let (more_fronts, more_servers) = (scene.wait_for_pods("ReplicaSet", 4)?, scene.wait_for_pods("StatefulSet", 5)?);
    assert_stayed(&fronts, &more_fronts);
    assert_stayed(&servers, &more_servers);
    assert_going_on(&mut clients, 2)?;

    // And in: what is on the pods that stay goes on, through each proxy that comes or goes.
    scene.patch("mcpserver/foo", &json!({"spec": {"replicas": 2, "backendReplicas": 3}}))?;
    let mut calls = 2;
    for (pod, client) in &mut late {
        wait_for_the_end(client, pod, more_fronts.len(), || {
            calls += 1;
            assert_going_on(&mut clients, calls)
        })?;
    }
    assert_stayed(&more_fronts, &scene.wait_for_pods("ReplicaSet", 2)?);
    assert_stayed(&servers, &scene.wait_for_pods("StatefulSet", 3)?);
    assert_going_on(&mut clients, calls + 1)?;
    for client in late.values_mut() {
        assert_eq!(client.ask_again()?.status, 404, "what was lost stays lost");
        // The client starts anew, as 404 tells it to.
        let pod = scene.connect("foo")?.whoami()?.pod;
        assert!(servers.contains_key(&pod), "{pod} is gone");
    }
    assert_eq!(templates(scene, "foo")?, templates_before);

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
