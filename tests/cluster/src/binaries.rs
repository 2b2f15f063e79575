//! The programs of a cluster: found, or built once from the Go modules beside `src/` and cached.

use std::env;
use std::path::PathBuf;

use crate::go_module::GoModule;
use crate::{Error, Result};

/// Without these, its programs call themselves v0.0.0.
const KUBERNETES: &str = "k8s.io/component-base/version.gitVersion=v1.34.4
    k8s.io/component-base/version.gitMajor=1
    k8s.io/component-base/version.gitMinor=34";

/// Every program that a test can ask for is in one of these.
const MODULES: [GoModule; 6] = [
    GoModule {
        name: "kube",
        directory: "kube",
        title: "Kubernetes v1.34.4",
        takes: "4 to 10 minutes",
        package: ".",
        programs: &["etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet"],
        variables: KUBERNETES,
        sources: &[include_str!("../kube/go.mod"), include_str!("../kube/go.sum"), include_str!("../kube/main.go")],
        version: "v1.34.4",
    },
    GoModule {
        name: "kubectl",
        directory: "kube",
        title: "kubectl v1.34.4",
        takes: "seconds after Kubernetes, else two minutes",
        package: "./kubectl",
        programs: &["kubectl"],
        variables: KUBERNETES,
        sources: &[
            include_str!("../kube/go.mod"),
            include_str!("../kube/go.sum"),
            include_str!("../kube/kubectl/main.go"),
        ],
        version: "v1.34.4",
    },
    GoModule {
        name: "helm",
        directory: "helm",
        title: "Helm v3.19.0",
        takes: "a minute",
        package: "helm.sh/helm/v3/cmd/helm",
        programs: &["helm"],
        // Without the last four, `helm template` and `helm lint` take the cluster for Kubernetes 1.20.
        variables: "helm.sh/helm/v3/internal/version.version=v3.19.0
            helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1
            helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=34
            helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1
            helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=34",
        sources: &[include_str!("../helm/go.mod"), include_str!("../helm/go.sum")],
        version: "v3.19.0",
    },
    GoModule {
        name: "coredns",
        directory: "coredns",
        title: "CoreDNS v1.12.4",
        takes: "two minutes",
        package: "github.com/coredns/coredns",
        programs: &["coredns"],
        variables: "",
        sources: &[include_str!("../coredns/go.mod"), include_str!("../coredns/go.sum")],
        version: "v1.12.4",
    },
    GoModule {
        name: "cert-manager",
        directory: "cert-manager",
        title: "cert-manager v1.18.2",
        takes: "two minutes",
        package: ".",
        programs: &["cert-manager"],
        variables: "",
        sources: &[
            include_str!("../cert-manager/go.mod"),
            include_str!("../cert-manager/go.sum"),
            include_str!("../cert-manager/main.go"),
        ],
        version: "v1.18.2",
    },
    GoModule {
        name: "metrics-server",
        directory: "metrics-server",
        title: "metrics-server v0.8.0",
        takes: "half a minute after Kubernetes, else three minutes",
        package: "sigs.k8s.io/metrics-server/cmd/metrics-server",
        programs: &["metrics-server"],
        variables: "sigs.k8s.io/metrics-server/pkg/version.gitVersion=v0.8.0",
        sources: &[include_str!("../metrics-server/go.mod"), include_str!("../metrics-server/go.sum")],
        version: "v0.8.0",
    },
];

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Binaries {
    assets: Option<PathBuf>,
}

impl Binaries {
    /// Makes sure of etcd, kube-apiserver and kubectl: takes them from `KUBEBUILDER_ASSETS`, or
    /// builds all programs of Kubernetes into the user's cache, once for every process that asks.
    /// A cold build takes 4 to 10 minutes and says so on standard error.
    ///
    /// # Errors
    /// When Go is missing, or the build fails.
    pub fn ensure() -> Result<Self> {
        let binaries = Self::find();
        for name in ["etcd", "kube-apiserver", "kubectl"] {
            binaries.program(name)?;
        }
        Ok(binaries)
    }

    /// The same for those who need none of these three; nothing is built until a program is asked for.
    pub fn find() -> Self {
        let assets = env::var_os("KUBEBUILDER_ASSETS").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        Self { assets }
    }

    /// The names of all programs.
    pub fn names() -> impl Iterator<Item = &'static str> {
        MODULES.iter().flat_map(|module| module.programs).copied()
    }

    /// One program by its name, as in `kube-apiserver` or `helm`. What `KUBEBUILDER_ASSETS` does not have
    /// (envtest has no kube-controller-manager) is built.
    ///
    /// # Errors
    /// As [`Binaries::ensure`]; and when there is no such program.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        if let Some(found) = self.assets.as_ref().map(|dir| dir.join(name)).filter(|path| path.exists()) {
            return Ok(found);
        }
        match MODULES.iter().find(|module| module.programs.contains(&name)) {
            Some(module) => Ok(module.built()?.join(name)),
            None => Err(Error::new(format!("no module of the test cluster has a program {name}"))),
        }
    }
}
