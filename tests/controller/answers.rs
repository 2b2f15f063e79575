//! The API server answers that it does not now: too many requests (429), too old (410), changed meanwhile (409).

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use berth_test_cluster::{Result, wait_for};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::alone::{Alone, signal, trial, wait_until_it_leads};
use crate::generation::stamp;
use crate::objects::{mcp_server, parts, redis};
use crate::outage::wait_for_image;
use crate::world::{BOUND, Namespace, World};

pub(crate) fn trials(world: &Arc<World>) -> Vec<Trial> {
    vec![
        trial(world, "answers::too_many_requests_are_followed_by_few_and_then_by_the_work", throttled),
        trial(world, "answers::a_watch_that_is_too_old_misses_nothing", expired),
        trial(world, "answers::somebody_who_writes_all_the_time_stops_no_change", contended),
    ]
}

/// One request of Berth's account at a time, and the first is never answered.
const JAIL: &str = "
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata: {name: jail}
spec:
  type: Limited
  limited: {nominalConcurrencyShares: 0, lendablePercent: 0, borrowingLimitPercent: 0, limitResponse: {type: Reject}}
---
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata: {name: jail}
spec:
  priorityLevelConfiguration: {name: jail}
  matchingPrecedence: 10
  rules:
  - subjects: [{kind: ServiceAccount, serviceAccount: {name: berth, namespace: berth-system}}]
    resourceRules: [{verbs: ['*'], apiGroups: ['*'], resources: ['*'], clusterScope: true, namespaces: ['*']}]
    nonResourceRules: [{verbs: ['*'], nonResourceURLs: ['*']}]
";

/// A webhook that does not answer, asked about one ConfigMap; several stand one behind the other.
fn jailer(address: SocketAddr, number: usize) -> Value {
    json!({
        "name": format!("w{number}.example.com"), "clientConfig": {"url": format!("https://{address}/")},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
        "objectSelector": {"matchLabels": {"jail": "jail"}}, "timeoutSeconds": 10, "failurePolicy": "Ignore",
        "sideEffects": "None", "admissionReviewVersions": ["v1"],
    })
}

/// All of Berth's requests are answered with 429 while this lives, but watches that are open.
struct Jail {
    ended: Arc<AtomicBool>,
    address: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

impl Jail {
    fn new(alone: &Alone) -> Result<Self, Failed> {
        let (ns, listener) = (&alone.ns, TcpListener::bind("127.0.0.1:0")?);
        let address = listener.local_addr()?;
        ns.kubectl.apply_yaml(JAIL)?.ok()?;
        let webhooks: Vec<_> = (0..5).map(|number| jailer(address, number)).collect();
        let configuration = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "jail"}, "webhooks": webhooks});
        ns.kubectl.apply_yaml(&configuration.to_string())?.ok()?;
        let kubeconfig = alone.cluster.service_account_kubeconfig("berth-system", "berth")?;
        let kubectl = ns.kubectl.with_kubeconfig(&kubeconfig);
        let ended = Arc::new(AtomicBool::new(false));
        let (full, is_full) = channel();
        let inmate = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "inmate", "labels": {"jail": "jail"}}});
        let (keeping, trying) = (Arc::clone(&ended), Arc::clone(&ended));
        let threads = vec![
            thread::spawn(move || {
                let mut held = Vec::new();
                for connection in listener.incoming() {
                    if keeping.load(Ordering::Relaxed) {
                        return;
                    }
                    held.push(connection);
                    let _ = full.send(());
                }
            }),
            thread::spawn(move || {
                while !trying.load(Ordering::Relaxed) {
                    let arguments = ["create", "--dry-run=server", "--validate=false", "-f", "-"];
                    let _ = kubectl.run_with_stdin(&arguments, &inmate.to_string());
                }
            }),
        ];
        let jail = Self { ended, address, threads };
        is_full.recv_timeout(BOUND)?;
        Ok(jail)
    }
}

impl Drop for Jail {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts, which then lets go of all.
        let _ = TcpStream::connect(self.address);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn throttled(alone: &mut Alone) -> Result<(), Failed> {
    const MANY: usize = 20;
    const THROTTLED: Duration = Duration::from_secs(30);
    alone.resync_as_shipped();
    let mut berth = alone.berth(&[])?;
    let ns = &alone.ns;
    ns.build(&mcp_server("foo", json!({"sessionStorage": redis()})))?;

    let jail = Jail::new(alone)?;
    let (audit, began) = (ns.audit(), Instant::now());
    ns.edit("MCPServer/foo", &json!({"spec": {"image": "example:2"}}))?;
    ns.client.delete(&ns.name, "Service/mcp-foo")?;
    for number in 0..MANY {
        ns.create(&mcp_server(&format!("new{number}"), json!({"sessionStorage": redis()})))?;
    }
    thread::sleep(THROTTLED.saturating_sub(began.elapsed()));
    assert_eq!(berth.get("/readyz")?.status, 200);
    let mut load = audit.load();
    load.retain(|what, _| !what.starts_with("create configmaps"));
    assert!(load.keys().all(|what| what.ends_with(" 429")), "all were refused: {load:#?}");
    // The Lease each second or two; the work and the watches more and more seldom.
    let all: usize = load.values().sum();
    assert!((20..100).contains(&all), "{load:#?}");

    ns.kubectl.run(&["delete", "flowschema/jail"])?.ok()?;
    drop(jail);
    let free = Instant::now();
    wait_for_image(ns, "foo")?;
    ns.wait("Service/mcp-foo", "is there again", |_| true)?;
    for number in 0..MANY {
        for part in parts(&format!("new{number}")) {
            ns.wait(&part, "is there", |_| true)?;
        }
    }
    assert!(free.elapsed() < Duration::from_secs(60), "it took {:?}", free.elapsed());
    ns.settled("foo")?;
    assert_eq!(berth.process().exit_status()?, None);
    Ok(())
}

/// Berth sleeps, and misses what happens; the API server starts anew, and knows no changes of before.
fn expired(alone: &mut Alone) -> Result<(), Failed> {
    alone.resync_as_shipped();
    // Which says why a watch ended.
    alone.options.environment.push(("RUST_LOG".to_owned(), "info,berth=debug,kube_client=off".to_owned()));
    let mut berth = alone.berth(&[])?;
    alone.ns.build_all(&["foo", "bar", "baz"].map(|name| mcp_server(name, json!({"sessionStorage": redis()}))))?;
    let pid = berth.process().pid();

    signal(pid, "STOP")?;
    let changed = (|| -> Result<_, Failed> {
        let ns = &alone.ns;
        ns.edit("MCPServer/foo", &json!({"spec": {"image": "example:2"}}))?;
        ns.client.delete(&ns.name, "Service/mcp-foo")?;
        ns.client.delete(&ns.name, "ConfigMap/foo-runconfig")?;
        for name in ["bar", "baz"] {
            ns.client.delete(&ns.name, &format!("MCPServer/{name}"))?;
        }
        wait_for_the_end(ns, "bar")?;
        let bar = ns.create(&mcp_server("bar", json!({"image": "example:3"})))?;
        alone.cluster.restart_api_server()?;
        Ok(bar)
    })();
    let audit = alone.ns.audit();
    signal(pid, "CONT")?;
    let (ns, bar) = (&alone.ns, changed?);

    wait_for_image(ns, "foo")?;
    ns.wait("Service/mcp-foo", "is there again", |_| true)?;
    ns.wait("ConfigMap/foo-runconfig", "is there again", |_| true)?;
    for part in parts("bar") {
        ns.wait(&part, "is the new resource's", |object| {
            object["metadata"]["ownerReferences"][0]["uid"] == bar["metadata"]["uid"]
        })?;
    }
    let image = |live: &Value| live["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    ns.wait("StatefulSet/bar", "has the new image", |live| image(live) == "example:3" && stamp(live) == "1")?;
    wait_for_the_end(ns, "baz")?;
    wait_until_it_leads(&berth)?;
    ns.settled("bar")?;
    // It was so: the watches could not go on where they had been.
    let (log, load) = (berth.log(), audit.load());
    assert!(log.contains("too old resource version"), "{log}");
    for what in ["list mcpservers", "list services", "list configmaps"] {
        assert!(load.get(what).is_some_and(|count| *count <= 2), "{load:#?}");
    }
    Ok(())
}

fn wait_for_the_end(ns: &Namespace, name: &str) -> Result<()> {
    for part in parts(name) {
        wait_for(&format!("the end of {part}"), BOUND, || Ok(ns.find(&part)?.is_none().then_some(())))?;
    }
    Ok(())
}

/// Another writes the resource and what is built of it as fast as it can.
fn contended(alone: &mut Alone) -> Result<(), Failed> {
    const ROUNDS: usize = 5;
    const CONTENDED: Duration = Duration::from_secs(3);
    alone.resync_as_shipped();
    let _berth = alone.berth(&[])?;
    let ns = &alone.ns;
    ns.build(&mcp_server("foo", json!({"sessionStorage": redis()})))?;
    let audit = ns.audit();
    let mut written = 0;
    for round in 1..=ROUNDS {
        let (over, writes) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| -> Result<(), Failed> {
            let everything = ["MCPServer/foo", "Deployment/foo", "StatefulSet/foo", "Service/mcp-foo-proxy"];
            let others = everything.map(|what| scope.spawn(|| annotate(ns, what, &over, &writes)));
            let edited = ns.edit("MCPServer/foo", &json!({"spec": {"image": format!("example:1.{round}")}}));
            thread::sleep(CONTENDED);
            over.store(true, Ordering::Relaxed);
            edited?;
            for (what, other) in everything.into_iter().zip(others) {
                let last = other.join().map_err(|_| "the other one broke")??;
                assert_eq!(ns.get(what)?["metadata"]["annotations"]["example.com/note"], last, "{what}");
            }
            Ok(())
        })?;
        let rest = Instant::now();
        wait_for_image(ns, "foo")?;
        assert!(rest.elapsed() < Duration::from_secs(10), "it took {:?} in round {round}", rest.elapsed());
        written += writes.into_inner();
    }
    ns.settled("foo")?;
    let load = audit.load();
    // Its attempts follow the other's writes, and are fewer.
    let lost: usize = load.iter().filter(|(what, _)| what.ends_with(" 409")).map(|(_, count)| count).sum();
    assert!(lost > 0 && (lost as u64) < written / 4, "{written} writes of the other, {load:#?}");
    for what in ["patch configmaps", "patch deployments", "patch statefulsets"] {
        assert_eq!(load.get(what), Some(&ROUNDS), "{load:#?}");
    }
    Ok(())
}

/// Gives the last note that it left.
fn annotate(ns: &Namespace, what: &str, over: &AtomicBool, writes: &AtomicU64) -> Result<String> {
    loop {
        let note = writes.fetch_add(1, Ordering::Relaxed).to_string();
        ns.client.merge(
            &ns.name,
            what,
            "another",
            &json!({"metadata": {"annotations": {"example.com/note": note}}}),
        )?;
        if over.load(Ordering::Relaxed) {
            return Ok(note);
        }
    }
}
