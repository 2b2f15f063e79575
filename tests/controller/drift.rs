//! What is as it should be is left alone, what is not is set right, and what is others' stays theirs.

use std::sync::Arc;

use libtest_mimic::{Failed, Trial};
use serde_json::json;

use crate::objects::{mcp_server, parts, redis};
use crate::world::{Namespace, World, trial};

pub(crate) fn trials(world: &Arc<World>) -> Vec<Trial> {
    vec![trial(world, "drift::an_edit_by_hand_is_set_back_once_and_others_fields_stay", edited)]
}

fn edited(ns: &Namespace) -> Result<(), Failed> {
    ns.build(&mcp_server("foo", json!({"replicas": 2, "sessionStorage": redis()})))?;
    let before: Vec<_> = parts("foo").iter().map(|part| ns.get(part)).collect::<Result<_, _>>()?;
    // Somebody else's: another webhook's sidecar, an annotation, a label.
    let theirs = json!({
        "metadata": {"annotations": {"example.com/note": "mine"}, "labels": {"team": "a"}},
        "spec": {"template": {"metadata": {"annotations": {"sidecar": "yes"}}}},
    });
    ns.edit("Deployment/foo", &theirs)?;
    let audit = ns.audit();
    ns.settled("foo")?;
    assert_eq!(audit.object_writes_in(&ns.name), Vec::<String>::new(), "fields of others are no drift");

    let proxy = before[5]["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    ns.kubectl.run(&["set", "image", "deployment/foo", "toolhive=example.com/another:2"])?.ok()?;
    ns.wait("Deployment/foo", "has its image again", |live| {
        live["spec"]["template"]["spec"]["containers"][0]["image"] == proxy
    })?;
    ns.edit("Service/mcp-foo-proxy", &json!({"spec": {"selector": {"app": "x"}}}))?;
    ns.wait("Service/mcp-foo-proxy", "has its selector again", |live| live["spec"] == before[3]["spec"])?;
    ns.edit("ConfigMap/foo-runconfig", &json!({"data": {"runconfig.json": "{}"}}))?;
    ns.wait("ConfigMap/foo-runconfig", "has its content again", |live| live["data"] == before[0]["data"])?;
    ns.client.delete(&ns.name, "Service/mcp-foo")?;
    ns.wait("Service/mcp-foo", "is there again", |live| live["metadata"]["uid"] != before[2]["metadata"]["uid"])?;
    ns.settled("foo")?;
    let writes = audit.object_writes_in(&ns.name);
    // Those that met a newer state changed nothing.
    let done: Vec<_> = writes.iter().filter(|write| write.ends_with(" 200") || write.ends_with(" 201")).collect();
    let of = |what: &str| done.iter().filter(|write| write.contains(what)).count();
    assert_eq!((of("patch deployments"), of("patch configmaps")), (1, 1), "{writes:?}");
    assert_eq!((of("patch services"), of("patch statefulsets")), (2, 0), "{writes:?}");
    let live = ns.get("Deployment/foo")?;
    assert_eq!(live["metadata"]["annotations"]["example.com/note"], "mine", "{live}");
    assert_eq!(live["metadata"]["labels"]["team"], "a", "{live}");
    assert_eq!(live["spec"]["template"]["metadata"]["annotations"]["sidecar"], "yes", "{live}");
    Ok(())
}
