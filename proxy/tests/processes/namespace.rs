//! The network namespace of the trials: nothing in it reaches the machine's network, and it ends with them.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use tokio::net::UdpSocket;

use crate::support::dns::Zones;

/// Says that the process is in its namespace.
const INSIDE: &str = "BERTH_TEST_NAMESPACE";

/// Brings loopback up, and makes the trials' own DNS server the system's, for what runs here alone.
const PREPARE: &str = "
set -e
ip link set lo up
conf=$(mktemp)
echo 'nameserver 127.0.0.1' > \"$conf\"
mount --bind \"$conf\" /etc/resolv.conf
rm \"$conf\"
exec \"$@\"
";

static ZONES: OnceLock<Arc<Zones>> = OnceLock::new();

/// Runs this program anew in a namespace; there, starts the DNS server.
pub(crate) fn enter() -> Result<(), String> {
    if env::var_os(INSIDE).is_none() {
        let program = env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new("unshare");
        if !is_root() {
            command.arg("--map-root-user");
        }
        command.args(["--net", "--mount", "sh", "-c", PREPARE, "sh"]).arg(program).args(env::args_os().skip(1));
        let error = command.env(INSIDE, "1").exec();
        return Err(format!("cannot run unshare: {error}; install Debian's util-linux"));
    }
    serve_dns().map_err(|error| format!("no DNS server in the namespace: {error}"))
}

/// What is known in DNS.
pub(crate) fn zones() -> &'static Arc<Zones> {
    ZONES.get_or_init(Arc::default)
}

fn serve_dns() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let socket = runtime.block_on(UdpSocket::bind("127.0.0.1:53"))?;
    std::thread::spawn(move || runtime.block_on(Arc::clone(zones()).serve(socket)));
    Ok(())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

/// Packets to an address that are dropped, until this is.
pub(crate) struct Unreachable(std::net::Ipv4Addr);

impl Unreachable {
    pub(crate) fn new(ip: std::net::Ipv4Addr) -> Self {
        iptables("-A", ip);
        Self(ip)
    }
}

impl Drop for Unreachable {
    fn drop(&mut self) {
        iptables("-D", self.0);
    }
}

fn iptables(action: &str, ip: std::net::Ipv4Addr) {
    let ip = ip.to_string();
    let status = Command::new("iptables").args(["-w", action, "INPUT", "-p", "tcp", "-d", &ip, "-j", "DROP"]).status();
    assert!(status.is_ok_and(|status| status.success()), "cannot drop packets; install Debian's iptables");
}
