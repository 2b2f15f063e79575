//! The controller: many custom resources at once, on a control plane that it has for itself.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use berth_test_cluster::{ControlPlane, ControlPlaneOptions, HttpResponse, Process, apply_crds, http_get, wait_for};
use serde_json::{Value, json};

use crate::Result;
use crate::resources::{Memory, cpu_us, memory};

const READY: Duration = Duration::from_secs(60);
/// For all of them to be built.
const SETTLED: Duration = Duration::from_secs(900);
/// How often the controller looks at everything again, so that the quiet minute has such looks.
const RESYNC: &str = "10s";

#[derive(Debug, clap::Args)]
pub(crate) struct ControllerArguments {
    /// The program `berth`.
    #[arg(long)]
    berth: PathBuf,
    /// Numbers of MCPServers, each tried on a control plane of its own.
    #[arg(long, value_delimiter = ',', default_value = "100,1000")]
    custom_resources: Vec<usize>,
    /// Seconds to watch it after everything is built.
    #[arg(long, default_value_t = 30)]
    quiet: u64,
}

/// What one number of resources came to.
struct Figures {
    count: usize,
    settled: Duration,
    requests: BTreeMap<String, usize>,
    cpu_us: f64,
    before: Memory,
    after: Memory,
    quiet_requests: usize,
    quiet_cpu_us: f64,
}

pub(crate) fn run(arguments: &ControllerArguments) -> Result<()> {
    let mut all = Vec::new();
    for count in &arguments.custom_resources {
        eprintln!("{count} MCPServers");
        all.push(measure(arguments, *count)?);
    }
    println!(
        "From the first create to the last status, Berth alone on its control plane (no controller manager), requests by \
         the API server's audit log without the Lease's; afterwards {} s in which everything is looked at every {RESYNC}:\n",
        arguments.quiet
    );
    println!(
        "| MCPServers | settled in s | requests a resource | of them reads | CPU ms a resource | resident MB (heap and stacks) \
         before | and after | requests afterwards | CPU ms a second afterwards |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for figures in &all {
        println!("{}", figures.row(arguments.quiet));
    }
    for figures in &all {
        println!("\n{} MCPServers, requests by kind: {:?}", figures.count, figures.requests);
    }
    Ok(())
}

impl Figures {
    fn row(&self, quiet: u64) -> String {
        let a_resource = |value: f64| value / self.count as f64;
        let total: usize = self.requests.values().sum();
        let reads: usize =
            self.requests.iter().filter(|(kind, _)| kind.starts_with("get ")).map(|(_, number)| number).sum();
        format!(
            "| {} | {:.1} | {:.2} | {:.2} | {:.2} | {:.1} ({:.1}) | {:.1} ({:.1}) | {} | {:.1} |",
            self.count,
            self.settled.as_secs_f64(),
            a_resource(total as f64),
            a_resource(reads as f64),
            a_resource(self.cpu_us / 1e3),
            self.before.resident,
            self.before.anonymous,
            self.after.resident,
            self.after.anonymous,
            self.quiet_requests,
            self.quiet_cpu_us / 1e3 / quiet as f64,
        )
    }
}

fn measure(arguments: &ControllerArguments, count: usize) -> Result<Figures> {
    let cluster = ControlPlane::start_own(&ControlPlaneOptions { controller_manager: false, audit: true })?;
    let log = cluster.audit_log().ok_or("the control plane has no audit log")?.to_owned();
    let (process, admin) = start(&cluster, &arguments.berth)?;
    let pid = process.pid();
    thread::sleep(Duration::from_secs(2));
    let (before, cpu_before, from) = (memory(pid)?, cpu_us(pid)?, length(&log));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = runtime.block_on(connect(cluster.kubeconfig()))?;
    let began = Instant::now();
    runtime.block_on(create(&client, count))?;
    // One status each: without pods, there is nothing more to say.
    let statuses = [("kind", "MCPServer"), ("write", "status")];
    wait_for("all MCPServers being built", SETTLED, || {
        let metrics = http_get(admin, "/metrics").ok();
        Ok(metrics
            .filter(|metrics| metric(metrics, "berth_controller_writes_total", &statuses) >= count as f64)
            .map(drop))
    })?;
    let settled = began.elapsed();
    // What is under way still ends.
    thread::sleep(Duration::from_secs(3));
    let (after, cpu_after) = (memory(pid)?, cpu_us(pid)?);
    let requests = requests(&log, from);

    let from = length(&log);
    thread::sleep(Duration::from_secs(arguments.quiet));
    let quiet_requests = self::requests(&log, from).values().sum();
    let quiet_cpu_us = cpu_us(pid)? - cpu_after;
    Ok(Figures {
        count,
        settled,
        requests,
        cpu_us: cpu_after - cpu_before,
        before,
        after,
        quiet_requests,
        quiet_cpu_us,
    })
}

/// With the rights of its service account, so that the audit log knows its requests.
fn start(cluster: &ControlPlane, program: &Path) -> Result<(Process, SocketAddr)> {
    apply_crds(cluster, program)?;
    for file in ["namespace.yaml", "rbac.yaml"] {
        let path = Path::new("webhook-config").join(file);
        cluster.kubectl().run(&["apply", "-f", &path.display().to_string()])?.ok()?;
    }
    let admin = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
    let arguments = [
        "serve".to_owned(),
        "--no-webhook".to_owned(),
        "--lease-namespace=berth-system".to_owned(),
        format!("--controller-resync={RESYNC}"),
        format!("--admin={admin}"),
    ];
    let kubeconfig = cluster.service_account_kubeconfig("berth-system", "berth")?;
    let environment = [("KUBECONFIG".to_owned(), kubeconfig.display().to_string())];
    let mut process = Process::start(cluster.dir(), "berth", program, arguments, &environment)?;
    wait_for("a leading Berth", READY, || {
        if process.exit_status()?.is_some() {
            return Err(berth_test_cluster::Error::new(format!("berth ended: {}", process.log_tail())));
        }
        let metrics = http_get(admin, "/metrics").ok();
        Ok(metrics.filter(|metrics| metric(metrics, "berth_controller_leads", &[]) == 1.0).map(drop))
    })?;
    Ok((process, admin))
}

fn metric(metrics: &HttpResponse, name: &str, labels: &[(&str, &str)]) -> f64 {
    if metrics.status == 200 { metrics.metric(name, labels) } else { 0.0 }
}

async fn connect(kubeconfig: &Path) -> Result<kube::Client> {
    let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

async fn create(client: &kube::Client, count: usize) -> Result<()> {
    let path = "/apis/toolhive.stacklok.dev/v1beta1/namespaces/default/mcpservers";
    for number in 0..count {
        let manifest = json!({
            "apiVersion": "toolhive.stacklok.dev/v1beta1", "kind": "MCPServer",
            "metadata": {"name": format!("server-{number}"), "annotations": {"berth.dev/class": "berth"}},
            "spec": {
                "image": "example.com/mcp/server:1", "transport": "streamable-http", "mcpPort": 8080, "replicas": 2,
                "backendReplicas": 3, "env": [{"name": "LOG_LEVEL", "value": "info"}],
                "sessionStorage": {"provider": "redis", "address": "redis.redis:6379",
                    "passwordRef": {"name": "redis", "key": "password"}},
            },
        });
        let request = kube::core::Request::new(path)
            .create(&kube::api::PostParams::default(), manifest.to_string().into_bytes())?;
        client.request::<Value>(request).await?;
    }
    Ok(())
}

fn length(log: &Path) -> usize {
    fs::metadata(log).map_or(0, |metadata| usize::try_from(metadata.len()).unwrap_or(usize::MAX))
}

/// Berth's requests since a place in the audit log, as `VERB RESOURCE`.
fn requests(log: &Path, from: usize) -> BTreeMap<String, usize> {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(text.get(from..).unwrap_or_default()).into_owned();
    let mut found = BTreeMap::new();
    for event in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let ours = event["user"]["username"] == "system:serviceaccount:berth-system:berth";
        if !ours || event["stage"] != "ResponseComplete" || event["objectRef"]["resource"] == "leases" {
            continue;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let sub = event["objectRef"]["subresource"].as_str().map(|sub| format!("/{sub}")).unwrap_or_default();
        *found
            .entry(format!("{} {}{sub}", text(&event["verb"]), text(&event["objectRef"]["resource"])))
            .or_default() += 1;
    }
    found
}
