//! Custom resources as they come from the API server.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::DynamicResourceScope;
use kube::discovery::ApiResource;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::store::{Copy, Key};
use crate::policy::names::{TOOLHIVE_GROUP, TOOLHIVE_MANAGERS};
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

/// A custom resource on its way into the cache. Where nobody builds from it, it is stripped of what no rule reads: pod
/// templates are most of an object, and a page of them is in memory at once. `WHOLE` ones lack their managed fields only.
#[derive(Clone, Debug)]
pub(super) struct Arriving<const WHOLE: bool> {
    meta: ObjectMeta,
    object: Value,
    status_of_toolhive: bool,
}

impl<const WHOLE: bool> Arriving<WHOLE> {
    pub(super) fn key(&self) -> Key {
        (self.meta.namespace.clone().unwrap_or_default(), self.meta.name.clone().unwrap_or_default())
    }

    /// As far as the rules read it.
    pub(super) fn read(
        &self,
        kind: CrKind,
        default_storage: Option<&RedisStorage>,
    ) -> Result<CustomResource, serde_json::Error> {
        CustomResource::from_value(kind, &self.object, default_storage)
    }

    /// The copy to keep; what cannot be read for the rules is kept whole all the same, to say so.
    pub(super) fn copy(&self, read: Option<CustomResource>) -> Copy {
        Copy {
            read: read.map(Arc::new),
            whole: WHOLE.then(|| self.object.to_string().into()),
            status_of_toolhive: self.status_of_toolhive,
            version: self.version(),
        }
    }

    /// Its `resourceVersion`; of a deletion, when that was.
    pub(super) fn version(&self) -> Option<u128> {
        self.meta.resource_version.as_deref()?.parse().ok()
    }
}

/// What a rule reads of an object, by its place.
const METADATA: [&str; 6] = ["name", "namespace", "uid", "generation", "deletionTimestamp", "annotations"];
const SPEC: [&str; 4] = ["replicas", "backendReplicas", "sessionStorage", "transport"];

impl<'de, const WHOLE: bool> Deserialize<'de> for Arriving<WHOLE> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Map::<String, Value>::deserialize(deserializer)?;
        if WHOLE {
            return Ok(Self::whole(object));
        }
        let mut take = |part: &str| match object.remove(part) {
            Some(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        let (mut metadata, mut spec) = (take("metadata"), take("spec"));
        let meta = identity(&metadata);
        metadata.retain(|key, _| METADATA.contains(&key.as_str()));
        spec.retain(|key, _| SPEC.contains(&key.as_str()));
        let slim = Map::from_iter([("metadata".to_owned(), metadata.into()), ("spec".to_owned(), spec.into())]);
        Ok(Self { meta, object: slim.into(), status_of_toolhive: false })
    }
}

impl<const WHOLE: bool> Arriving<WHOLE> {
    fn whole(mut object: Map<String, Value>) -> Self {
        let (mut meta, mut status_of_toolhive) = (ObjectMeta::default(), false);
        if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
            status_of_toolhive =
                metadata.remove("managedFields").is_some_and(|entries| is_status_of_toolhive(&entries));
            meta = identity(metadata);
        }
        Self { meta, object: object.into(), status_of_toolhive }
    }
}

/// Whether ToolHive wrote the phase, which it does with each status. Where another owns it too, that one wrote the same, or
/// wrote it first: Berth, before whom ToolHive's word of long ago does not count.
fn is_status_of_toolhive(managed_fields: &Value) -> bool {
    let entries = managed_fields.as_array().into_iter().flatten();
    let owners = entries.filter(|entry| entry.pointer("/fieldsV1/f:status/f:phase").is_some());
    let mut owners = owners.map(|entry| entry["manager"].as_str().unwrap_or_default()).peekable();
    owners.peek().is_some() && owners.all(|owner| TOOLHIVE_MANAGERS.contains(&owner))
}

/// What a watch needs.
fn identity(metadata: &Map<String, Value>) -> ObjectMeta {
    let text = |key: &str| metadata.get(key).and_then(Value::as_str).map(str::to_owned);
    ObjectMeta {
        name: text("name"),
        namespace: text("namespace"),
        resource_version: text("resourceVersion"),
        ..ObjectMeta::default()
    }
}

impl<const WHOLE: bool> Resource for Arriving<WHOLE> {
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
