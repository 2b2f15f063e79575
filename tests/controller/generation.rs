//! The generation stamp moves with what pods are made from, and with nothing else.

use std::sync::Arc;

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::objects::{mcp_server, redis};
use crate::world::{Namespace, World, trial};

pub(crate) fn trials(world: &Arc<World>) -> Vec<Trial> {
    vec![
        trial(world, "generation::an_image_moves_it_on_both_and_a_count_on_none", moves),
        trial(world, "generation::a_stray_stamp_comes_down_and_a_recreated_resource_starts_anew", strays),
    ]
}

const WORKLOADS: [&str; 2] = ["Deployment/foo", "StatefulSet/foo"];

/// The stamp in a workload's pod template.
pub(crate) fn stamp(workload: &Value) -> &str {
    let annotations = &workload["spec"]["template"]["metadata"]["annotations"];
    annotations["toolhive.stacklok.dev/mcpserver-generation"].as_str().unwrap_or_default()
}

fn stamps(ns: &Namespace) -> [String; 2] {
    WORKLOADS.map(|what| stamp(&ns.get(what).unwrap()).to_owned())
}

fn moves(ns: &Namespace) -> Result<(), Failed> {
    ns.build(&mcp_server("foo", json!({"replicas": 1, "backendReplicas": 1, "sessionStorage": redis()})))?;
    assert_eq!(stamps(ns), ["1", "1"]);
    let templates = || WORKLOADS.map(|what| ns.get(what).unwrap()["spec"]["template"].clone());
    let before = templates();
    ns.edit("MCPServer/foo", &json!({"spec": {"replicas": 2, "backendReplicas": 3}}))?;
    ns.wait("StatefulSet/foo", "has the count", |live| live["spec"]["replicas"] == 3)?;
    ns.settled("foo")?;
    assert_eq!(templates(), before, "scaling restarts nothing");

    ns.edit("MCPServer/foo", &json!({"spec": {"image": "example:2"}}))?;
    for what in WORKLOADS {
        ns.wait(what, "has the stamp of the third generation", |live| stamp(live) == "3")?;
    }
    ns.settled("foo")?;
    let config = ns.get("ConfigMap/foo-runconfig")?;
    let config: Value = serde_json::from_str(config["data"]["runconfig.json"].as_str().unwrap())?;
    assert_eq!(config["mcpserver_generation"], 3, "{config}");
    // A workload that is lost comes back as it was.
    ns.client.delete(&ns.name, "Deployment/foo")?;
    ns.wait("Deployment/foo", "is there again", |live| {
        live["metadata"]["deletionTimestamp"].is_null() && stamp(live) == "3"
    })?;
    ns.edit("MCPServer/foo", &json!({"spec": {"replicas": 1}}))?;
    ns.settled("foo")?;
    assert_eq!(stamps(ns), ["3", "3"]);
    Ok(())
}

fn strays(ns: &Namespace) -> Result<(), Failed> {
    ns.build(&mcp_server("foo", json!({})))?;
    let stray = json!({"spec": {"template": {"metadata": {"annotations": {"toolhive.stacklok.dev/mcpserver-generation": "999999"}}}}});
    ns.edit("Deployment/foo", &stray)?;
    ns.settled("foo")?;
    assert_eq!(stamps(ns), ["1", "1"]);
    // What Berth remembers on the workload is set back like anything else.
    ns.edit(
        "StatefulSet/foo",
        &json!({"metadata": {"annotations": {"berth.dev/stamped-spec": null, "berth.dev/applied": "x"}}}),
    )?;
    ns.settled("foo")?;
    assert_eq!(stamps(ns), ["1", "1"]);
    ns.edit("MCPServer/foo", &json!({"spec": {"image": "example:2"}}))?;
    ns.wait("StatefulSet/foo", "has the new stamp", |live| stamp(live) == "2")?;
    ns.client.delete(&ns.name, "MCPServer/foo")?;
    // At once, while the garbage collector still has to remove the old one's.
    ns.create(&mcp_server("foo", json!({})))?;
    for what in WORKLOADS {
        ns.wait(what, "is the new resource's", |live| stamp(live) == "1")?;
    }
    ns.settled("foo")?;
    let events = ns.client.list(&ns.name, "Event")?;
    assert!(events.iter().all(|event| event["reason"] != "ManagedElsewhere"), "it is nobody else's: {events:?}");
    Ok(())
}
