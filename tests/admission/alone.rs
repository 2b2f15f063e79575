//! A second control plane with its own Berth, for trials in which Berth is down, is not registered, or loses its rights:
//! in the one that all share those would disturb the others.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_test_cluster::{
    Berth, ControlPlane, ControlPlaneOptions, Error, HttpResponse, Output, Result, apply_crds, wait_for,
};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::client::Client;
use crate::context::{Namespace, install};

/// For whatever the API server takes notice of a moment later.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

/// A control plane and a Berth that one trial at a time has for itself.
pub(crate) struct Alone {
    // What is declared first ends first: Berth takes its registration back while there is an API server.
    pub(crate) berth: Berth,
    client: Client,
    _runtime: Runtime,
    pub(crate) cluster: ControlPlane,
    /// Whether the trial before left everything as it found it.
    whole: bool,
}

/// Started by the first trial that asks for it, ended with the last.
#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<Option<Alone>>>);

impl Alone {
    fn start() -> Result<Self> {
        let cluster = ControlPlane::start_own(&ControlPlaneOptions { controller_manager: true, audit: false })?;
        let runtime = Runtime::new().map_err(|error| Error::new(format!("cannot start a runtime: {error}")))?;
        let client = Client::connect(runtime.handle(), cluster.kubeconfig())?;
        let mut options = install(&cluster)?;
        options.arguments.push("--lame-duck=1s".to_owned());
        let berth = Berth::start(&cluster, options)?;
        Ok(Self { berth, client, _runtime: runtime, cluster, whole: true })
    }

    fn namespace(&self) -> Result<Namespace> {
        let name = self.cluster.namespace()?;
        let kubectl = self.cluster.kubectl().in_namespace(&name);
        Ok(Namespace { name, kubectl, client: self.client.clone() })
    }

    /// After a trial that ended somewhere in between.
    fn repair(&mut self) -> Result<()> {
        self.restore_rights()?;
        self.define_resources()?;
        // Whatever state it is in.
        self.stop()?;
        self.berth.restart()?;
        self.register()
    }

    /// Applies the definitions that Berth ships.
    pub(crate) fn define_resources(&self) -> Result<()> {
        apply_crds(&self.cluster, Path::new(env!("CARGO_BIN_EXE_berth")))
    }

    /// Ends Berth at once. The registration stays.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.berth.kill().map(drop)
    }

    /// Registers Berth at its own address.
    pub(crate) fn register(&mut self) -> Result<()> {
        self.berth.register_at(&self.berth.url())
    }

    /// Creates what Berth would refuse, or would change: takes its registration back for it.
    pub(crate) fn create_unseen(&mut self, ns: &Namespace, objects: &[Value]) -> Result<()> {
        self.berth.deregister()?;
        for object in objects {
            // The API server minds that a moment later.
            wait_for("a write that nobody is asked about", BOUND, || {
                let created = ns.kubectl.run_with_stdin(&["create", "-f", "-"], &object.to_string())?;
                Ok((created.success() && created.stderr.is_empty()).then_some(()))
            })?;
        }
        self.register()
    }

    /// Takes Berth's rights away.
    pub(crate) fn revoke_rights(&self) -> Result<()> {
        let kubectl = self.cluster.kubectl();
        kubectl.run(&["delete", "clusterrolebinding", "berth-webhook", "berth-controller"])?.ok()?;
        self.wait_for_right("no")
    }

    /// Gives Berth its rights back.
    pub(crate) fn restore_rights(&self) -> Result<()> {
        let rights = Path::new(env!("CARGO_MANIFEST_DIR")).join("webhook-config/rbac.yaml");
        self.cluster.kubectl().run(&["apply", "-f", &rights.display().to_string()])?.ok()?;
        self.wait_for_right("yes")
    }

    fn wait_for_right(&self, expected: &str) -> Result<()> {
        let user = "--as=system:serviceaccount:berth-system:berth";
        wait_for("the change of Berth's rights", BOUND, || {
            let answer: Output = self.cluster.kubectl().run(&["auth", "can-i", "get", "deployments.apps", user])?;
            Ok((answer.stdout.trim() == expected).then_some(()))
        })
    }

    /// Berth's metrics now.
    pub(crate) fn metrics(&self) -> Result<HttpResponse> {
        self.berth.get("/metrics")
    }
}

/// A trial that has the second control plane for itself, and a namespace in it.
pub(crate) fn trial(
    shared: &Shared,
    name: &str,
    body: impl FnOnce(&mut Alone, &Namespace) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let shared = shared.clone();
    Trial::test(name, move || {
        let mut shared = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        let alone = match &mut *shared {
            Some(alone) => alone,
            none => none.insert(Alone::start()?),
        };
        if !alone.whole {
            alone.repair()?;
        }
        alone.whole = false;
        let namespace = alone.namespace()?;
        body(alone, &namespace)?;
        alone.whole = true;
        Ok(())
    })
}
