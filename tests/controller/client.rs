//! The API server without kubectl, which would be too slow for many objects.

use std::path::Path;

use berth_test_cluster::{Error, Result, is_told_to_try_again, wait_for};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Config};
use serde_json::Value;
use tokio::runtime::Handle;

use crate::world::BOUND;

/// Requests as the cluster's administrator.
#[derive(Clone)]
pub(crate) struct Client {
    client: kube::Client,
    handle: Handle,
}

impl Client {
    pub(crate) fn connect(handle: &Handle, kubeconfig: &Path) -> Result<Self> {
        let client = handle.block_on(async {
            let kubeconfig = Kubeconfig::read_from(kubeconfig).map_err(failed)?;
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(failed)?;
            kube::Client::try_from(config).map_err(failed)
        })?;
        Ok(Self { client, handle: handle.clone() })
    }

    /// An object, if there is one; `what` as in `Deployment/web`.
    pub(crate) fn find(&self, namespace: &str, what: &str) -> Result<Option<Value>> {
        let (kind, name) = split(what);
        let found = self.handle.block_on(self.api(namespace, kind).get_opt(name)).map_err(failed)?;
        Ok(found.as_ref().map(to_value))
    }

    /// An object that is there.
    pub(crate) fn get(&self, namespace: &str, what: &str) -> Result<Value> {
        self.find(namespace, what)?.ok_or_else(|| Error::new(format!("there is no {what}")))
    }

    /// All objects of a kind; of all namespaces where none is named.
    pub(crate) fn list(&self, namespace: &str, kind: &str) -> Result<Vec<Value>> {
        let api = match namespace {
            "" => Api::all_with(self.client.clone(), &resource(kind)),
            namespace => self.api(namespace, kind),
        };
        let found = self.handle.block_on(api.list(&ListParams::default())).map_err(failed)?;
        Ok(found.items.iter().map(to_value).collect())
    }

    /// Creates an object as this field manager.
    pub(crate) fn create(&self, namespace: &str, manager: &str, manifest: &Value) -> Result<Value> {
        let api = self.api(namespace, manifest["kind"].as_str().unwrap_or_default());
        let object = serde_json::from_value(manifest.clone()).map_err(failed)?;
        let params = PostParams { field_manager: Some(manager.to_owned()), ..PostParams::default() };
        self.write(|| api.create(&params, &object))
    }

    /// A merge patch by a field manager.
    pub(crate) fn merge(&self, namespace: &str, what: &str, manager: &str, patch: &Value) -> Result<Value> {
        self.patch(namespace, what, manager, "", &Patch::Merge(patch))
    }

    /// A server-side apply by a field manager.
    pub(crate) fn apply(&self, namespace: &str, manager: &str, manifest: &Value) -> Result<Value> {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let what = format!("{}/{}", word(&manifest["kind"]), word(&manifest["metadata"]["name"]));
        self.patch(namespace, &what, manager, "", &Patch::Apply(manifest))
    }

    /// A patch that finds containers by their names.
    pub(crate) fn strategic_merge(&self, namespace: &str, what: &str, patch: &Value) -> Result<Value> {
        self.patch(namespace, what, "test", "", &Patch::Strategic(patch))
    }

    /// A merge patch of the status.
    pub(crate) fn merge_status(&self, namespace: &str, what: &str, patch: &Value) -> Result<Value> {
        self.merge_status_as(namespace, what, "test", patch)
    }

    /// A merge patch of the status by a field manager.
    pub(crate) fn merge_status_as(&self, namespace: &str, what: &str, manager: &str, patch: &Value) -> Result<Value> {
        self.patch(namespace, what, manager, "status", &Patch::Merge(patch))
    }

    fn patch(&self, namespace: &str, what: &str, manager: &str, sub: &str, patch: &Patch<&Value>) -> Result<Value> {
        let (kind, name) = split(what);
        let api = self.api(namespace, kind);
        let params = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
        self.write(|| async {
            match sub {
                "" => api.patch(name, &params, patch).await,
                sub => api.patch_subresource(sub, name, &params, patch).await,
            }
        })
    }

    /// Writes, again where Berth says so, as kubectl does in tests.
    fn write<F: Future<Output = kube::Result<DynamicObject>>>(&self, mut write: impl FnMut() -> F) -> Result<Value> {
        wait_for("a write that Berth had time for", BOUND, || match self.handle.block_on(write()) {
            Err(error) if is_told_to_try_again(&error.to_string()) => Ok(None),
            written => Ok(Some(to_value(&written.map_err(failed)?))),
        })
    }

    pub(crate) fn delete(&self, namespace: &str, what: &str) -> Result<()> {
        let (kind, name) = split(what);
        self.handle.block_on(self.api(namespace, kind).delete(name, &DeleteParams::default())).map_err(failed)?;
        Ok(())
    }

    fn api(&self, namespace: &str, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &resource(kind))
    }
}

fn split(what: &str) -> (&str, &str) {
    what.split_once('/').unwrap_or_else(|| panic!("{what} is no KIND/NAME"))
}

fn resource(kind: &str) -> ApiResource {
    let known = [
        ("", "v1", "ConfigMap"),
        ("", "v1", "Pod"),
        ("", "v1", "Service"),
        ("apps", "v1", "ControllerRevision"),
        ("apps", "v1", "Deployment"),
        ("apps", "v1", "ReplicaSet"),
        ("apps", "v1", "StatefulSet"),
        ("coordination.k8s.io", "v1", "Lease"),
        ("events.k8s.io", "v1", "Event"),
        ("toolhive.stacklok.dev", "v1beta1", "MCPServer"),
        ("toolhive.stacklok.dev", "v1beta1", "VirtualMCPServer"),
    ];
    let found = known.into_iter().find(|(_, _, known)| *known == kind);
    let (group, version, kind) = found.unwrap_or_else(|| panic!("the client knows no {kind}"));
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") },
        kind: kind.to_owned(),
        plural: format!("{}s", kind.to_lowercase()),
    }
}

fn to_value(object: &DynamicObject) -> Value {
    serde_json::to_value(object).expect("it came as JSON")
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::new(format!("the API server: {error}"))
}
