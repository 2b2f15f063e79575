//! What custom resources cost the API server, by its own log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_test_cluster::Result;
use libtest_mimic::{Failed, Trial};
use serde_json::json;

use crate::objects::{mcp_server, redis};
use crate::world::{Namespace, World, trial};

pub(crate) fn trials(world: &Arc<World>) -> Vec<Trial> {
    vec![trial(world, "cost::a_resource_costs_the_same_however_many_there_are_and_nothing_afterwards", cost)]
}

fn cost(ns: &Namespace) -> Result<(), Failed> {
    let few = built(ns, "few", 20)?;
    let many = built(ns, "many", 60)?;
    // An answer may be lost, and a state outdated, now and then.
    let (few_each, many_each) = (sum(&few) / 20.0, sum(&many) / 60.0);
    assert!((few_each - many_each).abs() < 0.5, "{few_each} and {many_each} requests each: {few:?} {many:?}");
    // Six objects that are looked for and made, the resource read once, a status, and an Event.
    assert!(many_each < 18.0, "{many_each} requests each: {many:?}");

    // Everything is looked at each second.
    let audit = ns.audit();
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(audit.requests_in(&ns.name), Vec::<String>::new());
    // One that changes costs nothing for the others.
    let audit = ns.audit();
    ns.edit("MCPServer/many7", &json!({"spec": {"image": "example:2"}}))?;
    ns.settled("many7")?;
    let others: Vec<_> = audit.requests_in(&ns.name).into_iter().filter(|request| !request.contains("many7")).collect();
    assert!(others.iter().all(|request| request.contains(" events ")), "{others:?}");
    Ok(())
}

/// The requests, by verb and resource, for so many new resources; without pods, which come and go in their own time.
fn built(ns: &Namespace, prefix: &str, count: usize) -> Result<BTreeMap<String, usize>> {
    let audit = ns.audit();
    for number in 0..count {
        let spec = json!({"replicas": 0, "backendReplicas": 0, "sessionStorage": redis()});
        ns.create(&mcp_server(&format!("{prefix}{number}"), spec))?;
    }
    for number in 0..count {
        ns.wait(&format!("MCPServer/{prefix}{number}"), "is built", |cr| cr["status"]["phase"] == "Stopped")?;
    }
    ns.settled_anyhow()?;
    let mut requests = BTreeMap::new();
    for request in audit.requests_in(&ns.name) {
        let what: Vec<_> = request.split(' ').take(2).collect();
        *requests.entry(what.join(" ")).or_default() += 1;
    }
    Ok(requests)
}

fn sum(requests: &BTreeMap<String, usize>) -> f64 {
    requests.values().sum::<usize>() as f64
}
