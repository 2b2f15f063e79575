//! Trials that end, stop or restart what others need: each has a control plane for itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_test_cluster::{Berth, BerthOptions, ControlPlane, ControlPlaneOptions, Error, Result, wait_for};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::client::Client;
use crate::generation::stamp;
use crate::objects::{condition, mcp_server, parts, redis};
use crate::world::{BOUND, Namespace, World, install};

pub(crate) fn trials(world: &Arc<World>) -> Vec<Trial> {
    vec![
        trial(world, "alone::a_restart_writes_nothing_and_another_default_image_restarts_nothing", restart),
        trial(world, "alone::the_lease_is_handed_over_and_taken_over", lease),
        trial(world, "alone::who_does_not_lead_keeps_no_queue_and_begins_with_everything", follower),
        trial(world, "alone::an_api_server_that_comes_back_finds_nothing_changed", api_server),
        trial(world, "alone::an_old_leader_never_wins", old_leader),
        trial(world, "alone::replicas_that_got_past_the_webhook_are_told_of", past_the_webhook),
    ]
}

pub(crate) struct Alone {
    pub(crate) ns: Namespace,
    _runtime: Runtime,
    pub(crate) options: BerthOptions,
    pub(crate) cluster: ControlPlane,
}

impl Alone {
    fn start() -> Result<Self> {
        let cluster = ControlPlane::start_own(&ControlPlaneOptions { controller_manager: true, audit: true })?;
        let runtime = Runtime::new().map_err(|error| Error::new(format!("cannot start a runtime: {error}")))?;
        let client = Client::connect(runtime.handle(), cluster.kubeconfig())?;
        let options = BerthOptions { register: false, ..install(&cluster)? };
        let ns = Namespace::new(&cluster, &client)?;
        Ok(Self { ns, _runtime: runtime, options, cluster })
    }

    /// Looks at everything again as seldom as an installation does. What a look each second would hurry shows itself.
    pub(crate) fn resync_as_shipped(&mut self) {
        self.options.arguments.retain(|argument| !argument.starts_with("--controller-resync"));
    }

    /// A Berth with the rights of its service account.
    pub(crate) fn berth(&self, more: &[&str]) -> Result<Berth> {
        let mut options = self.options.clone();
        options.arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        Berth::start(&self.cluster, options)
    }
}

/// A trial with a control plane for itself.
pub(crate) fn trial(
    _: &Arc<World>,
    name: &str,
    body: impl FnOnce(&mut Alone) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    Trial::test(name, move || body(&mut Alone::start()?))
}

pub(crate) fn leads(berth: &Berth) -> Result<bool> {
    Ok(berth.get("/metrics")?.metric("berth_controller_leads", &[]) == 1.0)
}

pub(crate) fn wait_until_it_leads(berth: &Berth) -> Result<()> {
    wait_for("a leader", BOUND, || Ok(leads(berth)?.then_some(())))
}

/// Changes the server's image, and waits until it is everywhere.
fn roll(ns: &Namespace, image: &str) -> Result<()> {
    let generation =
        ns.edit("MCPServer/foo", &json!({"spec": {"image": image}}))?["metadata"]["generation"].to_string();
    for what in ["StatefulSet/foo", "Deployment/foo"] {
        ns.wait(what, "has the stamp of the new image", |live| stamp(live) == generation)?;
    }
    Ok(())
}

fn restart(alone: &mut Alone) -> Result<(), Failed> {
    let ns = &alone.ns;
    let berth = alone.berth(&["--proxy-image=proxy:1"])?;
    for name in ["foo", "bar", "baz"] {
        ns.build(&mcp_server(name, json!({"replicas": 2, "sessionStorage": redis()})))?;
    }
    ns.create(&mcp_server("refused", json!({"transport": "stdio"})))?;
    ns.wait("MCPServer/refused", "says why not", |cr| !cr["status"].is_null())?;
    ns.settled("foo")?;
    drop(berth);
    let before: Vec<_> = parts("foo").iter().map(|part| ns.get(part)).collect::<Result<_>>()?;

    let audit = ns.audit();
    let berth = alone.berth(&["--proxy-image=proxy:2"])?;
    wait_until_it_leads(&berth)?;
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(audit.writes_in(&ns.name), Vec::<String>::new(), "no Event and no status either");
    for (part, before) in parts("foo").iter().zip(&before) {
        assert_eq!(ns.get(part)?["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"], "{part}");
    }
    // A lost Deployment comes back with the image that the others have; a new image comes with a change.
    let image =
        |what: &str| ns.get(what).map(|live| live["spec"]["template"]["spec"]["containers"][0]["image"].clone());
    roll(ns, "example:2")?;
    assert_eq!((image("Deployment/foo")?, image("Deployment/bar")?), (json!("proxy:2"), json!("proxy:1")));
    Ok(())
}

fn lease(alone: &mut Alone) -> Result<(), Failed> {
    let ns = &alone.ns;
    let mut first = alone.berth(&[])?;
    wait_until_it_leads(&first)?;
    let mut second = alone.berth(&[])?;
    ns.build(&mcp_server("foo", json!({})))?;
    assert_eq!((leads(&first)?, leads(&second)?), (true, false));

    // Given back, it is taken at once.
    let given_back = Instant::now();
    first.stop(BOUND)?;
    wait_until_it_leads(&second)?;
    let took = given_back.elapsed();
    assert!(took < Duration::from_secs(14), "it waited for the end of the lease: {took:?}");
    roll(ns, "example:2")?;

    // Left behind, it ends by itself.
    let lease = || alone.ns.client.get("berth-system", "Lease/berth-controller").map(|lease| lease["spec"].clone());
    first.restart()?;
    assert!(!leads(&first)?);
    second.kill()?;
    let left = lease()?;
    wait_until_it_leads(&first)?;
    let taken = lease()?;
    assert_ne!(taken["holderIdentity"], left["holderIdentity"]);
    // By one clock, and whatever a request takes: it was renewed before anybody could see it, and taken after it had ended.
    let time = |time: &Value| time.as_str().unwrap_or_default().parse::<Timestamp>().map_err(|error| error.to_string());
    let lasted = time(&taken["acquireTime"])?.duration_since(time(&left["renewTime"])?);
    assert!(lasted >= SignedDuration::from_secs(20), "it was taken too early: {lasted:?}");
    roll(ns, "example:3")?;
    Ok(())
}

/// Nothing is looked at from time to time here: all that happens is told.
fn follower(alone: &mut Alone) -> Result<(), Failed> {
    const MANY: usize = 40;
    alone.resync_as_shipped();
    alone.options.arguments.push("--controller-resync=0".to_owned());
    let ns = &alone.ns;
    let mut first = alone.berth(&[])?;
    wait_until_it_leads(&first)?;
    let second = alone.berth(&[])?;
    ns.build(&mcp_server("foo", json!({})))?;
    for number in 0..MANY {
        let name = format!("short{number}");
        ns.create(&mcp_server(&name, json!({"transport": "stdio"})))?;
        ns.client.delete(&ns.name, &format!("MCPServer/{name}"))?;
    }
    let metric = |berth: &Berth, name: &str, labels: &[(&str, &str)]| {
        Ok::<_, Error>(berth.get("/metrics")?.metric(name, labels))
    };
    let looks = |berth: &Berth| {
        metric(berth, "berth_controller_reconciles_total", &[("kind", "MCPServer"), ("result", "done")])
    };
    ns.settled("foo")?;
    assert_eq!(metric(&second, "berth_custom_resources", &[("kind", "MCPServer")])?, 1.0, "it knows what there is");
    assert_eq!(metric(&second, "berth_controller_queue", &[])?, 0.0);
    wait_for("all being looked at", BOUND, || {
        Ok((metric(&first, "berth_controller_queue", &[])? == 0.0).then_some(()))
    })?;
    let before = looks(&first)?;
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(looks(&first)?, before, "and nothing once more for no reason");

    // Nobody leads for a while.
    first.kill()?;
    ns.create(&mcp_server("bar", json!({})))?;
    ns.client.delete(&ns.name, "Service/mcp-foo")?;
    ns.client.delete(&ns.name, "ConfigMap/foo-runconfig")?;
    assert!(!leads(&second)?);
    wait_until_it_leads(&second)?;
    ns.wait("Service/mcp-foo", "is there again", |_| true)?;
    ns.wait("ConfigMap/foo-runconfig", "is there again", |_| true)?;
    for part in parts("bar") {
        ns.wait(&part, "is there", |_| true)?;
    }
    roll(ns, "example:2")?;
    Ok(())
}

fn api_server(alone: &mut Alone) -> Result<(), Failed> {
    let mut berth = alone.berth(&[])?;
    alone.ns.build(&mcp_server("foo", json!({"replicas": 2, "sessionStorage": redis()})))?;
    let pid = berth.process().pid();
    let audit = alone.ns.audit();
    alone.cluster.restart_api_server()?;
    wait_until_it_leads(&berth)?;
    let ns = &alone.ns;
    ns.settled("foo")?;
    assert_eq!(audit.object_writes_in(&ns.name), Vec::<String>::new());
    roll(ns, "example:2")?;
    ns.client.delete(&ns.name, "Service/mcp-foo")?;
    ns.wait("Service/mcp-foo", "is there again", |_| true)?;
    assert_eq!((berth.process().pid(), berth.process().exit_status()?), (pid, None));
    Ok(())
}

/// Two that both believe to lead, and one of them is made to sleep while the other works: its caches stand still, and
/// it wakes in the middle of looking at everything again.
fn old_leader(alone: &mut Alone) -> Result<(), Failed> {
    const ROUNDS: usize = 100;
    alone.resync_as_shipped();
    alone.options.arguments.push("--controller-resync=100ms".to_owned());
    let ns = &alone.ns;
    let mut old = alone.berth(&[])?;
    wait_until_it_leads(&old)?;
    let mut options = alone.options.clone();
    // Another Lease, and rights to have it.
    options.arguments.retain(|argument| !argument.starts_with("--lease-namespace"));
    options.arguments.push("--lease-namespace=default".to_owned());
    options.kubeconfig = None;
    let new = Berth::start(&alone.cluster, options)?;
    wait_until_it_leads(&new)?;
    ns.build(&mcp_server("foo", json!({"replicas": 1, "backendReplicas": 1})))?;
    let old = old.process().pid();
    for round in 1..=ROUNDS {
        signal(old, "STOP")?;
        let rolled = roll(ns, &format!("example:{round}.0"));
        signal(old, "CONT")?;
        rolled?;
        std::thread::sleep(Duration::from_millis(100));
        let generation = ns.get("MCPServer/foo")?["metadata"]["generation"].to_string();
        for what in ["StatefulSet/foo", "Deployment/foo"] {
            assert_eq!(stamp(&ns.get(what)?), generation, "{what} in round {round}");
        }
    }
    // One write of each image: not even between two looks did an old template come back.
    for what in ["StatefulSet/foo", "Deployment/foo"] {
        assert_eq!(ns.get(what)?["metadata"]["generation"], ROUNDS + 1, "{what}");
    }
    // Each template that the controller of StatefulSets met has a revision, and one that came back would have got another
    // number. A busy one may have met the last without those just before it.
    wait_for("the revision of the last image", BOUND, || {
        let revisions = ns.client.list(&ns.name, "ControllerRevision")?;
        let last = revisions.iter().filter_map(|revision| revision["revision"].as_u64()).max().unwrap_or_default();
        assert!(last <= ROUNDS as u64 + 1, "{last} templates for {ROUNDS} images");
        let image = format!("example:{ROUNDS}.0");
        let of = |revision: &Value| revision["data"]["spec"]["template"]["spec"]["containers"][0]["image"].clone();
        Ok(revisions.iter().any(|revision| of(revision) == image.as_str()).then_some(()))
    })?;
    Ok(())
}

/// There is no webhook here, as when it does not answer.
fn past_the_webhook(alone: &mut Alone) -> Result<(), Failed> {
    let ns = &alone.ns;
    let _berth = alone.berth(&[])?;
    ns.build(&mcp_server("foo", json!({})))?;
    let warning = |cr: &Value| condition(cr, "SessionStorageWarning");
    ns.edit("Deployment/foo", &json!({"spec": {"replicas": 3}}))?;
    let told = ns.wait("MCPServer/foo", "warns of its replicas", |cr| warning(cr)["status"] == "True")?;
    assert_eq!(warning(&told)["reason"], "SessionStorageMissingForReplicas");
    ns.settled("foo")?;
    let events = ns.client.list(&ns.name, "Event")?;
    let told = events.iter().filter(|event| event["reason"] == "SessionStorageMissingForReplicas").count();
    assert_eq!(
        (told, ns.get("Deployment/foo")?["spec"]["replicas"].clone()),
        (1, json!(3)),
        "another decides the count"
    );
    ns.edit("Deployment/foo", &json!({"spec": {"replicas": 1}}))?;
    ns.wait("MCPServer/foo", "is content", |cr| warning(cr)["status"] == "False")?;
    // Pods of the server, whose sessions the proxy alone knows.
    ns.edit("StatefulSet/foo", &json!({"spec": {"replicas": 2}}))?;
    let told = ns.wait("MCPServer/foo", "warns of its pods", |cr| warning(cr)["status"] == "True")?;
    assert!(warning(&told)["message"].as_str().is_some_and(|message| message.contains("more than 1 pod")), "{told}");
    ns.settled("foo")?;
    let events = ns.client.list(&ns.name, "Event")?;
    let told = events.iter().filter(|event| event["reason"] == "SessionStorageMissingForReplicas").count();
    assert_eq!((told, ns.get("StatefulSet/foo")?["spec"]["replicas"].clone()), (2, json!(2)));
    ns.edit("StatefulSet/foo", &json!({"spec": {"replicas": 1}}))?;
    ns.wait("MCPServer/foo", "is content", |cr| warning(cr)["status"] == "False")?;
    Ok(())
}

pub(crate) fn signal(pid: u32, signal: &str) -> Result<()> {
    let status = std::process::Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        other => Err(Error::new(format!("kill -{signal} {pid}: {other:?}"))),
    }
}
