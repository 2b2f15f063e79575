//! Real MCP through the node's Services: the official conformance suite, and clients on official SDKs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use berth_test_cluster::{Image, Installation, Result, http_get, wait_for};
use berth_test_mcp::{Client, Packages, Report, Revision, RoundRobin, Sdk, Sequence, Server, ServerOptions, run_suite};
use libtest_mimic::{Failed, Trial};
use serde_json::json;

use crate::context::{Context, alone};
use crate::scene::{ADMIN_PORT, BOUND, PROXY_PORT, Scene, redis, server};

/// The server on the official SDK, which speaks every revision of the protocol.
const IMAGE: &str = "berth-test/mcp-sdk-server:1";
const SERVERS: [&str; 3] = ["foo-0", "foo-1", "foo-2"];
const CLIENTS: [(Sdk, Sequence); 4] = [
    (Sdk::Python, Sequence::Streamable),
    (Sdk::Python, Sequence::Sse),
    (Sdk::TypeScript, Sequence::Streamable),
    (Sdk::TypeScript, Sequence::Sse),
];
/// How long clients go on before and after a rollout.
const CALM: Duration = Duration::from_millis(500);

/// SDKs and suite have clocks of their own, and take a "later" for a failure: trials beside them would make them miss.
pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        alone(ctx, "protocol::clients_of_every_sdk_and_transport_notice_nothing_of_two_proxies", clients),
        alone(ctx, "protocol::clients_notice_nothing_while_every_proxy_is_replaced", replaced),
        alone(ctx, "protocol::what_passes_directly_passes_through_the_service", conformance),
    ]
}

/// The SDKs, their server as an image on the node.
fn packages(scene: &Scene<'_>) -> Result<Packages> {
    static LOADED: Mutex<Option<Packages>> = Mutex::new(None);
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(packages) = &*loaded {
        return Ok(packages.clone());
    }
    let packages = Packages::ensure()?;
    let image = Image::of_program(IMAGE, packages.node()).file(packages.server(), "/srv/server.mjs");
    scene.stage().load(&image.entrypoint(&["/usr/bin/node", "/srv/server.mjs"]))?;
    Ok(loaded.insert(packages).clone())
}

/// What the servers of a deployment share.
fn options() -> ServerOptions {
    ServerOptions {
        state_key: Some("the same for all servers of a deployment".to_owned()),
        redis: Some(format!("redis://{}", Installation::REDIS)),
        name: String::new(),
    }
}

/// The proxies in front of three servers of the SDK.
struct Proxies {
    /// Where each pod serves MCP, and where its metrics are.
    pods: BTreeMap<String, (SocketAddr, SocketAddr)>,
    /// Sends each request over a connection of its own through the Service.
    service: RoundRobin,
}

impl Proxies {
    fn start(scene: &Scene<'_>, grace_period: &str) -> Result<Self> {
        let options = options();
        let mut object = server(
            "foo",
            &json!({"image": IMAGE, "replicas": 2, "backendReplicas": SERVERS.len(), "sessionStorage": redis(), "env": [
                {"name": "MCP_LISTEN", "value": format!("0.0.0.0:{PROXY_PORT}")},
                {"name": "MCP_REDIS", "value": options.redis},
                {"name": "MCP_STATE_KEY", "value": options.state_key},
                {"name": "MCP_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            ]}),
        );
        object["metadata"]["annotations"]["berth.dev/termination-grace-period-seconds"] = json!(grace_period);
        scene.apply(&object)?;
        scene.wait_for_pods("StatefulSet", SERVERS.len())?;
        let mut pods = BTreeMap::new();
        for pod in scene.wait_for_pods("ReplicaSet", 2)?.into_keys() {
            let addresses = (scene.pod_port(&pod, PROXY_PORT)?, scene.pod_port(&pod, ADMIN_PORT)?);
            // For a while after a store was first seen, an unknown session may be one that it lost: 503, not yet 404.
            wait_for("a store without doubt", BOUND, || {
                let answer = http_get(addresses.0, "/mcp?sessionId=nobody");
                Ok(answer.is_ok_and(|answer| answer.status == 404).then_some(()))
            })?;
            pods.insert(pod, addresses);
        }
        scene.wait_for_service("mcp-foo-proxy")?;
        let service = RoundRobin::start(vec![scene.service("mcp-foo-proxy")?])?;
        Ok(Self { pods, service })
    }

    fn url(&self) -> String {
        format!("http://{}", self.service.address())
    }

    /// How many requests each has answered.
    fn requests(&self) -> Result<Vec<f64>> {
        let count = |(_, admin): &(SocketAddr, SocketAddr)| {
            Ok(http_get(*admin, "/metrics")?.metric("berth_proxy_requests_total", &[]))
        };
        self.pods.values().map(count).collect()
    }
}

/// Runs every client, and looks whether each of its sessions was one pod's.
fn run_clients(packages: &Packages, a: &str, b: &str) -> Result<()> {
    let clients = CLIENTS.map(|(sdk, sequence)| Client::start(packages, sdk, sequence, a, b));
    for client in clients {
        assert_pods(&client?.finish()?);
    }
    Ok(())
}

/// The client itself compares who answered each of its 50 calls.
fn assert_pods(answered: &[String]) {
    assert!(!answered.is_empty() && answered.iter().all(|name| SERVERS.contains(&name.as_str())), "{answered:?}");
}

fn clients(scene: &Scene<'_>) -> Result<(), Failed> {
    let packages = packages(scene)?;
    let proxies = Proxies::start(scene, "6")?;
    // One request through one pod, the next through the other.
    let urls: Vec<_> = proxies.pods.values().map(|(address, _)| format!("http://{address}")).collect();
    run_clients(&packages, &urls[0], &urls[1])?;
    // And as the Service has it.
    let before = proxies.requests()?;
    run_clients(&packages, &proxies.url(), &proxies.url())?;
    let after = proxies.requests()?;
    assert!(before.iter().zip(&after).all(|(before, after)| after > before), "both proxies: {before:?} {after:?}");
    Ok(())
}

fn replaced(scene: &Scene<'_>) -> Result<(), Failed> {
    let packages = packages(scene)?;
    // As users have it: of these seconds, five are for the Service to learn that a pod ends.
    let proxies = Proxies::start(scene, "30")?;
    let start = |sdk| Client::start(&packages, sdk, Sequence::Rolling, &proxies.url(), &proxies.url());
    let mut clients = [start(Sdk::Python)?, start(Sdk::TypeScript)?];
    for client in &mut clients {
        client.wait_until_begun()?;
    }
    thread::sleep(CALM);
    scene.kubectl.run(&["rollout", "restart", "deployment/foo"])?.ok()?;
    wait_for("the end of every proxy that was there", BOUND, || {
        let pods = scene.list("pods")?;
        let names: Vec<_> = pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
        Ok((!names.iter().any(|name| proxies.pods.contains_key(*name))).then_some(()))
    })?;
    thread::sleep(CALM);
    for client in clients {
        let answered = client.stop()?;
        assert_pods(&answered);
        assert_eq!(answered.len(), 1, "the session that it began with");
    }
    Ok(())
}

fn conformance(scene: &Scene<'_>) -> Result<(), Failed> {
    let packages = packages(scene)?;
    let proxies = Proxies::start(scene, "6")?;
    let alone = Server::start(&packages, &ServerOptions { name: "alone".to_owned(), redis: None, ..options() })?;
    let run = |address: SocketAddr, revision| run_suite(&packages, &format!("http://{address}/mcp"), revision);
    for revision in [Revision::V2025_11_25, Revision::V2026_07_28] {
        let before = proxies.requests()?;
        let (direct, through) = thread::scope(|scope| {
            let direct = scope.spawn(|| run(alone.address(), revision));
            let through = run(proxies.service.address(), revision);
            (direct.join().expect("no panic"), through)
        });
        let (direct, through): (Report, Report) = (direct?, through?);
        let name = revision.name();
        assert_eq!(direct.passed(), direct.required(), "{name} against one server:\n{}", direct.failures());
        assert_eq!(through.passed(), direct.passed(), "{name} through the Service:\n{}", through.failures());
        assert_eq!(through.successes(), direct.successes(), "{name} through the Service:\n{}", through.failures());
        let after = proxies.requests()?;
        assert!(before.iter().zip(&after).all(|(before, after)| after > before), "both proxies: {before:?} {after:?}");
    }
    Ok(())
}
