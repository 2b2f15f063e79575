//! Berth, stores and images on a node, as a user would have them.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Image, busybox_image, redis_image, vmcp_image};
use crate::kubectl::run_to_end;
use crate::traces::CRDS;
use crate::{Error, Helm, Kubectl, Result, RunDir, Stage, http_get, wait_for};

/// The image of `examples/mcp-server`.
pub const MCP_SERVER_IMAGE: &str = "berth-test/mcp-server:1";
/// The image of the stand-in for a vMCP aggregator.
pub const VMCP_IMAGE: &str = "berth-test/vmcp:1";

const ROLLOUT: Duration = Duration::from_secs(120);

const SYSTEM: &str = "berth-system";
const STORES_IN: &str = "berth-test-stores";

/// Two stores: one that anybody may use, and one that asks for a password.
const STORES: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: redis, namespace: berth-test-stores}
spec: {selector: {app: redis}, ports: [{port: 6379}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: redis, namespace: berth-test-stores}
spec:
  selector: {matchLabels: {app: redis}}
  template:
    metadata: {labels: {app: redis}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: redis, image: "berth-test/redis:1", args: [--protected-mode, "no"], readinessProbe: {tcpSocket: {port: 6379}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {name: redis-locked, namespace: berth-test-stores}
spec: {selector: {app: redis-locked}, ports: [{port: 6379}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: redis-locked, namespace: berth-test-stores}
spec:
  selector: {matchLabels: {app: redis-locked}}
  template:
    metadata: {labels: {app: redis-locked}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: redis, image: "berth-test/redis:1", args: [--requirepass, open-sesame], readinessProbe: {tcpSocket: {port: 6379}, periodSeconds: 1}}
"#;

/// What is installed on a cluster. The cluster loses it as it ends, or at the end of the tests.
#[derive(Debug)]
pub struct Installation {
    helm: Helm,
    programs: PathBuf,
    ca_file: PathBuf,
    /// Whether the definitions are of the release; where others have brought them, they are left alone.
    definitions: bool,
}

impl Installation {
    /// The stores' addresses.
    pub const REDIS: &'static str = "redis.berth-test-stores.svc.cluster.local:6379";
    /// The store that asks for [`Installation::PASSWORD`].
    pub const LOCKED_REDIS: &'static str = "redis-locked.berth-test-stores.svc.cluster.local:6379";
    /// Its password.
    pub const PASSWORD: &'static str = "open-sesame";

    /// Loads images of the project's programs, which are in the directory `programs`, starts the stores, and installs the
    /// chart in `berth-system` with these further arguments of Helm. Waits until all of it is ready.
    ///
    /// # Errors
    /// When a program is missing, or anything is not ready in two minutes.
    pub fn new(stage: &Stage, programs: &Path, arguments: &[&str]) -> Result<Self> {
        let (cluster, kubectl) = (stage.cluster(), stage.kubectl());
        stage.load(&redis_image()?)?;
        cluster.make_namespace(STORES_IN)?;
        kubectl.apply_yaml(STORES)?.ok()?;
        let version = env!("CARGO_PKG_VERSION");
        for (name, program) in [
            (format!("berth:{version}"), "berth"),
            (format!("berth-proxy:{version}"), "berth-proxy"),
            (MCP_SERVER_IMAGE.to_owned(), "berth-example-mcp-server"),
        ] {
            stage.load(&Image::of_program(&name, &programs.join(program)))?;
        }
        stage.load(&busybox_image()?)?;
        stage.load(&vmcp_image()?)?;

        let certificates = cluster.dir().join("webhook-certificates");
        let mut command = Command::new(programs.join("berth"));
        command.arg("certs").arg(&certificates);
        run_to_end(command, "berth certs", "")?.ok()?;
        cluster.make_namespace(SYSTEM)?;
        let in_system = kubectl.in_namespace(SYSTEM);
        let file = |kind: &str, name: &str| format!("--{kind}={}", certificates.join(name).display());
        let (certificate, key) = (file("cert", "tls.crt"), file("key", "tls.key"));
        in_system.run(&["create", "secret", "tls", "berth-webhook-tls", &certificate, &key])?.ok()?;

        let helm = Helm::in_cluster(cluster)?;
        let definitions =
            kubectl.run(&[&["get", "--ignore-not-found", "-o", "name"], &CRDS[..]].concat())?.ok()?.is_empty();
        if definitions {
            // The chart keeps them, for the resources' sake.
            cluster.undo(&[&["delete", "--ignore-not-found", "--timeout=120s"], &CRDS[..]].concat())?;
        }
        helm.undo(
            cluster,
            &["uninstall", "berth", "--namespace", SYSTEM, "--ignore-not-found", "--wait", "--timeout=120s"],
        )?;
        let ca_file = certificates.join("ca.crt");
        let installation = Self { helm, programs: programs.to_owned(), ca_file, definitions };
        installation.helm("install", arguments)?;
        for (namespace, deployment) in [(STORES_IN, "redis"), (STORES_IN, "redis-locked")] {
            roll_out(&kubectl.in_namespace(namespace), deployment)?;
        }
        installation.wait_until_ready(stage)?;
        Ok(installation)
    }

    /// Waits until all pods of Berth are of the release and ready.
    ///
    /// # Errors
    /// When they are not in two minutes.
    pub fn wait_until_ready(&self, stage: &Stage) -> Result<()> {
        roll_out(&stage.kubectl().in_namespace(SYSTEM), "berth")
    }

    /// Upgrades the release with these further arguments; what rolls is not waited for.
    ///
    /// # Errors
    /// When Helm or the API server refuses.
    pub fn upgrade(&self, arguments: &[&str]) -> Result<()> {
        self.helm("upgrade", arguments)
    }

    /// The same to a chart of another version, whose images have that version, too.
    ///
    /// # Errors
    /// As [`Installation::upgrade`].
    pub fn upgrade_to(&self, version: &str, arguments: &[&str]) -> Result<()> {
        let dir = RunDir::new()?;
        let destination = dir.path().display().to_string();
        let versions = ["--version", version, "--app-version", version, "--destination", &destination];
        self.helm.run(&[&["package", &chart()?], &versions[..]].concat())?.ok()?;
        self.release("upgrade", &format!("{destination}/berth-{version}.tgz"), arguments)
    }

    fn helm(&self, verb: &str, arguments: &[&str]) -> Result<()> {
        self.release(verb, &chart()?, arguments)
    }

    fn release(&self, verb: &str, chart: &str, arguments: &[&str]) -> Result<()> {
        let ca = format!("certificates.caBundle={}", self.ca_file.display());
        let mut all = vec![verb, "berth", chart, "--namespace", SYSTEM, "--set-file", &ca];
        all.extend(["--set", "certificates.existingSecret=berth-webhook-tls"]);
        if !self.definitions {
            all.extend(["--set", "crds.install=false"]);
        }
        all.extend(arguments);
        self.helm.run(&all)?.ok()?;
        Ok(())
    }

    /// The directory of the project's programs.
    pub fn programs(&self) -> &Path {
        &self.programs
    }
}

/// Waits until a Deployment is rolled out.
fn roll_out(kubectl: &Kubectl, deployment: &str) -> Result<()> {
    let what = format!("deployment/{deployment}");
    let ready = wait_for(&format!("{what} rolled out"), ROLLOUT, || {
        let status = kubectl.run(&["rollout", "status", &what, "--timeout=10s"])?;
        Ok(status.success().then_some(()))
    });
    ready.map_err(|error| {
        let pods = kubectl.run(&["describe", "pods"]).map(|output| output.stdout).unwrap_or_default();
        let log = kubectl.run(&["logs", &what, "--tail=20"]).map(|output| output.stdout).unwrap_or_default();
        Error::new(format!("{error}\n{pods}\n{log}"))
    })
}

/// The directory of the project's chart.
fn chart() -> Result<String> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/berth");
    Ok(fs::canonicalize(&chart).map_err(Error::at("find", &chart))?.display().to_string())
}

/// A server with two proxies and two pods, its sessions in the store.
const SAMPLE: &str = r#"
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: sample, annotations: {berth.dev/class: berth}}
spec:
  image: berth-test/mcp-server:1
  transport: streamable-http
  replicas: 2
  backendReplicas: 2
  sessionStorage: {provider: redis, address: "redis.berth-test-stores.svc.cluster.local:6379"}
"#;

impl Stage {
    /// Applies an `MCPServer` called `sample`, and gives the address of its endpoint on this machine's loopback.
    ///
    /// # Errors
    /// When it is not ready in two minutes.
    pub fn sample(&self, namespace: &str) -> Result<SocketAddr> {
        let kubectl = self.kubectl().in_namespace(namespace);
        kubectl.apply_yaml(SAMPLE)?.ok()?;
        wait_for("a sample that is ready", ROLLOUT, || {
            let sample = kubectl.get_json("mcpserver/sample")?;
            Ok((sample["status"]["phase"] == "Ready").then_some(()))
        })?;
        let address = self.service(&kubectl, "mcp-sample-proxy")?;
        // Its pods are ready a moment before the node's rules lead to them.
        wait_for("an answer of the sample", ROLLOUT, || Ok(http_get(address, "/").ok().map(|_| address)))
    }

    /// A port of this machine's loopback that leads to a Service of the namespace that `kubectl` is in.
    ///
    /// # Errors
    /// When there is no such Service.
    pub fn service(&self, kubectl: &Kubectl, name: &str) -> Result<SocketAddr> {
        let service = kubectl.get_json(&format!("service/{name}"))?;
        let (ip, port) = (&service["spec"]["clusterIP"], &service["spec"]["ports"][0]["port"]);
        let ip = ip.as_str().and_then(|ip| ip.parse::<IpAddr>().ok());
        let port = port.as_u64().and_then(|port| u16::try_from(port).ok());
        match ip.zip(port) {
            Some(address) => self.forward(address.into()),
            None => Err(Error::new(format!("the Service {name} has no address: {}", service["spec"]))),
        }
    }
}
