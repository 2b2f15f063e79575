//! Two Berths behind a balancer lose no write while their certificate is replaced and each is restarted. On a control
//! plane of its own, since all writes of a cluster go past the Berth that is registered there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use berth_test_cluster::{
    Balancer, Berth, BerthOptions, ControlPlane, ControlPlaneOptions, Error, Result, WebhookTls, wait_for,
};
use kube::api::{DynamicObject, ListParams, PostParams};
use libtest_mimic::{Failed, Trial};
use tokio::runtime::Runtime;

use crate::client::{Client, to_value};
use crate::context::{Context, install};
use crate::objects::in_redis;
use crate::wiring::STAMP;

const BOUND: Duration = Duration::from_secs(60);
const CLIENTS: usize = 8;
const DEPLOYMENTS: usize = 1000;
/// So many writes are enough, however long the rest takes.
const AT_MOST_EACH: usize = 5000;

pub(crate) fn trials(_: &Arc<Context>) -> Vec<Trial> {
    vec![Trial::test("rollover::no_write_is_lost_while_certificates_change_and_each_of_two_restarts", rollover)]
}

fn rollover() -> Result<(), Failed> {
    let cluster = ControlPlane::start_own(&ControlPlaneOptions::default())?;
    let tls = Arc::new(WebhookTls::new(&cluster.dir().join("shared-tls"))?);
    let mut options = BerthOptions { register: false, tls: Some(Arc::clone(&tls)), ..install(&cluster)? };
    options.arguments.push("--lame-duck=1s".to_owned());
    let berths = [Berth::start(&cluster, options.clone())?, Berth::start(&cluster, options)?];
    let balancer = Balancer::start(&berths.each_ref().map(|berth| (berth.listen(), berth.admin())))?;
    let mut pair = Pair { berths, balancer, tls };
    pair.berths[0].register_at(&format!("https://{}", pair.balancer.address()))?;
    let namespace = cluster.namespace()?;
    let runtime = Runtime::new().map_err(|error| Error::new(error.to_string()))?;
    let connect = |_| Client::connect(runtime.handle(), cluster.kubeconfig());
    let clients = (0..CLIENTS).map(connect).collect::<Result<Vec<_>>>()?;

    let writes = Writes::default();
    let ended = thread::scope(|scope| {
        let writers: Vec<_> = clients
            .iter()
            .enumerate()
            .map(|(number, client)| {
                let (namespace, writes) = (&namespace, &writes);
                scope.spawn(move || create_all(client, namespace, number, writes))
            })
            .collect();
        let disturbed = pair.disturb(&writes);
        writes.last.store(true, Ordering::Relaxed);
        let failures = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<Vec<_>>();
        disturbed.map(|()| failures)
    });
    let failures = ended?;
    assert!(failures.is_empty(), "{} writes failed, the first: {}", failures.len(), failures[0]);

    let stored = clients[0].block_on(clients[0].api(&namespace, "deployment").list(&ListParams::default()));
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

impl Writes {
    fn wait_for(&self, count: usize) -> Result<()> {
        let what = format!("{count} writes");
        wait_for(&what, BOUND, || Ok((self.created.load(Ordering::Relaxed) >= count).then_some(())))
    }
}

/// Creates one Deployment after the other until all has happened that shall happen meanwhile, and gives what went wrong.
fn create_all(client: &Client, namespace: &str, number: usize, writes: &Writes) -> Vec<String> {
    let api = client.api(namespace, "deployment");
    (0..AT_MOST_EACH)
        .take_while(|_| !writes.last.load(Ordering::Relaxed))
        .filter_map(|item| {
            let name = format!("web-{number}-{item}");
            let object: DynamicObject = serde_json::from_value(in_redis("Deployment", &name, &[])).unwrap();
            let outcome = client.block_on(api.create(&PostParams::default(), &object));
            writes.created.fetch_add(1, Ordering::Relaxed);
            outcome.err().map(|error| format!("{name}: {error}"))
        })
        .collect()
}

/// Two instances with one certificate, and what stands in front of them.
struct Pair {
    berths: [Berth; 2],
    balancer: Balancer,
    tls: Arc<WebhookTls>,
}

impl Pair {
    /// Replaces the certificate three times, and restarts each instance while the API server is connected to it.
    fn disturb(&mut self, writes: &Writes) -> Result<()> {
        writes.wait_for(DEPLOYMENTS / 10)?;
        self.renew_certificate()?;
        let connections = self.balancer.connections();
        let busy = usize::from(connections[1] > connections[0]);
        writes.wait_for(DEPLOYMENTS * 2 / 10)?;
        self.restart(busy)?;
        writes.wait_for(DEPLOYMENTS * 4 / 10)?;
        self.renew_certificate()?;
        writes.wait_for(DEPLOYMENTS * 6 / 10)?;
        // The one that took over, and holds the connection since.
        self.restart(1 - busy)?;
        writes.wait_for(DEPLOYMENTS * 8 / 10)?;
        self.renew_certificate()?;
        writes.wait_for(DEPLOYMENTS)?;
        // The API server keeps a connection: it was not for want of a lasting one that no write was lost.
        let connections: usize = self.balancer.connections().iter().sum();
        assert!(connections < 20, "{connections} connections for {} writes", writes.created.load(Ordering::Relaxed));
        Ok(())
    }

    /// Puts a new certificate in place, and waits until both instances serve it.
    fn renew_certificate(&self) -> Result<()> {
        let served = |berth: &Berth| -> Result<f64> {
            Ok(berth.get("/metrics")?.metric("berth_tls_certificate_reloads_total", &[("result", "served")]))
        };
        let before = [served(&self.berths[0])?, served(&self.berths[1])?];
        self.tls.renew()?;
        wait_for("the new certificate, served by both", BOUND, || {
            Ok((served(&self.berths[0])? > before[0] && served(&self.berths[1])? > before[1]).then_some(()))
        })
    }

    /// SIGTERM to an instance that answers reviews; the other one takes over; the instance comes back.
    fn restart(&mut self, busy: usize) -> Result<()> {
        let reviews =
            |berth: &Berth| Ok::<_, Error>(berth.get("/metrics")?.metric("berth_admission_reviews_total", &[]));
        let answered = reviews(&self.berths[busy])?;
        wait_for("reviews by the instance that is to end", BOUND, || {
            Ok((reviews(&self.berths[busy])? > answered).then_some(()))
        })?;
        let (before, idle) = (self.balancer.connections(), reviews(&self.berths[1 - busy])?);
        let status = self.berths[busy].stop(BOUND)?;
        assert!(status.success(), "{status}: {}", self.berths[busy].log());
        wait_for("reviews by the other instance", BOUND, || {
            Ok((reviews(&self.berths[1 - busy])? > idle).then_some(()))
        })?;
        let after = self.balancer.connections();
        assert!(after[1 - busy] > before[1 - busy], "the API server did not connect anew: {before:?}, {after:?}");
        self.berths[busy].restart()
    }
}
