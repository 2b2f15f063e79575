//! The stamp of an MCPServer's workload is the generation that its writer built it from. Workloads that are written faster
//! than a cache follows are in `fresh`.

use std::sync::Arc;

use berth_test_cluster::{Result, wait_for};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use super::{
    BOUND, assert_stale, assert_stamp, change_server, define_server, image, mutations, replica_sets, stamp_patch,
    stamped, with_image,
};
use crate::context::{Context, Namespace, trial};
use crate::objects::{owned, redis, resource};
use crate::wiring::{STAMP, assert_same, stamp, without_status};

pub(super) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        trial(ctx, "generation::servers::changes_of_both_in_one_call", in_one_call),
        trial(ctx, "generation::servers::its_writer_moves_it_and_nobody_else", the_writer_moves_it),
        trial(ctx, "generation::servers::scaling_makes_no_replica_set", scaling),
        trial(ctx, "generation::servers::a_lower_one_is_refused", a_lower_one_is_refused),
        trial(ctx, "generation::servers::a_stray_one_shuts_nobody_out", stray),
        trial(ctx, "generation::servers::a_stale_writer_is_refused_at_once", stale_writer),
        trial(ctx, "generation::servers::a_recreated_server_starts_anew", recreated),
    ]
}

/// An MCPServer `foo`, and a manifest of its Deployment.
fn server(ns: &Namespace) -> Result<Value> {
    define_server(ns, "foo")?;
    Ok(with_image(owned(ns, "mcpserver/foo", "Deployment")?, "example:1"))
}

/// Its Deployment, written from generation 3.
fn written_from_generation_3(ns: &Namespace) -> Result<Value> {
    let manifest = server(ns)?;
    change_server(ns, "foo")?;
    change_server(ns, "foo")?;
    let written = stamped(manifest, 3);
    ns.kubectl_with(&["apply"], &written)?.ok()?;
    assert_stamp(ns, "deployment/foo", "3")?;
    Ok(written)
}

/// One kubectl call for the server and its Deployment. The server is there before, since an owner is named by its uid.
fn in_one_call(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let spec = |image: &str| json!({"replicas": 2, "image": image, "sessionStorage": redis()});
    let server = |image: &str| resource("MCPServer", "v1beta1", "foo", spec(image));
    ns.kubectl_with(&["apply"], &server("example:1"))?.ok()?;
    let deployment = owned(ns, "mcpserver/foo", "Deployment")?;
    for generation in 2..6 {
        let image = format!("example:{generation}");
        let items = [server(&image), stamped(with_image(deployment.clone(), &image), generation)];
        ns.kubectl_with(&["apply"], &json!({"apiVersion": "v1", "kind": "List", "items": items}))?.ok()?;
        // Not taken for a stray one: the cache may not have seen that generation yet.
        assert_stamp(ns, "deployment/foo", &generation.to_string())?;
    }
    Ok(())
}

fn the_writer_moves_it(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let deployment = server(ns)?;
    let stateful_set = owned(ns, "mcpserver/foo", "StatefulSet")?;
    for manifest in [&deployment, &stateful_set] {
        ns.kubectl_with(&["apply"], manifest)?.ok()?;
        let what = format!("{}/foo", manifest["kind"].as_str().unwrap_or_default());
        assert_eq!(stamp(&ns.stored(&what)?), Some("1"), "{what}");
    }
    assert_eq!(change_server(ns, "foo")?, 2);
    for manifest in [&deployment, &stateful_set] {
        let what = format!("{}/foo", manifest["kind"].as_str().unwrap_or_default());
        // An old template must not look new.
        ns.kubectl.run(&["label", &what, "unrelated=yes"])?.ok()?;
        ns.kubectl.run(&["scale", &what, "--replicas=2"])?.ok()?;
        ns.kubectl_with(&["replace"], manifest)?.ok()?;
        ns.kubectl_with(&["replace"], &with_image(manifest.clone(), "example:user"))?.ok()?;
        for odd in [json!("-2"), json!("two"), Value::Null] {
            ns.client.merge(&ns.name, &what, &stamp_patch(odd))?;
        }
        assert_eq!(stamp(&ns.stored(&what)?), Some("1"), "{what}");

        let newer = stamped(with_image(manifest.clone(), "example:2"), 2);
        ns.kubectl_with(&["replace"], &newer)?.ok()?;
        let stored = ns.stored(&what)?;
        assert_eq!((stamp(&stored), image(&stored)), (Some("2"), "example:2"), "{what}");
    }
    Ok(())
}

fn scaling(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    ns.kubectl_with(&["create"], &server(ns)?)?.ok()?;
    assert_eq!(replica_sets(ns, "foo", 1)?.len(), 1);
    // By hand, and as the server's controller follows the server's count, which raises the server's generation.
    ns.kubectl.run(&["scale", "deployment/foo", "--replicas=5"])?.ok()?;
    assert_eq!(replica_sets(ns, "foo", 5)?.len(), 1);
    ns.kubectl.run(&["scale", "mcpserver/foo", "--replicas=4"])?.ok()?;
    assert_eq!(ns.stored("mcpserver/foo")?["metadata"]["generation"], 2);
    ns.kubectl.run(&["patch", "deployment/foo", "-p", r#"{"spec":{"replicas":4}}"#])?.ok()?;
    assert_eq!(replica_sets(ns, "foo", 4)?.len(), 1, "scaling restarts no pod");
    assert_stamp(ns, "deployment/foo", "1")?;
    Ok(())
}

fn a_lower_one_is_refused(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    written_from_generation_3(ns)?;
    replica_sets(ns, "foo", 1)?;
    let before = ns.stored("deployment/foo")?;
    let path = format!("/spec/template/metadata/annotations/{}", STAMP.replace('/', "~1"));
    for (form, given, patch) in [
        ("strategic", 2, stamp_patch(json!("2")).to_string()),
        ("merge", 0, stamp_patch(json!("0")).to_string()),
        ("json", 1, json!([{"op": "replace", "path": path, "value": "1"}]).to_string()),
    ] {
        let refused = ns.kubectl.run(&["patch", "deployment/foo", "--type", form, "-p", &patch])?;
        assert!(refused.stderr.starts_with("Error from server (Forbidden): "), "{}", refused.stderr);
        assert_stale(&refused, given, 3)?;
    }
    assert_same(&without_status(&ns.stored("deployment/foo")?), &without_status(&before));

    // A rollback by hand is that too: the server's own template would come back over it.
    change_server(ns, "foo")?;
    let newer = json!({"spec": {"template": {
        "metadata": {"annotations": {STAMP: "4"}},
        "spec": {"containers": [{"name": "toolhive", "image": "example:4"}]}}}});
    ns.kubectl.run(&["patch", "deployment/foo", "-p", &newer.to_string()])?.ok()?;
    wait_for("two ReplicaSets", BOUND, || Ok((ns.client.list(&ns.name, "replicaset")?.len() == 2).then_some(())))?;
    assert_stale(&ns.kubectl.run(&["rollout", "undo", "deployment/foo"])?, 3, 4)?;
    assert_eq!(image(&ns.stored("deployment/foo")?), "example:4");
    Ok(())
}

fn stray(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let manifest = written_from_generation_3(ns)?;
    let stray = stamp_patch(json!("999999")).to_string();
    ns.kubectl.run(&["patch", "deployment/foo", "-p", &stray])?.ok()?;
    assert_stamp(ns, "deployment/foo", "3")?;
    // The next writers get through: one of the same state, and one of the next.
    ns.kubectl_with(&["replace"], &with_image(manifest.clone(), "example:3"))?.ok()?;
    assert_stamp(ns, "deployment/foo", "3")?;
    change_server(ns, "foo")?;
    ns.kubectl_with(&["replace"], &stamped(with_image(manifest, "example:4"), 4))?.ok()?;
    assert_stamp(ns, "deployment/foo", "4")?;
    assert_eq!(image(&ns.stored("deployment/foo")?), "example:4");
    Ok(())
}

/// Writers that get a conflict try again, for ever some of them; this is no conflict.
fn stale_writer(ctx: &Context, ns: &Namespace) -> Result<(), Failed> {
    let newer = written_from_generation_3(ns)?;
    let older = stamped(with_image(newer, "example:older"), 2);
    let before = ns.stored("deployment/foo")?;
    for form in [
        &["apply"][..],
        &["apply", "--server-side", "--force-conflicts"],
        &["replace"],
        &["replace", "--field-manager=thv-operator"],
    ] {
        let asked = mutations(ctx, ns, "foo");
        assert_stale(&ns.kubectl_with(form, &older)?, 2, 3)?;
        assert_eq!(mutations(ctx, ns, "foo"), asked + 1, "kubectl {form:?} is told once");
        assert_same(&without_status(&ns.stored("deployment/foo")?), &without_status(&before));
    }
    Ok(())
}

fn recreated(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let manifest = written_from_generation_3(ns)?;
    let before = ns.stored("deployment/foo")?;
    ns.kubectl.run(&["delete", "mcpserver/foo", "--cascade=orphan"])?.ok()?;
    wait_for("a Deployment that is let go", BOUND, || {
        Ok(ns.stored("deployment/foo")?["metadata"]["ownerReferences"].is_null().then_some(()))
    })?;
    // It runs on as it was until somebody takes it over.
    assert_same(&ns.stored("deployment/foo")?["spec"], &before["spec"]);

    // Its writer has not seen the last change yet. By the stamp of the old one that would be stale.
    define_server(ns, "foo")?;
    assert_eq!(change_server(ns, "foo")?, 2);
    let mut adopted = stamped(manifest, 1);
    adopted["metadata"]["ownerReferences"][0]["uid"] = ns.stored("mcpserver/foo")?["metadata"]["uid"].clone();
    ns.kubectl_with(&["replace"], &adopted)?.ok()?;
    assert_stamp(ns, "deployment/foo", "1")?;
    // From here on the rule holds again.
    ns.kubectl_with(&["replace"], &stamped(adopted.clone(), 2))?.ok()?;
    assert_stale(&ns.kubectl_with(&["replace"], &adopted)?, 1, 2)?;
    Ok(())
}
