//! Berth, stores and images on a node, as a user would have them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Image, Node, busybox_image, redis_image, vmcp_image};
use crate::kubectl::run_to_end;
use crate::{Error, Helm, Result, wait_for};

/// The image of `examples/mcp-server`.
pub const MCP_SERVER_IMAGE: &str = "berth-test/mcp-server:1";
/// The image of the stand-in for a vMCP aggregator.
pub const VMCP_IMAGE: &str = "berth-test/vmcp:1";

const ROLLOUT: Duration = Duration::from_secs(120);

/// Two stores: one that anybody may use, and one that asks for a password.
const STORES: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: stores}
---
apiVersion: v1
kind: Service
metadata: {name: redis, namespace: stores}
spec: {selector: {app: redis}, ports: [{port: 6379}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: redis, namespace: stores}
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
metadata: {name: redis-locked, namespace: stores}
spec: {selector: {app: redis-locked}, ports: [{port: 6379}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: redis-locked, namespace: stores}
spec:
  selector: {matchLabels: {app: redis-locked}}
  template:
    metadata: {labels: {app: redis-locked}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: redis, image: "berth-test/redis:1", args: [--requirepass, open-sesame], readinessProbe: {tcpSocket: {port: 6379}, periodSeconds: 1}}
"#;

/// What is installed on a node.
#[derive(Debug)]
pub struct Installation {
    helm: Helm,
    programs: PathBuf,
    ca_file: PathBuf,
}

impl Installation {
    /// The stores' addresses.
    pub const REDIS: &'static str = "redis.stores.svc.cluster.local:6379";
    /// The store that asks for [`Installation::PASSWORD`].
    pub const LOCKED_REDIS: &'static str = "redis-locked.stores.svc.cluster.local:6379";
    /// Its password.
    pub const PASSWORD: &'static str = "open-sesame";

    /// Loads images of the project's programs, which are in the directory `programs`, starts the stores, and installs the
    /// chart in `berth-system` with these further arguments of Helm. Waits until all of it is ready.
    ///
    /// # Errors
    /// When a program is missing, or anything is not ready in two minutes.
    pub fn new(node: &Node, programs: &Path, arguments: &[&str]) -> Result<Self> {
        let kubectl = node.kubectl();
        node.load(&redis_image()?)?;
        kubectl.apply_yaml(STORES)?.ok()?;
        let version = env!("CARGO_PKG_VERSION");
        for (name, program) in [
            (format!("berth:{version}"), "berth"),
            (format!("berth-proxy:{version}"), "berth-proxy"),
            (MCP_SERVER_IMAGE.to_owned(), "berth-example-mcp-server"),
        ] {
            node.load(&Image::of_program(&name, &programs.join(program)))?;
        }
        node.load(&busybox_image()?)?;
        node.load(&vmcp_image()?)?;

        let certificates = node.cluster().dir().join("webhook-certificates");
        let mut command = Command::new(programs.join("berth"));
        command.arg("certs").arg(&certificates);
        run_to_end(command, "berth certs", "")?.ok()?;
        let in_system = kubectl.in_namespace("berth-system");
        in_system.run(&["create", "namespace", "berth-system"])?.ok()?;
        let file = |kind: &str, name: &str| format!("--{kind}={}", certificates.join(name).display());
        let (certificate, key) = (file("cert", "tls.crt"), file("key", "tls.key"));
        in_system.run(&["create", "secret", "tls", "berth-webhook-tls", &certificate, &key])?.ok()?;

        let installation = Self {
            helm: Helm::in_cluster(node.cluster())?,
            programs: programs.to_owned(),
            ca_file: certificates.join("ca.crt"),
        };
        installation.helm("install", arguments)?;
        for (namespace, deployment) in [("stores", "redis"), ("stores", "redis-locked"), ("berth-system", "berth")] {
            let kubectl = kubectl.in_namespace(namespace);
            let what = format!("deployment/{deployment}");
            let ready = wait_for(&format!("{what} rolled out"), ROLLOUT, || {
                let status = kubectl.run(&["rollout", "status", &what, "--timeout=10s"])?;
                Ok(status.success().then_some(()))
            });
            ready.map_err(|error| {
                let pods = kubectl.run(&["describe", "pods"]).map(|output| output.stdout).unwrap_or_default();
                let log = kubectl.run(&["logs", &what, "--tail=20"]).map(|output| output.stdout).unwrap_or_default();
                Error::new(format!("{error}\n{pods}\n{log}"))
            })?;
        }
        Ok(installation)
    }

    /// Upgrades the release with these further arguments; what rolls is not waited for.
    ///
    /// # Errors
    /// When Helm or the API server refuses.
    pub fn upgrade(&self, arguments: &[&str]) -> Result<()> {
        self.helm("upgrade", arguments)
    }

    fn helm(&self, verb: &str, arguments: &[&str]) -> Result<()> {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/berth");
        let chart = fs::canonicalize(&chart).map_err(Error::at("find", &chart))?.display().to_string();
        let ca = format!("certificates.caBundle={}", self.ca_file.display());
        let mut all = vec![verb, "berth", &chart, "--namespace", "berth-system", "--set-file", &ca];
        all.extend(["--set", "certificates.existingSecret=berth-webhook-tls"]);
        all.extend(arguments);
        self.helm.run(&all)?.ok()?;
        Ok(())
    }

    /// The directory of the project's programs.
    pub fn programs(&self) -> &Path {
        &self.programs
    }
}

/// A server with two proxies and two pods, its sessions in the store.
const SAMPLE: &str = r#"
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: sample, namespace: default, annotations: {berth.dev/class: berth}}
spec:
  image: berth-test/mcp-server:1
  transport: streamable-http
  replicas: 2
  backendReplicas: 2
  sessionStorage: {provider: redis, address: "redis.stores.svc.cluster.local:6379"}
"#;

impl Node {
    /// Applies an `MCPServer` called `sample`, and gives the address of its endpoint on this machine's loopback.
    ///
    /// # Errors
    /// When it is not ready in two minutes.
    pub fn sample(&self) -> Result<SocketAddr> {
        let kubectl = self.kubectl().in_namespace("default");
        kubectl.apply_yaml(SAMPLE)?.ok()?;
        wait_for("a sample that is ready", ROLLOUT, || {
            let sample = kubectl.get_json("mcpserver/sample")?;
            Ok((sample["status"]["phase"] == "Ready").then_some(()))
        })?;
        let service = kubectl.get_json("service/mcp-sample-proxy")?;
        let ip = service["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
        let address = format!("{ip}:{}", service["spec"]["ports"][0]["port"]);
        let address =
            address.parse().map_err(|cause| Error::new(format!("{address} of the sample's Service: {cause}")))?;
        self.forward(address)
    }
}
