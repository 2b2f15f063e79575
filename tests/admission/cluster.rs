//! What Berth knows of a cluster that changes under it.

use std::sync::Arc;

use berth_test_cluster::{Result, wait_for};
use libtest_mimic::{Failed, Trial};
use serde_json::json;

use crate::alone::{Alone, BOUND, trial};
use crate::context::{Context, Namespace};
use crate::objects::{in_redis, owned, put, redis, resource};

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    let alone = ctx.alone();
    vec![
        trial(alone, "cluster::definitions_that_come_later_are_found", definitions_that_come_later),
        trial(alone, "cluster::a_restart_of_the_api_server_is_survived", api_server_restart),
    ]
}

/// Waits until Berth's cache holds this many MCPServers.
fn wait_for_cached(alone: &Alone, count: f64) -> Result<()> {
    wait_for(&format!("{count} MCPServers in the cache"), BOUND, || {
        Ok((alone.metrics()?.metric("berth_custom_resources", &[("kind", "MCPServer")]) == count).then_some(()))
    })
}

fn definitions_that_come_later(alone: &mut Alone, ns: &Namespace) -> Result<(), Failed> {
    let names = ["crd/mcpservers.toolhive.stacklok.dev", "crd/virtualmcpservers.toolhive.stacklok.dev"];
    alone.cluster.kubectl().run(&[&["delete", "--timeout=60s"], &names[..]].concat())?.ok()?;
    wait_for_cached(alone, 0.0)?;
    // Ready without them: annotations need none.
    alone.berth.restart()?;
    put(ns, &in_redis("Deployment", "annotated", &[("replicas", "2")]))?;
    assert_eq!(ns.stored("deployment/annotated")?["spec"]["replicas"], 2);

    alone.define_resources()?;
    put(ns, &resource("MCPServer", "v1beta1", "early", json!({"replicas": 2, "sessionStorage": redis()})))?;
    // At once, while nothing is watched yet.
    put(ns, &owned(ns, "mcpserver/early", "Deployment")?)?;
    assert_wired(ns, "deployment/early", 2)?;
    wait_for_cached(alone, 1.0)?;
    Ok(())
}

fn api_server_restart(alone: &mut Alone, ns: &Namespace) -> Result<(), Failed> {
    let spec = json!({"replicas": 2, "sessionStorage": redis()});
    let known = alone.metrics()?.metric("berth_custom_resources", &[("kind", "MCPServer")]);
    put(ns, &resource("MCPServer", "v1beta1", "before", spec.clone()))?;
    wait_for_cached(alone, known + 1.0)?;
    let pid = alone.berth.process().pid();

    alone.cluster.restart_api_server()?;
    assert_eq!(alone.berth.get("/readyz")?.status, 200);
    put(ns, &owned(ns, "mcpserver/before", "Deployment")?)?;
    assert_wired(ns, "deployment/before", 2)?;
    // It is watched again: what comes and goes now is known as well.
    put(ns, &resource("MCPServer", "v1beta1", "after", spec))?;
    wait_for_cached(alone, known + 2.0)?;
    put(ns, &owned(ns, "mcpserver/after", "Deployment")?)?;
    assert_wired(ns, "deployment/after", 2)?;
    ns.kubectl.run(&["delete", "mcpserver/after"])?.ok()?;
    wait_for_cached(alone, known + 1.0)?;
    assert_eq!((alone.berth.process().pid(), alone.berth.process().exit_status()?), (pid, None));
    Ok(())
}

/// The count and the stamp of its resource.
fn assert_wired(ns: &Namespace, what: &str, count: i64) -> Result<()> {
    let stored = ns.stored(what)?;
    assert_eq!(stored["spec"]["replicas"], count, "{stored}");
    let stamp = &stored["spec"]["template"]["metadata"]["annotations"]["toolhive.stacklok.dev/mcpserver-generation"];
    assert_eq!(stamp, "1", "{stored}");
    Ok(())
}
