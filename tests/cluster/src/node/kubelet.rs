//! kubelet and kube-proxy: what runs the pods, and what leads Services to them.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::dns::CLUSTER_DNS;
use super::namespace::{NODE, Namespace};
use super::runtime::words;
use crate::components::{Components, Site};
use crate::{Binaries, Error, Process, Result, cgroups};

/// The node's name.
pub(super) const NAME: &str = "node";

/// Starts the kubelet in the namespaces.
pub(super) fn start_kubelet(
    binaries: &Binaries,
    components: &Components<'_>,
    namespace: &Namespace,
    socket: &Path,
) -> Result<Process> {
    let dir = components.dir();
    let cgroup = cgroups::make(dir)?;
    let user = format!("system:node:{NAME}");
    let kubeconfig = components.kubeconfig("kubelet", &user, Some("system:nodes"))?;
    let resolv_conf = dir.join("resolv.conf");
    write(&resolv_conf, &format!("nameserver {CLUSTER_DNS}\n"))?;
    let never = json!({
        "imagefs.available": "0%",
        "imagefs.inodesFree": "0%",
        "memory.available": "1Mi",
        "nodefs.available": "0%",
        "nodefs.inodesFree": "0%",
    });
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": components.authority().file()},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        // Or each node would end the pods of the others as strays.
        "cgroupRoot": cgroup,
        "enforceNodeAllocatable": [],
        "clusterDNS": [CLUSTER_DNS],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": format!("unix://{}", socket.display()),
        "evictionHard": never,
        "failCgroupV1": false,
        "failSwapOn": false,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "maxPods": 500,
        "podLogsDir": dir.join("pods"),
        "resolvConf": resolv_conf,
        "serializeImagePulls": false,
        // ConfigMaps and Secrets that are mounted follow within seconds, not a minute and a half.
        "syncFrequency": "5s",
        "volumePluginDir": dir.join("volume-plugins"),
    });
    let config_file = dir.join("kubelet.json");
    write(&config_file, &config.to_string())?;
    let inside = Site { enter: namespace.enter()?, ..components.site().clone() };
    let arguments = words([
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--config={}", config_file.display()),
        format!("--root-dir={}", dir.join("kubelet").display()),
        format!("--cert-dir={}", dir.join("kubelet-certificates").display()),
        format!("--hostname-override={NAME}"),
        format!("--node-ip={NODE}"),
    ]);
    inside.start(dir, "kubelet", &binaries.program("kubelet")?, arguments)
}

/// Starts kube-proxy in the namespaces: its lock of iptables is a file.
pub(super) fn start_kube_proxy(
    binaries: &Binaries,
    components: &Components<'_>,
    namespace: &Namespace,
) -> Result<Process> {
    let dir = components.dir();
    let kubeconfig = components.kubeconfig("kube-proxy", "system:kube-proxy", None)?;
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": kubeconfig},
        // Limits of the whole machine, which are not ours to set.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpCloseWaitTimeout": "0s",
            "tcpEstablishedTimeout": "0s",
        },
        "hostnameOverride": NAME,
        "iptables": {"minSyncPeriod": "100ms"},
        "mode": "iptables",
    });
    let config_file = dir.join("kube-proxy.json");
    write(&config_file, &config.to_string())?;
    let inside = Site { enter: namespace.enter()?, ..components.site().clone() };
    let arguments = words([format!("--config={}", config_file.display())]);
    inside.start(dir, "kube-proxy", &binaries.program("kube-proxy")?, arguments)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::at("write", path))
}
