//! `berth serve` as its own process, registered with a control plane.

use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::kubectl::run_to_end;
use crate::ports::free_ports;
use crate::{ControlPlane, Error, HttpResponse, Kubectl, Process, Result, WebhookTls, http_get, wait_for};

const READY: Duration = Duration::from_secs(60);
const LOCAL: &str = "127.0.0.1";

static STARTED: AtomicU32 = AtomicU32::new(0);

/// How to run Berth.
#[derive(Debug, Clone)]
pub struct BerthOptions {
    /// The program: `env!("CARGO_BIN_EXE_berth")` in a test of its package.
    pub program: PathBuf,
    /// Arguments of `berth serve` besides the addresses and the certificate directory.
    pub arguments: Vec<String>,
    /// Additional environment variables.
    pub environment: Vec<(String, String)>,
    /// Whom it acts as; the cluster's administrator when absent.
    pub kubeconfig: Option<PathBuf>,
    /// Certificates shared with other instances; its own when absent.
    pub tls: Option<Arc<WebhookTls>>,
    /// Whether to register its webhooks at its own address.
    pub register: bool,
    /// Arguments of `berth webhook-config` besides the address and the authority.
    pub registration: Vec<String>,
}

impl BerthOptions {
    /// The webhook alone, as administrator, with certificates of its own, registered.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: vec!["--no-controller".to_owned()],
            environment: Vec::new(),
            kubeconfig: None,
            tls: None,
            register: true,
            registration: Vec::new(),
        }
    }
}

/// A running Berth. Dropping it takes its registration back and ends it.
#[derive(Debug)]
pub struct Berth {
    options: BerthOptions,
    name: String,
    dir: PathBuf,
    kubectl: Kubectl,
    tls: Arc<WebhookTls>,
    listen: SocketAddr,
    admin: SocketAddr,
    process: Process,
    registration: Option<String>,
}

impl Berth {
    /// Starts `berth serve`, waits until it is ready, and registers it where asked to.
    ///
    /// # Errors
    /// When it ends or is not ready in a minute (with the end of its log), or its registration fails.
    pub fn start(cluster: &ControlPlane, options: BerthOptions) -> Result<Self> {
        let dir = cluster.dir().to_owned();
        let name = format!("berth-{}", STARTED.fetch_add(1, Ordering::Relaxed));
        let tls = match &options.tls {
            Some(tls) => Arc::clone(tls),
            None => Arc::new(WebhookTls::new(&dir.join(format!("{name}-tls")))?),
        };
        let ip = if webhook_host() == LOCAL { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
        let [port, admin_port] = free_ports()?;
        let listen = SocketAddr::from((ip, port));
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, admin_port));
        let kubectl = cluster.kubectl().clone();
        let process = spawn(&options, &dir, &name, &tls, listen, admin, &kubectl)?;
        let register = options.register;
        let mut berth = Self { options, name, dir, kubectl, tls, listen, admin, process, registration: None };
        berth.wait_until_ready()?;
        if register {
            berth.register_at(&berth.url())?;
        }
        Ok(berth)
    }

    /// Where the API server calls it, as in `https://127.0.0.1:23456`.
    pub fn url(&self) -> String {
        format!("https://{}:{}", webhook_host(), self.listen.port())
    }

    /// The address that its webhooks listen on.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// The address of `/livez`, `/readyz` and `/metrics`.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its certificates.
    pub fn tls(&self) -> &Arc<WebhookTls> {
        &self.tls
    }

    /// Its process: pid, log, signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its log so far, of all its lives.
    pub fn log(&self) -> String {
        fs::read_to_string(self.process.log()).unwrap_or_default()
    }

    /// Asks its admin port.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn get(&self, path: &str) -> Result<HttpResponse> {
        http_get(self.admin, path)
    }

    /// Registers its webhooks at `url` (a balancer's, say), and waits until the API server calls
    /// them: it learns of a registration a moment after having stored it.
    ///
    /// # Errors
    /// When `berth webhook-config` or the API server refuses, or no call is seen in a minute.
    pub fn register_at(&mut self, url: &str) -> Result<()> {
        let mut command = Command::new(&self.options.program);
        command.args(["webhook-config", "--url", url, "--ca-file"]).arg(self.tls.ca_file());
        command.args(&self.options.registration);
        let manifest = run_to_end(command, "berth webhook-config", "")?.ok()?;
        self.kubectl.apply_yaml(&manifest)?.ok()?;
        self.registration = Some(manifest);
        wait_for("a Deployment that Berth mutates and one that it refuses", READY, || {
            let mutated = self.probe("enabled")?;
            let refused = self.probe("neither")?;
            Ok((mutated.stdout.contains("mcpserver-generation") && refused.stderr.contains("[berth:")).then_some(()))
        })
        .map_err(|error| Error::new(format!("{error}:\n{}", self.process.log_tail())))
    }

    /// Takes the registration back, so that no write depends on Berth any more.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn deregister(&mut self) -> Result<()> {
        if let Some(manifest) = self.registration.take() {
            let arguments = ["delete", "--ignore-not-found", "--wait=false", "-f", "-"];
            self.kubectl.run_with_stdin(&arguments, &manifest)?.ok()?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for the end for at most `bound`; the registration stays.
    ///
    /// # Errors
    /// When it runs on.
    pub fn stop(&mut self, bound: Duration) -> Result<ExitStatus> {
        self.process.stop(bound)
    }

    /// SIGKILL; the registration stays.
    ///
    /// # Errors
    /// When it is not gone in five seconds.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.process.kill()
    }

    /// Starts it again, on the same ports, and waits until it is ready; ends it first when it runs.
    ///
    /// # Errors
    /// As [`Berth::start`].
    pub fn restart(&mut self) -> Result<()> {
        if self.process.exit_status()?.is_none() {
            self.process.stop(READY)?;
        }
        self.process = spawn(&self.options, &self.dir, &self.name, &self.tls, self.listen, self.admin, &self.kubectl)?;
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        wait_for("berth serve ready", READY, || {
            if let Some(status) = self.process.exit_status()? {
                return Err(Error::new(format!("berth serve ended with {status}")));
            }
            // Until it listens, a refused connection is no failure.
            Ok(http_get(self.admin, "/readyz").ok().filter(|answer| answer.status == 200).map(|_| ()))
        })
        .map_err(|error| Error::new(format!("{error}:\n{}", self.process.log_tail())))
    }

    fn probe(&self, inject: &str) -> Result<crate::Output> {
        let manifest = format!(
            "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: berth-test-probe, annotations: {{berth.dev/inject: {inject}}}}}
spec:
  selector: {{matchLabels: {{app: probe}}}}
  template:
    metadata: {{labels: {{app: probe}}}}
    spec: {{containers: [{{name: probe, image: example}}]}}
"
        );
        let arguments = ["create", "--dry-run=server", "-o", "yaml", "--namespace", "default", "-f", "-"];
        self.kubectl.run_with_stdin(&arguments, &manifest)
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        // A control plane that has ended already has no registration left.
        let _ = self.deregister();
        // It has no client any more, so there is nothing to drain.
        let _ = self.process.kill();
    }
}

fn spawn(
    options: &BerthOptions,
    dir: &Path,
    name: &str,
    tls: &WebhookTls,
    listen: SocketAddr,
    admin: SocketAddr,
    kubectl: &Kubectl,
) -> Result<Process> {
    let mut arguments = vec![
        "serve".to_owned(),
        format!("--listen={listen}"),
        format!("--admin={admin}"),
        format!("--tls-dir={}", tls.dir().display()),
    ];
    arguments.extend(options.arguments.iter().cloned());
    let kubeconfig = options.kubeconfig.as_deref().unwrap_or(kubectl.kubeconfig());
    let mut environment = vec![("KUBECONFIG".to_owned(), kubeconfig.display().to_string())];
    environment.extend(options.environment.iter().cloned());
    Process::start(dir, name, &options.program, arguments, &environment)
}

/// The address at which the cluster reaches this machine.
pub(crate) fn webhook_host() -> String {
    env::var("BERTH_TEST_WEBHOOK_HOST").ok().filter(|host| !host.is_empty()).unwrap_or_else(|| LOCAL.to_owned())
}
