//! A cluster with pods that was there before, and how the tests put images into it and connect to it.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{self, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::kubectl::run_to_end;
use crate::node::Forward;
use crate::ports::free_ports;
use crate::relay::{self, Answer};
use crate::{ControlPlane, Error, Image, Kubectl, Process, Result, wait_for};

/// The command that loads an image.
pub(crate) const LOAD: &str = "BERTH_TEST_LOAD_IMAGE";
const IMAGE: &str = "berth-test/relay:1";
const READY: Duration = Duration::from_secs(120);
const TUNNEL: Duration = Duration::from_secs(20);
/// How often a connection is tried anew on a fresh tunnel.
const ATTEMPTS: usize = 3;

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: relay}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: relay, image: "berth-test/relay:1", imagePullPolicy: Never, args: [relay]}]
"#;

/// A cluster of somebody's. Dropping it leaves the cluster as it was, but for images.
#[derive(Debug)]
pub(crate) struct Guest {
    // What is declared first ends first.
    forwards: Mutex<Vec<Forward>>,
    relay: Arc<Relay>,
    load: String,
    cluster: ControlPlane,
}

impl Guest {
    /// Puts a pod that connections go through into the cluster; `program` is `berth-test-cluster`, and `load` the command
    /// that loads an image.
    ///
    /// # Errors
    /// When there is no such command (the error has the line to fix it), or the pod does not run.
    pub(crate) fn new(cluster: ControlPlane, load: &str, program: &Path) -> Result<Self> {
        if load.trim().is_empty() {
            return Err(Error::new(format!(
                "the tests run images that no registry has; say how your cluster gets an archive of one: export {LOAD}='kind \
                 load image-archive --name berth' (k3d: 'k3d image import --cluster NAME'; minikube: 'minikube image load'; \
                 any other: a command that runs ctr --namespace k8s.io image import on each node); the archive's path is \
                 appended"
            )));
        }
        // Of another name than those of trials, some of which wait until all others are gone.
        let namespace = format!("berth-relay-{}", process::id());
        cluster.make_namespace(&namespace)?;
        let kubectl = cluster.kubectl().in_namespace(&namespace);
        load_image(load, cluster.dir(), &Image::of_program(IMAGE, program))?;
        kubectl.apply_yaml(POD)?.ok()?;
        wait_for("a pod that connections go through", READY, || {
            Ok(kubectl.run(&["wait", "--for=condition=Ready", "--timeout=5s", "pod/relay"])?.success().then_some(()))
        })
        .map_err(|error| {
            let events = kubectl.run(&["get", "events"]).map(|output| output.stdout).unwrap_or_default();
            Error::new(format!("{error}; was {IMAGE} loaded by `{load}`?\n{events}"))
        })?;
        let dir = cluster.dir().to_owned();
        let relay = Arc::new(Relay { kubectl, dir, tunnel: Mutex::default() });
        Ok(Self { forwards: Mutex::default(), relay, load: load.to_owned(), cluster })
    }

    pub(crate) fn cluster(&self) -> &ControlPlane {
        &self.cluster
    }

    pub(crate) fn load(&self, image: &Image) -> Result<()> {
        load_image(&self.load, self.cluster.dir(), image)
    }

    /// A port of this machine's loopback that leads to an address of the cluster.
    pub(crate) fn forward(&self, address: SocketAddr) -> Result<SocketAddr> {
        let relay = Arc::clone(&self.relay);
        let forward = Forward::start(move |client| {
            if let Err(error) = relay.pass(client, address) {
                eprintln!("no connection to {address} of the cluster: {error}");
            }
        })?;
        let local = forward.address();
        self.forwards.lock().unwrap_or_else(PoisonError::into_inner).push(forward);
        Ok(local)
    }
}

fn load_image(load: &str, dir: &Path, image: &Image) -> Result<()> {
    let archive = image.write(dir)?;
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{load} \"$1\""), "sh"]).arg(&archive);
    run_to_end(command, load, "")?.ok()?;
    fs::remove_file(&archive).map_err(Error::at("remove", &archive))
}

/// The way to the pod.
#[derive(Debug)]
struct Relay {
    kubectl: Kubectl,
    dir: std::path::PathBuf,
    tunnel: Mutex<Option<Tunnel>>,
}

/// `kubectl port-forward`, which ends when a connection in it breaks off.
#[derive(Debug)]
struct Tunnel {
    _process: Process,
    address: SocketAddr,
}

impl Relay {
    /// Connects a client, on a new tunnel where the one that is there leads nowhere.
    fn pass(&self, client: TcpStream, target: SocketAddr) -> Result<()> {
        let mut broken = None;
        for _ in 0..ATTEMPTS {
            let tunnel = self.tunnel(broken.as_ref())?;
            match relay::ask(tunnel, target) {
                Ok(Answer::Accepted(carrier)) => {
                    // What fails here is of this connection, and closes it.
                    let _ = relay::pass(&client, &carrier);
                    drop(client);
                    relay::close(carrier);
                    return Ok(());
                }
                // Closed, as a port without a listener would.
                Ok(Answer::Refused) => return Ok(()),
                Err(error) => broken = Some((tunnel, error)),
            }
        }
        Err(Error::new("kubectl port-forward does not lead to the pod; its log says why"))
    }

    /// Where the tunnel begins, if it is not the one that was found broken; else that of a new one.
    fn tunnel(&self, broken: Option<&(SocketAddr, io::Error)>) -> Result<SocketAddr> {
        let mut tunnel = self.tunnel.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*tunnel, broken) {
            (Some(tunnel), Some((address, error))) if tunnel.address == *address => {
                eprintln!("the tunnel to the cluster is broken, and made anew: {error}");
            }
            (Some(tunnel), _) => return Ok(tunnel.address),
            (None, _) => {}
        }
        // Ends the old one.
        *tunnel = None;
        let made = Tunnel::start(&self.kubectl, &self.dir)?;
        Ok(tunnel.insert(made).address)
    }
}

impl Tunnel {
    fn start(kubectl: &Kubectl, dir: &Path) -> Result<Self> {
        let [port] = free_ports()?;
        let ports = format!("{port}:{}", relay::PORT);
        let arguments = ["port-forward", "--address=127.0.0.1", "pod/relay", &ports];
        let mut process = kubectl.start(dir, &format!("port-forward-{port}"), &arguments)?;
        wait_for("a tunnel to the cluster", TUNNEL, || {
            process.fail_if_ended()?;
            let log = fs::read_to_string(process.log()).unwrap_or_default();
            Ok(log.contains("Forwarding from").then_some(()))
        })?;
        Ok(Self { _process: process, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) })
    }
}
