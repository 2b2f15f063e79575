//! Nobody is locked in by what was there before Berth: it is a warning, as long as no write makes it worse.

use std::sync::Arc;

use berth_test_cluster::Result;
use libtest_mimic::{Failed, Trial};
use serde_json::json;

use super::{ADDRESS, BACKENDS, MEMORY, STDIO, apply, assert_passed, assert_refused, content, invalid};
use crate::alone::{Alone, trial};
use crate::context::{Context, Namespace};
use crate::objects::{
    RESOURCES, WORKLOADS, autoscaler, in_redis, opted_in, owned, put, redis, replicas, resource, stored,
};

pub(super) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    let alone = ctx.alone();
    vec![
        trial(alone, "refusals::standing::counts_of_workloads", counts_of_workloads),
        trial(alone, "refusals::standing::counts_of_resources", counts_of_resources),
        trial(alone, "refusals::standing::counts_of_the_workloads_of_resources", counts_of_owned_workloads),
        trial(alone, "refusals::standing::what_is_no_count", no_counts),
    ]
}

fn so_before(line: &str) -> String {
    format!("{line} (let through, because it was so before)")
}

fn counts_of_workloads(alone: &mut Alone, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    let mut before = Vec::new();
    for kind in WORKLOADS {
        let name = &kind.to_lowercase();
        let object = replicas(opted_in(kind, name, &[]), 3);
        before.extend([autoscaler(name, &object, 5), object]);
    }
    alone.create_unseen(ns, &before)?;
    let line = |field: &str, count: i64| format!("{field}: Invalid value: {count}: {MEMORY}");
    for kind in WORKLOADS {
        let (name, what) = (&kind.to_lowercase(), &format!("{kind}/{}", kind.to_lowercase()));
        let standing = so_before(&line("spec.replicas", 3));
        // 3 to 3, at every door.
        assert_passed(&kubectl.run(&["label", what, "a=b"])?, &[&standing]);
        assert_passed(&kubectl.run(&["set", "image", what, "app=newer"])?, &[&standing]);
        assert_passed(&kubectl.run(&["annotate", what, "berth.dev/transport=sse"])?, &[&standing]);
        // 3 to 4, at every door.
        let held = content(ns, what)?;
        let worse = invalid(kind, name, &line("spec.replicas", 4));
        assert_refused(&kubectl.run(&["scale", what, "--replicas=4"])?, &worse);
        let patch = ["patch", what, "--type=merge", "-p", r#"{"spec":{"replicas":4}}"#];
        assert_refused(&kubectl.run(&patch)?, &worse);
        // Another rule is another rule.
        let stdio = kubectl.run(&["annotate", what, "--overwrite", "berth.dev/transport=stdio"])?;
        assert_refused(&stdio, &invalid(kind, name, &format!("spec.replicas: Invalid value: 3: {STDIO}")));
        assert_eq!(content(ns, what)?, held);
        // 3 to 2, and no way back.
        assert_passed(&kubectl.run(&["scale", what, "--replicas=2"])?, &[&so_before(&line("spec.replicas", 2))]);
        let back = invalid(kind, name, &line("spec.replicas", 3));
        assert_refused(&kubectl.run(&["scale", what, "--replicas=3"])?, &back);
        let patch = ["patch", what, "--type=merge", "-p", r#"{"spec":{"replicas":1}}"#];
        assert_passed(&kubectl.run(&patch)?, &[]);
        assert_eq!(stored(ns, what)?["spec"]["replicas"], 1);

        let hpa = &format!("hpa/{name}");
        let maximum = |count: i64| format!(r#"{{"spec":{{"maxReplicas":{count}}}}}"#);
        let standing = so_before(&line("spec.maxReplicas", 5));
        assert_passed(&kubectl.run(&["label", hpa, "a=b"])?, &[&standing]);
        let worse = kubectl.run(&["patch", hpa, "-p", &maximum(6)])?;
        assert_refused(&worse, &invalid("HorizontalPodAutoscaler", name, &line("spec.maxReplicas", 6)));
        let better = so_before(&line("spec.maxReplicas", 4));
        assert_passed(&kubectl.run(&["patch", hpa, "-p", &maximum(4)])?, &[&better]);
        assert_passed(&kubectl.run(&["patch", hpa, "-p", &maximum(1)])?, &[]);
    }
    Ok(())
}

fn counts_of_resources(alone: &mut Alone, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    let stdio = json!({"transport": "stdio", "replicas": 1, "backendReplicas": 3, "sessionStorage": redis()});
    alone.create_unseen(
        ns,
        &[
            resource("MCPServer", "v1beta1", "foo", json!({"replicas": 3})),
            resource("VirtualMCPServer", "v1alpha1", "foo", json!({"replicas": 3})),
            resource("MCPServer", "v1alpha1", "std", stdio),
            resource("MCPServer", "v1beta1", "backends", json!({"backendReplicas": 3})),
        ],
    )?;
    let line = |count: i64| format!("spec.replicas: Invalid value: {count}: {MEMORY}");
    for kind in RESOURCES {
        let what = &format!("{kind}/foo");
        let patch = |patch: &str| kubectl.run(&["patch", what, "--type=merge", "-p", patch]);
        assert_passed(&kubectl.run(&["label", what, "a=b"])?, &[&so_before(&line(3))]);
        let held = content(ns, what)?;
        assert_refused(&patch(r#"{"spec":{"replicas":4}}"#)?, &invalid(kind, "foo", &line(4)));
        assert_refused(&kubectl.run(&["scale", what, "--replicas=4"])?, &invalid(kind, "foo", &line(4)));
        assert_eq!(content(ns, what)?, held);
        assert_passed(&kubectl.run(&["scale", what, "--replicas=2"])?, &[&so_before(&line(2))]);
        assert_refused(&patch(r#"{"spec":{"replicas":3}}"#)?, &invalid(kind, "foo", &line(3)));
        assert_passed(&patch(r#"{"spec":{"replicas":1}}"#)?, &[]);
    }
    let line = |count: i64| format!("spec.backendReplicas: Invalid value: {count}: {STDIO}");
    assert_passed(&kubectl.run(&["label", "mcpserver/std", "a=b"])?, &[&so_before(&line(3))]);
    let backends = |name: &str, count: i64| {
        let patch = format!(r#"{{"spec":{{"backendReplicas":{count}}}}}"#);
        kubectl.run(&["patch", &format!("mcpserver/{name}"), "--type=merge", "-p", &patch])
    };
    assert_refused(&backends("std", 4)?, &invalid("MCPServer", "std", &line(4)));
    assert_passed(&backends("std", 2)?, &[&so_before(&line(2))]);
    // The one count is no excuse for the other.
    let replicas = kubectl.run(&["scale", "mcpserver/std", "--replicas=2"])?;
    assert_refused(&replicas, &invalid("MCPServer", "std", &format!("spec.replicas: Invalid value: 2: {STDIO}")));
    // What only warns goes on to warn.
    let warning = format!("spec.backendReplicas: Invalid value: 4: {BACKENDS}");
    assert_passed(&backends("backends", 4)?, &[&warning]);
    Ok(())
}

/// The resource leaves the count to others, and what it says of its sessions makes their count wrong.
fn counts_of_owned_workloads(alone: &mut Alone, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    put(ns, &resource("MCPServer", "v1beta1", "foo", json!({})))?;
    put(ns, &resource("VirtualMCPServer", "v1beta1", "bar", json!({})))?;
    let owners = [("MCPServer", "foo"), ("VirtualMCPServer", "bar")];
    let three = |(kind, name)| Ok(replicas(owned(ns, &format!("{kind}/{name}"), "Deployment")?, 3));
    alone.create_unseen(ns, &owners.map(three).into_iter().collect::<Result<Vec<_>>>()?)?;
    let line = |count: i64| format!("spec.replicas: Invalid value: {count}: {MEMORY}");
    for (owner, name) in owners {
        let what = &format!("deployment/{name}");
        assert_passed(&kubectl.run(&["label", what, "a=b"])?, &[&so_before(&line(3))]);
        // So is a write of the resource that changes nothing about it.
        let live = format!("spec.sessionStorage.provider: Invalid value: \"memory\": 3 replicas run, and {MEMORY}");
        assert_passed(&kubectl.run(&["label", &format!("{owner}/{name}"), "a=b"])?, &[&so_before(&live)]);
        let worse = kubectl.run(&["scale", what, "--replicas=4"])?;
        assert_refused(&worse, &invalid("Deployment", name, &line(4)));
        assert_passed(&kubectl.run(&["scale", what, "--replicas=2"])?, &[&so_before(&line(2))]);
        let back = kubectl.run(&["patch", what, "--type=merge", "-p", r#"{"spec":{"replicas":3}}"#])?;
        assert_refused(&back, &invalid("Deployment", name, &line(3)));
        assert_passed(&kubectl.run(&["scale", what, "--replicas=1"])?, &[]);
    }
    Ok(())
}

fn no_counts(alone: &mut Alone, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    let mut plain = in_redis("Deployment", "plain", &[]);
    plain["spec"]["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "THV_SESSION_REDIS_PASSWORD", "value": "hunter2"}]);
    let address = opted_in("StatefulSet", "address", &[("session-provider", "redis")]);
    let unreadable = opted_in("Deployment", "unreadable", &[("session-db", "first")]);
    let nowhere = resource("MCPServer", "v1beta1", "nowhere", json!({"sessionStorage": {"provider": "redis"}}));
    alone.create_unseen(ns, &[plain, address, unreadable, nowhere])?;

    let password = "spec.template.spec.containers[0].env[0].value: Invalid value: \"(hidden)\": THV_SESSION_REDIS_PASSWORD \
                    holds the Redis password in plain text; keep it in a Secret, name that with \
                    berth.dev/session-password-secret: NAME/KEY (or passwordRef), and take the value out \
                    [berth:PlaintextPassword]";
    let db = "metadata.annotations[berth.dev/session-db]: Invalid value: \"first\": it must be a whole number from 0 to \
              2147483647 [berth:InvalidPolicy]";
    let missing = |field: &str| format!("{field}: Required value: {ADDRESS}");
    let standing = [
        ("deployment/plain", password.to_owned()),
        ("statefulset/address", missing("metadata.annotations[berth.dev/session-address]")),
        ("deployment/unreadable", db.to_owned()),
        ("mcpserver/nowhere", missing("spec.sessionStorage.address")),
    ];
    for (what, line) in &standing {
        assert_passed(&kubectl.run(&["label", what, "a=b"])?, &[&so_before(line)]);
    }
    // A workload that is built from such a resource is new, and cannot mend it.
    let built = apply(kubectl, &owned(ns, "mcpserver/nowhere", "Deployment")?)?;
    let line = missing("MCPServer(nowhere).spec.sessionStorage.address");
    assert_refused(&built, &invalid("Deployment", "nowhere", &line));
    // What is wrong besides is refused, and what is right is right.
    let besides = kubectl.run(&["annotate", "deployment/unreadable", "berth.dev/session-ttl=never"])?;
    assert_eq!(besides.status, 1, "{}", besides.stderr);
    assert!(besides.stderr.contains("metadata.annotations[berth.dev/session-ttl]"), "{}", besides.stderr);
    let mended = kubectl.run(&["annotate", "deployment/unreadable", "--overwrite", "berth.dev/session-db=1"])?;
    assert_passed(&mended, &[]);
    assert_passed(
        &apply(kubectl, &resource("MCPServer", "v1beta1", "fresh", json!({"sessionStorage": redis()})))?,
        &[],
    );
    Ok(())
}
