//! The count of a workload: the policy's where it is created and where the policy changes, else whoever scales it.

use std::sync::Arc;
use std::time::Duration;

use berth_test_cluster::{Output, Result, wait_for};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::context::{Context, Namespace, trial};
use crate::objects::{WORKLOADS, in_redis, owned, redis, replicas, resource, uncounted};

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        trial(ctx, "replicas::of_an_annotated_deployment", |_, ns| of_an_annotated(ns, "Deployment")),
        trial(ctx, "replicas::of_an_annotated_statefulset", |_, ns| of_an_annotated(ns, "StatefulSet")),
        trial(ctx, "replicas::the_policy_beats_the_manifest_on_create", policy_beats_manifest),
        trial(ctx, "replicas::of_a_servers_workloads", of_a_servers_workloads),
        trial(ctx, "replicas::an_autoscaler_is_never_undone", autoscaled),
    ]
}

const BOUND: Duration = Duration::from_secs(60);

/// What a policy may say; its workload is named after it.
const POLICIES: [(&str, Option<i64>); 4] = [("absent", None), ("zero", Some(0)), ("one", Some(1)), ("three", Some(3))];

fn annotated(kind: &str, name: &str, policy: Option<i64>) -> Value {
    let policy = policy.map(|count| count.to_string());
    let annotations: Vec<_> = policy.iter().map(|count| ("replicas", count.as_str())).collect();
    uncounted(in_redis(kind, name, &annotations))
}

fn count(ns: &Namespace, what: &str) -> Result<i64> {
    Ok(ns.stored(what)?["spec"]["replicas"].as_i64().expect("the API server fills it in"))
}

fn replace(ns: &Namespace, manifest: &Value) -> Result<Output> {
    ns.kubectl_with(&["replace"], manifest)
}

fn of_an_annotated(ns: &Namespace, kind: &str) -> Result<(), Failed> {
    for (name, policy) in POLICIES {
        let manifest = annotated(kind, name, policy);
        let what = format!("{kind}/{name}");
        let kubectl = |arguments: &[&str]| ns.kubectl.run(arguments)?.ok();

        ns.client.create(&ns.name, &manifest)?;
        // Where nobody says how many, the API server says one.
        assert_eq!(count(ns, &what)?, policy.unwrap_or(1), "{what} created");

        kubectl(&["scale", &what, "--replicas=5"])?;
        kubectl(&["label", &what, "unrelated=yes"])?;
        assert_eq!(count(ns, &what)?, 5, "{what} scaled, then written for another reason");

        // The same manifest again: what it does not say arrives as 1.
        let replaced = replace(ns, &manifest)?;
        if policy.is_some() {
            assert_eq!(count(ns, &what)?, 5, "{what} replaced");
            for part in ["Warning: spec.replicas 1 was put back to the live 5", "kubectl scale", "berth.dev/replicas"] {
                assert!(replaced.stderr.contains(part), "{}", replaced.stderr);
            }
        } else {
            assert_eq!((count(ns, &what)?, replaced.stderr.as_str()), (1, ""), "hands off {what}");
        }
        replaced.ok()?;

        kubectl(&["annotate", &what, "berth.dev/replicas=4", "--overwrite"])?;
        assert_eq!(count(ns, &what)?, 4, "{what} has another policy");
        kubectl(&["annotate", &what, "berth.dev/replicas-"])?;
        assert_eq!(count(ns, &what)?, 4, "{what} has no policy any more");
        // Now it is the writer's.
        ns.client.merge(&ns.name, &what, &json!({"spec": {"replicas": 2}}))?;
        assert_eq!(count(ns, &what)?, 2, "{what} belongs to its writer");
    }
    Ok(())
}

fn policy_beats_manifest(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    for kind in WORKLOADS {
        for (name, policy) in POLICIES {
            let manifest = replicas(annotated(kind, name, policy), 2);
            let created = ns.client.create_dry_run(&ns.name, &manifest)?;
            assert_eq!(created["spec"]["replicas"], policy.unwrap_or(2), "{kind} {name}");
        }
    }
    Ok(())
}

/// On create the server's count is set; later its controller writes it, and Berth never.
fn of_a_servers_workloads(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    for (name, policy) in POLICIES {
        let server = format!("mcpserver/{name}");
        let mut spec = json!({"sessionStorage": redis()});
        if let Some(count) = policy {
            spec["replicas"] = json!(count);
            spec["backendReplicas"] = json!(count);
        }
        ns.client.create(&ns.name, &resource("MCPServer", "v1beta1", name, spec))?;
        let what = format!("deployment/{name}");
        let kubectl = |arguments: &[&str]| ns.kubectl.run(arguments)?.ok();

        let manifest = uncounted(owned(ns, &server, "Deployment")?);
        ns.client.create(&ns.name, &manifest)?;
        assert_eq!(count(ns, &what)?, policy.unwrap_or(1), "{what} created");

        kubectl(&["scale", &what, "--replicas=5"])?;
        kubectl(&["label", &what, "unrelated=yes"])?;
        assert_eq!(count(ns, &what)?, 5, "{what} scaled, then written for another reason");
        ns.client.merge(&ns.name, &server, &json!({"spec": {"replicas": 4}}))?;
        kubectl(&["label", &what, "unrelated-"])?;
        assert_eq!(count(ns, &what)?, 5, "{what}, whose server has another count, which its controller is to write");
        let written = replicas(manifest.clone(), 4);
        replace(ns, &written)?.ok()?;
        assert_eq!(count(ns, &what)?, 4, "{what} written by its controller");
        let replaced = replace(ns, &manifest)?;
        assert_eq!((count(ns, &what)?, replaced.stderr.as_str()), (1, ""), "{what} written by its controller, without");

        // The backend's is its writer's always.
        let backend = replicas(owned(ns, &server, "StatefulSet")?, 2);
        ns.client.create(&ns.name, &backend)?;
        assert_eq!(count(ns, &format!("statefulset/{name}"))?, 2, "the backend of {server}");
    }
    Ok(())
}

/// The autoscaler is the control plane's own. Without metrics it still keeps a count within its bounds.
fn autoscaled(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    for kind in WORKLOADS {
        // With a count of its own, which every apply and every replace brings along.
        let mut manifest = replicas(annotated(kind, "web", Some(1)), 1);
        let what = format!("{kind}/web");
        let reaches = |wanted: i64| {
            let seen = || Ok((count(ns, &what)? == wanted).then_some(()));
            wait_for(&format!("{what} scaled to {wanted}"), BOUND, seen)
        };
        ns.kubectl.apply_yaml(&manifest.to_string())?.ok()?;
        assert_eq!(count(ns, &what)?, 1);
        ns.kubectl.run(&["autoscale", &what, "--min=4", "--max=8"])?.ok()?;
        reaches(4)?;

        ns.kubectl.run(&["annotate", &what, "unrelated=yes"])?.ok()?;
        assert_eq!(count(ns, &what)?, 4, "annotated");
        ns.kubectl.apply_yaml(&manifest.to_string())?.ok()?;
        manifest["spec"]["template"]["spec"]["containers"][0]["image"] = json!("example:2");
        ns.kubectl.apply_yaml(&manifest.to_string())?.ok()?;
        assert_eq!(count(ns, &what)?, 4, "applied");
        replace(ns, &manifest)?.ok()?;
        assert_eq!(count(ns, &what)?, 4, "replaced");

        let bounds = r#"{"spec":{"minReplicas":2,"maxReplicas":2}}"#;
        ns.kubectl.run(&["patch", "hpa/web", "-p", bounds])?.ok()?;
        reaches(2)?;
        replace(ns, &manifest)?.ok()?;
        assert_eq!(count(ns, &what)?, 2, "replaced");
        ns.kubectl.run(&["delete", "hpa/web"])?.ok()?;
    }
    Ok(())
}
