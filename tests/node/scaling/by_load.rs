//! Autoscalers that go by what pods use, as docs/autoscaling.md has them.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use berth_test_cluster::{Error, MCP_SERVER_IMAGE, Result, wait_for};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use super::{assert_going_on, assert_stayed, session_on_each, templates};
use crate::client::Client;
use crate::context::{Context, trial};
use crate::lifecycle::{log_size, requests, writes};
use crate::scene::{BOUND, Scene, redis};

/// Clients that call as fast as they are answered.
const CALLERS: usize = 3;

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![trial(ctx, "scaling::by_the_load_as_the_documents_say", by_the_load)]
}

/// The resource and its autoscalers, as the page has them.
fn examples() -> Result<Vec<Value>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/autoscaling.md");
    let text = fs::read_to_string(&page).map_err(|error| Error::new(format!("{}: {error}", page.display())))?;
    let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let documents = blocks.flat_map(|block| block.split("---\n"));
    let objects: Vec<Value> = documents.map(|document| serde_saphyr::from_str(document).expect("YAML")).collect();
    let of_kind = |kind: &str| objects.iter().filter(|object| object["kind"] == kind).cloned().collect::<Vec<_>>();
    Ok([of_kind("MCPServer"), of_kind("HorizontalPodAutoscaler")].concat())
}

/// Load on the server, until dropped.
struct Load {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(address: SocketAddr) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let caller = |ended: Arc<AtomicBool>| {
            thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    // What comes of a call is for the sessions that the trial looks at.
                    let Ok(mut client) = Client::connect(address) else { continue };
                    while !ended.load(Ordering::Relaxed) && client.ask().is_ok_and(|answer| answer.status == 200) {}
                }
            })
        };
        let threads = (0..CALLERS).map(|_| caller(Arc::clone(&ended))).collect();
        Self { ended, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// What an autoscaler goes by: this much of the CPU that pods request.
fn cpu(percent: u32) -> Value {
    let target = json!({"type": "Utilization", "averageUtilization": percent});
    json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}])
}

/// Waits until an autoscaler can scale, and does so by numbers.
fn wait_until_active(scene: &Scene<'_>, autoscaler: &str) -> Result<()> {
    let mut last = Value::Null;
    let seen = wait_for(&format!("{autoscaler} at work"), BOUND, || {
        last = scene.get(&format!("horizontalpodautoscaler/{autoscaler}"))?["status"].clone();
        let conditions = last["conditions"].as_array().cloned().unwrap_or_default();
        let is_true = |kind: &str| conditions.iter().any(|one| one["type"] == kind && one["status"] == "True");
        let number = last["currentMetrics"][0]["resource"]["current"]["averageUtilization"].is_number();
        Ok((is_true("AbleToScale") && is_true("ScalingActive") && number).then_some(()))
    });
    seen.map_err(|error| Error::new(format!("{error}: {last:#}")))
}

fn by_the_load(scene: &Scene<'_>) -> Result<(), Failed> {
    scene.ctx.metrics()?;
    for mut object in examples()? {
        if object["kind"] == "MCPServer" {
            object["spec"]["image"] = json!(MCP_SERVER_IMAGE);
            object["spec"]["sessionStorage"] = redis();
            object["metadata"]["annotations"]["berth.dev/termination-grace-period-seconds"] = json!("6");
        }
        scene.apply(&object)?;
    }
    let (fronts, servers) = (scene.wait_for_pods("ReplicaSet", 2)?, scene.wait_for_pods("StatefulSet", 2)?);
    scene.wait_for_service("mcp-scaled-proxy")?;
    let (templates_before, start) = (templates(scene, "scaled")?, log_size(scene)?);
    let mut clients = session_on_each(scene, "scaled", &["scaled-0", "scaled-1"])?;
    for autoscaler in ["scaled-proxy", "scaled-server"] {
        wait_until_active(scene, autoscaler)?;
    }
    assert_stayed(&fronts, &scene.pods("ReplicaSet")?);

    // What the callers ask is little for what the pods request.
    for (autoscaler, percent) in [("scaled-proxy", 25), ("scaled-server", 3)] {
        let spec = json!({"maxReplicas": 4, "metrics": cpu(percent)});
        scene.patch(&format!("hpa/{autoscaler}"), &json!({"spec": spec}))?;
    }
    let load = Load::start(scene.service("mcp-scaled-proxy")?);
    let mut late = session_on_each(scene, "scaled", &["scaled-2"])?;
    let more = |owner: &'static str| {
        wait_for(&format!("more pods of a {owner}"), BOUND, || {
            let pods = scene.pods(owner)?;
            Ok((pods.len() > 2 && pods.values().all(|pod| pod.ready)).then_some(pods))
        })
    };
    let (more_fronts, more_servers) = (more("ReplicaSet")?, more("StatefulSet")?);
    assert_stayed(&fronts, &more_fronts);
    assert_stayed(&servers, &more_servers);
    assert_going_on(&mut clients, 2)?;
    assert_going_on(&mut late, 2)?;

    drop(load);
    // Half an hour between two steps is for users; and so little is what a server takes at rest too, on a machine that is
    // busy.
    let quick =
        json!({"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 10, "periodSeconds": 1}]});
    for autoscaler in ["scaled-proxy", "scaled-server"] {
        let spec = json!({"metrics": cpu(25), "behavior": {"scaleDown": quick}});
        scene.patch(&format!("hpa/{autoscaler}"), &json!({"spec": spec}))?;
    }
    assert_stayed(&more_fronts, &scene.wait_for_pods("ReplicaSet", 2)?);
    assert_stayed(&servers, &scene.wait_for_pods("StatefulSet", 2)?);
    scene.wait_for_service("mcp-scaled-proxy")?;
    assert_going_on(&mut clients, 3)?;
    assert_eq!(templates(scene, "scaled")?, templates_before);

    // Nobody but the autoscalers wrote a count.
    let written = writes(&requests(scene, start)?);
    let of_workloads = |write: &&String| {
        write.contains(&format!("/namespaces/{}/", scene.name))
            && (write.contains("/deployments/") || write.contains("/statefulsets/"))
    };
    assert_eq!(written.iter().filter(of_workloads).collect::<Vec<_>>(), Vec::<&String>::new());
    Ok(())
}
