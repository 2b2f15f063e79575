//! One node: a whole Kubernetes with pods, Services and DNS, in namespaces of the kernel that are its own.

mod dns;
mod forward;
mod image;
mod images;
mod installation;
mod kubelet;
mod metrics;
mod namespace;
mod runtime;

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

pub(crate) use self::forward::Forward;
use self::forward::join;
pub use self::image::Image;
pub use self::images::{busybox_image, redis_image, vmcp_image};
pub use self::installation::{Installation, MCP_SERVER_IMAGE, VMCP_IMAGE};
use self::namespace::{Dialer, NODE, Namespace};
use self::runtime::Runtime;
use crate::certificates::Authority;
use crate::components::{Components, Site};
use crate::installed::installed;
use crate::run_dir::RunDir;
use crate::{Binaries, ControlPlane, ControlPlaneOptions, Error, Kubectl, Process, Result, wait_for};

/// How long the node may take to be ready, on a machine that is busy with other things.
const READY: Duration = Duration::from_secs(120);
const API_PORT: u16 = 6443;

/// A cluster of one node. Dropping it ends all of it; the network of the machine is never touched.
#[derive(Debug)]
pub struct Node {
    // The first that ends, and with it everything that is in there.
    namespace: Namespace,
    programs: Vec<Process>,
    runtime: Runtime,
    forwards: Mutex<Vec<Forward>>,
    dialer: Dialer,
    cluster: ControlPlane,
}

impl Node {
    /// Starts one and waits until it is ready and its DNS answers. The audit log is on.
    ///
    /// # Errors
    /// When the machine cannot (the error has the line to fix it), or a program ends or is not ready in time.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// The same with more arguments of kube-apiserver.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn start_with(api_server: &[&str]) -> Result<Self> {
        let binaries = Binaries::ensure()?;
        let coredns = binaries.program("coredns")?;
        let busybox = installed("busybox", "busybox-static")?;
        for (program, package) in [("iptables", "iptables"), ("conntrack", "conntrack")] {
            installed(program, package)?;
        }
        let run_dir = RunDir::new()?;
        let dir = run_dir.path();
        let namespace = Namespace::new(dir)?;
        let dialer = namespace.dialer()?;
        let forward = lead(namespace.dialer()?, SocketAddr::from((NODE, API_PORT)))?;
        let server = format!("https://{}", forward.address());
        let site = Site {
            enter: namespace.enter_network()?,
            ip: NODE,
            etcd_port: 2379,
            etcd_peer_port: 2380,
            api_port: API_PORT,
            pods: true,
        };
        let authority = Authority::new("berth-test-cluster", dir.join("ca.crt"))?;
        let components = Components::new(&binaries, dir, &site, &authority)?;
        let options = ControlPlaneOptions { controller_manager: true, audit: true };
        let (runtime, launched) = thread::scope(|scope| {
            let runtime = scope.spawn(|| {
                let runtime = Runtime::start(dir, &site, &namespace)?;
                let sleep = ["/usr/bin/busybox", "sleep", "2147483647"];
                load(&runtime, dir, &Image::of_program(runtime::PAUSE, &busybox).entrypoint(&sleep))?;
                load(&runtime, dir, &Image::of_program(dns::IMAGE, &coredns))?;
                Ok(runtime)
            });
            let launched = ControlPlane::launch_with(&binaries, &components, server, &options, api_server);
            let runtime = runtime.join().unwrap_or_else(|_| Err(Error::new("the start of containerd panicked")));
            (runtime, launched)
        });
        let (runtime, launched) = (runtime?, launched?);
        let programs = vec![
            components.scheduler()?,
            kubelet::start_kubelet(&binaries, &components, &namespace, runtime.socket())?,
            kubelet::start_kube_proxy(&binaries, &components, &namespace)?,
        ];
        let ca_file = authority.file().to_owned();
        let cluster = launched.finish(ca_file, run_dir);
        let mut node = Self { namespace, programs, runtime, forwards: Mutex::new(vec![forward]), dialer, cluster };
        node.wait_until_ready()?;
        Ok(node)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let kubectl = self.cluster.kubectl();
        kubectl.apply_yaml(dns::MANIFEST)?.ok()?;
        let programs = &mut self.programs;
        let mut wait = |what: &str, arguments: &[&str]| {
            wait_for(what, READY, || {
                for program in programs.iter_mut() {
                    program.fail_if_ended()?;
                }
                Ok(kubectl.run(arguments)?.success().then_some(()))
            })
        };
        let ready = ["wait", "--for=condition=Ready", "--timeout=1s", "node/node"];
        wait("a ready node", &ready)?;
        let dns = ["--namespace=kube-system", "rollout", "status", "deployment/coredns", "--timeout=5s"];
        wait("a DNS that is ready", &dns)
    }

    /// The API server of this cluster, with all that it has.
    pub fn cluster(&self) -> &ControlPlane {
        &self.cluster
    }

    /// The same, to restart its parts.
    pub fn cluster_mut(&mut self) -> &mut ControlPlane {
        &mut self.cluster
    }

    /// kubectl as the cluster's administrator.
    pub fn kubectl(&self) -> &Kubectl {
        self.cluster.kubectl()
    }

    /// Loads images; pods name them with `imagePullPolicy: Never` or `IfNotPresent`.
    ///
    /// # Errors
    /// When a program is missing, or containerd refuses.
    pub fn load(&self, image: &Image) -> Result<()> {
        load(&self.runtime, self.cluster.dir(), image)
    }

    /// The command that loads an archive of an image, whose path is to be appended.
    pub fn load_command(&self) -> String {
        self.runtime.import_command()
    }

    /// A connection from the node to an address of the cluster: of a pod or of a Service.
    ///
    /// # Errors
    /// When nobody accepts it within five seconds.
    pub fn connect(&self, address: SocketAddr) -> Result<TcpStream> {
        self.dialer.connect(address)
    }

    /// A port of this machine's loopback that leads to an address of the cluster, for as long as the node is there.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn forward(&self, address: SocketAddr) -> Result<SocketAddr> {
        let forward = lead(self.namespace.dialer()?, address)?;
        let local = forward.address();
        self.forwards.lock().unwrap_or_else(PoisonError::into_inner).push(forward);
        Ok(local)
    }
}

/// A port of this machine's loopback that leads to an address in another network.
fn lead(dialer: Dialer, target: SocketAddr) -> Result<Forward> {
    Forward::start(move |client| {
        // A connection that is not taken is closed, as a port without a listener would.
        let _ = dialer.connect(target).map(|server| join(client, server));
    })
}

fn load(runtime: &Runtime, dir: &Path, image: &Image) -> Result<()> {
    let archive = image.write(dir)?;
    runtime.import(&archive)?;
    std::fs::remove_file(&archive).map_err(Error::at("remove", &archive))
}
