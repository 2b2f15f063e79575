//! What every trial gets: the control plane, Berth, and a namespace of its own.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use berth_test_cluster::{
    Berth, BerthOptions, ControlPlane, ControlPlaneOptions, Error, Kubectl, Output, Result, apply_crds, wait_for,
};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::alone::Shared;
use crate::client::Client;

/// One control plane with one Berth registered, shared by all trials.
#[derive(Default)]
pub(crate) struct Context {
    started: OnceLock<Started>,
    alone: Shared,
}

struct Started {
    // What is declared first ends first: Berth takes its registration back while there is an API server.
    berth: Berth,
    client: Client,
    _runtime: Runtime,
    cluster: ControlPlane,
}

impl Context {
    /// Starts everything; what the accessors below give exists from here on.
    pub(crate) fn start(&self) -> Result<()> {
        let options = ControlPlaneOptions { controller_manager: true, audit: true };
        let cluster = ControlPlane::start(&options)?;
        let runtime = Runtime::new().map_err(|error| Error::new(format!("cannot start a runtime: {error}")))?;
        let client = Client::connect(runtime.handle(), cluster.kubeconfig())?;
        let mut options = install(&cluster)?;
        // Who is to be refused is not let through because a busy machine took longer than the API server waits.
        options.registration.push("--scale-failure-policy=fail".to_owned());
        let berth = Berth::start(&cluster, options)?;
        self.started.get_or_init(|| Started { berth, client, _runtime: runtime, cluster });
        Ok(())
    }

    fn started(&self) -> &Started {
        self.started.get().expect("started before the trials run")
    }

    pub(crate) fn cluster(&self) -> &ControlPlane {
        &self.started().cluster
    }

    /// The Berth that is registered for all namespaces. Trials share it, so none may stop it.
    pub(crate) fn berth(&self) -> &Berth {
        &self.started().berth
    }

    /// A second control plane, for trials that would disturb the others.
    pub(crate) fn alone(&self) -> &Shared {
        &self.alone
    }

    /// A fresh namespace, and kubectl in it as the administrator.
    pub(crate) fn namespace(&self) -> Result<Namespace> {
        let name = self.cluster().namespace()?;
        let kubectl = self.cluster().kubectl().in_namespace(&name);
        Ok(Namespace { name, kubectl, client: self.started().client.clone() })
    }

    /// Berth's log lines about reviews of one namespace, oldest first.
    pub(crate) fn reviews(&self, namespace: &Namespace) -> Vec<Value> {
        let log = self.berth().log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["message"] == "review" && line["namespace"] == namespace.name.as_str()).collect()
    }
}

/// Applies the definitions and the rights that Berth ships. Gives the options to run it as its installation does: with
/// the rights of its service account and no more.
pub(crate) fn install(cluster: &ControlPlane) -> Result<BerthOptions> {
    let program = Path::new(env!("CARGO_BIN_EXE_berth"));
    apply_crds(cluster, program)?;
    let installation = Path::new(env!("CARGO_MANIFEST_DIR")).join("webhook-config");
    for file in ["namespace.yaml", "rbac.yaml"] {
        cluster.apply_file(&installation.join(file))?;
    }
    let mut options = BerthOptions::new(program);
    options.arguments.push("--log-format=json".to_owned());
    options.kubeconfig = Some(cluster.service_account_kubeconfig("berth-system", "berth")?);
    Ok(options)
}

/// A namespace that one trial has for itself.
pub(crate) struct Namespace {
    pub(crate) name: String,
    pub(crate) kubectl: Kubectl,
    /// For what kubectl would be too slow for.
    pub(crate) client: Client,
}

impl Namespace {
    /// kubectl with a manifest on its standard input. A `replace` goes out for the state that kubectl has just read, and
    /// is repeated when a controller has written the status meanwhile.
    pub(crate) fn kubectl_with(&self, arguments: &[&str], manifest: &Value) -> Result<Output> {
        let arguments = [arguments, &["-f", "-"]].concat();
        wait_for("a kubectl that meets no other writer", Duration::from_secs(60), || {
            let output = self.kubectl.run_with_stdin(&arguments, &manifest.to_string())?;
            Ok((!output.stderr.contains("Error from server (Conflict)")).then_some(output))
        })
    }

    /// An object as it is stored; `what` as in `deployment/web`.
    pub(crate) fn stored(&self, what: &str) -> Result<Value> {
        self.client.get(&self.name, what)
    }
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
