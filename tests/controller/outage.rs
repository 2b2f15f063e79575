//! The API server is gone, hangs, or a machine on the way to it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_test_cluster::{Berth, Result, Wire, wait_for};
use libtest_mimic::{Failed, Trial};
use serde_json::json;

use crate::alone::{Alone, leads, signal, trial, wait_until_it_leads};
use crate::generation::stamp;
use crate::objects::{mcp_server, parts, redis};
use crate::world::{Namespace, World};

/// Longer than the Lease, which is lost and won again.
const OUTAGE: Duration = Duration::from_secs(25);
/// How soon after it everything is as always: the longest pause between two attempts, and the work itself on a busy machine.
const RECOVERED: Duration = Duration::from_secs(30);

pub(crate) fn trials(world: &Arc<World>) -> Vec<Trial> {
    vec![
        trial(world, "outage::an_api_server_that_was_gone_finds_asked_for_work_done_and_no_other", gone),
        trial(world, "outage::an_api_server_that_hangs_holds_nothing_up_for_good", hanging),
        trial(world, "outage::a_berth_that_starts_while_the_api_server_hangs_waits_for_it", early),
        trial(world, "outage::a_connection_that_falls_silent_is_given_up", silent),
    ]
}

fn gone(alone: &mut Alone) -> Result<(), Failed> {
    alone.options.register = true;
    away(
        alone,
        |alone| {
            alone.cluster.api_server()?.kill()?;
            Ok(())
        },
        |alone| alone.cluster.restart_api_server(),
    )?;
    Ok(())
}

fn hanging(alone: &mut Alone) -> Result<(), Failed> {
    away(alone, |alone| alone.cluster.api_server()?.signal("STOP"), |alone| alone.cluster.api_server()?.signal("CONT"))
}

fn away(
    alone: &mut Alone,
    go: impl FnOnce(&mut Alone) -> Result<()>,
    come: impl FnOnce(&mut Alone) -> Result<()>,
) -> Result<(), Failed> {
    alone.resync_as_shipped();
    let mut berth = alone.berth(&[])?;
    // One whose count an autoscaler has, with something of a person's; one with nothing of anybody's.
    alone.ns.build_all(&[
        mcp_server("foo", json!({"sessionStorage": redis()})),
        mcp_server("bar", json!({"replicas": 2, "sessionStorage": redis()})),
    ])?;
    alone.ns.kubectl.run(&["scale", "deployment/foo", "--replicas=4"])?.ok()?;
    alone.ns.edit("Deployment/foo", &json!({"metadata": {"annotations": {"example.com/note": "mine"}}}))?;
    alone.ns.settled("foo")?;
    let audit = alone.ns.audit();

    go(alone)?;
    let away = Instant::now();
    // Nobody knows what another replica does meanwhile.
    stops_leading(&berth)?;
    std::thread::sleep(OUTAGE.saturating_sub(away.elapsed()));
    assert_eq!(berth.get("/readyz")?.status, 200, "reviews are answered from what it knows");
    come(alone)?;

    let (ns, back) = (&alone.ns, Instant::now());
    ns.edit("MCPServer/foo", &json!({"spec": {"image": "example:2"}}))?;
    ns.client.delete(&ns.name, "Service/mcp-bar")?;
    ns.create(&mcp_server("new", json!({})))?;
    wait_for_image(ns, "foo")?;
    ns.wait("Service/mcp-bar", "is there again", |_| true)?;
    for part in parts("new") {
        ns.wait(&part, "is there", |_| true)?;
    }
    assert!(back.elapsed() < RECOVERED, "it took {:?}", back.elapsed());
    wait_until_it_leads(&berth)?;
    ns.settled("foo")?;
    let live = ns.get("Deployment/foo")?;
    assert_eq!(
        (&live["spec"]["replicas"], &live["metadata"]["annotations"]["example.com/note"]),
        (&json!(4), &json!("mine"))
    );
    let asked = ["/foo ", "/foo-runconfig ", "services ", "/new ", "/new-runconfig "];
    let writes = audit.object_writes_in(&ns.name);
    let others: Vec<_> = writes.iter().filter(|write| !asked.iter().any(|asked| write.contains(asked))).collect();
    assert!(others.is_empty() && writes.len() <= 12, "{writes:?}");
    // No herd: it asked for each kind once or twice.
    for (what, count) in audit.load() {
        let bound = if what.contains(" leases") { 30 } else { 10 };
        assert!(count <= bound, "{what}: {count}");
    }
    if alone.options.register {
        let refused = ns.kubectl.run_with_stdin(
            &["create", "--dry-run=server", "-f", "-"],
            &mcp_server("three", json!({"replicas": 3})).to_string(),
        )?;
        assert!(refused.stderr.contains("[berth:SessionStorageMissingForReplicas]"), "{refused:?}");
    }
    assert_eq!(berth.process().exit_status()?, None);
    Ok(())
}

fn early(alone: &mut Alone) -> Result<(), Failed> {
    const LATE: Duration = Duration::from_secs(12);
    let pid = alone.cluster.api_server()?.pid();
    signal(pid, "STOP")?;
    let began = Instant::now();
    let berth = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(LATE);
            signal(pid, "CONT")
        });
        alone.berth(&[])
    })?;
    assert!(began.elapsed() >= LATE, "it was ready after {:?}", began.elapsed());
    wait_until_it_leads(&berth)?;
    alone.ns.build(&mcp_server("foo", json!({})))?;
    Ok(())
}

fn stops_leading(berth: &Berth) -> Result<()> {
    wait_for("a leader that stops", Duration::from_secs(15), || Ok((!leads(berth)?).then_some(())))
}

pub(crate) fn wait_for_image(ns: &Namespace, name: &str) -> Result<()> {
    let generation = ns.get(&format!("MCPServer/{name}"))?["metadata"]["generation"].to_string();
    for what in [format!("StatefulSet/{name}"), format!("Deployment/{name}")] {
        ns.wait(&what, "has the stamp of the new image", |live| stamp(live) == generation)?;
    }
    Ok(())
}

fn silent(alone: &mut Alone) -> Result<(), Failed> {
    alone.resync_as_shipped();
    let server = alone.cluster.server().trim_start_matches("https://").parse().map_err(|_| "no address")?;
    let wire = Wire::to(server)?;
    let kubeconfig = alone.cluster.service_account_kubeconfig_by(wire.address(), "berth-system", "berth")?;
    alone.options.kubeconfig = Some(kubeconfig);
    let berth = alone.berth(&[])?;
    let ns = &alone.ns;
    ns.build(&mcp_server("foo", json!({"sessionStorage": redis()})))?;
    // As a machine on the way that is gone: no answer, and no end either. What comes instead of it knows nothing of it.
    wire.silence();
    stops_leading(&berth)?;
    ns.edit("MCPServer/foo", &json!({"spec": {"image": "example:2"}}))?;
    ns.client.delete(&ns.name, "Service/mcp-foo")?;
    wire.pass();
    wait_for_image(ns, "foo")?;
    ns.wait("Service/mcp-foo", "is there again", |_| true)?;
    wait_until_it_leads(&berth)?;
    ns.settled("foo")?;
    Ok(())
}
