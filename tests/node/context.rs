//! What every trial gets: a cluster with Berth and two stores, and a namespace of its own.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use berth_test_cluster::{Error, Installation, Result, Stage, VMCP_IMAGE};
use libtest_mimic::{Failed, Trial};

use crate::api::Eyes;
use crate::scene::Scene;

/// The controller looks at everything again this often, so that what it would write again and again shows.
const RESYNC: &str = "--controller-resync=10s";

/// One cluster with Berth installed, shared by all trials: a node of its own, or one that is there already.
#[derive(Default)]
pub(crate) struct Context {
    started: OnceLock<(Installation, Eyes, Stage)>,
    metrics: Mutex<bool>,
}

impl Context {
    /// Builds the programs, starts the cluster and installs everything; what the accessors give exists from here on.
    pub(crate) fn start(&self) -> Result<()> {
        build()?;
        let programs = Path::new(env!("CARGO_BIN_EXE_berth")).parent().expect("a directory");
        let stage = Stage::start(programs)?;
        let arguments = Self::values();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let installation = Installation::new(&stage, programs, &arguments)?;
        let eyes = Eyes::connect(stage.kubectl().kubeconfig())?;
        self.started.get_or_init(|| (installation, eyes, stage));
        Ok(())
    }

    /// Whether the cluster is one that is there already.
    pub(crate) fn is_given(&self) -> bool {
        Stage::is_given()
    }

    /// What the release is installed with.
    pub(crate) fn values() -> Vec<String> {
        let (repository, tag) = VMCP_IMAGE.split_once(':').expect("an image with a tag");
        let values = format!("extraArgs={{{RESYNC}}},images.vmcp.repository={repository},images.vmcp.tag={tag}");
        vec!["--set-string".to_owned(), values]
    }

    fn started(&self) -> &(Installation, Eyes, Stage) {
        self.started.get().expect("started before the trials run")
    }

    pub(crate) fn stage(&self) -> &Stage {
        &self.started().2
    }

    pub(crate) fn eyes(&self) -> &Eyes {
        &self.started().1
    }

    /// Makes sure of numbers for autoscalers.
    pub(crate) fn metrics(&self) -> Result<()> {
        let mut started = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        if !*started {
            self.stage().start_metrics()?;
            *started = true;
        }
        Ok(())
    }

    pub(crate) fn installation(&self) -> &Installation {
        &self.started().0
    }
}

/// The programs of the other packages, which Cargo builds for their own tests only. By way of a test of each, so that
/// what they depend on has the features that `cargo test --workspace` built it with, and is there already.
fn build() -> Result<()> {
    let tests = ["--test", "node", "--test", "ending", "--test", "sessions"];
    let mut command = Command::new(env!("CARGO"));
    // What Cargo tells a test of its package is news to build scripts that look at it, ring's for one: all that depends on
    // them would be built again, this program too, which is then not where it was.
    let of_package =
        |name: &OsString| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|of| name.to_string_lossy().starts_with(of));
    for (name, _) in env::vars_os().filter(|(name, _)| of_package(name)) {
        command.env_remove(name);
    }
    let status = command
        .args(["test", "--no-run", "--quiet", "--locked", "--workspace"])
        .args(tests)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::new(format!("cargo test --no-run, for the programs of images: {status}"))),
        Err(error) => Err(Error::new(format!("cannot run cargo: {error}"))),
    }
}

/// A trial that gets a namespace of its own. It fails by a panic or an error.
pub(crate) fn trial(
    ctx: &Arc<Context>,
    name: &str,
    body: impl FnOnce(&Scene<'_>) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let ctx = Arc::clone(ctx);
    Trial::test(name, move || {
        let scene = Scene::new(&ctx)?;
        body(&scene).map_err(|failed| scene.explain(failed))
    })
}

/// One that begins when nothing is left of those before it, whose pods still end: their namespaces do so in their own time.
pub(crate) fn alone(
    ctx: &Arc<Context>,
    name: &str,
    body: impl FnOnce(&Scene<'_>) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    trial(ctx, name, |scene| {
        scene.wait_until_alone()?;
        body(scene)
    })
}
