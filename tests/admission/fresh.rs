//! What Berth knows of a resource is new enough, also in the moment after it was written.

use std::sync::Arc;

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::context::{Context, Namespace, trial};

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        trial(ctx, "fresh::a_workload_right_after_its_resource_is_wired", right_after),
        trial(ctx, "fresh::a_resource_that_was_made_anew_is_not_taken_for_the_old_one", made_anew),
        trial(ctx, "fresh::a_workload_of_a_resource_that_is_gone_is_left_alone", gone),
    ]
}

fn mcp_server(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "toolhive.stacklok.dev/v1beta1", "kind": "MCPServer", "metadata": {"name": name},
        "spec": spec})
}

fn in_redis(grace: &str) -> Value {
    let mut server = mcp_server(
        "web",
        &json!({"transport": "sse", "image": "example", "replicas": 2,
        "sessionStorage": {"provider": "redis", "address": "redis:6379", "passwordRef": {"name": "s", "key": "k"}}}),
    );
    server["metadata"]["annotations"] = json!({"berth.dev/termination-grace-period-seconds": grace});
    server
}

/// A Deployment that a controller has built for the MCPServer of this uid.
fn deployment(name: &str, owner: &str, uid: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "ownerReferences": [{"apiVersion": "toolhive.stacklok.dev/v1beta1", "uid": uid,
            "kind": "MCPServer", "name": owner, "controller": true, "blockOwnerDeletion": false}]},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "toolhive", "image": "example"}]}}}})
}

const STAMP: &str = "/spec/template/metadata/annotations/toolhive.stacklok.dev~1mcpserver-generation";
const GRACE: &str = "/spec/template/spec/terminationGracePeriodSeconds";

/// Creates an object without the tenth of a second that kubectl takes.
fn create(ns: &Namespace, object: &Value) -> Result<Value, Failed> {
    Ok(ns.client.create(&ns.name, object)?)
}

fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

fn right_after(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    for round in 0..30 {
        let mut server = in_redis(&format!("{}", 100 + round));
        let name = format!("web-{round}");
        server["metadata"]["name"] = json!(name);
        let server = create(ns, &server)?;
        let stored = create(ns, &deployment(&name, &name, uid(&server)))?;
        assert_eq!(stored.pointer(STAMP), Some(&json!("1")), "round {round}: {stored}");
        assert_eq!(stored.pointer(GRACE), Some(&json!(100 + round)), "round {round}");
        let env = stored.pointer("/spec/template/spec/containers/0/env").ok_or("no env")?.to_string();
        assert!(env.contains("THV_SESSION_REDIS_PASSWORD"), "round {round}: {env}");
    }
    Ok(())
}

fn made_anew(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    for round in 0..10 {
        let server = create(ns, &in_redis(&format!("{}", 100 + round)))?;
        let name = format!("web-{round}");
        let stored = create(ns, &deployment(&name, "web", uid(&server)))?;
        assert_eq!(stored.pointer(GRACE), Some(&json!(100 + round)), "round {round}: of an earlier one");
        let api = ns.client.api(&ns.name, "MCPServer");
        ns.client.block_on(api.delete("web", &Default::default()))?;
    }
    Ok(())
}

fn gone(ctx: &Context, ns: &Namespace) -> Result<(), Failed> {
    let server = create(ns, &in_redis("77"))?;
    let api = ns.client.api(&ns.name, "MCPServer");
    ns.client.block_on(api.delete("web", &Default::default()))?;
    // The garbage collector may be quicker than the look at it, so what was stored is what the answer said.
    let stored = create(ns, &deployment("web", "web", uid(&server)))?;
    assert_eq!(stored.pointer(STAMP), None);
    let log = ctx.berth().log();
    assert!(!log.contains("forbidden"), "the service account lacks a right");
    Ok(())
}
