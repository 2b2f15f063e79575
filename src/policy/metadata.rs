//! The part of an object's metadata that Berth reads; the rest is skipped without being built.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::names::{ANNOTATION_PREFIX, TOOLHIVE_GROUP};

/// The two kinds of custom resource that carry a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CrKind {
    /// One MCP server behind a session proxy.
    McpServer,
    /// An aggregator of MCP servers.
    VirtualMcpServer,
}

impl CrKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::McpServer, Self::VirtualMcpServer];

    /// The kind's name in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::McpServer => "MCPServer",
            Self::VirtualMcpServer => "VirtualMCPServer",
        }
    }

    /// The kind's plural name, as in URLs.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::McpServer => "mcpservers",
            Self::VirtualMcpServer => "virtualmcpservers",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn from_kind(kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == kind)
    }

    /// The kind of this plural name.
    #[must_use]
    pub fn from_plural(plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.plural() == plural)
    }
}

/// The owner that controls an object, where that is a custom resource that Berth knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerRef {
    /// Kind of the owner.
    pub kind: CrKind,
    /// Name of the owner, in the object's own namespace.
    pub name: String,
    /// The owner's uid; empty in manifests that were never in a cluster.
    pub uid: String,
}

/// What Berth reads of `metadata`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// `metadata.name`; empty where the API server is yet to make one.
    pub name: String,
    /// `metadata.generateName`.
    pub generate_name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`; 0 before the API server has set it.
    pub generation: i64,
    deletion_timestamp: Option<IgnoredAny>,
    annotations: Option<OwnAnnotations>,
    owner_references: Option<Vec<OwnerReference>>,
    managed_fields: Option<Vec<ManagedFields>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct OwnAnnotations(BTreeMap<String, Value>);

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OwnerReference {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    controller: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct ManagedFields {
    manager: Option<String>,
}

impl Metadata {
    /// The object's name, or what the API server will begin its name with.
    #[must_use]
    pub fn display_name(&self) -> &str {
        if self.name.is_empty() { &self.generate_name } else { &self.name }
    }

    /// Whether the object is being deleted.
    #[must_use]
    pub fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    /// Whether there is a map of annotations, of whatever content.
    #[must_use]
    pub fn has_annotations(&self) -> bool {
        self.annotations.is_some()
    }

    /// The value of one of Berth's own annotations (others are not kept). A JSON string unless the manifest is wrong.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&Value> {
        self.annotations.as_ref().and_then(|annotations| annotations.0.get(key))
    }

    /// Berth's own annotations that are none of `known`: most likely slips of the keyboard.
    #[must_use]
    pub fn unknown_annotations(&self, known: &[&str]) -> Vec<&str> {
        let keys = self.annotations.iter().flat_map(|annotations| annotations.0.keys());
        keys.map(String::as_str).filter(|key| !known.contains(key)).collect()
    }

    /// The custom resource that controls this object.
    #[must_use]
    pub fn controller(&self) -> Option<ControllerRef> {
        let owner = self.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
        let (group, _version) = owner.api_version.split_once('/')?;
        let kind = CrKind::from_kind(&owner.kind).filter(|_| group == TOOLHIVE_GROUP)?;
        Some(ControllerRef { kind, name: owner.name.clone(), uid: owner.uid.clone() })
    }

    /// Whether a field manager of this name has written the object.
    #[must_use]
    pub fn is_managed_by(&self, manager: &str) -> bool {
        self.managed_fields.iter().flatten().any(|fields| fields.manager.as_deref() == Some(manager))
    }
}

impl<'de> Deserialize<'de> for OwnAnnotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Own;

        impl<'de> Visitor<'de> for Own {
            type Value = OwnAnnotations;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of annotations")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut own = BTreeMap::new();
                while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                    if key.starts_with(ANNOTATION_PREFIX) {
                        own.insert(key.into_owned(), map.next_value()?);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(OwnAnnotations(own))
            }
        }

        deserializer.deserialize_map(Own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Metadata {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_a_controller_of_our_group_is_an_owner() {
        let owner = |api: &str, kind: &str, controller: Value| {
            read(json!({"ownerReferences": [{"apiVersion": api, "kind": kind, "name": "n", "uid": "u", "controller": controller}]}))
                .controller()
        };
        let ours = ControllerRef { kind: CrKind::McpServer, name: "n".into(), uid: "u".into() };
        assert_eq!(owner("toolhive.stacklok.dev/v1alpha1", "MCPServer", json!(true)), Some(ours));
        assert_eq!(owner("toolhive.stacklok.dev/v1beta1", "MCPServer", json!(false)), None);
        assert_eq!(owner("toolhive.stacklok.dev/v1beta1", "MCPServer", Value::Null), None);
        assert_eq!(owner("other.dev/v1", "MCPServer", json!(true)), None);
        assert_eq!(owner("toolhive.stacklok.dev/v1beta1", "MCPGroup", json!(true)), None);
        assert_eq!(read(json!({"ownerReferences": null})).controller(), None);
    }

    #[test]
    fn foreign_annotations_are_not_kept() {
        let meta = read(json!({"annotations": {"a": "b", "berth.dev/inject": "enabled"}}));
        assert_eq!(meta.annotation("a"), None);
        assert_eq!(meta.annotation("berth.dev/inject"), Some(&json!("enabled")));
        assert!(read(json!({"annotations": {}})).has_annotations());
        assert!(!read(json!({"annotations": null})).has_annotations());
    }
}
