//! containerd: what runs containers, and where images are loaded.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::namespace::Namespace;
use crate::components::Site;
use crate::installed::installed;
use crate::kubectl::run_to_end;
use crate::{Error, Process, Result, wait_for};

const START: Duration = Duration::from_secs(30);
/// Pods' addresses.
const PODS: &str = "10.244.0.0/16";
/// What keeps the namespaces of a pod.
pub(super) const PAUSE: &str = "berth-test/pause:1";

/// Loads an archive where the kubelet looks for images.
const IMPORT: [&str; 4] = ["--namespace", "k8s.io", "image", "import"];

/// A running containerd, with files of its own.
#[derive(Debug)]
pub(super) struct Runtime {
    _process: Process,
    socket: PathBuf,
    ctr: PathBuf,
}

impl Runtime {
    /// Starts it in the namespaces, its network for pods configured, and waits until it answers.
    pub(super) fn start(dir: &Path, site: &Site, namespace: &Namespace) -> Result<Self> {
        let containerd = installed("containerd", "containerd")?;
        let ctr = installed("ctr", "containerd")?;
        installed("runc", "runc")?;
        let plugins = Path::new("/usr/lib/cni");
        let plugins = [plugins, Path::new("/opt/cni/bin")].into_iter().find(|dir| dir.join("bridge").exists()).ok_or_else(
            || Error::new("the plugins of pod networks are missing; run: apt-get install -y --no-install-recommends containernetworking-plugins (tests/run does)"),
        )?;
        let base = dir.join("containerd");
        let networks = base.join("networks");
        fs::create_dir_all(&networks).map_err(Error::at("make", &networks))?;
        write(&networks.join("10-pods.conflist"), &pod_network(&base))?;
        let config = base.join("config.toml");
        write(&config, &configuration(&base, &networks, plugins))?;
        let arguments = ["--config".into(), config.into_os_string(), "--log-level".into(), "warn".into()];
        let inside = Site { enter: namespace.enter()?, ..site.clone() };
        let mut process = inside.start(dir, "containerd", &containerd, arguments.into())?;
        let socket = base.join("containerd.sock");
        wait_for("an answer of containerd", START, || {
            process.fail_if_ended()?;
            Ok(run_to_end(ctr_command(&ctr, &socket, &["version"]), "ctr version", "")?.success().then_some(()))
        })?;
        Ok(Self { _process: process, socket, ctr })
    }

    /// The socket that the kubelet talks to.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The command line of [`Runtime::import`], without the archive.
    pub(super) fn import_command(&self) -> String {
        format!("{} --address {} {}", self.ctr.display(), self.socket.display(), IMPORT.join(" "))
    }

    /// Loads an archive.
    pub(super) fn import(&self, archive: &Path) -> Result<()> {
        let mut command = ctr_command(&self.ctr, &self.socket, &IMPORT);
        command.arg(archive);
        run_to_end(command, "ctr image import", "")?.ok()?;
        Ok(())
    }
}

fn ctr_command(ctr: &Path, socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(ctr);
    command.arg("--address").arg(socket).args(arguments);
    command
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::at("write", path))
}

fn configuration(base: &Path, networks: &Path, plugins: &Path) -> String {
    let base = base.display();
    let (networks, plugins) = (networks.display(), plugins.display());
    format!(
        r#"version = 2
root = "{base}/root"
state = "{base}/state"
disabled_plugins = [
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.internal.v1.tracing",
]

[grpc]
address = "{base}/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "docker.io/{PAUSE}"
disable_tcp_service = true
netns_mounts_under_state_dir = true
# Without CAP_SYS_RESOURCE every sandbox would fail otherwise: "can't get final child's PID from pipe: EOF".
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{networks}"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"#
    )
}

fn pod_network(base: &Path) -> String {
    serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "pods0",
                "isGateway": true,
                "ipMasq": true,
                // A pod reaches itself by its Service.
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": base.join("addresses"),
                    "ranges": [[{"subnet": PODS}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
    .to_string()
}

/// Words of a command line as the system takes them.
pub(super) fn words<const N: usize>(words: [String; N]) -> Vec<OsString> {
    words.into_iter().map(OsString::from).collect()
}
