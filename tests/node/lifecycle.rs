//! What becomes of servers as their resource, their pods' image, or the controller goes; and what is never written.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use berth_test_cluster::{Error, Result, wait_for};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::context::{self, Context, trial};
use crate::scene::{BOUND, STAMP, Scene, redis, server};

/// A resync of the controller, and more.
const RESYNC: Duration = Duration::from_secs(12);
/// With the one before it, a minute.
const SETTLED: Duration = Duration::from_secs(48);
const BERTH: &str = "system:serviceaccount:berth-system:berth";

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        trial(ctx, "lifecycle::a_settled_cluster_is_not_written_to", no_drift),
        trial(ctx, "lifecycle::a_new_image_rolls_both_and_moves_the_stamp", new_image),
    ]
}

/// The one that the others would miss the controller in.
pub(crate) fn alone(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![context::alone(ctx, "lifecycle::without_the_controller_everything_goes_on", without_the_controller)]
}

/// Requests of Berth's account in the audit log from byte `start` on, by verb and resource; reads and its own Lease apart.
pub(crate) fn requests(scene: &Scene<'_>, start: u64) -> Result<Vec<Value>> {
    let (log, _) = scene.stage().audit_log()?;
    let failed = |error: std::io::Error| Error::new(format!("{}: {error}", log.display()));
    let mut log = fs::File::open(log).map_err(failed)?;
    log.seek(SeekFrom::Start(start)).map_err(failed)?;
    let mut text = Vec::new();
    log.read_to_end(&mut text).map_err(failed)?;
    let lines = text.split(|&byte| byte == b'\n');
    let events = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    Ok(events.filter(|event| event["user"]["username"] == BERTH).collect())
}

pub(crate) fn log_size(scene: &Scene<'_>) -> Result<u64> {
    let (log, _) = scene.stage().audit_log()?;
    Ok(fs::metadata(log).map_err(|error| Error::new(format!("{}: {error}", log.display())))?.len())
}

pub(crate) fn writes(requests: &[Value]) -> Vec<String> {
    let writes = requests.iter().filter(|event| {
        let verb = event["verb"].as_str().unwrap_or_default();
        ["create", "update", "patch", "delete"].contains(&verb) && event["objectRef"]["resource"] != "leases"
    });
    writes.map(|event| format!("{} {}", event["verb"], event["requestURI"])).collect()
}

/// Requests since a byte of the audit log that no other trial is the cause of: those about this one's namespace, and about
/// none of a trial's.
fn of_nobody_else(scene: &Scene<'_>, start: u64) -> Result<Vec<Value>> {
    let mut requests = requests(scene, start)?;
    requests.retain(|event| !scene.is_of_another_trial(event["objectRef"]["namespace"].as_str().unwrap_or_default()));
    Ok(requests)
}

fn no_drift(scene: &Scene<'_>) -> Result<(), Failed> {
    // Many of them, of which most ask for no pods: it is the objects that could drift.
    let mut all = String::new();
    for number in 0..50 {
        let mut object =
            server(&format!("s{number}"), &json!({"replicas": 0, "backendReplicas": 0, "sessionStorage": redis()}));
        if number % 5 == 0 {
            object["spec"]["podTemplateSpec"] = json!({"spec": {"nodeSelector": {"kubernetes.io/os": "linux"}}});
        }
        if number % 7 == 0 {
            object["spec"]["resources"] = json!({"limits": {"cpu": "0.5", "memory": "1024Mi"}});
        }
        all.push_str(&format!("---\n{object}\n"));
    }
    scene.kubectl.apply_yaml(&all)?.ok()?;
    wait_for("50 servers that are seen to", BOUND, || {
        let servers = scene.list("mcpservers")?;
        let settled = servers.iter().filter(|one| one["status"]["observedGeneration"] == one["metadata"]["generation"]);
        Ok((settled.count() == 50 && scene.list("deployments")?.len() == 50).then_some(()))
    })?;
    // A busy controller still has something to do then.
    let mut written = Vec::new();
    let start = wait_for("a resync without a write", BOUND, || {
        let start = log_size(scene)?;
        std::thread::sleep(RESYNC);
        written = writes(&of_nobody_else(scene, start)?);
        Ok(written.is_empty().then_some(start))
    })
    .map_err(|error| format!("{error}: {written:?}"))?;
    std::thread::sleep(SETTLED);
    assert_eq!(writes(&of_nobody_else(scene, start)?), Vec::<String>::new());

    // What somebody else changes of it is set back once; what is somebody else's stays.
    let start = log_size(scene)?;
    let port = json!([{"op": "replace", "path": "/spec/ports/0/targetPort", "value": 1234}]);
    let before = scene.get("service/mcp-s1-proxy")?["spec"]["ports"][0]["targetPort"].clone();
    scene.kubectl.run(&["annotate", "service/mcp-s1-proxy", "other=kept"])?.ok()?;
    scene.kubectl.run(&["patch", "service/mcp-s1-proxy", "--type=json", "--patch", &port.to_string()])?.ok()?;
    scene.wait_for_value("service/mcp-s1-proxy", "/spec/ports/0/targetPort", &before)?;
    std::thread::sleep(RESYNC);
    let requests = of_nobody_else(scene, start)?;
    let of_service = requests.iter().filter(|event| {
        // One that met a newer state changed nothing.
        let done = event["responseStatus"]["code"].as_u64().is_some_and(|code| code < 300);
        done && event["objectRef"]["resource"] == "services" && event["objectRef"]["name"] == "mcp-s1-proxy"
    });
    let of_service: Vec<_> = of_service.cloned().collect();
    assert_eq!(writes(&of_service).len(), 1, "{:?}", writes(&requests));
    assert_eq!(scene.get("service/mcp-s1-proxy")?["metadata"]["annotations"]["other"], "kept");

    // What asks for what Berth does not do any more is not run any more.
    scene.patch("mcpserver/s2", &json!({"spec": {"transport": "stdio"}}))?;
    wait_for("the end of what a server of stdio had", BOUND, || {
        let left = ["deployment/s2", "statefulset/s2", "service/mcp-s2", "configmap/s2-runconfig"];
        let found = scene.kubectl.run(&[&["get", "--ignore-not-found", "-o", "name"], &left[..]].concat())?.ok()?;
        Ok(found.is_empty().then_some(()))
    })?;
    wait_for("a condition that says why", BOUND, || {
        let conditions = scene.get("mcpserver/s2")?["status"]["conditions"].clone();
        Ok(conditions.to_string().contains("TransportUnsupported").then_some(()))
    })?;

    // And with the resources go all of them.
    scene.kubectl.run(&["delete", "mcpservers", "--all", "--wait=false"])?.ok()?;
    for kind in ["deployments", "statefulsets", "replicasets", "services"] {
        wait_for(&format!("the end of all {kind}"), BOUND, || Ok(scene.list(kind)?.is_empty().then_some(())))?;
    }
    wait_for("the end of all configurations", BOUND, || {
        Ok((scene.list("configmaps")?.len() == 1).then_some(())) // the cluster's own CA
    })?;
    Ok(())
}

fn stamps(scene: &Scene<'_>) -> Result<[i64; 2]> {
    let stamp = |what: &str| -> Result<i64> {
        let annotations = scene.get(what)?["spec"]["template"]["metadata"]["annotations"].clone();
        let stamp = annotations[STAMP].as_str().and_then(|text| text.parse().ok());
        stamp.ok_or_else(|| Error::new(format!("no stamp: {annotations}")))
    };
    Ok([stamp("deployment/foo")?, stamp("statefulset/foo")?])
}

fn new_image(scene: &Scene<'_>) -> Result<(), Failed> {
    scene.start("foo", &json!({"sessionStorage": redis()}))?;
    let (fronts, servers, before) = (scene.pods("ReplicaSet")?, scene.pods("StatefulSet")?, stamps(scene)?);
    // The same image by its whole name.
    let image = format!("docker.io/{}", berth_test_cluster::MCP_SERVER_IMAGE);
    scene.patch("mcpserver/foo", &json!({"spec": {"image": image}}))?;
    wait_for("new pods of both", BOUND, || {
        let (now_fronts, now_servers) = (scene.pods("ReplicaSet")?, scene.pods("StatefulSet")?);
        let fresh = now_fronts.keys().all(|name| !fronts.contains_key(name))
            && now_servers.values().all(|pod| pod.ready && pod.uid != servers[&pod.name].uid);
        Ok((now_fronts.len() == 1 && now_servers.len() == 1 && fresh).then_some(()))
    })?;
    let after = stamps(scene)?;
    assert!(after[0] == after[1] && after[0] > before[0], "{before:?} {after:?}");
    assert_eq!(scene.pods("StatefulSet")?.len(), 1);
    // Each proxy is told by its own template which generation it is.
    let pod = scene.wait_for_pods("ReplicaSet", 1)?.into_keys().next().unwrap();
    let annotations = scene.get(&format!("pod/{pod}"))?["metadata"]["annotations"].clone();
    assert_eq!(annotations[STAMP], after[0].to_string());
    Ok(())
}

/// What a write would move, by object.
fn versions(scene: &Scene<'_>) -> Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    for kind in ["deployments", "statefulsets", "services", "configmaps", "pods"] {
        for object in scene.list(kind)? {
            let mut object = object;
            object["metadata"].as_object_mut().map(|meta| meta.remove("managedFields"));
            let key = format!("{kind}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
            all.insert(key, json!([object["metadata"]["uid"], object["spec"], object["data"]]));
        }
    }
    Ok(all)
}

fn without_the_controller(scene: &Scene<'_>) -> Result<(), Failed> {
    scene.start("foo", &json!({"replicas": 2, "backendReplicas": 2, "sessionStorage": redis()}))?;
    let mut client = scene.connect("foo")?;
    let first = client.whoami()?;
    let before = versions(scene)?;

    let system = scene.kubectl.in_namespace("berth-system");
    system.run(&["scale", "deployment/berth", "--replicas=0"])?.ok()?;
    wait_for("the end of the controller", BOUND, || {
        Ok(system.run(&["get", "pods", "-o", "name"])?.ok()?.is_empty().then_some(()))
    })?;
    let answer = client.whoami()?;
    assert_eq!((&answer.pod, answer.calls), (&first.pod, 2));
    assert_eq!(versions(scene)?, before, "nothing goes with the controller");

    // As an upgrade ends: other pods, the same objects.
    let values = Context::values();
    let mut arguments: Vec<_> = values.iter().map(String::as_str).collect();
    arguments.extend(["--set", "podAnnotations.upgraded=yes"]);
    let installation = scene.ctx.installation();
    installation.upgrade(&arguments)?;
    installation.wait_until_ready(scene.stage())?;
    // It leads, and has seen to everything: what it is asked for now is done.
    // The pod is ready a moment before the node's rules lead to it.
    wait_for("a webhook that answers", BOUND, || {
        Ok(scene.patch("mcpserver/foo", &json!({"spec": {"replicas": 3}})).ok())
    })?;
    scene.wait_for_pods("ReplicaSet", 3)?;
    let after = versions(scene)?;
    for (name, object) in &before {
        if name != "deployments/foo" && name != "configmaps/foo-runconfig" {
            assert_eq!(after.get(name), Some(object), "{name} was changed by the upgrade");
        }
    }
    let answer = client.whoami()?;
    assert_eq!((&answer.pod, answer.calls), (&first.pod, 3));
    Ok(())
}
