//! Where objects are in the API.

use kube::discovery::ApiResource;

use super::objects::ObjectKind;
use crate::cluster::CrKey;
use crate::policy::names::TOOLHIVE_GROUP;

/// How the API server names a kind that is built.
pub(super) fn api_resource(kind: ObjectKind) -> ApiResource {
    let (group, api_version, plural) = match kind {
        ObjectKind::ConfigMap => ("", "v1", "configmaps"),
        ObjectKind::Service => ("", "v1", "services"),
        ObjectKind::StatefulSet => ("apps", "apps/v1", "statefulsets"),
        ObjectKind::Deployment => ("apps", "apps/v1", "deployments"),
    };
    ApiResource {
        group: group.to_owned(),
        version: "v1".to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.as_str().to_owned(),
        plural: plural.to_owned(),
    }
}

/// The collection of a kind in a namespace.
pub(super) fn collection(kind: ObjectKind, namespace: &str) -> String {
    let resource = api_resource(kind);
    let root = if resource.group.is_empty() { "api" } else { "apis" };
    format!("/{root}/{}/namespaces/{namespace}/{}", resource.api_version, resource.plural)
}

/// The collection that a custom resource is in.
pub(super) fn custom_resources(key: &CrKey, version: &str) -> String {
    format!("/apis/{TOOLHIVE_GROUP}/{version}/namespaces/{}/{}", key.namespace, key.kind.plural())
}
