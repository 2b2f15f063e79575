//! A `VirtualMCPServer` makes the same promises.

use std::sync::Arc;

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use super::by_others::autoscaler;
use super::{assert_stayed, wait_until_seen};
use crate::context::{Context, trial};
use crate::scene::{Scene, redis};
use crate::virtual_server::virtual_server;

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![trial(ctx, "scaling::a_virtual_server_is_scaled_by_others_too", by_others)]
}

fn by_others(scene: &Scene<'_>) -> Result<(), Failed> {
    let spec = json!({"config": {"groupRef": "tools", "backends": []}, "sessionStorage": redis()});
    scene.apply(&virtual_server("foo", &spec))?;
    let first = scene.wait_for_pods("ReplicaSet", 1)?;
    let template = || Ok::<_, Failed>(scene.get("deployment/foo")?["spec"]["template"].clone());
    let template_before = template()?;

    let mut last = first;
    for (count, pods) in [(json!(2), 2), (Value::Null, 2)] {
        scene.patch("virtualmcpserver/foo", &json!({"spec": {"replicas": count}}))?;
        wait_until_seen(scene, "virtualmcpserver/foo")?;
        let now = scene.wait_for_pods("ReplicaSet", pods)?;
        assert_stayed(&last, &now);
        last = now;
    }
    scene.apply(&autoscaler("Deployment", 3, 5))?;
    assert_stayed(&last, &scene.wait_for_pods("ReplicaSet", 3)?);
    assert_eq!(template()?, template_before);

    // A change that rolls everything leaves the autoscaler's count.
    scene.patch("virtualmcpserver/foo", &json!({"spec": {"config": {"groupRef": "others"}}}))?;
    wait_until_seen(scene, "virtualmcpserver/foo")?;
    assert_ne!(template()?, template_before);
    assert_eq!(scene.get("deployment/foo")?["spec"]["replicas"], 3);
    Ok(())
}
