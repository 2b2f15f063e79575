//! A session stays on its pod, whatever becomes of the proxies; and its end is told as one.

use std::fmt::Display;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use berth_test_cluster::{Result, wait_for};
use libtest_mimic::{Failed, Trial};
use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::transport::StreamableHttpClientTransport;
use serde_json::json;

use crate::client::{Client, PATIENCE, Whoami};
use crate::context::{Context, trial};
use crate::scene::{BOUND, Scene, redis};

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        trial(ctx, "sessions::two_proxies_and_three_pods", two_proxies_and_three_pods),
        trial(ctx, "sessions::one_proxy_and_one_pod", one_proxy_and_one_pod),
        trial(ctx, "sessions::a_single_proxy_and_a_single_pod_with_a_store", with_a_store),
        trial(ctx, "sessions::the_sample_to_play_with", sample),
    ]
}

/// Asks again what a store that is slow on a busy machine was too slow for, which the SDK takes for an error: it has come
/// to no pod.
async fn insist<T, E: Display>(mut ask: impl AsyncFnMut() -> std::result::Result<T, E>) -> T {
    let begun = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) if error.to_string().contains("try again") && begun.elapsed() < PATIENCE => {}
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// 50 calls of one client on the official SDK; all are answered by one pod, which is told.
fn calls_of_the_sdk(scene: &Scene<'_>, server: &str) -> Result<String, Failed> {
    let address = scene.service(&format!("mcp-{server}-proxy"))?;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let uri = format!("http://{address}/mcp");
        let client = insist(async || ().serve(StreamableHttpClientTransport::from_uri(uri.as_str())).await).await;
        let mut pod = None;
        for calls in 1..=50 {
            let answer = insist(async || client.call_tool(CallToolRequestParams::new("whoami")).await).await;
            let answer = answer.structured_content.unwrap();
            let first = pod.get_or_insert_with(|| answer["server"].as_str().unwrap().to_owned());
            assert_eq!(answer, json!({"server": first, "calls": calls}));
        }
        client.cancel().await.unwrap();
        Ok(pod.unwrap())
    })
}

/// Waits for the 404 of a session whose pod goes. Until then the pod itself answers, and then nobody: "later" is all that
/// the proxies, so many at most, say, but to requests that the pod took with it. `meanwhile` runs after each answer. Gives
/// the answers but those of the session.
pub(crate) fn wait_for_the_end(
    client: &mut Client,
    pod: &str,
    proxies: usize,
    mut meanwhile: impl FnMut() -> Result<()>,
) -> Result<Vec<u16>> {
    // Who comes here has called before.
    let (mut seen, mut last) = (Vec::new(), 1);
    wait_for("404 for a session that is lost", BOUND, || {
        let answer = client.ask()?;
        meanwhile()?;
        if answer.status == 200 && answer.message().is_some() {
            // Not gone yet: its last answers are its own, and of this session. It may give some on connections that it
            // had when it takes no new ones any more.
            let whoami = answer.whoami();
            let own = whoami.filter(|whoami| whoami.pod == pod && whoami.calls > last);
            last = own.unwrap_or_else(|| panic!("{answer:?} after {last} calls on {pod}")).calls;
            return Ok(None);
        }
        if answer.status == 503 {
            assert!(answer.header("retry-after").is_some(), "{answer:?}");
        }
        seen.push(answer.status);
        thread::sleep(Duration::from_millis(50));
        Ok((answer.status == 404).then_some(()))
    })?;
    // A request that was with the pod as it ended may have been carried out, and nobody sends it again: its connection
    // broke, or the server on the SDK ended its answer early, or said that its session has ended. Each proxy keeps one
    // connection for a client that asks for one thing after the other.
    let taken: Vec<_> = seen.iter().filter(|status| ![503, 404].contains(status)).collect();
    assert!(taken.len() <= proxies && taken.iter().all(|status| [502, 500, 200].contains(*status)), "{seen:?}");
    Ok(seen)
}

/// Deletes all proxies, and waits for as many others.
fn lose_every_proxy(scene: &Scene<'_>, server: &str) -> Result<()> {
    let before = scene.pods("ReplicaSet")?;
    let names: Vec<_> = before.keys().map(String::as_str).collect();
    scene.kubectl.run(&[&["delete", "pod"], &names[..]].concat())?.ok()?;
    let after = scene.wait_for_pods("ReplicaSet", before.len())?;
    assert!(after.keys().all(|name| !before.contains_key(name)), "{before:?} {after:?}");
    scene.wait_for_service(&format!("mcp-{server}-proxy"))
}

/// Deletes the pod that holds a session, which comes back without it: nobody else answers for it meanwhile, and the client
/// starts anew, as 404 tells it to.
fn lose_the_pod(scene: &Scene<'_>, server: &str, client: &mut Client, pod: &str) -> Result<()> {
    let before = scene.pods("StatefulSet")?;
    scene.kubectl.run(&["delete", "pod", pod, "--wait=false"])?.ok()?;
    let seen = wait_for_the_end(client, pod, scene.pods("ReplicaSet")?.len(), || Ok(()))?;
    assert!(seen.contains(&503), "later, while it restarts: {seen:?}");
    let after = scene.wait_for_pods("StatefulSet", before.len())?;
    assert_ne!(after[pod].uid, before[pod].uid);
    assert_eq!(client.ask_again()?.status, 404, "what was lost stays lost");

    let mut anew = scene.connect(server)?;
    let (one, two) = (anew.whoami()?, anew.whoami()?);
    assert_eq!((one.calls, two.calls), (1, 2));
    assert_eq!(one.pod, two.pod);
    Ok(())
}

fn two_proxies_and_three_pods(scene: &Scene<'_>) -> Result<(), Failed> {
    scene.start("foo", &json!({"replicas": 2, "backendReplicas": 3, "sessionStorage": redis()}))?;
    assert!(scene.pods("StatefulSet")?.contains_key(&calls_of_the_sdk(scene, "foo")?));

    let mut client = scene.connect("foo")?;
    let first = client.whoami()?;
    assert_eq!(first.calls, 1);
    for calls in 2..=50 {
        let answer = client.whoami()?;
        assert_eq!((answer.pod, answer.calls), (first.pod.clone(), calls));
    }

    // Every pod that ever saw the session's requests goes, but the one that holds it.
    lose_every_proxy(scene, "foo")?;
    for calls in 51..=60 {
        let answer = client.whoami()?;
        assert_eq!((answer.pod, answer.calls), (first.pod.clone(), calls));
    }
    lose_the_pod(scene, "foo", &mut client, &first.pod)?;
    Ok(())
}

/// The same path where there is one of each.
fn with_a_store(scene: &Scene<'_>) -> Result<(), Failed> {
    scene.start("foo", &json!({"sessionStorage": redis()}))?;
    let mut client = scene.connect("foo")?;
    assert_eq!(client.whoami()?, Whoami { pod: "foo-0".to_owned(), calls: 1 });
    lose_every_proxy(scene, "foo")?;
    assert_eq!(client.whoami()?, Whoami { pod: "foo-0".to_owned(), calls: 2 });
    lose_the_pod(scene, "foo", &mut client, "foo-0")?;
    Ok(())
}

fn one_proxy_and_one_pod(scene: &Scene<'_>) -> Result<(), Failed> {
    scene.start("foo", &json!({}))?;
    assert_eq!(calls_of_the_sdk(scene, "foo")?, "foo-0");
    // Each pod has its name, by the Service that governs them.
    let headless = scene.get("statefulset/foo")?["spec"]["serviceName"].clone();
    assert_eq!(headless, "mcp-foo-headless");
    let looker = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "looker"},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
            "name": "looker", "image": "berth-test/busybox:1", "imagePullPolicy": "Never", "args": ["-c", "sleep 3600"],
        }]},
    });
    scene.apply(&looker)?;
    wait_for("somebody to look", BOUND, || {
        let ready = ["wait", "--for=condition=Ready", "--timeout=10s", "pod/looker"];
        Ok(scene.kubectl.run(&ready)?.success().then_some(()))
    })?;
    let name = format!("foo-0.mcp-foo-headless.{}.svc.cluster.local", scene.name);
    let address = scene.get("pod/foo-0")?["status"]["podIP"].clone();
    let found = scene.kubectl.run(&["exec", "looker", "--", "nslookup", &name])?.ok()?;
    assert!(found.contains(&format!("Address: {}", address.as_str().unwrap())), "{found}");
    Ok(())
}

/// What `tests/run cluster --node` shows.
fn sample(scene: &Scene<'_>) -> Result<(), Failed> {
    let mut client = Client::connect(scene.stage().sample(&scene.name)?)?;
    let (one, two) = (client.whoami()?, client.whoami()?);
    assert!(one.pod.starts_with("sample-"), "{one:?}");
    assert_eq!((two.pod, two.calls), (one.pod, 2));
    Ok(())
}
