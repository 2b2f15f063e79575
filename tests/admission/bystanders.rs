//! Who has nothing to do with Berth never meets it; who has, waits for it, but for scaling and for going.

use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_test_cluster::{Output, Result, wait_for};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::alone::{Alone, BOUND, trial};
use crate::context::{Context, Namespace};
use crate::objects::{WORKLOADS, autoscaler, in_redis, opted_in, owned, put, redis, resource, stored, workload};

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    let alone = ctx.alone();
    vec![
        trial(alone, "bystanders::never_reach_berth_while_it_runs", never_reach_berth),
        trial(alone, "bystanders::do_not_miss_berth_while_it_is_down", do_not_miss_berth),
        trial(alone, "bystanders::opted_in_writes_wait_for_berth", opted_in_writes_wait),
        trial(alone, "bystanders::a_berth_that_hangs_holds_up_its_own", hanging_berth),
        trial(alone, "bystanders::deletions_do_not_wait_for_berth", deletions_do_not_wait),
    ]
}

/// How often a bystander's count is written in [`live`], by any door that Berth is asked at.
const COUNTS: f64 = 8.0;

fn bystanders(kind: &str) -> [Value; 3] {
    let mut disabled = opted_in(kind, "disabled", &[("replicas", "3")]);
    disabled["metadata"]["annotations"]["berth.dev/inject"] = json!("disabled");
    let mut labelled = workload(kind, "labelled");
    labelled["metadata"]["labels"] = json!({"berth.dev/inject": "enabled"});
    [workload(kind, "plain"), disabled, labelled]
}

/// The whole life of workloads that are none of Berth's business.
fn live(ns: &Namespace) -> Result<()> {
    let kubectl = &ns.kubectl;
    for kind in WORKLOADS {
        for object in bystanders(kind) {
            kubectl.apply_yaml(&object.to_string())?.ok()?;
        }
        let what = &format!("{kind}/plain");
        let hpa = autoscaler("plain", &workload(kind, "plain"), 9);
        for (arguments, stdin) in [
            (&["set", "image", what, "app=newer"][..], None),
            (&["annotate", what, "a=b"], None),
            (&["patch", what, "--type=json", "-p", r#"[{"op":"replace","path":"/spec/replicas","value":4}]"#], None),
            (&["replace"], Some(workload(kind, "plain"))),
            (&["apply", "--server-side", "--force-conflicts"], Some(workload(kind, "plain"))),
            (&["scale", what, "--replicas=5"], None),
            (&["scale", &format!("{kind}/disabled"), "--replicas=5"], None),
            (&["apply"], Some(hpa)),
            (&["patch", "hpa/plain", "-p", r#"{"spec":{"maxReplicas":7}}"#], None),
            (&["delete", "hpa/plain"], None),
            (&["delete", &format!("{kind}/labelled")], None),
            (&["delete", &format!("{kind}/disabled"), "--cascade=orphan"], None),
            (&["delete", what, "--cascade=foreground"], None),
        ] {
            let done = match stdin {
                Some(manifest) => ns.kubectl_with(arguments, &manifest)?,
                None => kubectl.run(arguments)?,
            };
            assert_eq!(done.stderr, "", "{}", done.command);
            done.ok()?;
        }
    }
    Ok(())
}

fn never_reach_berth(alone: &mut Alone, ns: &Namespace) -> Result<(), Failed> {
    let count = |kinds: &[&str]| -> Result<f64> {
        let metrics = alone.metrics()?;
        Ok(kinds.iter().map(|kind| metrics.metric("berth_admission_reviews_total", &[("kind", kind)])).sum())
    };
    let (workloads, counts) = (count(&WORKLOADS)?, count(&["Scale", "HorizontalPodAutoscaler"])?);
    live(ns)?;
    assert_eq!(count(&WORKLOADS)?, workloads, "bystanders were reviewed");
    // A scale does not say whose it is; and one that met another writer is asked for again.
    assert!(count(&["Scale", "HorizontalPodAutoscaler"])? >= counts + COUNTS);
    // The counter counts: one who opted in is mutated and validated.
    put(ns, &in_redis("Deployment", "web", &[]))?;
    assert_eq!(count(&WORKLOADS)?, workloads + 2.0);
    Ok(())
}

fn do_not_miss_berth(alone: &mut Alone, ns: &Namespace) -> Result<(), Failed> {
    let status = alone.berth.stop(BOUND)?;
    assert!(status.success(), "{status}: {}", alone.berth.log());
    live(ns)?;
    alone.berth.restart()?;
    Ok(())
}

/// What the API server says of a webhook at which nobody listens.
fn assert_nobody_answers(output: &Output, before: &str, webhook: &str, path: &str, alone: &Alone) {
    let expected = format!(
        "Error from server (InternalError): {before}Internal error occurred: failed calling webhook \"{webhook}\": failed to \
         call webhook: Post \"{}/{path}?timeout=5s\": dial tcp {}: connect: connection refused\n",
        alone.berth.url(),
        alone.berth.listen(),
    );
    assert_eq!((output.stderr.as_str(), output.status), (expected.as_str(), 1), "{}", output.command);
}

fn opted_in_writes_wait(alone: &mut Alone, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    let create = |object: &Value| kubectl.run_with_stdin(&["create", "-f", "-"], &object.to_string());
    for kind in WORKLOADS {
        put(ns, &in_redis(kind, "web", &[]))?;
    }
    put(ns, &resource("MCPServer", "v1beta1", "foo", json!({"replicas": 1, "sessionStorage": redis()})))?;
    put(ns, &owned(ns, "mcpserver/foo", "Deployment")?)?;

    alone.stop()?;
    let creating = "error when creating \"STDIN\": ";
    for kind in WORKLOADS {
        let what = &format!("{kind}/web");
        let created = create(&in_redis(kind, "late", &[]))?;
        assert_nobody_answers(&created, creating, "mutate.berth.dev", "mutate", alone);
        let set = kubectl.run(&["label", what, "a=b"])?;
        assert_nobody_answers(&set, "", "mutate.berth.dev", "mutate", alone);
        // Not even out of it: what Berth added would stay.
        let out = kubectl.run(&["annotate", what, "berth.dev/inject-"])?;
        assert_nobody_answers(&out, "", "mutate.berth.dev", "mutate", alone);
        // An autoscaler goes on, and whoever has to scale.
        kubectl.run(&["scale", what, "--replicas=3"])?.ok()?;
        assert_eq!(stored(ns, what)?["spec"]["replicas"], 3);
        create(&autoscaler(&kind.to_lowercase(), &workload(kind, "web"), 5))?.ok()?;
    }
    let labelled = kubectl.run(&["label", "deployment/foo", "a=b"])?;
    assert_nobody_answers(&labelled, "", "mutate.berth.dev", "mutate", alone);
    let late = create(&resource("MCPServer", "v1alpha1", "late", json!({})))?;
    assert_nobody_answers(&late, creating, "resources.berth.dev", "validate", alone);
    kubectl.run(&["scale", "mcpserver/foo", "--replicas=2"])?.ok()?;
    assert_eq!(stored(ns, "mcpserver/foo")?["spec"]["replicas"], 2);
    // What an MCPServer's controller reports is no write of its spec.
    let status = r#"{"status":{"phase":"Ready"}}"#;
    kubectl.run(&["patch", "mcpserver/foo", "--subresource=status", "--type=merge", "-p", status])?.ok()?;

    alone.berth.restart()?;
    create(&in_redis("Deployment", "late", &[]))?.ok()?;
    kubectl.run(&["label", "statefulset/web", "a=b"])?.ok()?;
    Ok(())
}

/// Connections are accepted, and nobody reads them.
fn hanging_berth(alone: &mut Alone, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    put(ns, &in_redis("Deployment", "web", &[]))?;
    alone.berth.process().signal("STOP")?;
    put(ns, &workload("Deployment", "plain"))?;
    kubectl.run(&["set", "image", "deployment/plain", "app=newer"])?.ok()?;
    let scaling = Instant::now();
    kubectl.run(&["scale", "deployment/web", "--replicas=3"])?.ok()?;
    assert!(scaling.elapsed() < Duration::from_secs(15), "an autoscaler waited {:?}", scaling.elapsed());
    let late = kubectl.run(&["label", "deployment/web", "a=b"])?;
    assert_eq!(late.status, 1);
    let webhook = "failed calling webhook \"mutate.berth.dev\": failed to call webhook: Post ";
    assert!(late.stderr.contains(webhook) && late.stderr.ends_with("context deadline exceeded\n"), "{}", late.stderr);
    alone.berth.process().signal("CONT")?;
    wait_for("a write to succeed again", BOUND, || Ok(kubectl.run(&["label", "deployment/web", "a=b"])?.ok().ok()))?;
    Ok(())
}

fn deletions_do_not_wait(alone: &mut Alone, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    let cascades = ["background", "foreground", "orphan"];
    for kind in WORKLOADS {
        for cascade in cascades {
            put(ns, &in_redis(kind, cascade, &[]))?;
        }
    }
    for owner in ["whole", "again", "parted"] {
        put(ns, &resource("MCPServer", "v1beta1", owner, json!({})))?;
        for kind in WORKLOADS {
            put(ns, &owned(ns, &format!("mcpserver/{owner}"), kind)?)?;
        }
    }
    let namespace = alone.cluster.namespace()?;
    alone
        .cluster
        .kubectl()
        .in_namespace(&namespace)
        .apply_yaml(&in_redis("Deployment", "web", &[]).to_string())?
        .ok()?;

    alone.stop()?;
    for kind in WORKLOADS {
        for cascade in cascades {
            let delete = ["delete", &format!("{kind}/{cascade}"), &format!("--cascade={cascade}"), "--timeout=30s"];
            kubectl.run(&delete)?.ok()?;
        }
    }
    // With what they own, which their finalizers wait for.
    kubectl.run(&["delete", "mcpserver/whole", "--cascade=foreground", "--timeout=30s"])?.ok()?;
    for kind in WORKLOADS {
        assert!(stored(ns, &format!("{kind}/whole")).is_err(), "the {kind} outlives its owner");
    }
    kubectl.run(&["delete", "mcpserver/again", "--timeout=30s"])?.ok()?;
    alone.cluster.kubectl().run(&["delete", "namespace", &namespace, "--timeout=60s"])?.ok()?;
    // Workloads that are to outlive their owner have to be written, which waits for Berth like any write of them.
    kubectl.run(&["delete", "mcpserver/parted", "--cascade=orphan", "--wait=false"])?.ok()?;
    alone.berth.restart()?;
    wait_for("the end of the owner", BOUND, || Ok(stored(ns, "mcpserver/parted").is_err().then_some(())))?;
    for kind in WORKLOADS {
        let left = stored(ns, &format!("{kind}/parted"))?;
        assert!(left["metadata"]["ownerReferences"].is_null(), "{left}");
    }
    Ok(())
}
