//! Resources that no webhook has looked at: made before it was installed, or while it was down.

use std::sync::Arc;
use std::time::Duration;

use berth_test_cluster::Result;
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::alone::{Alone, trial, wait_until_it_leads};
use crate::generation::stamp;
use crate::objects::{condition, mcp_server, parts, redis, virtual_mcp_server};
use crate::outage::wait_for_image;
use crate::world::World;

pub(crate) fn trials(world: &Arc<World>) -> Vec<Trial> {
    vec![
        trial(world, "unchecked::what_is_wrong_is_said_and_holds_nobody_up", wrong),
        trial(world, "unchecked::while_the_webhook_is_down_the_controller_says_so_and_goes_on", down),
    ]
}

struct Wrong {
    name: &'static str,
    spec: Value,
    /// Of the condition Ready.
    reason: &'static str,
    /// What its message has to name.
    says: &'static str,
}

fn wrongs() -> Vec<Wrong> {
    let wrong = |name, spec, reason, says| Wrong { name, spec, reason, says };
    let storage = |storage: Value| json!({"sessionStorage": storage});
    let template = |template: Value| json!({"podTemplateSpec": template});
    let container = |field: &str, value: Value| json!({"spec": {"containers": [{"name": "mcp", field: value}]}});
    vec![
        wrong("stdio", json!({"transport": "stdio", "replicas": 2}), "TransportUnsupported", "spec.transport"),
        wrong("nowhere", storage(json!({"provider": "redis"})), "InvalidSpec", "[berth:SessionStorageAddressMissing]"),
        wrong(
            "portless",
            storage(json!({"provider": "redis", "address": "redis"})),
            "InvalidSpec",
            "spec.sessionStorage.address",
        ),
        wrong("elsewhere", storage(json!({"provider": "memcached"})), "InvalidSpec", "spec.sessionStorage.provider"),
        wrong(
            "keyless",
            storage(json!({"provider": "redis", "address": "r:6379", "passwordRef": {"name": "s"}})),
            "InvalidSpec",
            "spec.sessionStorage.passwordRef",
        ),
        wrong(
            "nameless",
            storage(json!({"provider": "redis", "address": "r:6379", "passwordRef": {"key": "s"}})),
            "InvalidSpec",
            "spec.sessionStorage.passwordRef",
        ),
        wrong(
            "told",
            storage(json!({"provider": "redis", "address": "redis://u:hush@r:6379"})),
            "InvalidSpec",
            "spec.sessionStorage.address",
        ),
        wrong(
            "database",
            storage(json!({"provider": "redis", "address": "r:6379", "db": -1})),
            "InvalidSpec",
            "spec.sessionStorage.db",
        ),
        wrong("backends", json!({"backendReplicas": -2}), "InvalidSpec", "spec.backendReplicas"),
        wrong("text", template(json!({"spec": "none"})), "InvalidSpec", "spec.podTemplateSpec"),
        wrong("list", template(json!({"metadata": []})), "InvalidSpec", "spec.podTemplateSpec"),
        wrong("number", template(container("image", json!(5))), "InvalidSpec", "spec.podTemplateSpec"),
        wrong("flat", template(container("ports", json!(8080))), "InvalidSpec", "spec.podTemplateSpec"),
        wrong("typo", template(json!({"spec": {"tolerrations": []}})), "InvalidSpec", "tolerrations"),
        wrong("typo2", template(container("liveness", json!({}))), "InvalidSpec", "liveness"),
        wrong("never", template(json!({"spec": {"restartPolicy": "Never"}})), "ApplyFailed", "restartPolicy"),
        wrong(
            "volume",
            template(json!({"spec": {"volumes": [{"name": "A B", "emptyDir": {}}]}})),
            "ApplyFailed",
            "volumes",
        ),
        wrong(
            "mount",
            template(container("volumeMounts", json!([{"name": "none", "mountPath": "/x"}]))),
            "ApplyFailed",
            "volumeMounts",
        ),
        wrong(
            "quantity",
            template(container("resources", json!({"limits": {"cpu": "much"}}))),
            "InvalidSpec",
            "containers[0].resources.limits.cpu",
        ),
    ]
}

fn wrong(alone: &mut Alone) -> Result<(), Failed> {
    alone.resync_as_shipped();
    let ns = &alone.ns;
    for Wrong { name, spec, .. } in wrongs() {
        ns.create(&mcp_server(name, spec))?;
    }
    let mut grace = mcp_server("grace", json!({}));
    grace["metadata"]["annotations"]["berth.dev/termination-grace-period-seconds"] = json!("soon");
    ns.create(&grace)?;
    ns.create(&mcp_server("three", json!({"replicas": 3})))?;
    ns.create(&virtual_mcp_server("vthree", json!({"replicas": 3})))?;

    let mut berth = alone.berth(&[])?;
    wait_until_it_leads(&berth)?;
    ns.build(&mcp_server("good", json!({"replicas": 2, "sessionStorage": redis()})))?;
    let mut wrongs = wrongs();
    wrongs.push(Wrong { name: "grace", spec: json!({}), reason: "InvalidSpec", says: "termination-grace-period" });
    for Wrong { name, reason, says, .. } in &wrongs {
        let cr = ns.wait(&format!("MCPServer/{name}"), "says why not", |cr| {
            condition(cr, "Ready")["status"] == "False" && condition(cr, "Ready")["reason"] != "NotReady"
        })?;
        let ready = condition(&cr, "Ready");
        let message = ready["message"].as_str().unwrap_or_default();
        assert!(ready["reason"] == *reason && message.contains(says) && !message.contains("hush"), "{name}: {ready}");
        assert_eq!(
            (&cr["status"]["phase"], &cr["status"]["observedGeneration"]),
            (&json!("Failed"), &json!(1)),
            "{cr}"
        );
    }
    let stdio = condition(&ns.get("MCPServer/stdio")?, "StdioReplicaCapped");
    assert_eq!((&stdio["status"], &stdio["reason"]), (&json!("True"), &json!("StdioTransportCapAt1")));
    for (cr, deployment) in [("MCPServer/three", "Deployment/three"), ("VirtualMCPServer/vthree", "Deployment/vthree")]
    {
        let told =
            ns.wait(cr, "says what is built of it", |cr| condition(cr, "SessionStorageWarning")["status"] == "True")?;
        assert_eq!(condition(&told, "SessionStorageWarning")["reason"], "SessionStorageMissingForReplicas");
        assert_eq!(ns.get(deployment)?["spec"]["replicas"], 1);
    }

    // Each is tried again more and more seldom, or not at all, and says nothing twice.
    let audit = ns.audit();
    std::thread::sleep(Duration::from_secs(15));
    let load = audit.load();
    let refused = wrongs.iter().filter(|wrong| wrong.reason == "ApplyFailed").count();
    assert_eq!(load.get("patch mcpservers/status").copied().unwrap_or_default(), 0, "{load:#?}");
    assert_eq!(load.get("create events").copied().unwrap_or_default(), 0, "{load:#?}");
    let tries: usize = load.iter().filter(|(what, _)| what.starts_with("patch ")).map(|(_, count)| count).sum();
    assert!(tries <= refused * 4, "{load:#?}");

    // One that is set right is built at once.
    ns.edit("MCPServer/never", &json!({"spec": {"podTemplateSpec": null}}))?;
    ns.edit("MCPServer/nowhere", &json!({"spec": {"sessionStorage": redis()}}))?;
    for name in ["never", "nowhere"] {
        for part in parts(name) {
            ns.wait(&part, "is there", |_| true)?;
        }
        ns.wait(&format!("MCPServer/{name}"), "waits for its pods only", |cr| {
            condition(cr, "Ready")["reason"] == "NotReady"
        })?;
    }
    assert_eq!(berth.process().exit_status()?, None);
    Ok(())
}

/// The webhooks are registered, and nobody answers them; then nobody is registered.
fn down(alone: &mut Alone) -> Result<(), Failed> {
    alone.resync_as_shipped();
    alone.options.register = true;
    let mut webhook = alone.berth(&["--no-controller"])?;
    alone.options.register = false;
    let mut controller = alone.berth(&["--no-webhook"])?;
    wait_until_it_leads(&controller)?;
    let ns = &alone.ns;
    ns.build_all(&["foo", "bar"].map(|name| mcp_server(name, json!({"sessionStorage": redis()}))))?;
    ns.edit("MCPServer/foo", &json!({"spec": {"image": "example:2"}}))?;
    wait_for_image(ns, "foo")?;
    ns.settled("foo")?;

    webhook.kill()?;
    ns.client.delete(&ns.name, "Deployment/foo")?;
    let cr = ns.wait("MCPServer/foo", "says what is wrong", |cr| condition(cr, "Ready")["reason"] == "ApplyFailed")?;
    let ready = condition(&cr, "Ready");
    assert!(ready["message"].as_str().is_some_and(|message| message.contains("failed calling webhook")), "{ready}");
    // What no webhook looks at goes on.
    ns.client.delete(&ns.name, "Service/mcp-bar")?;
    ns.wait("Service/mcp-bar", "is there again", |_| true)?;
    webhook.restart()?;
    ns.wait("Deployment/foo", "is there again", |live| live["metadata"]["deletionTimestamp"].is_null())?;
    ns.wait("MCPServer/foo", "waits for its pods only", |cr| condition(cr, "Ready")["reason"] == "NotReady")?;

    // Without any webhook, an old template does not stay either.
    webhook.deregister()?;
    let templates = || ["Deployment/foo", "StatefulSet/foo"].map(|what| Ok(ns.get(what)?["spec"]["template"].clone()));
    let before: Vec<Value> = templates().into_iter().collect::<Result<_>>()?;
    let old = json!({"spec": {"template": {"metadata": {"annotations": {"toolhive.stacklok.dev/mcpserver-generation": "1"}}}}});
    for what in ["Deployment/foo", "StatefulSet/foo"] {
        ns.edit(what, &old)?;
        ns.wait(what, "has its stamp again", |live| stamp(live) == "2")?;
    }
    ns.settled("foo")?;
    assert_eq!(templates().into_iter().collect::<Result<Vec<_>>>()?, before);
    assert_eq!(controller.process().exit_status()?, None);
    Ok(())
}
