//! Looking at objects without the tenth of a second that each kubectl costs: trials that wait look again and again.

use std::path::Path;

use berth_test_cluster::{Error, Result};
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Config};
use serde_json::Value;
use tokio::runtime::Runtime;

/// The administrator's eyes.
pub(crate) struct Eyes {
    client: kube::Client,
    runtime: Runtime,
}

impl Eyes {
    pub(crate) fn connect(kubeconfig: &Path) -> Result<Self> {
        let runtime = Runtime::new().map_err(|error| Error::new(format!("cannot start a runtime: {error}")))?;
        let client = runtime.block_on(async {
            let kubeconfig = Kubeconfig::read_from(kubeconfig).map_err(failed)?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
            kube::Client::try_from(config.map_err(failed)?).map_err(failed)
        })?;
        Ok(Self { client, runtime })
    }

    /// An object as it is stored, managedFields included; `what` as in `deployment/web`.
    pub(crate) fn get(&self, namespace: &str, what: &str) -> Result<Value> {
        let (kind, name) = what.split_once('/').unwrap_or_else(|| panic!("{what} is no KIND/NAME"));
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &resource(kind));
        let found = self.runtime.block_on(api.get(name)).map_err(|error| failed(format!("{what}: {error}")))?;
        Ok(to_value(&found))
    }

    /// All objects of a kind, as in `pods`, of one namespace.
    pub(crate) fn list(&self, namespace: &str, kind: &str) -> Result<Vec<Value>> {
        self.all(&Api::namespaced_with(self.client.clone(), namespace, &resource(kind)))
    }

    /// The names of all namespaces.
    pub(crate) fn namespaces(&self) -> Result<Vec<String>> {
        let found = self.all(&Api::all_with(self.client.clone(), &resource("namespace")))?;
        Ok(found.iter().filter_map(|one| one["metadata"]["name"].as_str()).map(str::to_owned).collect())
    }

    fn all(&self, api: &Api<DynamicObject>) -> Result<Vec<Value>> {
        let found = self.runtime.block_on(api.list(&ListParams::default())).map_err(failed)?;
        Ok(found.items.iter().map(to_value).collect())
    }
}

/// What kubectl calls by this name, in the singular or the plural.
fn resource(name: &str) -> ApiResource {
    let known = [
        ("", "v1", "ConfigMap"),
        ("", "v1", "Event"),
        ("", "v1", "Namespace"),
        ("", "v1", "Pod"),
        ("", "v1", "Service"),
        ("apps", "v1", "Deployment"),
        ("apps", "v1", "ReplicaSet"),
        ("apps", "v1", "StatefulSet"),
        ("autoscaling", "v2", "HorizontalPodAutoscaler"),
        ("toolhive.stacklok.dev", "v1beta1", "MCPServer"),
        ("toolhive.stacklok.dev", "v1beta1", "VirtualMCPServer"),
    ];
    let singular = name.strip_suffix('s').unwrap_or(name);
    let found = known.into_iter().find(|(_, _, kind)| kind.eq_ignore_ascii_case(singular));
    let (group, version, kind) = found.unwrap_or_else(|| panic!("nobody has looked at any {name} yet"));
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
