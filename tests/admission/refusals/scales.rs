//! Refusals of `kubectl scale`, which writes a `Scale` that says nothing of its parent.

use std::sync::Arc;

use berth_test_cluster::{Kubectl, Output, Result};
use libtest_mimic::{Failed, Trial};
use serde_json::json;

use super::{BACKENDS, MEMORY, STDIO, assert_passed, assert_refused, content, invalid};
use crate::context::{Context, Namespace, trial};
use crate::objects::{
    RESOURCES, VERSIONS, WORKLOADS, in_redis, opted_in, owned, put, redis, replicas, resource, resource_path, stored,
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
    for kind in WORKLOADS {
        for object in [
            opted_in(kind, "mem", &[]),
            in_redis(kind, "std", &[("transport", "stdio")]),
            in_redis(kind, "red", &[]),
            workload(kind, "none"),
        ] {
            put(ns, &object)?;
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
    for kind in RESOURCES {
        for version in VERSIONS {
            let (memory, shared) = (format!("mem-{version}"), format!("red-{version}"));
            put(ns, &resource(kind, "v1beta1", &memory, json!({"replicas": 1})))?;
            let spec = json!({"replicas": 1, "sessionStorage": redis()});
            put(ns, &resource(kind, "v1beta1", &shared, spec))?;
            let refused = invalid(kind, &memory, &format!("spec.replicas: Invalid value: 3: {MEMORY}"));
            assert_not_scaled(ns, &resource_path(kind, version, &memory), 3, &refused)?;
            assert_scaled(ns, &resource_path(kind, version, &memory), 0, &[])?;
            assert_scaled(ns, &resource_path(kind, version, &shared), 3, &[])?;
        }
    }
    // The count is not named yet, and the transport is the definition's default.
    let mut silent = resource("MCPServer", "v1beta1", "std", json!({"replicas": 1, "sessionStorage": redis()}));
    silent["spec"]["transport"].take();
    put(ns, &silent)?;
    let refused = invalid("MCPServer", "std", &format!("spec.replicas: Invalid value: 2: {STDIO}"));
    assert_not_scaled(ns, "mcpserver/std", 2, &refused)?;
    // What the resource says a moment before counts, not what a cache of it says.
    let what = "mcpserver/red-v1beta1";
    let memory = json!({"spec": {"replicas": 1, "sessionStorage": {"provider": "memory"}}});
    ns.client.merge(&ns.name, what, &memory)?;
    let refused = invalid("MCPServer", "red-v1beta1", &format!("spec.replicas: Invalid value: 2: {MEMORY}"));
    assert_not_scaled(ns, what, 2, &refused)?;
    Ok(())
}

fn owned_workloads(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    for kind in RESOURCES {
        let name = kind.to_lowercase();
        put(ns, &resource(kind, "v1beta1", &name, json!({})))?;
        put(ns, &owned(ns, &format!("{kind}/{name}"), "Deployment")?)?;
        let refused = invalid("Deployment", &name, &format!("spec.replicas: Invalid value: 3: {MEMORY}"));
        assert_not_scaled(ns, &format!("deployment/{name}"), 3, &refused)?;
    }
    // The proxy tells the backends apart: that many is allowed, and survives no restart of the proxy.
    let backend = owned(ns, "mcpserver/mcpserver", "StatefulSet")?;
    put(ns, &backend)?;
    let warning = format!("spec.replicas: Invalid value: 3: {BACKENDS}");
    assert_scaled(ns, "statefulset/mcpserver", 3, &[&warning])?;
    assert_scaled(ns, "statefulset/mcpserver", 1, &[])?;

    let stdio = json!({"transport": "stdio", "sessionStorage": redis()});
    put(ns, &resource("MCPServer", "v1beta1", "std", stdio))?;
    for kind in WORKLOADS {
        put(ns, &owned(ns, "mcpserver/std", kind)?)?;
        let refused = invalid(kind, "std", &format!("spec.replicas: Invalid value: 2: {STDIO}"));
        assert_not_scaled(ns, &format!("{kind}/std"), 2, &refused)?;
    }
    // With Redis there is nothing to say.
    let shared = json!({"sessionStorage": redis()});
    put(ns, &resource("MCPServer", "v1beta1", "red", shared))?;
    for kind in WORKLOADS {
        put(ns, &replicas(owned(ns, "mcpserver/red", kind)?, 2))?;
        assert_scaled(ns, &format!("{kind}/red"), 4, &[])?;
    }
    Ok(())
}
