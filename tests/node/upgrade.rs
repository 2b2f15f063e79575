//! An upgrade of Berth: other pods of the controller, and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use berth_test_cluster::{Image, Result, VMCP_IMAGE, wait_for};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::client::{Client, Whoami};
use crate::context::{Context, alone};
use crate::scene::{BOUND, Scene, redis, server};
use crate::virtual_server::virtual_server;

/// Another version than any that the project has.
const NEXT: &str = "99.0.0";
/// A resync of the controller, and more.
const RESYNC: Duration = Duration::from_secs(12);

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    // Berth's pods are more urgent than others: where the node is full, they would push some of them out.
    vec![alone(ctx, "upgrade::rolls_nothing_and_ends_no_session", rolls_nothing)]
}

/// Which write was the last, by object.
fn versions(scene: &Scene<'_>) -> Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    for kind in [
        "mcpservers",
        "virtualmcpservers",
        "deployments",
        "replicasets",
        "statefulsets",
        "services",
        "configmaps",
        "pods",
    ] {
        for object in scene.list(kind)? {
            let meta = &object["metadata"];
            let key = format!("{kind}/{}", meta["name"].as_str().unwrap_or_default());
            all.insert(key, json!([meta["uid"], meta["resourceVersion"]]));
        }
    }
    Ok(all)
}

/// The same when nothing moves any more.
fn settled(scene: &Scene<'_>) -> Result<BTreeMap<String, Value>> {
    wait_for("objects that nobody writes", BOUND, || {
        let before = versions(scene)?;
        thread::sleep(RESYNC);
        Ok((versions(scene)? == before).then_some(before))
    })
}

/// One more call, of the same session on the same pod.
fn call(client: &mut Client, last: &mut Whoami) -> Result<()> {
    last.calls += 1;
    assert_eq!(client.whoami()?, *last, "the session goes on");
    Ok(())
}

fn image(workload: &Value) -> &Value {
    &workload["spec"]["template"]["spec"]["containers"][0]["image"]
}

fn rolls_nothing(scene: &Scene<'_>) -> Result<(), Failed> {
    let installation = scene.ctx.installation();
    for program in ["berth", "berth-proxy"] {
        let image = Image::of_program(&format!("{program}:{NEXT}"), &installation.programs().join(program));
        scene.stage().load(&image)?;
    }
    scene.start("foo", &json!({"replicas": 2, "backendReplicas": 2, "sessionStorage": redis()}))?;
    let aggregator = virtual_server("many", &json!({"config": {"groupRef": "tools"}, "sessionStorage": redis()}));
    scene.apply(&aggregator)?;
    scene.wait_for_value("virtualmcpserver/many", "/status/phase", &json!("Ready"))?;
    let mut client = scene.connect("foo")?;
    let mut last = client.whoami()?;
    let before = settled(scene)?;
    let old_image = image(&scene.get("deployment/foo")?).clone();

    // Another chart, other images, and one more of it.
    let values = Context::values();
    let mut arguments: Vec<_> = values.iter().map(String::as_str).collect();
    // What a VirtualMCPServer would be given now is not even there.
    let tag = format!("images.vmcp.tag={NEXT}");
    arguments.extend(["--set", "replicas=3", "--set-string", &tag]);
    installation.upgrade_to(NEXT, &arguments)?;
    wait_for("three controllers of the next version", BOUND, || {
        call(&mut client, &mut last)?;
        let pods = scene.ctx.eyes().list("berth-system", "pods")?;
        let next = pods.iter().filter(|pod| {
            let status = &pod["status"]["containerStatuses"][0];
            pod["spec"]["containers"][0]["image"] == format!("berth:{NEXT}") && status["ready"] == true
        });
        Ok((next.count() == 3 && pods.len() == 3).then_some(()))
    })?;
    // Who leads now builds what is new, with the proxy of its version.
    scene.apply(&server("bar", &json!({"sessionStorage": redis()})))?;
    scene.wait_for_value("mcpserver/bar", "/status/phase", &json!("Ready"))?;
    assert_eq!(image(&scene.get("deployment/bar")?), &format!("berth-proxy:{NEXT}"));
    thread::sleep(RESYNC);
    let after = versions(scene)?;
    for (name, version) in &before {
        assert_eq!(after.get(name), Some(version), "{name} was written, or is gone");
    }
    assert_eq!(image(&scene.get("deployment/foo")?), &old_image);
    assert_eq!(image(&scene.get("deployment/many")?), VMCP_IMAGE);
    call(&mut client, &mut last)?;

    // As the documentation says, where somebody wants the proxy of this version now.
    let servers = scene.pods("StatefulSet")?;
    scene.kubectl.run(&["annotate", "deployment", "foo", "berth.dev/default-image-"])?.ok()?;
    wait_for("a proxy of the next version", BOUND, || {
        Ok((image(&scene.get("deployment/foo")?) == &format!("berth-proxy:{NEXT}")).then_some(()))
    })?;
    scene.wait_for_rollout("deployment/foo")?;
    scene.wait_for_service("mcp-foo-proxy")?;
    call(&mut client, &mut last)?;
    assert_eq!(scene.pods("StatefulSet")?, servers);

    // What comes after this finds the version that it expects.
    let arguments: Vec<_> = values.iter().map(String::as_str).collect();
    installation.upgrade(&arguments)?;
    installation.wait_until_ready(scene.stage())?;
    Ok(())
}
