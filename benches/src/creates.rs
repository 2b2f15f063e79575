//! What a create through a real API server costs with each of the guards installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use berth_test_cluster::ControlPlane;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::candidate::{Candidate, Kind};
use crate::statistics::percentile;
use crate::{Result, resources};
use berth_bench::fixtures::{NAMESPACE, user_deployment};

/// Clients at once, in two measurements.
pub(crate) const CLIENTS: [usize; 2] = [1, 8];

/// Creates before each measurement, so that connections and programs are warm.
const WARM_UP: usize = 40;

/// What stands in the way of a create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Nothing at all.
    Nothing,
    /// A webhook that mutates and validates.
    Webhook(Kind),
    /// A MutatingAdmissionPolicy and a ValidatingAdmissionPolicy, inside the API server.
    Cel,
}

impl Guard {
    pub(crate) const ALL: [Self; 4] = [Self::Nothing, Self::Webhook(Kind::Berth), Self::Cel, Self::Webhook(Kind::Go)];

    /// As the table calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing installed",
            Self::Webhook(Kind::Berth) => "Berth, mutating and validating",
            Self::Webhook(Kind::Go) => "Go webhook, mutating and validating",
            Self::Cel => "CEL pair inside the API server",
        }
    }
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Created {
    pub(crate) guard: Guard,
    pub(crate) clients: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// CPU time of the API server for each create, in ms.
    pub(crate) api_server_ms: f64,
    /// CPU time of the webhook for each create, in ms.
    pub(crate) webhook_ms: f64,
}

/// The cluster that the creates go to, and how each guard is installed in it.
pub(crate) struct Setting<'a> {
    pub(crate) control_plane: &'a ControlPlane,
    pub(crate) candidates: &'a [Candidate],
    /// The program that prints the registration.
    pub(crate) berth: &'a Path,
    pub(crate) ca_file: &'a Path,
    /// Directory of the CEL policies.
    pub(crate) cel: &'a Path,
}

/// Creates `count` Deployments for each guard and number of clients, in `rounds` rounds whose order rotates.
pub(crate) fn measure(runtime: &Runtime, setting: &Setting<'_>, rounds: usize, count: usize) -> Result<Vec<Created>> {
    let clients: Vec<Client> = (0..CLIENTS[CLIENTS.len() - 1])
        .map(|_| Client::new(runtime, setting.control_plane.kubeconfig()))
        .collect::<Result<_>>()?;
    let mut measured = Vec::new();
    for round in 0..rounds {
        eprintln!("creates: round {} of {rounds}", round + 1);
        let mut order = Guard::ALL;
        order.rotate_left(round % Guard::ALL.len());
        for guard in order {
            let manifest = setting.manifest(guard)?;
            setting.kubectl_with("apply", &manifest)?;
            let outcome = wait_until(runtime, &clients[0], guard != Guard::Nothing)
                .and_then(|()| measure_one(runtime, setting, &clients, guard, count));
            setting.kubectl_with("delete", &manifest)?;
            measured.extend(outcome?);
            wait_until(runtime, &clients[0], false)?;
        }
    }
    Ok(measured)
}

impl Setting<'_> {
    /// What installs the guard; empty where there is nothing to install. The Go webhook gets the registration that
    /// Berth's users get, with its own address.
    fn manifest(&self, guard: Guard) -> Result<String> {
        match guard {
            Guard::Nothing => Ok(String::new()),
            Guard::Cel => {
                let read = |name: &str| fs::read_to_string(self.cel.join(name));
                Ok(format!("{}---\n{}", read("mutate.yaml")?, read("validate.yaml")?))
            }
            Guard::Webhook(kind) => {
                let candidate = self.candidate(kind).ok_or("the webhook is not running")?;
                let url = format!("https://{}", candidate.address);
                let output = std::process::Command::new(self.berth)
                    .args(["webhook-config", "--url", &url, "--ca-file"])
                    .arg(self.ca_file)
                    .output()?;
                if !output.status.success() {
                    return Err(format!("berth webhook-config: {}", String::from_utf8_lossy(&output.stderr)).into());
                }
                Ok(String::from_utf8(output.stdout)?)
            }
        }
    }

    fn candidate(&self, kind: Kind) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| candidate.kind == kind)
    }

    fn kubectl_with(&self, verb: &str, manifest: &str) -> Result<()> {
        if !manifest.is_empty() {
            self.control_plane.kubectl().run_with_stdin(&[verb, "-f", "-"], manifest)?.ok()?;
        }
        Ok(())
    }

    /// CPU time of the API server so far, where the harness started it.
    fn api_server_us(&self) -> Result<f64> {
        let pid_file: PathBuf = self.control_plane.dir().join("kube-apiserver.pid");
        match fs::read_to_string(pid_file) {
            Ok(pid) => resources::cpu_us(pid.trim().parse()?),
            Err(_) => Ok(0.0),
        }
    }

    fn webhook_us(&self, guard: Guard) -> Result<f64> {
        match guard {
            Guard::Webhook(kind) => self.candidate(kind).map_or(Ok(0.0), |it| resources::cpu_us(it.pid())),
            Guard::Nothing | Guard::Cel => Ok(0.0),
        }
    }
}

/// Both numbers of clients under one guard; what was created is deleted again.
fn measure_one(
    runtime: &Runtime,
    setting: &Setting<'_>,
    all: &[Client],
    guard: Guard,
    count: usize,
) -> Result<Vec<Created>> {
    let mut measured = Vec::new();
    for number in CLIENTS {
        let clients = &all[..number];
        runtime.block_on(create_all(clients, "warm", WARM_UP))?;
        let (api_server, webhook) = (setting.api_server_us()?, setting.webhook_us(guard)?);
        let mut latencies = runtime.block_on(create_all(clients, "web", count))?;
        let per_create = |us: f64| us / 1000.0 / count as f64;
        measured.push(Created {
            guard,
            clients: number,
            p50_ms: percentile(&mut latencies, 0.5),
            p99_ms: percentile(&mut latencies, 0.99),
            api_server_ms: per_create(setting.api_server_us()? - api_server),
            webhook_ms: per_create(setting.webhook_us(guard)? - webhook),
        });
        runtime.block_on(all[0].delete_all())?;
    }
    Ok(measured)
}

/// Creates `count` Deployments, shared out among the clients; latencies in ms.
async fn create_all(clients: &[Client], prefix: &str, count: usize) -> Result<Vec<f64>> {
    let tasks: Vec<_> = clients
        .iter()
        .cloned()
        .enumerate()
        .map(|(index, client)| {
            let step = clients.len();
            let bodies: Vec<_> = (index..count)
                .step_by(step)
                .map(|n| user_deployment(&format!("{prefix}-{n}")).to_string().into_bytes())
                .collect();
            tokio::spawn(async move {
                let mut latencies = Vec::with_capacity(bodies.len());
                for body in bodies {
                    let start = Instant::now();
                    client.create(body, false).await?;
                    latencies.push(start.elapsed().as_secs_f64() * 1e3);
                }
                Ok::<_, crate::Error>(latencies)
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await??);
    }
    Ok(all)
}

/// Waits until a good Deployment is wired, or not, and a bad one refused, or not: both registrations have to have
/// arrived, three times in a row.
fn wait_until(runtime: &Runtime, client: &Client, guarded: bool) -> Result<()> {
    let good = user_deployment("probe");
    let mut bad = user_deployment("probe");
    bad["metadata"]["annotations"]["berth.dev/session-provider"] = json!("memory");
    let end = Instant::now() + Duration::from_secs(30);
    let mut in_a_row = 0;
    let mut seen = String::new();
    while in_a_row < 3 {
        let wired = runtime.block_on(client.create(good.to_string().into_bytes(), true));
        let refused = runtime.block_on(client.create(bad.to_string().into_bytes(), true));
        let is_wired = wired.as_ref().is_ok_and(|object| {
            object["spec"]["template"]["metadata"]["annotations"].is_object() && object["spec"]["replicas"] == json!(3)
        });
        let settled = is_wired == guarded && refused.is_err() == guarded && wired.is_ok();
        in_a_row = if settled { in_a_row + 1 } else { 0 };
        if !settled {
            seen = format!("good: {wired:?}; bad: {refused:?}");
        }
        if Instant::now() > end {
            return Err(format!("after 30 s creates are not as expected (guarded: {guarded}): {seen}").into());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// One client of the API server, with a connection of its own.
#[derive(Clone)]
struct Client(kube::Client);

impl Client {
    fn new(runtime: &Runtime, kubeconfig: &Path) -> Result<Self> {
        runtime.block_on(async {
            let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            Ok(Self(kube::Client::try_from(config)?))
        })
    }

    async fn create(&self, body: Vec<u8>, dry_run: bool) -> Result<Value> {
        let query = if dry_run { "?dryRun=All" } else { "" };
        let request = hyper::Request::post(format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments{query}"))
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(body)?;
        if dry_run {
            return Ok(self.0.request(request).await?);
        }
        // The answer is read but not parsed: the load should cost little.
        self.0.request_text(request).await?;
        Ok(Value::Null)
    }

    async fn delete_all(&self) -> Result<()> {
        let request =
            hyper::Request::delete(format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments")).body(Vec::new())?;
        self.0.request_text(request).await?;
        Ok(())
    }
}
