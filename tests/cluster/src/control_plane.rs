//! etcd, kube-apiserver and kube-controller-manager on loopback; or a cluster that is there already.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::caretaker::Caretaker;
use crate::certificates::Authority;
use crate::components::{Components, Site};
use crate::kubectl::run_to_end;
use crate::ports::free_ports;
use crate::run_dir::RunDir;
use crate::{Binaries, Error, Kubectl, Process, Result, wait_for};

static NAMESPACES: AtomicU32 = AtomicU32::new(0);

/// The label of the namespaces of one run.
const RUN: &str = "berth-test/run";
/// Where the audit log of a cluster that is there is.
const AUDIT_LOG: &str = "BERTH_TEST_AUDIT_LOG";
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
    run: String,
    caretaker: Option<Caretaker>,
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
        match Self::given()? {
            Some(cluster) => Ok(cluster),
            None => Self::start_own_with(options, api_server),
        }
    }

    /// The cluster of `BERTH_TEST_KUBECONFIG` or `KUBECONFIG`, where one is set.
    pub(crate) fn given() -> Result<Option<Self>> {
        Self::named().map(|(name, kubeconfig)| Self::connect(name, &kubeconfig)).transpose()
    }

    /// The kubeconfig of a cluster that is there, and the variable that names it.
    pub(crate) fn named() -> Option<(&'static str, OsString)> {
        let variables = ["BERTH_TEST_KUBECONFIG", "KUBECONFIG"].into_iter();
        variables.filter_map(|name| Some((name, variable(name)?))).next()
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

    /// Connects to a cluster that is there already; `name` says who named the kubeconfig.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn connect(name: &str, kubeconfig: &OsStr) -> Result<Self> {
        let program = Binaries::find().program("kubectl")?;
        let run_dir = RunDir::new()?;
        // Its context now: whoever switches to another one meanwhile does not move the tests there.
        let pinned = run_dir.path().join("given.kubeconfig");
        let mut view = Command::new(&program);
        view.args(["config", "view", "--minify", "--raw", "--flatten"]).env("KUBECONFIG", kubeconfig);
        let context = run_to_end(view, &format!("kubectl config view ({name}={})", kubeconfig.display()), "")?.ok()?;
        fs::write(&pinned, context).map_err(Error::at("write", &pinned))?;
        // Programs that a kubeconfig names for credentials look for theirs at home.
        let home = env::var_os("HOME").map_or_else(|| run_dir.path().to_owned(), PathBuf::from);
        let kubectl = Kubectl::new(program, pinned, home);
        let read = |field: &str| -> Result<String> {
            let template = format!(
                "go-template={{{{with index .clusters 0}}}}{{{{with {field}}}}}{{{{.}}}}{{{{end}}}}{{{{end}}}}"
            );
            kubectl.run(&["config", "view", "--raw", "-o", &template])?.ok()
        };
        let server = read(".cluster.server")?;
        eprintln!("{name} is set: the tests use the cluster at {server}, change it, and leave it as it was at the end");
        let ca_file = run_dir.path().join("ca.crt");
        let ca = read("index .cluster \"certificate-authority-data\" | base64decode")?;
        fs::write(&ca_file, ca).map_err(Error::at("write", &ca_file))?;
        kubectl.run(&["get", "--raw", "/readyz"])?.ok()?;
        let audit_log = variable(AUDIT_LOG).map(PathBuf::from);
        if let Some(log) = &audit_log {
            fs::File::open(log).map_err(|cause| {
                let log = log.display();
                Error::new(format!(
                    "cannot read {log}: {cause}; {AUDIT_LOG} is to name the cluster's audit log, or nothing"
                ))
            })?;
        }
        let caretaker = Some(Caretaker::start(run_dir.lock()?)?);
        let (run, processes) = (new_run(), Vec::new());
        let cluster = Self { kubectl, server, ca_file, audit_log, run, caretaker, processes, run_dir };
        cluster.undo(&["delete", "namespace", "--timeout=180s", &format!("--selector={RUN}={}", cluster.run)])?;
        Ok(cluster)
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
        self.api_server()?.restart()?;
        let kubectl = self.kubectl.clone();
        let api_server = self.api_server()?;
        wait_for("a ready API server", READY, || {
            api_server.fail_if_ended()?;
            Ok(kubectl.run(&["get", "--raw", "/readyz"])?.success().then_some(()))
        })
    }

    /// The process of the API server, to be killed or stopped; [`ControlPlane::restart_api_server`] brings it back.
    ///
    /// # Errors
    /// When the cluster is not its own.
    pub fn api_server(&mut self) -> Result<&mut Process> {
        let first = self.processes.first_mut();
        first.ok_or_else(|| Error::new("the API server of a cluster that was there before is left alone"))
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

    /// The audit log, one JSON object a line, when it was asked for; of a cluster that was there before, when
    /// `BERTH_TEST_AUDIT_LOG` says where it is.
    pub fn audit_log(&self) -> Option<&Path> {
        self.audit_log.as_deref()
    }

    /// Whether the cluster was there before, and goes on.
    pub fn is_external(&self) -> bool {
        self.caretaker.is_some()
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
        self.make_namespace(&name)?;
        Ok(name)
    }

    /// Makes a namespace of this name, which goes at the end.
    pub(crate) fn make_namespace(&self, name: &str) -> Result<()> {
        let labels = json!({RUN: self.run});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        self.kubectl.run_with_stdin(&["create", "-f", "-"], &namespace.to_string())?.ok()?;
        Ok(())
    }

    /// Applies a file; what is in it goes at the end.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn apply_file(&self, file: &Path) -> Result<()> {
        let file = file.display().to_string();
        self.undo(&["delete", "--ignore-not-found", "--timeout=120s", "-f", &file])?;
        self.kubectl.run(&["apply", "-f", &file])?.ok()?;
        Ok(())
    }

    /// Has kubectl do this at the end, before what was asked for earlier, where the cluster goes on after the tests; also
    /// when this process is killed. To be called before what it undoes is done.
    ///
    /// # Errors
    /// When nobody is there to do it.
    pub fn undo(&self, arguments: &[&str]) -> Result<()> {
        let kubeconfig = self.kubeconfig().display().to_string();
        self.undo_by(self.kubectl.program(), &[&["--kubeconfig", &kubeconfig], arguments].concat())
    }

    /// The same by another program.
    pub(crate) fn undo_by(&self, program: &Path, arguments: &[&str]) -> Result<()> {
        self.caretaker.as_ref().map_or(Ok(()), |caretaker| caretaker.at_the_end(program, arguments))
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // Nothing of it is kept, so nothing has to be closed with care.
        for process in &mut self.processes {
            let _ = process.kill();
        }
    }
}

/// What nobody else labels namespaces with, whichever machine the tests run on.
fn new_run() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}", process::id(), now.as_nanos())
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
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
        ControlPlane { kubectl, server, ca_file, audit_log, run: new_run(), caretaker: None, processes, run_dir }
    }
}
