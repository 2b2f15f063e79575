//! The API server has no answer: for a moment, or for one object as long as a webhook of somebody else's is not there, or
//! hangs.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use berth_test_cluster::wait_for;
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::alone::{self, Alone, wait_until_it_leads};
use crate::objects::{condition, mcp_server, parts, redis};
use crate::outage::wait_for_image;
use crate::world::{BOUND, Namespace, World, trial};

pub(crate) fn trials(world: &Arc<World>) -> Vec<Trial> {
    vec![
        trial(world, "trouble::what_is_over_in_a_moment_alarms_nobody_and_what_is_not_is_told", momentary),
        alone::trial(world, "trouble::a_webhook_that_hangs_is_named_and_holds_nobody_up", hanging),
    ]
}

/// A webhook of somebody else's, for objects of one namespace, without a time-out of its own.
fn webhook(ns: &Namespace, address: SocketAddr, (group, resource): (&str, &str)) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": format!("troubled-{}", ns.name)},
        "webhooks": [{
            "name": "troubled.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "failurePolicy": "Fail", "clientConfig": {"url": format!("https://{address}/")},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns.name}},
            "rules": [{"apiGroups": [group], "apiVersions": ["v1"], "resources": [resource], "operations": ["CREATE", "UPDATE"]}],
        }],
    })
}

fn take_back(ns: &Namespace) -> Result<(), Failed> {
    ns.kubectl.run(&["delete", "validatingwebhookconfiguration", &format!("troubled-{}", ns.name)])?.ok()?;
    Ok(())
}

/// Waits until the webhook is asked about `Deployment/foo`: the API server learns of a registration in its own time.
fn wait_until_asked(ns: &Namespace) -> Result<(), Failed> {
    wait_for("the webhook being asked", BOUND, || {
        let note = ["annotate", "deployment/foo", "example.com/asked=yes", "--overwrite", "--dry-run=server"];
        Ok(ns.kubectl.run(&note)?.stderr.contains("troubled.example.com").then_some(()))
    })?;
    Ok(())
}

fn momentary(ns: &Namespace) -> Result<(), Failed> {
    // Nobody listens there, so the API server answers at once, by a 500.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let troubled = webhook(ns, address, ("apps", "deployments")).to_string();
    ns.build(&mcp_server("foo", json!({"sessionStorage": redis()})))?;
    let refused = format!("patch deployments {}/foo 500", ns.name);
    let told = || -> Result<usize, Failed> {
        let events = ns.client.list(&ns.name, "Event")?;
        Ok(events.iter().filter(|event| event["reason"] == "ApplyFailed").count())
    };
    let mut seen = false;
    // A machine may be so slow that the moment is none.
    for round in 1..=5 {
        ns.kubectl.apply_yaml(&troubled)?.ok()?;
        wait_until_asked(ns)?;
        let (audit, before, began) = (ns.audit(), told()?, Instant::now());
        ns.edit("MCPServer/foo", &json!({"spec": {"image": format!("example:1.{round}")}}))?;
        let attempts = || audit.writes_in(&ns.name).iter().filter(|write| **write == refused).count();
        while attempts() < 2 && began.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(50));
        }
        take_back(ns)?;
        let took = began.elapsed();
        wait_for_image(ns, "foo")?;
        ns.settled("foo")?;
        let attempts = attempts();
        if attempts > 1 && took < Duration::from_secs(6) {
            assert_eq!(told()?, before, "{attempts} attempts in {took:?}");
            seen = true;
            break;
        }
    }
    assert!(seen, "it was never over in a moment");

    ns.kubectl.apply_yaml(&troubled)?.ok()?;
    wait_until_asked(ns)?;
    ns.edit("MCPServer/foo", &json!({"spec": {"image": "example:2"}}))?;
    let cr = ns.wait("MCPServer/foo", "says what is wrong", |cr| condition(cr, "Ready")["reason"] == "ApplyFailed")?;
    let message = condition(&cr, "Ready")["message"].to_string();
    assert!(message.contains("failed calling webhook") && message.contains("troubled.example.com"), "{message}");
    take_back(ns)?;
    wait_for_image(ns, "foo")?;
    ns.wait("MCPServer/foo", "waits for its pods only", |cr| condition(cr, "Ready")["reason"] == "NotReady")?;
    Ok(())
}

/// Takes connections, and never says anything.
struct Silent {
    address: SocketAddr,
    waiting: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Silent {
    fn start() -> Result<Self, Failed> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (waiting, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let ended = Arc::new(AtomicBool::new(false));
        let (count, highest, over) = (Arc::clone(&waiting), Arc::clone(&most), Arc::clone(&ended));
        let thread = thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let (count, highest) = (Arc::clone(&count), Arc::clone(&highest));
                thread::spawn(move || {
                    highest.fetch_max(count.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                    // Until the API server gives up.
                    while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
                    count.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Ok(Self { address, waiting, most, ended, thread: Some(thread) })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn hanging(alone: &mut Alone) -> Result<(), Failed> {
    const MANY: usize = 12;
    alone.resync_as_shipped();
    let berth = alone.berth(&[])?;
    wait_until_it_leads(&berth)?;
    let ns = &alone.ns;
    let others = Namespace::new(&alone.cluster, &ns.client)?;
    let silent = Silent::start()?;
    ns.kubectl.apply_yaml(&webhook(ns, silent.address, ("", "configmaps")).to_string())?.ok()?;
    wait_for("the webhook being asked", BOUND, || {
        let _ = ns.kubectl.run(&["create", "configmap", "x", "--dry-run=server", "--request-timeout=1s"]);
        Ok((silent.most.load(Ordering::Relaxed) > 0).then_some(()))
    })?;

    let name = |number: usize| format!("foo{number}");
    for number in 0..MANY {
        ns.create(&mcp_server(&name(number), json!({"sessionStorage": redis()})))?;
    }
    for number in 0..MANY {
        ns.wait(&format!("MCPServer/{}", name(number)), "says what is wrong", |cr| {
            let ready = condition(cr, "Ready");
            let message = ready["message"].to_string();
            ready["reason"] == "ApplyFailed"
                && message.contains("failed calling webhook")
                && message.contains("troubled.example.com")
        })?;
    }
    // From now on they have a share of what is looked at at the same time; all others have the rest.
    wait_for("the first attempts being over", BOUND, || {
        Ok((silent.waiting.load(Ordering::Relaxed) <= 2).then_some(()))
    })?;
    silent.most.store(0, Ordering::Relaxed);
    others.build(&mcp_server("good", json!({"sessionStorage": redis()})))?;
    wait_for("more attempts", BOUND, || Ok((silent.most.load(Ordering::Relaxed) > 0).then_some(())))?;
    thread::sleep(Duration::from_secs(15));
    let most = silent.most.load(Ordering::Relaxed);
    // Two, and two that the API server has given up and not closed yet; all workers are more.
    assert!(most <= 4, "{most} at the same time");

    take_back(ns)?;
    for number in 0..MANY {
        for part in parts(&name(number)) {
            ns.wait(&part, "is there", |_| true)?;
        }
        ns.wait(&format!("MCPServer/{}", name(number)), "waits for its pods only", |cr| {
            condition(cr, "Ready")["reason"] == "NotReady"
        })?;
    }
    Ok(())
}
