//! Custom resources as they come from the API server.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::DynamicResourceScope;
use kube::discovery::ApiResource;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::store::Key;
use crate::policy::names::TOOLHIVE_GROUP;
use crate::policy::{CrKind, CustomResource, RedisStorage};

/// How the API server names a kind at a version.
pub(super) fn api_resource(kind: CrKind, version: &str) -> ApiResource {
    ApiResource {
        group: TOOLHIVE_GROUP.to_owned(),
        version: version.to_owned(),
        api_version: format!("{TOOLHIVE_GROUP}/{version}"),
        kind: kind.as_str().to_owned(),
        plural: kind.plural().to_owned(),
    }
}

/// A custom resource on its way into the cache, stripped of what no rule reads: pod templates and managed fields are most
/// of an object, and a page of them is in memory at once.
#[derive(Clone, Debug)]
pub(super) struct Arriving {
    meta: ObjectMeta,
    slim: Value,
}

impl Arriving {
    pub(super) fn key(&self) -> Key {
        (self.meta.namespace.clone().unwrap_or_default(), self.meta.name.clone().unwrap_or_default())
    }

    /// The copy to keep.
    pub(super) fn read(
        &self,
        kind: CrKind,
        default_storage: Option<&RedisStorage>,
    ) -> Result<CustomResource, serde_json::Error> {
        CustomResource::from_value(kind, &self.slim, default_storage)
    }
}

/// What a rule reads of an object, by its place.
const METADATA: [&str; 6] = ["name", "namespace", "uid", "generation", "deletionTimestamp", "annotations"];
const SPEC: [&str; 4] = ["replicas", "backendReplicas", "sessionStorage", "transport"];

impl<'de> Deserialize<'de> for Arriving {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Map::<String, Value>::deserialize(deserializer)?;
        let mut take = |part: &str| match object.remove(part) {
            Some(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        let (mut metadata, mut spec) = (take("metadata"), take("spec"));
        let text = |key: &str| metadata.get(key).and_then(Value::as_str).map(str::to_owned);
        let meta = ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        };
        metadata.retain(|key, _| METADATA.contains(&key.as_str()));
        spec.retain(|key, _| SPEC.contains(&key.as_str()));
        let slim = Map::from_iter([("metadata".to_owned(), metadata.into()), ("spec".to_owned(), spec.into())]);
        Ok(Self { meta, slim: slim.into() })
    }
}

impl Resource for Arriving {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}
