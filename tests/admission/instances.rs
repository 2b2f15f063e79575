//! Berth stops, dies, comes back and gets new certificates while others write. Each trial has a control plane of its
//! own, since all writes of a cluster depend on the Berth that is registered there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use berth_test_cluster::{
    Balancer, Berth, BerthOptions, ControlPlane, ControlPlaneOptions, Error, Output, Result, WebhookTls, wait_for,
};
use kube::api::{DynamicObject, ListParams, PostParams};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::client::{Client, to_value};
use crate::context::{Context, install};

const BOUND: Duration = Duration::from_secs(60);
const CLIENTS: usize = 8;
const DEPLOYMENTS: usize = 1000;
const AT_MOST_EACH: usize = 5000;
const STAMP: &str = "toolhive.stacklok.dev/mcpserver-generation";

pub(crate) fn trials(_: &Arc<Context>) -> Vec<Trial> {
    vec![
        Trial::test("instances::bystanders_and_deletions_do_not_need_berth", bystanders_and_deletions),
        Trial::test("instances::no_write_is_lost_while_one_of_two_restarts_and_certificates_change", rolling),
    ]
}

fn deployment(name: &str, annotations: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "app", "image": "example"}]}}},
    })
}

fn opted_in(name: &str) -> Value {
    deployment(name, &json!({"berth.dev/inject": "enabled"}))
}

/// How many reviews of objects in a namespace Berth has logged.
fn reviews(berth: &Berth, namespace: &str) -> usize {
    berth.log().lines().filter(|line| line.contains("\"review\"") && line.contains(namespace)).count()
}

fn assert_fails_closed(output: &Output) {
    assert_eq!(output.status, 1, "{output:?}");
    assert!(output.stderr.contains("failed calling webhook \"mutate.berth.dev\""), "{}", output.stderr);
    assert!(output.stderr.contains("connection refused"), "{}", output.stderr);
}

fn bystanders_and_deletions() -> Result<(), Failed> {
    // Foreground deletion is the garbage collector's work.
    let cluster = ControlPlane::start_own(&ControlPlaneOptions { controller_manager: true, audit: false })?;
    let mut berth = Berth::start(&cluster, install(&cluster)?)?;
    let namespace = cluster.namespace()?;
    let kubectl = cluster.kubectl().in_namespace(&namespace);
    let kubectl = |arguments: &[&str]| kubectl.run(arguments);
    let apply = |object: &Value| cluster.kubectl().in_namespace(&namespace).apply_yaml(&object.to_string());
    let bystander_lives = || -> Result<()> {
        apply(&deployment("bystander", &json!({})))?.ok()?;
        kubectl(&["set", "image", "deployment/bystander", "app=other"])?.ok()?;
        kubectl(&["delete", "deployment/bystander"])?.ok().map(drop)
    };

    bystander_lives()?;
    assert_eq!(reviews(&berth, &namespace), 0, "a bystander never reaches Berth");
    for name in ["background", "foreground"] {
        apply(&opted_in(name))?.ok()?;
    }
    assert!(reviews(&berth, &namespace) >= 4, "each is mutated and validated");
    apply(&deployment("plain", &json!({})))?.ok()?;

    assert!(berth.stop(BOUND)?.success(), "{}", berth.log());
    bystander_lives()?;
    assert_fails_closed(&apply(&opted_in("new"))?);
    assert_eq!(kubectl(&["get", "deployment/new"])?.status, 1);
    assert_fails_closed(&kubectl(&["set", "image", "deployment/background", "app=other"])?);
    kubectl(&["scale", "deployment/plain", "--replicas=2"])?.ok()?;
    kubectl(&["scale", "deployment/background", "--replicas=2"])?.ok()?;
    kubectl(&["delete", "deployment/background", "--timeout=30s"])?.ok()?;
    kubectl(&["delete", "deployment/foreground", "--cascade=foreground", "--timeout=30s"])?.ok()?;

    berth.restart()?;
    let applied = wait_for("a write to succeed again", BOUND, || Ok(apply(&opted_in("new"))?.ok().ok()))?;
    assert_eq!(applied, "deployment.apps/new created\n");

    berth.kill()?;
    assert_fails_closed(&kubectl(&["set", "image", "deployment/new", "app=other"])?);
    berth.deregister()?;
    wait_for("a write that nobody is asked about", BOUND, || {
        Ok(kubectl(&["set", "image", "deployment/new", "app=other"])?.ok().ok())
    })?;
    Ok(())
}

fn rolling() -> Result<(), Failed> {
    let cluster = ControlPlane::start_own(&ControlPlaneOptions::default())?;
    let tls = Arc::new(WebhookTls::new(&cluster.dir().join("shared-tls"))?);
    let mut options = BerthOptions { register: false, tls: Some(Arc::clone(&tls)), ..install(&cluster)? };
    options.arguments.push("--lame-duck=1s".to_owned());
    let mut berths = [Berth::start(&cluster, options.clone())?, Berth::start(&cluster, options)?];
    let balancer = Balancer::start(&berths.each_ref().map(|berth| (berth.listen(), berth.admin())))?;
    berths[0].register_at(&format!("https://{}", balancer.address()))?;
    let namespace = cluster.namespace()?;
    let runtime = Runtime::new().map_err(|error| Error::new(error.to_string()))?;
    let client = Client::connect(runtime.handle(), cluster.kubeconfig())?;

    let writes = Writes::default();
    let ended = thread::scope(|scope| {
        let writers: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (client, namespace, writes) = (&client, &namespace, &writes);
                scope.spawn(move || create_all(client, namespace, number, writes))
            })
            .collect();
        let disturbed = disturb(&mut berths, &balancer, &tls, &writes);
        writes.last.store(true, Ordering::Relaxed);
        let failures = writers.into_iter().flat_map(|writer| writer.join().expect("a writer")).collect::<Vec<_>>();
        disturbed.map(|()| failures)
    });
    let failures = ended?;
    assert!(failures.is_empty(), "{} writes failed, the first: {}", failures.len(), failures[0]);

    let stored = client.block_on(client.api(&namespace, "deployment").list(&ListParams::default()));
    let stored = stored.map_err(|error| Error::new(error.to_string()))?.items;
    assert_eq!(stored.len(), writes.created.load(Ordering::Relaxed));
    let unmutated: Vec<_> = stored
        .iter()
        .map(to_value)
        .filter(|object| object["spec"]["template"]["metadata"]["annotations"][STAMP] != "1")
        .collect();
    assert!(unmutated.is_empty(), "{} were stored unmutated, the first: {}", unmutated.len(), unmutated[0]);
    Ok(())
}

/// What writers and the one who disturbs them tell each other.
#[derive(Default)]
struct Writes {
    created: AtomicUsize,
    last: AtomicBool,
}

/// Creates one Deployment after the other until all has happened that shall happen meanwhile, and gives what went wrong.
fn create_all(client: &Client, namespace: &str, number: usize, writes: &Writes) -> Vec<String> {
    let api = client.api(namespace, "deployment");
    (0..AT_MOST_EACH)
        .take_while(|_| !writes.last.load(Ordering::Relaxed))
        .filter_map(|item| {
            let name = format!("web-{number}-{item}");
            let object: DynamicObject = serde_json::from_value(opted_in(&name)).expect("a Deployment");
            let outcome = client.block_on(api.create(&PostParams::default(), &object));
            writes.created.fetch_add(1, Ordering::Relaxed);
            outcome.err().map(|error| format!("{name}: {error}"))
        })
        .collect()
}

/// Replaces the certificate three times, and restarts the instance that the API server is connected to.
fn disturb(berths: &mut [Berth; 2], balancer: &Balancer, tls: &WebhookTls, writes: &Writes) -> Result<()> {
    let reached = |count: usize| {
        let what = format!("{count} writes");
        wait_for(&what, BOUND, || Ok((writes.created.load(Ordering::Relaxed) >= count).then_some(())))
    };
    reached(DEPLOYMENTS / 10)?;
    tls.renew()?;
    reached(DEPLOYMENTS / 5)?;
    let before = balancer.connections();
    let busy = usize::from(before[1] > before[0]);
    assert!(berths[busy].stop(BOUND)?.success(), "{}", berths[busy].log());
    let after = balancer.connections();
    assert!(after[1 - busy] > before[1 - busy], "the other instance took over: {before:?}, {after:?}");
    berths[busy].restart()?;
    tls.renew()?;
    reached(DEPLOYMENTS * 4 / 5)?;
    tls.renew()?;
    reached(DEPLOYMENTS)
}
