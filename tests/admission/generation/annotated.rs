//! An annotated workload's stamp counts the changes of its template.

use std::sync::Arc;

use berth_test_cluster::wait_for;
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use super::{BOUND, assert_stamp, image, replica_sets, stamp_patch, stamped, with_image};
use crate::context::{Context, Namespace, trial};
use crate::objects::{WORKLOADS, in_redis, uncounted};
use crate::wiring::{STAMP, assert_same, stamp, without_status};

pub(super) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        trial(ctx, "generation::annotated::counts_changes_of_the_template", counts_changes),
        trial(ctx, "generation::annotated::scaling_makes_no_replica_set", scaling),
        trial(ctx, "generation::annotated::nobody_lowers_it", nobody_lowers_it),
        trial(ctx, "generation::annotated::rollout_undo_works", rollout_undo),
    ]
}

fn counts_changes(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    for kind in WORKLOADS {
        let what = format!("{kind}/web");
        ns.kubectl_with(&["create"], &in_redis(kind, "web", &[]))?.ok()?;
        assert_stamp(ns, &what, "1")?;
        for (arguments, expected) in [
            (&["set", "image", &what, "app=example:2"][..], "2"),
            (&["label", &what, "a=b"], "2"),
            (&["annotate", &what, "berth.dev/session-db=1"], "2"),
            (&["scale", &what, "--replicas=3"], "2"),
            // What Berth changes in the template is a change too.
            (&["annotate", &what, "berth.dev/termination-grace-period-seconds=60"], "3"),
            (&["annotate", &what, "berth.dev/session-password-secret=redis/password"], "4"),
            (&["rollout", "restart", &what], "5"),
        ] {
            ns.kubectl.run(arguments)?.ok()?;
            assert_stamp(ns, &what, expected).inspect_err(|_| eprintln!("after kubectl {arguments:?}"))?;
        }
    }
    Ok(())
}

fn scaling(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    ns.kubectl_with(&["create"], &in_redis("Deployment", "web", &[("replicas", "1")]))?.ok()?;
    let before = replica_sets(ns, "web", 1)?;
    assert_eq!(before.len(), 1);
    for count in ["5", "2"] {
        ns.kubectl.run(&["scale", "deployment/web", "--replicas", count])?.ok()?;
        assert_stamp(ns, "deployment/web", "1")?;
    }
    // Nor by way of the policy.
    ns.kubectl.run(&["annotate", "deployment/web", "berth.dev/replicas=4", "--overwrite"])?.ok()?;
    assert_stamp(ns, "deployment/web", "1")?;
    let after = replica_sets(ns, "web", 4)?;
    assert_eq!(after.len(), 1, "scaling restarts no pod");
    assert_eq!(after[0]["metadata"]["uid"], before[0]["metadata"]["uid"]);
    Ok(())
}

fn nobody_lowers_it(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    for kind in WORKLOADS {
        let what = format!("{kind}/web");
        let manifest = in_redis(kind, "web", &[]);
        ns.kubectl_with(&["create"], &stamped(manifest.clone(), 7))?.ok()?;
        assert_stamp(ns, &what, "7")?;
        let patch = |form: &str, patch: &str| ns.kubectl.run(&["patch", &what, "--type", form, "-p", patch])?.ok();

        let before = ns.stored(&what)?;
        for lower in [json!("3"), json!("0"), json!("-8"), json!("seven"), json!(""), Value::Null] {
            ns.client.merge(&ns.name, &what, &stamp_patch(lower))?;
            assert_same(&without_status(&ns.stored(&what)?)["spec"], &before["spec"]);
        }
        let path = format!("/spec/template/metadata/annotations/{}", STAMP.replace('/', "~1"));
        patch("json", &json!([{"op": "remove", "path": path}]).to_string())?;
        assert_same(&without_status(&ns.stored(&what)?)["spec"], &before["spec"]);

        // With another change it moves on from where it was, and a higher one is taken.
        let lower_and_change = json!({"spec": {"template": {
            "metadata": {"annotations": {STAMP: "2"}},
            "spec": {"containers": [{"name": "app", "image": "example:2"}]}}}});
        patch("strategic", &lower_and_change.to_string())?;
        assert_stamp(ns, &what, "8")?;
        patch("merge", &stamp_patch(json!("20")).to_string())?;
        assert_stamp(ns, &what, "20")?;
        ns.kubectl_with(&["replace"], &stamped(with_image(manifest, "example:3"), 1))?.ok()?;
        assert_stamp(ns, &what, "21")?;
    }
    Ok(())
}

fn rollout_undo(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let what = "deployment/web";
    let release = |count, image| with_image(uncounted(in_redis("Deployment", "web", &[("replicas", count)])), image);
    ns.kubectl_with(&["apply"], &release("1", "example:1"))?.ok()?;
    replica_sets(ns, "web", 1)?;
    // In one write, so that the old ReplicaSet, from which a rollback takes the annotations too, keeps the old ones.
    ns.kubectl_with(&["apply"], &release("4", "example:2"))?.ok()?;
    assert_eq!(ns.stored(what)?["spec"]["replicas"], 4);
    ns.kubectl.run(&["scale", what, "--replicas=3"])?.ok()?;
    assert_stamp(ns, what, "2")?;
    assert_eq!(revisions(ns, 2)?, ["1", "2"]);

    let undone = ns.kubectl.run(&["rollout", "undo", what])?;
    assert_eq!(undone.stderr, "");
    assert_eq!(undone.ok()?, "deployment.apps/web rolled back\n");
    let stored = ns.stored(what)?;
    assert_eq!((image(&stored), stamp(&stored)), ("example:1", Some("3")), "the old template, newer than all before");
    assert_eq!(stored["metadata"]["annotations"]["berth.dev/replicas"], "1", "the annotation came back");
    assert_eq!(stored["spec"]["replicas"], 3, "the count did not");
    assert_stamp(ns, what, "3")?;
    assert_eq!(revisions(ns, 3)?, ["1", "2", "3"]);

    // Later writes find nothing to catch up on.
    ns.kubectl.run(&["label", what, "a=b"])?.ok()?;
    let after = ns.stored(what)?;
    assert_same(&after["spec"], &stored["spec"]);

    ns.kubectl.run(&["rollout", "undo", what, "--to-revision=2"])?.ok()?;
    let stored = ns.stored(what)?;
    assert_eq!((image(&stored), stamp(&stored), &stored["spec"]["replicas"]), ("example:2", Some("4"), &json!(3)));
    Ok(())
}

/// The stamps of the Deployment's ReplicaSets, once there are so many.
fn revisions(ns: &Namespace, number: usize) -> Result<Vec<String>, Failed> {
    let what = format!("{number} ReplicaSets");
    let sets = wait_for(&what, BOUND, || {
        let sets = ns.client.list(&ns.name, "replicaset")?;
        Ok((sets.len() >= number).then_some(sets))
    })?;
    let mut stamps: Vec<_> = sets.iter().map(|set| stamp(set).unwrap_or_default().to_owned()).collect();
    stamps.sort();
    Ok(stamps)
}
