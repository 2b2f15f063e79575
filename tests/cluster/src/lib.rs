//! A real Kubernetes control plane for the tests: etcd, kube-apiserver and, where wanted,
//! kube-controller-manager, on loopback, ready in about three seconds, gone when dropped.
//!
//! Or a whole cluster of one [`Node`], with pods, Services and DNS, ready in about ten seconds: containerd, kubelet,
//! kube-proxy, kube-scheduler and CoreDNS in namespaces of the kernel that are its own, so that several run side by side
//! and the network of the machine is never touched. Its images are made without a daemon ([`Image`]). It needs root, and
//! Debian packages that `tests/run` installs.
//!
//! Nothing else is needed but Go and Cargo: the programs are built once from Go modules and cached
//! ([`Binaries`]). These variables change where they come from:
//!
//! | variable | meaning |
//! |---|---|
//! | `KUBEBUILDER_ASSETS` | directory of programs (as envtest has them) to use before building any |
//! | `BERTH_TEST_KUBECONFIG`, else `KUBECONFIG` | kubeconfig of a cluster to use instead of starting one |
//! | `BERTH_TEST_WEBHOOK_HOST` | address at which that cluster reaches this machine (default 127.0.0.1) |
//! | `BERTH_TEST_LOAD_IMAGE` | command that loads the archive of an image into that cluster; its path is appended |
//! | `BERTH_TEST_AUDIT_LOG` | file that the audit log of that cluster is written to |
//! | `BERTH_TEST_KEEP` | when not empty: keep the directories of runs that ended, with all logs |
//!
//! Real Redis servers are there too ([`Redis`], [`Sentinel`]).
//! So is Helm ([`Helm`]).
//!
//! The children of a process end with it, also when it is killed ([`Process`]). A cluster that was there before is left as
//! it was, then too; only images stay. What needs pods takes either as a [`Stage`].

mod balancer;
mod berth;
mod binaries;
mod caretaker;
mod certificates;
mod cgroups;
mod components;
mod control_plane;
mod error;
mod go_module;
mod guest;
mod helm;
mod http;
mod installed;
mod kubeconfig;
mod kubectl;
mod node;
mod ports;
mod process;
mod redis;
mod relay;
mod run_dir;
mod service_account;
mod stage;
mod traces;
mod wait;
mod webhook_tls;
mod wire;

pub use balancer::Balancer;
pub use berth::{Berth, BerthOptions};
pub use binaries::Binaries;
pub use control_plane::{ControlPlane, ControlPlaneOptions};
pub use error::{Error, Result};
pub use go_module::{cache, module_files};
pub use helm::Helm;
pub use http::{HttpResponse, http_get};
pub use kubectl::{Kubectl, Output, is_told_to_try_again};
pub use node::{Image, Installation, MCP_SERVER_IMAGE, Node, VMCP_IMAGE, busybox_image, redis_image, vmcp_image};
pub use ports::free_ports;
pub use process::Process;
pub use redis::{Redis, Sentinel};
pub use relay::relay;
pub use run_dir::RunDir;
pub use stage::Stage;
pub use traces::apply_crds;
pub use wait::wait_for;
pub use webhook_tls::WebhookTls;
pub use wire::Wire;
