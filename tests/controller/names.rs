//! Resources with the longest and the strangest names that an API server takes.

use std::collections::BTreeSet;
use std::sync::Arc;

use berth_test_cluster::{Result, wait_for};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::objects::{condition, mcp_server, redis, virtual_mcp_server};
use crate::world::{BOUND, Namespace, World, trial};

pub(crate) fn trials(world: &Arc<World>) -> Vec<Trial> {
    vec![trial(world, "names::every_name_that_a_resource_can_have_gets_all_its_objects_and_pods", every)]
}

/// Lengths at which some derived name does not fit any more; names with dots; names that differ only where others are
/// cut; names that are what others are called with a suffix.
fn names() -> Vec<String> {
    let mut names: Vec<String> = [50, 51, 52, 53, 54, 63, 64, 253].map(|length| "n".repeat(length)).to_vec();
    names.push(format!("{}x", "n".repeat(252)));
    names.extend(["a.b", "a-b", "a.b.c", "x", "x-proxy", "x-headless", "mcpserver", "0", "9.9"].map(str::to_owned));
    names.push(vec!["d".repeat(62); 4].join("."));
    names
}

const KINDS: [(&str, usize); 4] = [("ConfigMap", 1), ("Service", 3), ("StatefulSet", 1), ("Deployment", 1)];

fn every(ns: &Namespace) -> Result<(), Failed> {
    let spec = json!({"replicas": 2, "backendReplicas": 2, "sessionStorage": redis()});
    for name in names() {
        ns.create(&mcp_server(&name, spec.clone()))?;
    }
    // A Deployment of either kind may be called as one of the other, so these are other names.
    let virtual_names = [
        format!("{}v", "n".repeat(252)),
        vec!["v".repeat(62); 4].join("."),
        "v.v".into(),
        "v-v".into(),
        "v".repeat(59),
    ];
    for name in &virtual_names {
        ns.create(&virtual_mcp_server(name, json!({})))?;
    }

    for name in names() {
        let cr = ns.wait(&format!("MCPServer/{name}"), "has a status", |cr| {
            cr["status"]["observedGeneration"] == 1 && condition(cr, "Ready")["reason"] == "NotReady"
        })?;
        for (kind, count) in KINDS {
            wait_for(&format!("{count} {kind} of {name}"), BOUND, || {
                Ok((owned(ns, kind, &cr)?.len() == count).then_some(()))
            })?;
        }
        let services: BTreeSet<_> = owned(ns, "Service", &cr)?.iter().map(name_of).collect();
        let url = cr["status"]["url"].as_str().unwrap_or_default();
        assert!(services.iter().any(|service| url.starts_with(&format!("http://{service}."))), "{url}: {services:?}");
        // The proxy finds the pods by what the configuration says.
        let config = owned(ns, "ConfigMap", &cr)?.remove(0);
        let config: Value = serde_json::from_str(config["data"]["runconfig.json"].as_str().unwrap_or_default())?;
        let headless = &config["scaling_config"]["headless_service"];
        let stateful_set = owned(ns, "StatefulSet", &cr)?.remove(0);
        assert_eq!(headless["statefulset_name"], name_of(&stateful_set), "{config}");
        assert_eq!(headless["service_name"], stateful_set["spec"]["serviceName"], "{config}");
        for service in ["service_name", "ready_service_name"] {
            assert!(services.contains(headless[service].as_str().unwrap_or_default()), "{headless}: {services:?}");
        }
        // Each has pods: what the API server takes, another controller may choke on.
        wait_for(&format!("pods of {name}"), BOUND, || {
            let sets = owned(ns, "ReplicaSet", &owned(ns, "Deployment", &cr)?.remove(0))?;
            let Some(set) = sets.first() else { return Ok(None) };
            let pods = [owned(ns, "Pod", set)?.len(), owned(ns, "Pod", &stateful_set)?.len()];
            Ok((pods == [2, 2]).then_some(()))
        })?;
    }
    for name in &virtual_names {
        let cr = ns.wait(&format!("VirtualMCPServer/{name}"), "has a status", |cr| {
            cr["status"]["observedGeneration"] == 1 && condition(cr, "Ready")["reason"] == "NotReady"
        })?;
        let service = owned(ns, "Service", &cr)?.remove(0);
        let url = cr["status"]["url"].as_str().unwrap_or_default();
        assert!(url.starts_with(&format!("http://{}.", name_of(&service))), "{url}: {service}");
        // What the pods mount is there, and they are there.
        let (config, deployment) = (owned(ns, "ConfigMap", &cr)?.remove(0), owned(ns, "Deployment", &cr)?.remove(0));
        let mounted = &deployment["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"];
        assert_eq!(*mounted, name_of(&config), "{deployment}");
        wait_for(&format!("pods of {name}"), BOUND, || {
            let sets = owned(ns, "ReplicaSet", &deployment)?;
            let Some(set) = sets.first() else { return Ok(None) };
            Ok((!owned(ns, "Pod", set)?.is_empty()).then_some(()))
        })?;
    }

    // Each has its own.
    for (kind, count) in KINDS {
        let all = ns.client.list(&ns.name, kind)?;
        let virtual_servers = if kind == "StatefulSet" { 0 } else { virtual_names.len() };
        let built = all.iter().filter(|object| !object["metadata"]["ownerReferences"].is_null()).count();
        assert_eq!(built, names().len() * count + virtual_servers, "{kind}");
    }
    // A revision's name is a label of the pods, too.
    let longest = &names()[7];
    ns.edit(&format!("MCPServer/{longest}"), &json!({"spec": {"image": "example:2"}}))?;
    let cr = ns.get(&format!("MCPServer/{longest}"))?;
    wait_for("pods of the new image", BOUND, || {
        let pods = owned(ns, "Pod", &owned(ns, "StatefulSet", &cr)?.remove(0))?;
        Ok(pods.iter().any(|pod| pod["spec"]["containers"][0]["image"] == "example:2").then_some(()))
    })?;
    Ok(())
}

fn owned(ns: &Namespace, kind: &str, owner: &Value) -> Result<Vec<Value>> {
    let uid = &owner["metadata"]["uid"];
    let all = ns.client.list(&ns.name, kind)?.into_iter();
    Ok(all.filter(|object| object["metadata"]["ownerReferences"][0]["uid"] == *uid).collect())
}

fn name_of(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}
