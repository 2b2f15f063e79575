//! A server that ToolHive built is moved over, by the commands of docs/without-toolhive.md.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use berth_test_cluster::wait_for;
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::objects::{condition, mcp_server, parts, redis};
use crate::world::{BOUND, Namespace, World, trial};

pub(crate) fn trials(world: &Arc<World>) -> Vec<Trial> {
    vec![trial(world, "moving::a_server_of_toolhives_is_moved_over_as_documented", moved)]
}

fn moved(ns: &Namespace) -> Result<(), Failed> {
    let mut server = mcp_server("sample", json!({"sessionStorage": redis()}));
    server["metadata"].as_object_mut().unwrap().remove("annotations");
    let cr = ns.create(&server)?;
    for (manager, object) in of_toolhive(&cr) {
        let arguments = ["apply", "--server-side", &format!("--field-manager={manager}"), "-f", "-"];
        ns.kubectl.run_with_stdin(&arguments, &object.to_string())?.ok()?;
    }
    for selector in [PROXIES, "app=sample"] {
        wait_for("a pod of ToolHive's", BOUND, || Ok((!all(ns, "pods", selector)?.is_empty()).then_some(())))?;
    }

    // Asked for, while ToolHive's objects are there: nothing is touched, and the resource says why.
    ns.kubectl.run(&["annotate", "mcpserver", "sample", "berth.dev/class=berth"])?.ok()?;
    ns.wait("MCPServer/sample", "says what is in the way", |cr| elsewhere(cr)["status"] == "True")?;
    assert_eq!(ns.get("Service/mcp-sample")?["spec"]["type"], "ClusterIP");
    assert_eq!(ns.get("StatefulSet/sample")?["spec"]["serviceName"], "mcp-sample");

    for command in commands() {
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        ns.kubectl.run(&words)?.ok()?;
    }
    for part in parts("sample") {
        ns.wait(&part, "is Berth's", |object| object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "berth")?;
    }
    ns.wait("MCPServer/sample", "says that all is its own", |cr| elsewhere(cr)["status"] == "False")?;
    assert_eq!(ns.get("StatefulSet/sample")?["spec"]["serviceName"], "mcp-sample-headless");
    assert_eq!(ns.get("Service/mcp-sample")?["spec"]["clusterIP"], "None");

    // What ran has been adopted: every pod and every ReplicaSet has an owner, and the owner is there.
    let (deployment, stateful_set) = (uid(&ns.get("Deployment/sample")?), uid(&ns.get("StatefulSet/sample")?));
    wait_for("orphans being adopted", BOUND, || {
        let sets = all(ns, "replicasets", PROXIES)?;
        let owners: Vec<Value> = sets.iter().map(uid).chain([stateful_set.clone()]).collect();
        let pods = all(ns, "pods", "toolhive-name=sample")?;
        let adopted =
            sets.iter().all(|set| owner(set) == deployment) && pods.iter().all(|pod| owners.contains(&owner(pod)));
        Ok((adopted && sets.len() >= 2).then_some(()))
    })?;
    Ok(())
}

const PROXIES: &str = "app=mcpserver,toolhive-name=sample";

fn elsewhere(cr: &Value) -> Value {
    condition(cr, "ManagedElsewhere")
}

fn uid(object: &Value) -> Value {
    object["metadata"]["uid"].clone()
}

fn owner(object: &Value) -> Value {
    object["metadata"]["ownerReferences"][0]["uid"].clone()
}

fn all(ns: &Namespace, plural: &str, selector: &str) -> berth_test_cluster::Result<Vec<Value>> {
    let list = ns.kubectl.run(&["get", plural, "-l", selector, "-o", "json"])?.ok()?;
    let list: Value = serde_json::from_str(&list).expect("kubectl prints JSON");
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

/// The commands of the page's section, in order.
fn commands() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/without-toolhive.md");
    let text = fs::read_to_string(page).expect("the page is there");
    let section = text.split("\n## ").find(|section| section.starts_with("Moving a server over")).expect("a section");
    let commands: Vec<_> = section.lines().filter_map(|line| line.strip_prefix("    kubectl ")).collect();
    assert_eq!(commands.len(), 4, "is the way to find them still right?");
    commands.into_iter().map(|command| format!("kubectl {command}")).collect()
}

/// What ToolHive's operator and its runner leave behind, as far as names, labels and managers count.
fn of_toolhive(cr: &Value) -> Vec<(&'static str, Value)> {
    let owner = json!([{"apiVersion": cr["apiVersion"], "kind": "MCPServer", "name": "sample", "uid": cr["metadata"]["uid"],
                        "controller": true, "blockOwnerDeletion": true}]);
    let front = json!({"app": "mcpserver", "app.kubernetes.io/name": "mcpserver", "app.kubernetes.io/instance": "sample",
                       "toolhive": "true", "toolhive-name": "sample"});
    let back = json!({"app": "sample", "toolhive": "true", "toolhive-name": "sample", "toolhive-transport": "streamable-http"});
    let metadata =
        |name: &str, labels: &Value, owner: &Value| json!({"name": name, "labels": labels, "ownerReferences": owner});
    let template = |labels: &Value, container: &str| json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": container, "image": "old"}]}});
    let none = json!([]);
    vec![
        (
            "thv-operator",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("sample-runconfig", &front, &owner),
                                "data": {"runconfig.json": "{}"}}),
        ),
        (
            "thv-operator",
            json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata("mcp-sample-proxy", &front, &owner),
                                "spec": {"selector": front, "ports": [{"port": 8080}]}}),
        ),
        (
            "thv-operator",
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata("sample", &front, &owner),
                                "spec": {"selector": {"matchLabels": front}, "template": template(&front, "toolhive")}}),
        ),
        (
            "toolhive-container-manager",
            json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata("mcp-sample", &back, &none),
                                "spec": {"selector": {"app": "sample"}, "ports": [{"port": 8080}]}}),
        ),
        (
            "toolhive-container-manager",
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata("sample", &back, &none),
                                "spec": {"serviceName": "mcp-sample", "selector": {"matchLabels": {"app": "sample"}},
                                         "template": template(&back, "mcp")}}),
        ),
    ]
}
