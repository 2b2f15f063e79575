//! Refusals of autoscalers: what one may scale to, it will.

use std::sync::Arc;
use std::time::Duration;

use berth_test_cluster::{Result, wait_for};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use super::{BACKENDS, MEMORY, STDIO, apply, assert_absent, assert_passed, assert_refused, content, invalid};
use crate::context::{Context, Namespace, trial};
use crate::objects::{
    RESOURCES, WORKLOADS, autoscaler, in_redis, opted_in, owned, put, redis, resource, resource_path, workload,
};

pub(super) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        trial(ctx, "refusals::autoscalers::of_workloads", workloads),
        trial(ctx, "refusals::autoscalers::of_resources", resources),
        trial(ctx, "refusals::autoscalers::of_the_workloads_of_resources", owned_workloads),
    ]
}

const BOUND: Duration = Duration::from_secs(60);
const KIND: &str = "HorizontalPodAutoscaler";

fn memory(max: i64) -> String {
    format!("spec.maxReplicas: Invalid value: {max}: {MEMORY}")
}

fn stdio(max: i64) -> String {
    format!("spec.maxReplicas: Invalid value: {max}: {STDIO}")
}

/// Of a creation the reason is a warning too, for the sake of `kubectl autoscale`.
fn not_created(name: &str, line: &str) -> String {
    format!("Warning: {line}\n{}", invalid(KIND, name, line))
}

/// What is true of `kubectl autoscale WHAT` with this maximum, in both of its ways.
fn assert_not_autoscaled(ns: &Namespace, what: &str, name: &str, max: i64, line: &str) -> Result<()> {
    let max = format!("--max={max}");
    // Where autoscaling/v1 could say it, kubectl tries that after v2 and prints what became of it.
    assert_refused(&ns.kubectl.run(&["autoscale", what, &max, "--cpu=80%"])?, &not_created(name, line));
    // Else it prints what v1 lacks in the place of the refusal.
    let instead = "error: failed to create autoscaling/v2 HPA and the configuration is incompatible with autoscaling/v1: \
                   empty input";
    let refused = wait_for("an autoscaler that Berth had time for", BOUND, || {
        let refused = ns.kubectl.run(&["autoscale", what, &max])?;
        Ok((refused.stderr.trim_end() != instead).then_some(refused))
    })?;
    assert_refused(&refused, &format!("Warning: {line}\n{instead}"));
    assert_absent(ns, &format!("hpa/{name}"))
}

/// The same in autoscaling/v1, as older tools write it.
fn version1(mut object: Value) -> Value {
    object["apiVersion"] = json!("autoscaling/v1");
    object
}

fn workloads(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    for kind in WORKLOADS {
        // kubectl names an autoscaler after its target.
        let name = |short: &str| format!("{short}-{}", kind.to_lowercase());
        let (web, what) = (&name("web"), &format!("{kind}/{}", name("web")));
        let object = opted_in(kind, web, &[]);
        put(ns, &object)?;
        assert_not_autoscaled(ns, what, web, 5, &memory(5))?;
        for autoscaler in [autoscaler(web, &object, 5), version1(autoscaler(web, &object, 5))] {
            assert_refused(&apply(kubectl, &autoscaler)?, &not_created(web, &memory(5)));
        }
        let hpa = &format!("hpa/{web}");
        assert_absent(ns, hpa)?;
        assert_passed(&apply(kubectl, &autoscaler(web, &object, 1))?, &[]);
        let before = content(ns, hpa)?;
        assert_refused(&apply(kubectl, &autoscaler(web, &object, 2))?, &invalid(KIND, web, &memory(2)));
        let raised = kubectl.run(&["patch", hpa, "-p", r#"{"spec":{"maxReplicas":2}}"#])?;
        assert_refused(&raised, &invalid(KIND, web, &memory(2)));
        assert_eq!(content(ns, hpa)?, before);

        put(ns, &in_redis(kind, &name("std"), &[("transport", "stdio")]))?;
        assert_not_autoscaled(ns, &format!("{kind}/{}", name("std")), &name("std"), 2, &stdio(2))?;

        put(ns, &in_redis(kind, &name("red"), &[]))?;
        assert_passed(&kubectl.run(&["autoscale", &format!("{kind}/{}", name("red")), "--max=9"])?, &[]);
        // An autoscaler is turned to one that cannot have replicas.
        let bystander = workload(kind, &name("none"));
        put(ns, &bystander)?;
        assert_passed(&apply(kubectl, &autoscaler(&name("turned"), &bystander, 5))?, &[]);
        let turned = apply(kubectl, &autoscaler(&name("turned"), &object, 5))?;
        assert_refused(&turned, &invalid(KIND, &name("turned"), &memory(5)));
    }
    Ok(())
}

fn resources(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    for (kind, version) in RESOURCES.into_iter().zip(["v1beta1", "v1alpha1"]) {
        let name = &kind.to_lowercase();
        let path = &resource_path(kind, version, name);
        let object = resource(kind, "v1beta1", name, json!({"replicas": 1}));
        put(ns, &object)?;
        assert_not_autoscaled(ns, path, name, 3, &memory(3))?;
        assert_refused(&apply(kubectl, &autoscaler(name, &object, 3))?, &not_created(name, &memory(3)));
        assert_absent(ns, &format!("hpa/{name}"))?;
        ns.client.merge(&ns.name, &format!("{kind}/{name}"), &json!({"spec": {"sessionStorage": redis()}}))?;
        assert_passed(&kubectl.run(&["autoscale", path, "--max=3"])?, &[]);
    }
    let one_process = resource("MCPServer", "v1beta1", "std", json!({"transport": "stdio"}));
    put(ns, &one_process)?;
    assert_refused(&apply(kubectl, &autoscaler("std", &one_process, 2))?, &not_created("std", &stdio(2)));
    Ok(())
}

fn owned_workloads(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    put(ns, &resource("MCPServer", "v1beta1", "foo", json!({})))?;
    for kind in WORKLOADS {
        put(ns, &owned(ns, "mcpserver/foo", kind)?)?;
    }
    assert_not_autoscaled(ns, "deployment/foo", "foo", 3, &memory(3))?;
    let warning = format!("spec.maxReplicas: Invalid value: 3: {BACKENDS}");
    assert_passed(&kubectl.run(&["autoscale", "statefulset/foo", "--max=3"])?, &[&warning]);
    Ok(())
}
