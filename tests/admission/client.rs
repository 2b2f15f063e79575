//! The API server without the tenth of a second that each kubectl costs: for looking, and for writers that race.

use std::path::Path;
use std::time::Duration;

use berth_test_cluster::{Error, Result, is_told_to_try_again, wait_for};
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::discovery::ApiResource;
use kube::{Api, Config};
use serde_json::Value;
use tokio::runtime::Handle;

/// How long a write is tried again.
const BOUND: Duration = Duration::from_secs(60);

/// The administrator's access, for use outside of asynchronous code.
#[derive(Clone)]
pub(crate) struct Client {
    handle: Handle,
    client: kube::Client,
}

impl Client {
    pub(crate) fn connect(handle: &Handle, kubeconfig: &Path) -> Result<Self> {
        let client = handle.block_on(async {
            let kubeconfig = Kubeconfig::read_from(kubeconfig).map_err(failed)?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
            kube::Client::try_from(config.map_err(failed)?).map_err(failed)
        })?;
        Ok(Self { handle: handle.clone(), client })
    }

    /// An object as it is stored; `what` as in `deployment/web`.
    pub(crate) fn get(&self, namespace: &str, what: &str) -> Result<Value> {
        let (kind, name) = what.split_once('/').ok_or_else(|| Error::new(format!("{what} is no KIND/NAME")))?;
        let found = self.block_on(self.api(namespace, kind).get(name)).map_err(failed)?;
        Ok(to_value(&found))
    }

    /// All objects of a kind.
    pub(crate) fn list(&self, namespace: &str, kind: &str) -> Result<Vec<Value>> {
        let found = self.block_on(self.api(namespace, kind).list(&ListParams::default())).map_err(failed)?;
        Ok(found.items.iter().map(to_value).collect())
    }

    /// What the API server would make of a manifest; nothing is stored.
    pub(crate) fn create_dry_run(&self, namespace: &str, manifest: &Value) -> Result<Value> {
        let parameters = PostParams { dry_run: true, ..PostParams::default() };
        self.create_with(namespace, manifest, &parameters)
    }

    /// Creates an object, and gives it as it was stored.
    pub(crate) fn create(&self, namespace: &str, manifest: &Value) -> Result<Value> {
        self.create_with(namespace, manifest, &PostParams::default())
    }

    fn create_with(&self, namespace: &str, manifest: &Value, parameters: &PostParams) -> Result<Value> {
        let api = self.api(namespace, manifest["kind"].as_str().unwrap_or_default());
        let object = from_value(manifest)?;
        self.write(|| api.create(parameters, &object))
    }

    /// A merge patch, and the object as it is stored after it.
    pub(crate) fn merge(&self, namespace: &str, what: &str, patch: &Value) -> Result<Value> {
        let (kind, name) = what.split_once('/').ok_or_else(|| Error::new(format!("{what} is no KIND/NAME")))?;
        let api = self.api(namespace, kind);
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
        self.write(|| api.patch(name, &parameters, &patch))
    }

    /// Writes, again where Berth says so, as kubectl does in tests.
    fn write<F: Future<Output = kube::Result<DynamicObject>>>(&self, mut write: impl FnMut() -> F) -> Result<Value> {
        wait_for("a write that Berth had time for", BOUND, || match self.block_on(write()) {
            Err(error) if is_told_to_try_again(&error.to_string()) => Ok(None),
            written => Ok(Some(to_value(&written.map_err(failed)?))),
        })
    }

    /// For several requests at a time, within [`Client::block_on`].
    pub(crate) fn api(&self, namespace: &str, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &resource(kind))
    }

    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.handle.block_on(future)
    }
}

fn resource(kind: &str) -> ApiResource {
    let known = [
        ("apps", "v1", "Deployment"),
        ("apps", "v1", "StatefulSet"),
        ("apps", "v1", "ReplicaSet"),
        ("autoscaling", "v2", "HorizontalPodAutoscaler"),
        ("toolhive.stacklok.dev", "v1beta1", "MCPServer"),
        ("toolhive.stacklok.dev", "v1beta1", "VirtualMCPServer"),
    ];
    let found = known.into_iter().find(|(_, _, known)| known.eq_ignore_ascii_case(kind));
    let (group, version, kind) = found.unwrap_or_else(|| panic!("the client knows no {kind}"));
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: format!("{group}/{version}"),
        kind: kind.to_owned(),
        plural: format!("{}s", kind.to_lowercase()),
    }
}

pub(crate) fn from_value(manifest: &Value) -> Result<DynamicObject> {
    serde_json::from_value(manifest.clone()).map_err(|error| Error::new(error.to_string()))
}

pub(crate) fn to_value(object: &DynamicObject) -> Value {
    serde_json::to_value(object).expect("it came as JSON")
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::new(format!("the API server: {error}"))
}
