//! The programs of a control plane, each with its arguments.

use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::certificates::{Authority, service_account_keys};
use crate::kubeconfig::{Credentials, write_kubeconfig};
use crate::{Binaries, Error, Process, Result};

/// Which a cluster of kind has too (tests/kind/cluster.yaml).
const AUDIT_POLICY: &str = include_str!("audit-policy.yaml");

/// The addresses of Services.
const SERVICES: &str = "10.96.0.0/16";
/// The first of them, which is the API server's own.
const API_SERVICE: &str = "10.96.0.1";

/// As what the API server asks those behind it on behalf of others.
const FRONT_PROXY: &str = "front-proxy-client";

/// For programs in Go. Memory is not what a run of the tests lacks; this takes a fifth of kubectl's time, and of the API
/// server's start.
pub(crate) const LESS_GARBAGE_COLLECTION: (&str, &str) = ("GOGC", "400");

/// Where the programs of a cluster run, and at which addresses.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// The command that runs a program there; empty on the machine itself.
    pub(crate) enter: Vec<OsString>,
    pub(crate) ip: Ipv4Addr,
    pub(crate) etcd_port: u16,
    pub(crate) etcd_peer_port: u16,
    pub(crate) api_port: u16,
    /// Whether there are pods, which reach the API server by its Service, and a kubelet, which it asks for logs.
    pub(crate) pods: bool,
}

impl Site {
    /// The API server's URL for the programs of the cluster.
    pub(crate) fn server(&self) -> String {
        format!("https://{}:{}", self.ip, self.api_port)
    }

    /// Starts a program there; `PATH` has the directories of administrators' programs too.
    pub(crate) fn start(&self, dir: &Path, name: &str, program: &Path, arguments: Vec<OsString>) -> Result<Process> {
        let mut command = self.enter.clone();
        command.push(program.as_os_str().to_owned());
        command.extend(arguments);
        let program = PathBuf::from(command.remove(0));
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{path}:/usr/local/sbin:/usr/sbin:/sbin");
        let environment = [("PATH", path.as_str()), LESS_GARBAGE_COLLECTION];
        let environment = environment.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Process::start(dir, name, &program, command, &environment)
    }
}

/// The programs of one control plane, which share a directory, an authority and keys.
#[derive(Debug)]
pub(crate) struct Components<'a> {
    binaries: &'a Binaries,
    dir: &'a Path,
    site: &'a Site,
    authority: &'a Authority,
    service_account_key: PathBuf,
    service_account_public_key: PathBuf,
}

impl<'a> Components<'a> {
    pub(crate) fn new(binaries: &'a Binaries, dir: &'a Path, site: &'a Site, authority: &'a Authority) -> Result<Self> {
        let (service_account_key, service_account_public_key) = service_account_keys(dir)?;
        Ok(Self { binaries, dir, site, authority, service_account_key, service_account_public_key })
    }

    fn start(&self, name: &str, arguments: Vec<String>) -> Result<Process> {
        let arguments = arguments.into_iter().map(OsString::from).collect();
        self.site.start(self.dir, name, &self.binaries.program(name)?, arguments)
    }

    pub(crate) fn etcd(&self) -> Result<Process> {
        let Site { ip, etcd_port, etcd_peer_port, .. } = self.site;
        let (client, peer) = (format!("http://{ip}:{etcd_port}"), format!("http://{ip}:{etcd_peer_port}"));
        let data = self.dir.join("etcd");
        self.start(
            "etcd",
            vec![
                format!("--data-dir={}", data.display()),
                // Nothing in it has to survive the machine.
                "--unsafe-no-fsync".to_owned(),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster=default={peer}"),
                "--log-level=warn".to_owned(),
            ],
        )
    }

    pub(crate) fn api_server(&self, audit_log: Option<&Path>, more: &[&str]) -> Result<Process> {
        let Site { ip, etcd_port, api_port, pods, .. } = self.site;
        let ip = ip.to_string();
        let mut hosts = vec!["127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        if *pods {
            hosts.extend([&*ip, API_SERVICE]);
        }
        let server = self.authority.server("kube-apiserver", &hosts)?;
        let (certificate, key) = server.write(self.dir, "kube-apiserver")?;
        let file = |flag: &str, path: &Path| format!("--{flag}={}", path.display());
        let mut arguments = vec![
            format!("--etcd-servers=http://{ip}:{etcd_port}"),
            format!("--bind-address={ip}"),
            format!("--secure-port={api_port}"),
            format!("--advertise-address={ip}"),
            format!("--service-cluster-ip-range={SERVICES}"),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            file("service-account-key-file", &self.service_account_public_key),
            file("service-account-signing-key-file", &self.service_account_key),
            file("client-ca-file", self.authority.file()),
            file("tls-cert-file", &certificate),
            file("tls-private-key-file", &key),
        ];
        if *pods {
            let client = self.authority.client("kube-apiserver-kubelet-client", Some("system:masters"))?;
            let (certificate, key) = client.write(self.dir, "kubelet-client")?;
            let (front, front_key) = self.authority.client(FRONT_PROXY, None)?.write(self.dir, FRONT_PROXY)?;
            arguments.extend([
                file("kubelet-client-certificate", &certificate),
                file("kubelet-client-key", &key),
                // API servers behind it, of metrics above all, are told who asks.
                file("proxy-client-cert-file", &front),
                file("proxy-client-key-file", &front_key),
                file("requestheader-client-ca-file", self.authority.file()),
                format!("--requestheader-allowed-names={FRONT_PROXY}"),
                "--requestheader-username-headers=X-Remote-User".to_owned(),
                "--requestheader-group-headers=X-Remote-Group".to_owned(),
                "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
                // The node's name does not resolve.
                "--kubelet-preferred-address-types=InternalIP".to_owned(),
            ]);
        } else {
            // No pod has to reach it, and an endpoint on loopback is refused.
            arguments.push("--endpoint-reconciler-type=none".to_owned());
        }
        if let Some(log) = audit_log {
            let policy = self.dir.join("audit-policy.yaml");
            fs::write(&policy, AUDIT_POLICY).map_err(Error::at("write", &policy))?;
            arguments.extend([file("audit-policy-file", &policy), file("audit-log-path", log)]);
            // Never a second file: tests read on from a place in this one.
            arguments.push("--audit-log-maxsize=4000".to_owned());
        }
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        self.start("kube-apiserver", arguments)
    }

    pub(crate) fn controller_manager(&self) -> Result<Process> {
        let kubeconfig = self.kubeconfig("controller-manager", "system:kube-controller-manager", None)?;
        self.start(
            "kube-controller-manager",
            vec![
                format!("--kubeconfig={}", kubeconfig.display()),
                format!("--service-account-private-key-file={}", self.service_account_key.display()),
                format!("--root-ca-file={}", self.authority.file().display()),
                "--use-service-account-credentials=true".to_owned(),
                "--leader-elect=false".to_owned(),
                "--secure-port=0".to_owned(),
                // Its own limit on itself, which makes the start of all controllers take five seconds.
                "--kube-api-qps=1000".to_owned(),
                "--kube-api-burst=2000".to_owned(),
                // A test that waits for an autoscaler need not wait for the usual 15 seconds.
                "--horizontal-pod-autoscaler-sync-period=1s".to_owned(),
            ],
        )
    }

    pub(crate) fn scheduler(&self) -> Result<Process> {
        let kubeconfig = self.kubeconfig("scheduler", "system:kube-scheduler", None)?;
        self.start(
            "kube-scheduler",
            vec![
                format!("--kubeconfig={}", kubeconfig.display()),
                "--leader-elect=false".to_owned(),
                "--secure-port=0".to_owned(),
                "--kube-api-qps=1000".to_owned(),
                "--kube-api-burst=2000".to_owned(),
            ],
        )
    }

    /// A kubeconfig for one of the cluster's programs.
    pub(crate) fn kubeconfig(&self, name: &str, user: &str, group: Option<&str>) -> Result<PathBuf> {
        self.kubeconfig_for(&self.site.server(), name, user, group)
    }

    /// A kubeconfig for whoever reaches the API server at `server`.
    pub(crate) fn kubeconfig_for(&self, server: &str, name: &str, user: &str, group: Option<&str>) -> Result<PathBuf> {
        let client = self.authority.client(user, group)?;
        write_kubeconfig(self.dir, name, server, self.authority.file(), &Credentials::Certificate(&client))
    }

    /// Where they run.
    pub(crate) fn site(&self) -> &Site {
        self.site
    }

    /// What signs their certificates.
    pub(crate) fn authority(&self) -> &Authority {
        self.authority
    }

    /// The directory of their files.
    pub(crate) fn dir(&self) -> &Path {
        self.dir
    }
}
