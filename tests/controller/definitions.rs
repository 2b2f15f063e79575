//! Definitions of the custom resources that are not Berth's: they lack fields, or a version.

use std::sync::Arc;
use std::time::Duration;

use berth_test_cluster::{Result, wait_for};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::alone::{Alone, trial};
use crate::objects::{condition, mcp_server, parts, redis, virtual_mcp_server};
use crate::world::{BOUND, World};

pub(crate) fn trials(world: &Arc<World>) -> Vec<Trial> {
    vec![
        trial(world, "definitions::a_field_that_a_new_definition_keeps_is_written_without_a_restart", replaced),
        trial(world, "definitions::v1alpha1_alone_is_enough", old_version),
    ]
}

const DEFINITIONS: [&str; 2] = ["mcpservers.toolhive.stacklok.dev", "virtualmcpservers.toolhive.stacklok.dev"];

/// A definition as it can be applied anew.
fn definition(alone: &Alone, name: &str) -> Result<Value> {
    let found = alone.ns.kubectl.get_json(&format!("crd/{name}"))?;
    Ok(
        json!({"apiVersion": found["apiVersion"], "kind": found["kind"], "metadata": {"name": name}, "spec": found["spec"]}),
    )
}

/// Puts a definition in place of the one of its name; resources of it go.
fn replace(alone: &Alone, definition: &Value) -> Result<()> {
    let name = definition["metadata"]["name"].as_str().unwrap_or_default();
    let kubectl = &alone.ns.kubectl;
    kubectl.run(&["delete", "crd", name, "--timeout=60s"])?.ok()?;
    kubectl.apply_yaml(&definition.to_string())?.ok()?;
    wait_for(&format!("{name} being served"), BOUND, || {
        let established = condition(&kubectl.get_json(&format!("crd/{name}"))?, "Established")["status"] == "True";
        Ok(established.then_some(()))
    })
}

/// ToolHive's definition had no such fields in versions before this one's; it is replaced under a Berth that runs.
fn replaced(alone: &mut Alone) -> Result<(), Failed> {
    const LACKING: [&str; 2] = ["replicas", "selector"];
    let whole = definition(alone, DEFINITIONS[0])?;
    let mut lacking = whole.clone();
    for version in lacking["spec"]["versions"].as_array_mut().into_iter().flatten() {
        let status = version["schema"]["openAPIV3Schema"]["properties"]["status"].as_object_mut().expect("a status");
        // Berth's keeps what it does not know.
        status.remove("x-kubernetes-preserve-unknown-fields");
        let status = status["properties"].as_object_mut().expect("a status with fields");
        LACKING.iter().for_each(|field| drop(status.remove(*field).expect("Berth's definition has it")));
        version["subresources"] = json!({"status": {}});
    }
    replace(alone, &lacking)?;
    let ns = &alone.ns;
    let berth = alone.berth(&[])?;
    ns.create(&mcp_server("foo", json!({"replicas": 2, "sessionStorage": redis()})))?;
    let cr = ns.wait("MCPServer/foo", "has a status", |cr| cr["status"]["phase"] == "Pending");
    let cr = cr.map_err(|error| format!("{error}; {}", berth.log()))?;
    assert!(LACKING.iter().all(|field| cr["status"][field].is_null()), "{cr}");
    // Tried with each look at everything, and no more often.
    std::thread::sleep(Duration::from_secs(3));
    let (audit, version) = (ns.audit(), ns.get("MCPServer/foo")?["metadata"]["resourceVersion"].clone());
    std::thread::sleep(Duration::from_secs(5));
    let writes = audit.writes_in(&ns.name);
    assert!((1..=20).contains(&writes.len()), "{writes:?}");
    assert!(writes.iter().all(|write| write.starts_with("patch mcpservers/status ")), "{writes:?}");
    assert_eq!(ns.get("MCPServer/foo")?["metadata"]["resourceVersion"], version, "and changes nothing");

    ns.kubectl.apply_yaml(&whole.to_string())?.ok()?;
    let cr =
        ns.wait("MCPServer/foo", "has all fields", |cr| LACKING.iter().all(|field| !cr["status"][field].is_null()))?;
    assert!(cr["status"]["selector"].as_str().is_some_and(|selector| selector.contains("toolhive-name=foo")), "{cr}");
    ns.settled("foo")?;
    assert!(!berth.log().contains("somebody changes back"), "{}", berth.log());
    Ok(())
}

fn old_version(alone: &mut Alone) -> Result<(), Failed> {
    for name in DEFINITIONS {
        let mut old = definition(alone, name)?;
        let versions = old["spec"]["versions"].as_array_mut().expect("versions");
        versions.retain(|version| version["name"] == "v1alpha1");
        assert_eq!(versions.len(), 1, "Berth's definitions have it");
        versions[0]["storage"] = json!(true);
        replace(alone, &old)?;
    }
    let ns = &alone.ns;
    let _berth = alone.berth(&[])?;
    for mut manifest in
        [mcp_server("foo", json!({"replicas": 2, "sessionStorage": redis()})), virtual_mcp_server("all", json!({}))]
    {
        manifest["apiVersion"] = json!("toolhive.stacklok.dev/v1alpha1");
        ns.kubectl.apply_yaml(&manifest.to_string())?.ok()?;
    }
    let get = |what: &str| ns.kubectl.get_json(what);
    let built = parts("foo").map(|part| (part, "mcpserver/foo"));
    let virtuals = ["ConfigMap/all-vmcp-config", "Service/vmcp-all", "Deployment/all"];
    let virtuals = virtuals.map(|part| (part.to_owned(), "virtualmcpserver/all"));
    for (part, cr) in built.into_iter().chain(virtuals) {
        let (object, cr) = (ns.wait(&part, "is there", |_| true)?, get(cr)?);
        let owner = &object["metadata"]["ownerReferences"][0];
        assert_eq!(owner["apiVersion"], "toolhive.stacklok.dev/v1alpha1", "{part}: {owner}");
        assert_eq!(owner["uid"], cr["metadata"]["uid"], "{part}: {owner}");
    }
    for cr in ["mcpserver/foo", "virtualmcpserver/all"] {
        let cr =
            wait_for(&format!("a status of {cr}"), BOUND, || Ok(Some(get(cr)?).filter(|cr| !cr["status"].is_null())))?;
        assert_eq!(
            (&cr["status"]["phase"], &cr["status"]["observedGeneration"]),
            (&json!("Pending"), &json!(1)),
            "{cr}"
        );
        assert_eq!(condition(&cr, "Ready")["reason"], "NotReady", "{cr}");
    }
    // Changes are seen, and so is the end.
    ns.kubectl.run(&["patch", "mcpserver/foo", "--type=merge", "-p", r#"{"spec":{"image":"example:2"}}"#])?.ok()?;
    ns.wait("StatefulSet/foo", "has the new image", |live| {
        live["spec"]["template"]["spec"]["containers"][0]["image"] == "example:2"
    })?;
    ns.kubectl.run(&["delete", "mcpserver/foo"])?.ok()?;
    for part in parts("foo") {
        wait_for(&format!("the end of {part}"), BOUND, || Ok(ns.find(&part)?.is_none().then_some(())))?;
    }
    Ok(())
}
