//! Refusals of `kubectl scale`, which writes a `Scale` that says nothing of its parent.

use std::sync::Arc;

use berth_test_cluster::{Kubectl, Output, Result};
use libtest_mimic::{Failed, Trial};
use serde_json::json;

use super::{BACKENDS, MEMORY, STDIO, apply, assert_passed, assert_refused, content, invalid};
use crate::context::{Context, Namespace, trial};
use crate::objects::{
    RESOURCES, VERSIONS, WORKLOADS, in_redis, opted_in, owned, redis, replicas, resource, resource_path, stored,
    workload,
};

pub(super) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        trial(ctx, "refusals::scales::of_workloads", workloads),
        trial(ctx, "refusals::scales::of_resources", resources),
        trial(ctx, "refusals::scales::of_the_workloads_of_resources", owned_workloads),
    ]
}

fn scale(kubectl: &Kubectl, what: &str, count: i64) -> Result<Output> {
    kubectl.run(&["scale", what, &format!("--replicas={count}")])
}

fn assert_scaled(ns: &Namespace, what: &str, count: i64, warnings: &[&str]) -> Result<()> {
    assert_passed(&scale(&ns.kubectl, what, count)?, warnings);
    assert_eq!(stored(ns, what)?["spec"]["replicas"], count, "{what}");
    Ok(())
}

/// Refused to the letter, and nothing is stored.
fn assert_not_scaled(ns: &Namespace, what: &str, count: i64, stderr: &str) -> Result<()> {
    let before = content(ns, what)?;
    assert_refused(&scale(&ns.kubectl, what, count)?, stderr);
    assert_eq!(content(ns, what)?, before, "{what}");
    Ok(())
}

fn workloads(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    for kind in WORKLOADS {
        for object in [
            opted_in(kind, "mem", &[]),
            in_redis(kind, "std", &[("transport", "stdio")]),
            in_redis(kind, "red", &[]),
            workload(kind, "none"),
        ] {
            apply(kubectl, &object)?.ok()?;
        }
        let memory = invalid(kind, "mem", &format!("spec.replicas: Invalid value: 3: {MEMORY}"));
        assert_not_scaled(ns, &format!("{kind}/mem"), 3, &memory)?;
        let stdio = invalid(kind, "std", &format!("spec.replicas: Invalid value: 2: {STDIO}"));
        assert_not_scaled(ns, &format!("{kind}/std"), 2, &stdio)?;
        assert_scaled(ns, &format!("{kind}/mem"), 0, &[])?;
        assert_scaled(ns, &format!("{kind}/red"), 5, &[])?;
        assert_scaled(ns, &format!("{kind}/none"), 5, &[])?;
    }
    Ok(())
}

fn resources(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    for kind in RESOURCES {
        for version in VERSIONS {
            let (memory, shared) = (format!("mem-{version}"), format!("red-{version}"));
            apply(kubectl, &resource(kind, version, &memory, json!({"replicas": 1})))?.ok()?;
            let spec = json!({"replicas": 1, "sessionStorage": redis()});
            apply(kubectl, &resource(kind, version, &shared, spec))?.ok()?;
            let refused = invalid(kind, &memory, &format!("spec.replicas: Invalid value: 3: {MEMORY}"));
            assert_not_scaled(ns, &resource_path(kind, version, &memory), 3, &refused)?;
            assert_scaled(ns, &resource_path(kind, version, &memory), 0, &[])?;
            assert_scaled(ns, &resource_path(kind, version, &shared), 3, &[])?;
        }
    }
    // The count is not named yet, and the transport is the definition's default.
    let mut silent = resource("MCPServer", "v1beta1", "std", json!({"replicas": 1, "sessionStorage": redis()}));
    silent["spec"]["transport"].take();
    apply(kubectl, &silent)?.ok()?;
    let refused = invalid("MCPServer", "std", &format!("spec.replicas: Invalid value: 2: {STDIO}"));
    assert_not_scaled(ns, "mcpserver/std", 2, &refused)?;
    // What the resource says a moment before counts, not what a cache of it says.
    let what = "mcpserver/red-v1beta1";
    kubectl.run(&["scale", what, "--replicas=1"])?.ok()?;
    let memory = r#"{"spec":{"sessionStorage":{"provider":"memory"}}}"#;
    kubectl.run(&["patch", what, "--type=merge", "-p", memory])?.ok()?;
    let refused = invalid("MCPServer", "red-v1beta1", &format!("spec.replicas: Invalid value: 2: {MEMORY}"));
    assert_not_scaled(ns, what, 2, &refused)?;
    Ok(())
}

fn owned_workloads(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    for kind in RESOURCES {
        let name = kind.to_lowercase();
        apply(kubectl, &resource(kind, "v1beta1", &name, json!({})))?.ok()?;
        apply(kubectl, &owned(ns, &resource_path(kind, "v1beta1", &name), "Deployment")?)?.ok()?;
        let refused = invalid("Deployment", &name, &format!("spec.replicas: Invalid value: 3: {MEMORY}"));
        assert_not_scaled(ns, &format!("deployment/{name}"), 3, &refused)?;
    }
    // The proxy tells the backends apart: that many is allowed, and survives no restart of the proxy.
    let backend = owned(ns, "mcpserver/mcpserver", "StatefulSet")?;
    apply(kubectl, &backend)?.ok()?;
    let warning = format!("spec.replicas: Invalid value: 3: {BACKENDS}");
    assert_scaled(ns, "statefulset/mcpserver", 3, &[&warning])?;
    assert_scaled(ns, "statefulset/mcpserver", 1, &[])?;

    let stdio = json!({"transport": "stdio", "sessionStorage": redis()});
    apply(kubectl, &resource("MCPServer", "v1beta1", "std", stdio))?.ok()?;
    for kind in WORKLOADS {
        apply(kubectl, &owned(ns, "mcpserver/std", kind)?)?.ok()?;
        let refused = invalid(kind, "std", &format!("spec.replicas: Invalid value: 2: {STDIO}"));
        assert_not_scaled(ns, &format!("{kind}/std"), 2, &refused)?;
    }
    // With Redis there is nothing to say.
    let shared = json!({"sessionStorage": redis()});
    apply(kubectl, &resource("MCPServer", "v1beta1", "red", shared))?.ok()?;
    for kind in WORKLOADS {
        apply(kubectl, &replicas(owned(ns, "mcpserver/red", kind)?, 2))?.ok()?;
        assert_scaled(ns, &format!("{kind}/red"), 4, &[])?;
    }
    Ok(())
}
