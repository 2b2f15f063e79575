//! etcd, kube-apiserver and kube-controller-manager on loopback; or a cluster that is there already.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::certificates::{Authority, Certified, service_account_keys};
use crate::ports::free_ports;
use crate::run_dir::RunDir;
use crate::{Binaries, Error, Kubectl, Process, Result, wait_for};

static NAMESPACES: AtomicU32 = AtomicU32::new(0);

const READY: Duration = Duration::from_secs(60);
/// Another process may take a port between its choice and its use.
const ATTEMPTS: usize = 3;
const AUDIT_POLICY: &str =
    "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- level: Metadata\n";

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
        Self::launch_somewhere(&Binaries::ensure()?, options, &[])
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
        let dir = run_dir.path();
        let [etcd_port, etcd_peer_port, port] = free_ports()?;
        let server = format!("https://127.0.0.1:{port}");
        let authority = Authority::new("berth-test-cluster", dir.join("ca.crt"))?;
        let keys = service_account_keys(dir)?;

        let etcd = start_etcd(binaries, dir, etcd_port, etcd_peer_port)?;
        let audit_log = options.audit.then(|| dir.join("audit.log"));
        let ports = (etcd_port, port);
        let api_server = start_api_server(binaries, dir, &authority, &keys, ports, audit_log.as_deref(), more)?;

        let admin = authority.client("admin", Some("system:masters"))?;
        let kubeconfig = write_kubeconfig(dir, "admin", &server, authority.file(), &Credentials::Certificate(&admin))?;
        let kubectl = Kubectl::new(binaries.program("kubectl")?, kubeconfig, dir.to_owned());
        let mut processes = vec![api_server, etcd];
        wait_for("a ready API server", READY, || {
            for process in &mut processes {
                fail_if_ended(process)?;
            }
            let ready = kubectl.run(&["get", "--raw", "/readyz"])?.success()
                && kubectl.run(&["get", "namespace", "default", "-o", "name"])?.success();
            Ok(ready.then_some(()))
        })?;
        if options.controller_manager {
            let user = authority.client("system:kube-controller-manager", None)?;
            let mut manager = start_controller_manager(binaries, dir, &authority, &keys.0, &server, &user)?;
            wait_for("the controller manager's first service account", READY, || {
                fail_if_ended(&mut manager)?;
                let found = kubectl.run(&["get", "serviceaccount", "default", "--namespace", "default"])?;
                Ok(found.success().then_some(()))
            })?;
            processes.push(manager);
        }
        Ok(Self {
            kubectl,
            server,
            ca_file: authority.file().to_owned(),
            audit_log,
            external: false,
            namespaces: Mutex::default(),
            processes,
            run_dir,
        })
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
            fail_if_ended(api_server)?;
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

/// How a kubeconfig says who it is.
pub(crate) enum Credentials<'a> {
    Certificate(&'a Certified),
    Token(&'a str),
}

/// Writes `NAME.kubeconfig` in `dir`.
pub(crate) fn write_kubeconfig(
    dir: &Path,
    name: &str,
    server: &str,
    ca_file: &Path,
    credentials: &Credentials<'_>,
) -> Result<PathBuf> {
    let user = match credentials {
        Credentials::Certificate(certified) => {
            let (certificate, key) = certified.write(dir, name)?;
            format!("client-certificate: {}\n    client-key: {}", certificate.display(), key.display())
        }
        Credentials::Token(token) => format!("token: {token}"),
    };
    let path = dir.join(format!("{name}.kubeconfig"));
    let text = format!(
        "apiVersion: v1
kind: Config
current-context: {name}
contexts:
- name: {name}
  context:
    cluster: test
    user: {name}
clusters:
- name: test
  cluster:
    server: {server}
    certificate-authority: {ca}
users:
- name: {name}
  user:
    {user}
",
        ca = ca_file.display()
    );
    fs::write(&path, text).map_err(Error::at("write", &path))?;
    Ok(path)
}

fn fail_if_ended(process: &mut Process) -> Result<()> {
    match process.exit_status()? {
        None => Ok(()),
        Some(status) => {
            Err(Error::new(format!("{} ended with {status}:\n{}", process.log().display(), process.log_tail())))
        }
    }
}

fn start_etcd(binaries: &Binaries, dir: &Path, port: u16, peer_port: u16) -> Result<Process> {
    let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
    let data = dir.join("etcd");
    let arguments = [
        format!("--data-dir={}", data.display()),
        // Nothing in it has to survive the machine.
        "--unsafe-no-fsync".to_owned(),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--log-level=warn".to_owned(),
    ];
    Process::start(dir, "etcd", &binaries.program("etcd")?, arguments, &[])
}

fn start_api_server(
    binaries: &Binaries,
    dir: &Path,
    authority: &Authority,
    (private_key, public_key): &(PathBuf, PathBuf),
    (etcd_port, port): (u16, u16),
    audit_log: Option<&Path>,
    more: &[&str],
) -> Result<Process> {
    let hosts = ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    let (certificate, key) = authority.server("kube-apiserver", &hosts)?.write(dir, "kube-apiserver")?;
    let file = |flag: &str, path: &Path| format!("--{flag}={}", path.display());
    let mut arguments = vec![
        format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        // No pod has to reach it, and a machine may have no other address.
        "--advertise-address=127.0.0.1".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        file("service-account-key-file", public_key),
        file("service-account-signing-key-file", private_key),
        file("client-ca-file", authority.file()),
        file("tls-cert-file", &certificate),
        file("tls-private-key-file", &key),
    ];
    if let Some(log) = audit_log {
        let policy = dir.join("audit-policy.yaml");
        fs::write(&policy, AUDIT_POLICY).map_err(Error::at("write", &policy))?;
        arguments.extend([file("audit-policy-file", &policy), file("audit-log-path", log)]);
    }
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    Process::start(dir, "kube-apiserver", &binaries.program("kube-apiserver")?, arguments, &[])
}

fn start_controller_manager(
    binaries: &Binaries,
    dir: &Path,
    authority: &Authority,
    service_account_key: &Path,
    server: &str,
    user: &Certified,
) -> Result<Process> {
    let credentials = Credentials::Certificate(user);
    let kubeconfig = write_kubeconfig(dir, "controller-manager", server, authority.file(), &credentials)?;
    let arguments = [
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--service-account-private-key-file={}", service_account_key.display()),
        format!("--root-ca-file={}", authority.file().display()),
        "--use-service-account-credentials=true".to_owned(),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
        // Its own limit on itself, which makes the start of all controllers take five seconds.
        "--kube-api-qps=1000".to_owned(),
        "--kube-api-burst=2000".to_owned(),
        // A test that waits for an autoscaler need not wait for the usual 15 seconds.
        "--horizontal-pod-autoscaler-sync-period=1s".to_owned(),
    ];
    let program = binaries.program("kube-controller-manager")?;
    Process::start(dir, "kube-controller-manager", &program, arguments, &[])
}
