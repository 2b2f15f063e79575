//! What every trial gets: a control plane, Berth with its webhook and its controller, and a namespace of its own.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use berth_test_cluster::{
    Berth, BerthOptions, ControlPlane, ControlPlaneOptions, Error, Kubectl, Result, apply_crds, wait_for,
};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::audit::Audit;
use crate::client::Client;
use crate::objects::parts;

/// For whatever comes about in a moment on a busy machine. Kubernetes' garbage collector takes longest: it hears of a new
/// definition within 30 s, and tries what it could not do before in intervals that double.
pub(crate) const BOUND: Duration = Duration::from_secs(180);

/// One control plane with one Berth, shared by all trials.
#[derive(Default)]
pub(crate) struct World {
    started: OnceLock<Started>,
}

struct Started {
    // What is declared first ends first.
    _berth: Berth,
    client: Client,
    _runtime: Runtime,
    cluster: ControlPlane,
}

impl World {
    /// Starts everything; what the accessors below give exists from here on.
    pub(crate) fn start(&self) -> Result<()> {
        let cluster = ControlPlane::start(&ControlPlaneOptions { controller_manager: true, audit: true })?;
        let runtime = Runtime::new().map_err(|error| Error::new(format!("cannot start a runtime: {error}")))?;
        let client = Client::connect(runtime.handle(), cluster.kubeconfig())?;
        let berth = Berth::start(&cluster, install(&cluster)?)?;
        self.started.get_or_init(|| Started { _berth: berth, client, _runtime: runtime, cluster });
        Ok(())
    }

    fn started(&self) -> &Started {
        self.started.get().expect("started before the trials run")
    }

    /// A fresh namespace.
    fn namespace(&self) -> Result<Namespace> {
        let started = self.started();
        Namespace::new(&started.cluster, &started.client)
    }
}

/// Applies the definitions and the rights that Berth ships. Gives the options to run webhook and controller as the
/// installation does: with the rights of the service account and no more.
pub(crate) fn install(cluster: &ControlPlane) -> Result<BerthOptions> {
    let program = Path::new(env!("CARGO_BIN_EXE_berth"));
    apply_crds(cluster, program)?;
    let installation = Path::new(env!("CARGO_MANIFEST_DIR")).join("webhook-config");
    for file in ["namespace.yaml", "rbac.yaml"] {
        cluster.apply_file(&installation.join(file))?;
    }
    let mut options = BerthOptions::new(program);
    options.arguments =
        ["--log-format=json", "--lease-namespace=berth-system", "--lame-duck=1s", "--controller-resync=1s"]
            .map(str::to_owned)
            .to_vec();
    options.kubeconfig = Some(cluster.service_account_kubeconfig("berth-system", "berth")?);
    Ok(options)
}

/// A namespace that one trial has for itself.
pub(crate) struct Namespace {
    pub(crate) name: String,
    pub(crate) kubectl: Kubectl,
    pub(crate) client: Client,
    audit_log: std::path::PathBuf,
}

impl Namespace {
    pub(crate) fn new(cluster: &ControlPlane, client: &Client) -> Result<Self> {
        let name = cluster.namespace()?;
        let kubectl = cluster.kubectl().in_namespace(&name);
        let audit_log = cluster
            .audit_log()
            .ok_or_else(|| Error::new("these tests need a cluster of their own: unset KUBECONFIG"))?;
        Ok(Self { name, kubectl, client: client.clone(), audit_log: audit_log.to_owned() })
    }

    pub(crate) fn create(&self, manifest: &Value) -> Result<Value> {
        self.client.create(&self.name, "a-person", manifest)
    }

    pub(crate) fn get(&self, what: &str) -> Result<Value> {
        self.client.get(&self.name, what)
    }

    pub(crate) fn find(&self, what: &str) -> Result<Option<Value>> {
        self.client.find(&self.name, what)
    }

    /// A merge patch as a person would make it.
    pub(crate) fn edit(&self, what: &str, patch: &Value) -> Result<Value> {
        self.client.merge(&self.name, what, "a-person", patch)
    }

    pub(crate) fn audit(&self) -> Audit {
        Audit::from_now(&self.audit_log)
    }

    /// Waits until an object is as it should be.
    pub(crate) fn wait(&self, what: &str, why: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        let last = std::cell::RefCell::new(None);
        let found = wait_for(&format!("{what}: {why}"), BOUND, || {
            let found = self.find(what)?;
            last.replace(found.clone());
            Ok(found.filter(|found| is_so(found)))
        });
        found.map_err(|error| Error::new(format!("{error}; it is {}", last.borrow().clone().unwrap_or_default())))
    }

    /// Creates an MCPServer and waits until all of it is there and its status says so.
    pub(crate) fn build(&self, manifest: &Value) -> Result<Value> {
        let created = self.create(manifest)?;
        let name = manifest["metadata"]["name"].as_str().unwrap_or_default();
        for part in parts(name) {
            self.wait(&part, "is there", |_| true)?;
        }
        self.settled(name)?;
        Ok(created)
    }

    /// The same for several, with one wait.
    pub(crate) fn build_all(&self, manifests: &[Value]) -> Result<()> {
        for manifest in manifests {
            self.create(manifest)?;
        }
        for manifest in manifests {
            let name = manifest["metadata"]["name"].as_str().unwrap_or_default();
            for part in parts(name) {
                self.wait(&part, "is there", |_| true)?;
            }
            self.wait_for_status(name)?;
        }
        self.settled_anyhow()
    }

    /// Waits until the status of an MCPServer is of its generation, and nobody has written anything for two resyncs.
    pub(crate) fn settled(&self, name: &str) -> Result<()> {
        self.wait_for_status(name)?;
        self.settled_anyhow()
    }

    fn wait_for_status(&self, name: &str) -> Result<()> {
        self.wait(&format!("MCPServer/{name}"), "has a status", |cr| {
            cr["status"]["observedGeneration"] == cr["metadata"]["generation"]
        })?;
        Ok(())
    }

    /// Waits until nobody has written anything for two resyncs.
    pub(crate) fn settled_anyhow(&self) -> Result<()> {
        self.unwritten_for(Duration::from_millis(2500))
    }

    /// Waits until nobody has written anything for a while.
    pub(crate) fn unwritten_for(&self, time: Duration) -> Result<()> {
        wait_for("nothing being written", BOUND, || {
            let audit = self.audit();
            std::thread::sleep(time);
            Ok((!audit.anybody_writes_in(&self.name)).then_some(()))
        })
    }
}

/// A trial that gets a namespace of its own. It fails by a panic or an error.
pub(crate) fn trial(
    world: &Arc<World>,
    name: &str,
    body: impl FnOnce(&Namespace) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let world = Arc::clone(world);
    Trial::test(name, move || body(&world.namespace()?))
}
