//! The generation stamp: which state a pod template was made from.

mod annotated;
mod races;
mod servers;

use std::sync::Arc;
use std::time::Duration;

use berth_test_cluster::{Error, Output, Result, wait_for};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::context::{Context, Namespace};
use crate::objects::{redis, resource};
use crate::wiring::{GENERATION, STAMP, env_of, generation_env, stamp};

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    [annotated::trials(ctx), servers::trials(ctx), races::trials(ctx)].into_iter().flatten().collect()
}

const BOUND: Duration = Duration::from_secs(60);

/// The manifest with this stamp on its template.
fn stamped(mut manifest: Value, stamp: i64) -> Value {
    manifest["spec"]["template"]["metadata"]["annotations"] = json!({STAMP: stamp.to_string()});
    manifest
}

/// The manifest with this image in its first container.
fn with_image(mut manifest: Value, image: &str) -> Value {
    manifest["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
    manifest
}

fn image(workload: &Value) -> &str {
    workload["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default()
}

/// A patch of nothing but the stamp; null takes it away.
fn stamp_patch(stamp: Value) -> Value {
    json!({"spec": {"template": {"metadata": {"annotations": {STAMP: stamp}}}}})
}

/// Fails unless the stored workload has this stamp, and tells its pods.
fn assert_stamp(ns: &Namespace, what: &str, expected: &str) -> Result<()> {
    let stored = ns.stored(what)?;
    assert_eq!(stamp(&stored), Some(expected), "{what}");
    assert_eq!(env_of(&stored, 0, GENERATION), [generation_env()], "{what}");
    Ok(())
}

/// Creates an MCPServer of generation 1.
fn define_server(ns: &Namespace, name: &str) -> Result<Value> {
    let spec = json!({"replicas": 1, "sessionStorage": redis()});
    ns.client.create(&ns.name, &resource("MCPServer", "v1beta1", name, spec))
}

/// Changes an MCPServer, which raises its generation by one, and gives that.
fn change_server(ns: &Namespace, name: &str) -> Result<i64> {
    let before = ns.stored(&format!("mcpserver/{name}"))?;
    let next = before["metadata"]["generation"].as_i64().unwrap_or_default() + 1;
    let patch = json!({"spec": {"image": format!("example:{next}")}});
    let after = ns.client.merge(&ns.name, &format!("mcpserver/{name}"), &patch)?;
    assert_eq!(after["metadata"]["generation"], next);
    Ok(next)
}

/// Waits until the Deployment's controller has acted on it as it is now, and gives its ReplicaSets.
fn replica_sets(ns: &Namespace, deployment: &str, replicas: i64) -> Result<Vec<Value>> {
    let what = format!("a ReplicaSet of {deployment} with {replicas} replicas");
    wait_for(&what, BOUND, || {
        let live = ns.stored(&format!("deployment/{deployment}"))?;
        let observed = live["status"]["observedGeneration"] == live["metadata"]["generation"];
        let sets = ns.client.list(&ns.name, "replicaset")?;
        let sets: Vec<_> =
            sets.into_iter().filter(|set| set["metadata"]["ownerReferences"][0]["name"] == deployment).collect();
        let scaled = sets.iter().any(|set| set["spec"]["replicas"] == replicas);
        Ok((observed && scaled).then_some(sets))
    })
}

/// How often Berth was asked to mutate an object of this name.
fn mutations(ctx: &Context, ns: &Namespace, name: &str) -> usize {
    let reviews = ctx.reviews(ns);
    reviews.iter().filter(|review| review["webhook"] == "mutate" && review["name"] == name).count()
}

/// Fails unless kubectl says that the write was made from an older state, and nothing of a conflict.
fn assert_stale(refused: &Output, given: i64, live: i64) -> Result<()> {
    let said = &refused.stderr;
    let expected = format!(
        "admission webhook \"mutate.berth.dev\" denied the request: the pod template carries {STAMP} {given} and the live \
         object has {live}: it was made from an older state of MCPServer \"foo\", and the newer one stays; read the \
         MCPServer again and build the template from that [berth:StaleGeneration]\n"
    );
    if refused.status == 1 && !said.contains("Conflict") && said.ends_with(&expected) {
        return Ok(());
    }
    Err(Error::new(format!("{} ended with {}: {}{said}", refused.command, refused.status, refused.stdout)))
}
