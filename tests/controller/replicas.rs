//! Who decides the count.

use std::sync::Arc;

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::objects::{mcp_server, redis};
use crate::world::{Namespace, World, trial};

pub(crate) fn trials(world: &Arc<World>) -> Vec<Trial> {
    vec![
        trial(world, "replicas::without_a_count_scaling_is_left_alone", left_alone),
        trial(world, "replicas::a_count_that_is_let_go_stays_as_it_is", let_go),
        trial(world, "replicas::zero_is_a_count", zero),
    ]
}

const WORKLOADS: [(&str, &str); 2] = [("Deployment/foo", "replicas"), ("StatefulSet/foo", "backendReplicas")];

fn count(ns: &Namespace, what: &str) -> Value {
    ns.get(what).unwrap()["spec"]["replicas"].clone()
}

fn scale(ns: &Namespace, what: &str, count: u32) -> Result<(), Failed> {
    ns.kubectl.run(&["scale", &what.to_lowercase(), &format!("--replicas={count}")])?.ok()?;
    Ok(())
}

fn left_alone(ns: &Namespace) -> Result<(), Failed> {
    ns.build(&mcp_server("foo", json!({"sessionStorage": redis()})))?;
    let audit = ns.audit();
    for (what, _) in WORKLOADS {
        scale(ns, what, 4)?;
        ns.settled("foo")?;
        assert_eq!(count(ns, what), 4);
    }
    assert_eq!(audit.object_writes_in(&ns.name), Vec::<String>::new());
    // A change of something else leaves it, too.
    ns.edit("MCPServer/foo", &json!({"spec": {"image": "example:2"}}))?;
    ns.wait("StatefulSet/foo", "has the new image", |live| {
        live["spec"]["template"]["spec"]["containers"][0]["image"] == "example:2"
    })?;
    ns.settled("foo")?;
    assert_eq!((count(ns, "Deployment/foo"), count(ns, "StatefulSet/foo")), (json!(4), json!(4)));
    // Whoever says a count takes it over.
    ns.edit("MCPServer/foo", &json!({"spec": {"replicas": 2, "backendReplicas": 3}}))?;
    ns.wait("Deployment/foo", "has the resource's count", |live| live["spec"]["replicas"] == 2)?;
    ns.wait("StatefulSet/foo", "has the resource's count", |live| live["spec"]["replicas"] == 3)?;
    Ok(())
}

fn let_go(ns: &Namespace) -> Result<(), Failed> {
    ns.build(&mcp_server("foo", json!({"replicas": 3, "backendReplicas": 5, "sessionStorage": redis()})))?;
    // Set by the resource, it is set back.
    scale(ns, "Deployment/foo", 6)?;
    ns.wait("Deployment/foo", "has the resource's count again", |live| live["spec"]["replicas"] == 3)?;
    let spec = |what: &str| ns.get(what).unwrap()["spec"].clone();
    let before = WORKLOADS.map(|(what, _)| spec(what));
    // Several times over: what held the count the last time may still hold it, and may hold an old one.
    for (round, wanted) in [(1, 3), (2, 2), (3, 2)] {
        ns.edit("MCPServer/foo", &json!({"spec": {"replicas": null, "backendReplicas": null}}))?;
        ns.settled("foo")?;
        let backends = if round == 1 { 5 } else { 4 };
        assert_eq!(
            (count(ns, "Deployment/foo"), count(ns, "StatefulSet/foo")),
            (json!(wanted), json!(backends)),
            "round {round}"
        );
        if round == 1 {
            assert_eq!(WORKLOADS.map(|(what, _)| spec(what)), before, "letting go changes nothing at all");
        }
        scale(ns, "Deployment/foo", 7)?;
        ns.settled("foo")?;
        assert_eq!(count(ns, "Deployment/foo"), 7, "round {round}: an autoscaler has it");
        ns.edit("MCPServer/foo", &json!({"spec": {"replicas": 2, "backendReplicas": 4}}))?;
        ns.wait("Deployment/foo", "has the resource's count", |live| live["spec"]["replicas"] == 2)?;
        ns.wait("StatefulSet/foo", "has the resource's count", |live| live["spec"]["replicas"] == 4)?;
        ns.settled("foo")?;
    }
    Ok(())
}

fn zero(ns: &Namespace) -> Result<(), Failed> {
    ns.build(&mcp_server("foo", json!({"replicas": 0})))?;
    assert_eq!(count(ns, "Deployment/foo"), 0);
    let cr = ns.wait("MCPServer/foo", "says that it is stopped", |cr| cr["status"]["phase"] == "Stopped")?;
    assert_eq!(cr["status"]["readyReplicas"], 0, "{cr}");
    // Let go at 0, it is 0, and not 1.
    ns.edit("MCPServer/foo", &json!({"spec": {"replicas": null}}))?;
    ns.settled("foo")?;
    assert_eq!(count(ns, "Deployment/foo"), 0);
    Ok(())
}
