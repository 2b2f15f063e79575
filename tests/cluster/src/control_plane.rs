//! etcd, kube-apiserver and kube-controller-manager on loopback; or a cluster that is there already.

use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::certificates::Authority;
use crate::components::{Components, Site};
use crate::ports::free_ports;
use crate::run_dir::RunDir;
use crate::{Binaries, Error, Kubectl, Process, Result, wait_for};

static NAMESPACES: AtomicU32 = AtomicU32::new(0);

const READY: Duration = Duration::from_secs(60);
/// Another process may take a port between its choice and its use.
const ATTEMPTS: usize = 3;

/// What to start.
#[derive(Debug, Clone, Default)]
pub struct ControlPlaneOptions {
    /// kube-controller-manager too: ReplicaSets of Deployments, garbage collection, service accounts.
    pub controller_manager: bool,
    /// An audit log of every request, at level Metadata.
    pub audit: bool,
}

/// A running API server. Dropping it ends all of it and removes its directory.
#[derive(Debug)]
pub struct ControlPlane {
    kubectl: Kubectl,
    server: String,
    ca_file: PathBuf,
    audit_log: Option<PathBuf>,
    external: bool,
    namespaces: Mutex<Vec<String>>,
    processes: Vec<Process>,
    run_dir: RunDir,
}

impl ControlPlane {
    /// Starts a control plane, or connects to the cluster of `BERTH_TEST_KUBECONFIG` or
    /// `KUBECONFIG`, and waits until its API server is ready.
    ///
    /// # Errors
    /// When a program is missing or ends (with the end of its log), or it is not ready in a minute.
    pub fn start(options: &ControlPlaneOptions) -> Result<Self> {
        Self::start_with(options, &[])
    }

    /// The same with more arguments of kube-apiserver, as in `--feature-gates=…`; a cluster that is there already has
    /// to have them.
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub fn start_with(options: &ControlPlaneOptions, api_server: &[&str]) -> Result<Self> {
        let binaries = Binaries::ensure()?;
        let given = ["BERTH_TEST_KUBECONFIG", "KUBECONFIG"]
            .into_iter()
            .find_map(|name| env::var_os(name).filter(|value| !value.is_empty()).map(|value| (name, value)));
        if let Some((variable, kubeconfig)) = given {
            return Self::connect(&binaries, variable, Path::new(&kubeconfig));
        }
        Self::launch_somewhere(&binaries, options, api_server)
    }

    /// A control plane of its own, whatever cluster the others use: for what would disturb everybody in that one.
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub fn start_own(options: &ControlPlaneOptions) -> Result<Self> {
        Self::start_own_with(options, &[])
    }

    /// The same with more arguments of kube-apiserver.
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub fn start_own_with(options: &ControlPlaneOptions, api_server: &[&str]) -> Result<Self> {
        Self::launch_somewhere(&Binaries::ensure()?, options, api_server)
    }

    fn launch_somewhere(binaries: &Binaries, options: &ControlPlaneOptions, api_server: &[&str]) -> Result<Self> {
        let mut outcome = Self::launch(binaries, options, api_server);
        for _ in 1..ATTEMPTS {
            match outcome {
                Err(error) if error.to_string().contains("address already in use") => {
                    outcome = Self::launch(binaries, options, api_server);
                }
                _ => break,
            }
        }
        outcome
    }

    fn connect(binaries: &Binaries, variable: &str, kubeconfig: &Path) -> Result<Self> {
        let run_dir = RunDir::new()?;
        let kubectl = Kubectl::new(binaries.program("kubectl")?, kubeconfig.to_owned(), run_dir.path().to_owned());
        let read = |field: &str| -> Result<String> {
            let template = format!("go-template={{{{with index .clusters 0}}}}{{{{{field}}}}}{{{{end}}}}");
            kubectl.run(&["config", "view", "--minify", "--raw", "--flatten", "-o", &template])?.ok()
        };
        let server = read(".cluster.server")?;
        eprintln!("{variable} is set: the tests use the cluster at {server}, and change its webhooks and CRDs");
        let ca_file = run_dir.path().join("ca.crt");
        let ca = read("index .cluster \"certificate-authority-data\" | base64decode")?;
        fs::write(&ca_file, ca).map_err(Error::at("write", &ca_file))?;
        kubectl.run(&["get", "--raw", "/readyz"])?.ok()?;
        Ok(Self {
            kubectl,
            server,
            ca_file,
            audit_log: None,
            external: true,
            namespaces: Mutex::default(),
            processes: Vec::new(),
            run_dir,
        })
    }

    fn launch(binaries: &Binaries, options: &ControlPlaneOptions, more: &[&str]) -> Result<Self> {
        let run_dir = RunDir::new()?;
        let [etcd_port, etcd_peer_port, api_port] = free_ports()?;
        let ip = Ipv4Addr::LOCALHOST;
        let site = Site { enter: Vec::new(), ip, etcd_port, etcd_peer_port, api_port, pods: false };
        let authority = Authority::new("berth-test-cluster", run_dir.path().join("ca.crt"))?;
        let components = Components::new(binaries, run_dir.path(), &site, &authority)?;
        let server = site.server();
        let launched = Self::launch_with(binaries, &components, server, options, more)?;
        Ok(launched.finish(authority.file().to_owned(), run_dir))
    }

    /// Starts the components; clients on this machine reach the API server at `server`.
    pub(crate) fn launch_with(
        binaries: &Binaries,
        components: &Components<'_>,
        server: String,
        options: &ControlPlaneOptions,
        more: &[&str],
    ) -> Result<Launched> {
        let dir = components.dir();
        let etcd = components.etcd()?;
        let audit_log = options.audit.then(|| dir.join("audit.log"));
        let api_server = components.api_server(audit_log.as_deref(), more)?;
        let kubeconfig = components.kubeconfig_for(&server, "admin", "admin", Some("system:masters"))?;
        let kubectl = Kubectl::new(binaries.program("kubectl")?, kubeconfig, dir.to_owned());
        let mut processes = vec![api_server, etcd];
        wait_for("a ready API server", READY, || {
            for process in &mut processes {
                process.fail_if_ended()?;
            }
            let ready = kubectl.run(&["get", "--raw", "/readyz"])?.success()
                && kubectl.run(&["get", "namespace", "default", "-o", "name"])?.success();
            Ok(ready.then_some(()))
        })?;
        if options.controller_manager {
            let mut manager = components.controller_manager()?;
            wait_for("the controller manager's first service account", READY, || {
                manager.fail_if_ended()?;
                let found = kubectl.run(&["get", "serviceaccount", "default", "--namespace", "default"])?;
                Ok(found.success().then_some(()))
            })?;
            processes.push(manager);
        }
        Ok(Launched { kubectl, server, audit_log, processes })
    }

    /// Kills the API server and starts it again, as the update of a control plane with one of them does: its clients lose
    /// their connections and watches, and nothing that is stored.
    ///
    /// # Errors
    /// When the cluster is not its own, or the API server is not ready again in a minute.
    pub fn restart_api_server(&mut self) -> Result<()> {
        let kubectl = &self.kubectl;
        let api_server = self.processes.first_mut();
        let api_server = api_server.ok_or_else(|| Error::new("a cluster that was there before is not restarted"))?;
        api_server.restart()?;
        wait_for("a ready API server", READY, || {
            api_server.fail_if_ended()?;
            Ok(kubectl.run(&["get", "--raw", "/readyz"])?.success().then_some(()))
        })
    }

    /// kubectl as the cluster's administrator.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        self.kubectl.kubeconfig()
    }

    /// The API server's URL.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The certificate authority (PEM) of the API server's certificate.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// The audit log, one JSON object a line, when it was asked for and the cluster is its own.
    pub fn audit_log(&self) -> Option<&Path> {
        self.audit_log.as_deref()
    }

    /// Whether the cluster was there before, so that what a test leaves in it stays.
    pub fn is_external(&self) -> bool {
        self.external
    }

    /// A directory for the files of this run, logs among them; it goes with the control plane.
    pub fn dir(&self) -> &Path {
        self.run_dir.path()
    }

    /// Makes a namespace that nothing else uses, and gives its name.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn namespace(&self) -> Result<String> {
        let number = NAMESPACES.fetch_add(1, Ordering::Relaxed);
        let name = format!("berth-test-{}-{number}", process::id());
        self.kubectl.run(&["create", "namespace", &name])?.ok()?;
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
        Ok(name)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // Nothing of it is kept, so nothing has to be closed with care.
        for process in &mut self.processes {
            let _ = process.kill();
        }
        if !self.external {
            return;
        }
        let names = std::mem::take(self.namespaces.get_mut().unwrap_or_else(PoisonError::into_inner));
        if !names.is_empty() {
            let mut arguments = vec!["delete", "namespace", "--ignore-not-found", "--wait=false"];
            arguments.extend(names.iter().map(String::as_str));
            let _ = self.kubectl.run(&arguments);
        }
    }
}

/// Programs that run, and how they are asked.
pub(crate) struct Launched {
    kubectl: Kubectl,
    server: String,
    audit_log: Option<PathBuf>,
    processes: Vec<Process>,
}

impl Launched {
    /// Gives the directory that they run in to the control plane, with which it goes.
    pub(crate) fn finish(self, ca_file: PathBuf, run_dir: RunDir) -> ControlPlane {
        let Self { kubectl, server, audit_log, processes } = self;
        let namespaces = Mutex::default();
        ControlPlane { kubectl, server, ca_file, audit_log, external: false, namespaces, processes, run_dir }
    }
}
