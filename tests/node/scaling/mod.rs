//! Scaling moves pods and nothing else; and who decides of a count decides alone.

mod by_load;
mod by_others;
mod by_resource;
mod of_virtual_servers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use berth_test_cluster::{Error, Result, wait_for};
use k8s_openapi::jiff::Timestamp;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::client::Client;
use crate::context::Context;
use crate::scene::{BOUND, Pod, Scene};

/// How soon a pod that is ready is given sessions. Times of conditions are whole seconds, rounded down.
const NEW_SESSIONS: Duration = Duration::from_secs(10);

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    let all = [by_load::trials, by_others::trials, of_virtual_servers::trials];
    all.iter().flat_map(|trials| trials(ctx)).collect()
}

/// Those that measure how soon pods get sessions, which other trials would disturb.
pub(crate) fn timed(ctx: &Arc<Context>) -> Vec<Trial> {
    [by_resource::timed, by_others::timed].iter().flat_map(|trials| trials(ctx)).collect()
}

/// Those of these pods that are still there are the same, and none has been restarted.
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

/// Starts sessions until each of these pods has one, of which the first call has been made.
fn session_on_each(scene: &Scene<'_>, server: &str, pods: &[&str]) -> Result<BTreeMap<String, Client>> {
    let mut clients = BTreeMap::new();
    until_each_has_a_session(scene, server, pods, |pod, client| {
        clients.insert(pod, client);
        Ok(())
    })?;
    Ok(clients)
}

/// The same for pods that are still to come. Each has its first session within ten seconds from when it was ready.
fn assert_new_sessions(scene: &Scene<'_>, server: &str, pods: &[&str]) -> Result<BTreeMap<String, Client>> {
    let mut clients = BTreeMap::new();
    until_each_has_a_session(scene, server, pods, |pod, client| {
        let took = Timestamp::now().duration_since(ready_since(scene, &pod)?).unsigned_abs();
        assert!(took <= NEW_SESSIONS, "the first session of {pod} came {took:?} after it was ready");
        clients.insert(pod, client);
        Ok(())
    })?;
    Ok(clients)
}

fn until_each_has_a_session(
    scene: &Scene<'_>,
    server: &str,
    pods: &[&str],
    mut first: impl FnMut(String, Client) -> Result<()>,
) -> Result<()> {
    let address = scene.service(&format!("mcp-{server}-proxy"))?;
    let mut missing: BTreeSet<_> = pods.iter().copied().collect();
    wait_for(&format!("a session on each of {pods:?}"), BOUND, || {
        let mut client = Client::connect(address)?;
        let pod = client.whoami()?.pod;
        if missing.remove(pod.as_str()) {
            first(pod, client)?;
        }
        Ok(missing.is_empty().then_some(()))
    })
}

/// When a pod became ready.
fn ready_since(scene: &Scene<'_>, pod: &str) -> Result<Timestamp> {
    let conditions = scene.get(&format!("pod/{pod}"))?["status"]["conditions"].clone();
    let ready =
        conditions.as_array().into_iter().flatten().find(|one| one["type"] == "Ready" && one["status"] == "True");
    let since = ready.and_then(|ready| ready["lastTransitionTime"].as_str()).and_then(|time| time.parse().ok());
    since.ok_or_else(|| Error::new(format!("{pod} has a session and is not ready: {conditions}")))
}

/// Calls once on each session: they go on where they were.
fn assert_going_on(clients: &mut BTreeMap<String, Client>, calls: u64) -> Result<()> {
    for (pod, client) in clients {
        let answer = client.whoami()?;
        assert_eq!((&answer.pod, answer.calls), (pod, calls), "a session goes on");
    }
    Ok(())
}

/// Waits until the controller has seen to what a resource says now.
fn wait_until_seen(scene: &Scene<'_>, what: &str) -> Result<()> {
    let generation = scene.get(what)?["metadata"]["generation"].clone();
    scene.wait_for_value(what, "/status/observedGeneration", &generation)
}
