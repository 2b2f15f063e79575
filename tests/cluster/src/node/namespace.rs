//! Namespaces of the kernel (PID, mount, network) that a node lives in: with them everything in them ends.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::installed::installed;
use crate::{Error, Process, Result, wait_for};

/// The node's address. Every node has it, each in a network of its own.
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

const START: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(5);

/// The first process in the namespaces: as it ends, the kernel ends all others in there and takes mounts, interfaces and
/// rules away. It waits for whatever becomes its child, or the ends of containers would pile up.
const INIT: &str = r#"
set -e
mount -t tmpfs tmpfs /run
for dir in /var/lib/kubelet /var/lib/cni /var/log/containers; do
    mkdir -p "$dir"
    mount -t tmpfs tmpfs "$dir"
done
ip link set lo up
ip link add node0 type bridge
ip address add "$NODE/24" dev node0
ip link set node0 up
ip route add default dev node0
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables
echo ready > "$READY"
while :; do sleep 3600 & wait $!; done
"#;

/// A set of namespaces. Dropping it ends everything in them.
#[derive(Debug)]
pub(crate) struct Namespace {
    init: Process,
}

impl Namespace {
    /// Makes one, its network ready.
    ///
    /// # Errors
    /// When this user may not, or the kernel or a program lacks what it takes.
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        let unshare = installed("unshare", "util-linux")?;
        installed("ip", "iproute2")?;
        if !rustix::process::geteuid().is_root() {
            return Err(Error::new(
                "a node needs namespaces of its own, which only root may make; run the tests as root, as in \
                 `sudo --preserve-env=HOME,PATH tests/run`, or name a cluster that is there: export KUBECONFIG=FILE",
            ));
        }
        let ready = dir.join("namespace.ready");
        let path = std::env::var("PATH").unwrap_or_default();
        let environment = [
            ("PATH".to_owned(), format!("{path}:/usr/sbin:/sbin")),
            ("NODE".to_owned(), NODE.to_string()),
            ("READY".to_owned(), ready.display().to_string()),
        ];
        let arguments = [
            "--pid",
            "--mount",
            "--net",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            INIT,
            "berth-test-node",
        ];
        let init = Process::start(dir, "namespace", &unshare, arguments, &environment)?;
        let mut namespace = Self { init };
        wait_for("the network of a node", START, || {
            namespace.init.fail_if_ended().map_err(|error| {
                Error::new(format!(
                    "{error}\na node needs the kernel's namespaces, bridges and br_netfilter; on a machine that has them as \
                     modules run: modprobe bridge br_netfilter overlay"
                ))
            })?;
            Ok(fs::exists(&ready).unwrap_or_default().then_some(()))
        })?;
        Ok(namespace)
    }

    fn link(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/{name}", self.init.pid()))
    }

    /// The command that runs a program in its network, and the rest as outside.
    pub(crate) fn enter_network(&self) -> Result<Vec<OsString>> {
        let nsenter = installed("nsenter", "util-linux")?;
        Ok(vec![nsenter.into(), format!("--net={}", self.link("net").display()).into()])
    }

    /// The command that runs a program in all of it.
    pub(crate) fn enter(&self) -> Result<Vec<OsString>> {
        let mut command = self.enter_network()?;
        command.push(format!("--mount={}", self.link("mnt").display()).into());
        command.push(format!("--pid={}", self.link("pid_for_children").display()).into());
        Ok(command)
    }

    /// What connects from its network, also after this is gone (and fails then).
    pub(crate) fn dialer(&self) -> Result<Dialer> {
        Dialer::new(&self.link("net"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.init.kill();
    }
}

/// Connects to addresses of another network than the process is in.
#[derive(Debug)]
pub(crate) struct Dialer {
    network: File,
}

impl Dialer {
    fn new(link: &Path) -> Result<Self> {
        Ok(Self { network: File::open(link).map_err(Error::at("open", link))? })
    }

    /// A connection to an address of that network.
    pub(crate) fn connect(&self, address: SocketAddr) -> Result<TcpStream> {
        let failed = |cause: std::io::Error| Error::new(format!("cannot connect to {address} of the cluster: {cause}"));
        // A thread is in one network, and its sockets stay in the network that they were made in.
        thread::scope(|scope| {
            let connection = scope.spawn(|| {
                move_into_link_name_space(self.network.as_fd(), Some(LinkNameSpaceType::Network))?;
                TcpStream::connect_timeout(&address, CONNECT)
            });
            connection.join().unwrap_or_else(|_| Err(std::io::Error::other("the thread panicked"))).map_err(failed)
        })
    }
}
