//! What every trial gets: the control plane, Berth, and a namespace of its own.

use std::sync::{Arc, OnceLock};

use berth_test_cluster::{ControlPlane, ControlPlaneOptions, Kubectl, Result};
use libtest_mimic::{Failed, Trial};

/// One control plane with one Berth registered, shared by all trials.
#[derive(Default)]
pub(crate) struct Context {
    cluster: OnceLock<ControlPlane>,
}

impl Context {
    /// Starts everything; what the accessors below give exists from here on.
    pub(crate) fn start(&self) -> Result<()> {
        let options = ControlPlaneOptions { controller_manager: true, audit: true };
        let cluster = ControlPlane::start(&options)?;
        self.cluster.get_or_init(|| cluster);
        Ok(())
    }

    pub(crate) fn cluster(&self) -> &ControlPlane {
        self.cluster.get().expect("started before the trials run")
    }

    /// A fresh namespace, and kubectl in it as the administrator.
    pub(crate) fn namespace(&self) -> Result<Namespace> {
        let name = self.cluster().namespace()?;
        let kubectl = self.cluster().kubectl().in_namespace(&name);
        Ok(Namespace { name, kubectl })
    }
}

/// A namespace that one trial has for itself.
pub(crate) struct Namespace {
    pub(crate) name: String,
    pub(crate) kubectl: Kubectl,
}

/// A trial that gets the context and a namespace of its own. It fails by a panic or an error.
pub(crate) fn trial(
    ctx: &Arc<Context>,
    name: &str,
    body: impl FnOnce(&Context, &Namespace) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let ctx = Arc::clone(ctx);
    Trial::test(name, move || body(&ctx, &ctx.namespace()?))
}
