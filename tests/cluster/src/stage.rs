//! Where a suite that needs pods plays: a node of its own, or a cluster that is there already.

use std::env;
use std::net::SocketAddr;
use std::path::Path;

use crate::guest::{Guest, LOAD};
use crate::traces::refuse_beside_berth;
use crate::{ControlPlane, Error, Image, Kubectl, Node, Result};

/// A cluster with pods, Services and DNS. Dropping it ends it, or leaves it as it was.
#[derive(Debug)]
pub struct Stage {
    ground: Ground,
    /// The size of the audit log at first.
    before: u64,
}

#[derive(Debug)]
enum Ground {
    Own(Box<Node>),
    Given(Box<Guest>),
}

impl Stage {
    /// The cluster of `BERTH_TEST_KUBECONFIG` or `KUBECONFIG`, or else a node of its own. `programs` is the directory of
    /// the project's programs, `berth-test-cluster` among them.
    ///
    /// # Errors
    /// As [`Node::start`]; and when the cluster that is there has a Berth, or lacks something (the error has the line to fix
    /// it).
    pub fn start(programs: &Path) -> Result<Self> {
        match ControlPlane::given()? {
            Some(cluster) => Self::on(cluster, &env::var(LOAD).unwrap_or_default(), programs),
            None => Node::start().map(Self::from),
        }
    }

    /// A cluster that is there already, with the command that loads an image.
    ///
    /// # Errors
    /// As [`Stage::start`].
    pub fn on(cluster: ControlPlane, load: &str, programs: &Path) -> Result<Self> {
        refuse_beside_berth(&cluster)?;
        let before = cluster.audit_log().and_then(|log| log.metadata().ok()).map_or(0, |log| log.len());
        let guest = Guest::new(cluster, load, &programs.join("berth-test-cluster"))?;
        Ok(Self { ground: Ground::Given(Box::new(guest)), before })
    }

    /// Whether a variable names a cluster that is there.
    pub fn is_given() -> bool {
        ControlPlane::named().is_some()
    }

    /// The API server of this cluster, with all that it has.
    pub fn cluster(&self) -> &ControlPlane {
        match &self.ground {
            Ground::Own(node) => node.cluster(),
            Ground::Given(guest) => guest.cluster(),
        }
    }

    /// kubectl as the cluster's administrator.
    pub fn kubectl(&self) -> &Kubectl {
        self.cluster().kubectl()
    }

    /// The audit log, and how much of it was written before.
    ///
    /// # Errors
    /// When nobody says where it is (the error has the line to fix it).
    pub fn audit_log(&self) -> Result<(&Path, u64)> {
        self.cluster().audit_log().zip(Some(self.before)).ok_or_else(|| {
            Error::new(
                "this needs the audit log of the cluster, as tests/kind/cluster.yaml sets it up: export \
                 BERTH_TEST_AUDIT_LOG=FILE",
            )
        })
    }

    /// Loads images; pods name them with `imagePullPolicy: Never` or `IfNotPresent`.
    ///
    /// # Errors
    /// When a program is missing, or the cluster refuses.
    pub fn load(&self, image: &Image) -> Result<()> {
        match &self.ground {
            Ground::Own(node) => node.load(image),
            Ground::Given(guest) => guest.load(image),
        }
    }

    /// A port of this machine's loopback that leads to an address of the cluster, of a pod or of a Service, for as long
    /// as this is there. Each connection is one that begins in the cluster.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn forward(&self, address: SocketAddr) -> Result<SocketAddr> {
        match &self.ground {
            Ground::Own(node) => node.forward(address),
            Ground::Given(guest) => guest.forward(address),
        }
    }
}

impl From<Node> for Stage {
    fn from(node: Node) -> Self {
        Self { ground: Ground::Own(Box::new(node)), before: 0 }
    }
}
