//! Resources that ToolHive runs, or whose names somebody else has.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::objects::{condition, mcp_server, virtual_mcp_server};
use crate::world::{Namespace, World, trial};

pub(crate) fn trials(world: &Arc<World>) -> Vec<Trial> {
    vec![
        trial(world, "beside::a_refused_resource_that_toolhive_runs_is_left_to_it", runs),
        trial(world, "beside::a_refused_resource_whose_status_toolhive_writes_is_left_to_it", writes_status),
        trial(world, "beside::a_workload_of_somebody_elses_is_not_touched", workloads_of_others),
    ]
}

/// What ToolHive's operator and its runner make of a resource, as far as names, owners and managers count.
fn workload(cr: &Value, kind: &str, container: &str) -> (&'static str, Value) {
    let labels = json!({"app": container, "toolhive-name": cr["metadata"]["name"]});
    let owner = json!([{"apiVersion": cr["apiVersion"], "kind": cr["kind"], "name": cr["metadata"]["name"],
        "uid": cr["metadata"]["uid"], "controller": true}]);
    let (manager, owners) =
        if kind == "Deployment" { ("thv-operator", owner) } else { ("toolhive-container-manager", json!([])) };
    let workload = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": cr["metadata"]["name"], "ownerReferences": owners},
        "spec": {"replicas": 1, "serviceName": "x", "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels}, "spec": {"containers": [{"name": container, "image": "old"}]}}},
    });
    (manager, workload)
}

/// ToolHive takes it on: its workload, and what it says of it.
fn run_by_toolhive(ns: &Namespace, manifest: &Value, kind: &str) -> Result<(), Failed> {
    let mut manifest = manifest.clone();
    // Nobody asks for Berth yet.
    manifest["metadata"]["annotations"] = json!({});
    let cr = ns.create(&manifest)?;
    let container = if cr["kind"] == "MCPServer" { "toolhive" } else { "vmcp" };
    let (manager, mut workload) = workload(&cr, kind, container);
    if kind == "Deployment" {
        workload["spec"].as_object_mut().unwrap().remove("serviceName");
    }
    ns.client.create(&ns.name, manager, &workload)?;
    say(ns, &cr, "Running")
}

fn what(cr: &Value) -> String {
    format!("{}/{}", cr["kind"].as_str().unwrap(), cr["metadata"]["name"].as_str().unwrap())
}

/// ToolHive's word about a resource.
fn say(ns: &Namespace, cr: &Value, phase: &str) -> Result<(), Failed> {
    let phase = if cr["kind"] == "MCPServer" { phase } else { "Ready" };
    let ready = json!([{"type": "Ready", "status": "True", "reason": "Running", "message": "ToolHive's",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    let status = json!({"status": {"phase": phase, "url": "http://toolhive", "conditions": ready}});
    ns.client.merge_status_as(&ns.name, &what(cr), "thv-operator", &status)?;
    Ok(())
}

fn ask_for_berth(ns: &Namespace, manifest: &Value) -> Result<(), Failed> {
    ns.edit(&what(manifest), &json!({"metadata": {"annotations": {"berth.dev/class": "berth"}}}))?;
    Ok(())
}

/// ToolHive's word stands, and the resource says why nothing more is said.
fn assert_left(cr: &Value, because: [&str; 2]) {
    let elsewhere = condition(cr, "ManagedElsewhere");
    assert_eq!(elsewhere["status"], "True", "{cr}");
    let message = elsewhere["message"].as_str().unwrap_or_default();
    assert!(because.iter().all(|because| message.contains(because)), "{message}");
    assert_eq!(cr["status"]["url"], "http://toolhive", "{cr}");
    assert_ne!(cr["status"]["phase"], "Failed", "{cr}");
    assert_eq!(condition(cr, "Ready")["message"], "ToolHive's", "{cr}");
    assert!(condition(cr, "StdioReplicaCapped").is_null(), "{cr}");
}

fn runs(ns: &Namespace) -> Result<(), Failed> {
    let oidc = json!({"oidcConfig": {"type": "kubernetes"}});
    let incoming = json!({"incomingAuth": {"type": "oidc", "oidcConfigRef": {"name": "x", "audience": "x"}}});
    let all = [
        (mcp_server("stdio", json!({"transport": "stdio"})), "Deployment", "spec.transport"),
        (mcp_server("runner", json!({"transport": "stdio"})), "StatefulSet", "spec.transport"),
        (mcp_server("guarded", oidc), "Deployment", "spec.oidcConfig"),
        (virtual_mcp_server("virtual", incoming), "Deployment", "spec.incomingAuth"),
    ];
    for (manifest, kind, _) in &all {
        run_by_toolhive(ns, manifest, kind)?;
    }
    let audit = ns.audit();
    for (manifest, ..) in &all {
        ask_for_berth(ns, manifest)?;
    }
    for (manifest, kind, field) in &all {
        let elsewhere = |cr: &Value| condition(cr, "ManagedElsewhere")["status"] == "True";
        let cr = ns.wait(&what(manifest), "says that it is ToolHive's", elsewhere)?;
        assert_left(&cr, [&format!("{kind} {}", manifest["metadata"]["name"].as_str().unwrap()), field]);
    }
    ns.settled_anyhow()?;
    for (manifest, _, field) in &all {
        assert_left(&ns.get(&what(manifest))?, [field, "ToolHive's"]);
    }
    // Everything is looked at each second, and asked for once in a long time; told once.
    assert_eq!(audit.object_writes_in(&ns.name), Vec::<String>::new());
    let reads = audit.requests_in(&ns.name).into_iter().filter(|request| request.starts_with("get ")).count();
    assert!(reads <= 20, "{:#?}", audit.requests_in(&ns.name));
    let events = ns.client.list(&ns.name, "Event")?;
    let told = events.iter().filter(|event| event["reason"] == "ManagedElsewhere").count();
    assert_eq!(told, all.len(), "{events:?}");

    // It goes on once nothing of ToolHive's is there.
    ns.client.delete(&ns.name, "Deployment/stdio")?;
    ns.client.merge_status(&ns.name, "MCPServer/stdio", &json!({"status": null}))?;
    let cr = ns.wait("MCPServer/stdio", "is judged", |cr| cr["status"]["phase"] == "Failed")?;
    assert_eq!(condition(&cr, "Ready")["reason"], "TransportUnsupported", "{cr}");
    Ok(())
}

/// ToolHive comes to a resource that Berth has judged, and makes no workload either.
fn writes_status(ns: &Namespace) -> Result<(), Failed> {
    let manifest = mcp_server("late", json!({"transport": "stdio"}));
    ns.create(&manifest)?;
    ns.wait("MCPServer/late", "is judged", |cr| cr["status"]["phase"] == "Failed")?;
    ns.settled_anyhow()?;
    // Looked at each second.
    let audit = ns.audit();
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(audit.requests_in(&ns.name), Vec::<String>::new(), "what does not change costs nothing");

    say(ns, &manifest, "Pending")?;
    let elsewhere = |cr: &Value| condition(cr, "ManagedElsewhere")["status"] == "True";
    ns.wait("MCPServer/late", "is left to ToolHive", elsewhere)?;
    let because = ["ToolHive writes its status", "spec.transport"];
    // Its operator follows each change of the resource, and puts right what went with Berth's word.
    say(ns, &manifest, "Running")?;
    ns.settled_anyhow()?;
    assert_left(&ns.get("MCPServer/late")?, because);

    // What Berth would build is another thing: then the status is of what runs.
    ns.edit("MCPServer/late", &json!({"spec": {"transport": "sse"}}))?;
    let cr = ns.wait("MCPServer/late", "is built", |cr| condition(cr, "ManagedElsewhere")["status"] == "False")?;
    assert_eq!(condition(&cr, "Ready")["reason"], "NotReady", "{cr}");
    assert!(cr["status"]["url"].as_str().is_some_and(|url| url.ends_with("/sse")), "{cr}");
    // A guard that is asked for now is judged as Berth's own: ToolHive's word is of before.
    ns.edit("MCPServer/late", &json!({"spec": {"oidcConfig": {"type": "kubernetes"}}}))?;
    let cr = ns.wait("MCPServer/late", "is judged again", |cr| cr["status"]["phase"] == "Failed")?;
    assert_eq!(condition(&cr, "ManagedElsewhere")["status"], "False", "{cr}");
    Ok(())
}

/// One that a person made, without an owner, under the name that is needed.
fn workloads_of_others(ns: &Namespace) -> Result<(), Failed> {
    let mut all = Vec::new();
    for (kind, manifest) in [
        ("Deployment", mcp_server("front", json!({}))),
        ("StatefulSet", mcp_server("back", json!({}))),
        ("Deployment", virtual_mcp_server("virtual", json!({}))),
    ] {
        let (_, mut theirs) = workload(&manifest, kind, "theirs");
        theirs["metadata"]["ownerReferences"] = json!([]);
        if kind == "Deployment" {
            theirs["spec"].as_object_mut().unwrap().remove("serviceName");
        }
        let theirs = ns.create(&theirs)?;
        ns.create(&manifest)?;
        all.push((manifest, theirs));
    }
    for (manifest, theirs) in &all {
        let cr = ns.wait(&what(manifest), "says that it is taken", |cr| {
            condition(cr, "ManagedElsewhere")["status"] == "True"
        })?;
        for kind in ["ManagedElsewhere", "Ready"] {
            let message = condition(&cr, kind)["message"].clone();
            let named = what(theirs).replace('/', " ");
            let says = |text: &str| message.as_str().is_some_and(|message| message.contains(text));
            assert!(says(&named) && says("a-person"), "{kind}: {message}");
        }
        assert_eq!(condition(&cr, "Ready")["reason"], "ManagedElsewhere", "{cr}");
        assert_eq!((&cr["status"]["phase"], &cr["status"]["url"]), (&json!("Failed"), &json!("")), "{cr}");
    }
    ns.settled_anyhow()?;
    for (_, theirs) in &all {
        let live = ns.get(&what(theirs))?;
        assert_eq!((&live["spec"], &live["metadata"]["uid"]), (&theirs["spec"], &theirs["metadata"]["uid"]));
    }
    assert_eq!(ns.client.list(&ns.name, "Service")?, Vec::<Value>::new(), "half of what belongs together");
    assert_eq!((ns.find("StatefulSet/front")?, ns.find("Deployment/back")?), (None, None));
    Ok(())
}
