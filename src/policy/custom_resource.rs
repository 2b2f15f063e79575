//! A policy from an `MCPServer` or a `VirtualMCPServer`.

use serde::Deserialize;
use serde_json::Value;

use super::annotations::Annotations;
use super::fields::{Input, Reader};
use super::json::{Object, object};
use super::metadata::{CrKind, Metadata};
use super::model::{Parsed, RedisStorage, ScalingPolicy, SessionStorage, Transport};

/// A custom resource as far as Berth's rules need it.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomResource {
    /// Which of the two.
    pub kind: CrKind,
    /// Its metadata.
    pub meta: Metadata,
    /// Its policy, as far as it can be read.
    pub parsed: Parsed,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default, deserialize_with = "object")]
    metadata: Metadata,
    #[serde(default, deserialize_with = "object")]
    spec: Spec,
}

/// The fields that carry policy. They are kept as JSON, so that a wrong type is a problem of that field, not of the object.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    replicas: Value,
    backend_replicas: Value,
    session_storage: Value,
    transport: Value,
}

impl CustomResource {
    /// Reads a custom resource from its JSON; `default_storage` stands in where it names no session storage.
    ///
    /// # Errors
    /// When the JSON has not the shape of an object of Kubernetes at all.
    pub fn from_json(
        kind: CrKind,
        json: &str,
        default_storage: Option<&RedisStorage>,
    ) -> Result<Self, serde_json::Error> {
        Ok(Self::new(kind, serde_json::from_str::<Object<Manifest>>(json)?.0, default_storage))
    }

    /// The same from a value.
    ///
    /// # Errors
    /// As [`CustomResource::from_json`].
    pub fn from_value(
        kind: CrKind,
        value: &Value,
        default_storage: Option<&RedisStorage>,
    ) -> Result<Self, serde_json::Error> {
        Ok(Self::new(kind, Object::<Manifest>::deserialize(value)?.0, default_storage))
    }

    /// Path of one of its fields, for a message about another object.
    #[must_use]
    pub fn field(&self, path: &str) -> String {
        format!("{}({}).{path}", self.kind.as_str(), self.meta.name)
    }

    fn new(kind: CrKind, manifest: Manifest, default_storage: Option<&RedisStorage>) -> Self {
        let parsed = read(kind, &manifest, default_storage);
        Self { kind, meta: manifest.metadata, parsed }
    }
}

fn read(kind: CrKind, manifest: &Manifest, default_storage: Option<&RedisStorage>) -> Parsed {
    let spec = &manifest.spec;
    let mut annotations = Annotations { meta: &manifest.metadata, reader: Reader::default() };
    let base = annotations.server_settings(ScalingPolicy::default());
    let mut reader = annotations.reader;
    let (transport, backend_replicas) = match kind {
        CrKind::McpServer => (
            given(&spec.transport)
                .map(|value| reader.transport("spec.transport", value))
                // The CRD's default. An unreadable transport is judged as the one that can scale: its own problem is enough.
                .map_or(Transport::Stdio, |read| read.unwrap_or(Transport::StreamableHttp)),
            given(&spec.backend_replicas).and_then(|value| reader.count("spec.backendReplicas", value)),
        ),
        // The aggregator always speaks HTTP; its CRD has neither field.
        CrKind::VirtualMcpServer => (Transport::StreamableHttp, None),
    };
    let replicas = given(&spec.replicas).and_then(|value| reader.count("spec.replicas", value));
    let storage = match given(&spec.session_storage) {
        Some(_) => session_storage(&mut reader, &spec.session_storage),
        None => default_storage.cloned().map_or(SessionStorage::Memory, SessionStorage::Redis),
    };
    let policy = ScalingPolicy { replicas, backend_replicas, storage, transport, container: None, ..base };
    Parsed { policy, problems: reader.problems }
}

/// A field's value, where it has one: the API server drops nulls, manifests may carry them.
fn given(value: &Value) -> Option<Input<'_>> {
    (!value.is_null()).then_some(Input::Json(value))
}

fn session_storage(reader: &mut Reader, value: &Value) -> SessionStorage {
    const FIELD: &str = "spec.sessionStorage";
    if !value.is_object() {
        reader.invalid(
            FIELD,
            Input::Json(value),
            "it must be an object with provider, address, db, keyPrefix and passwordRef",
        );
        return SessionStorage::Memory;
    }
    let field = |name: &str| value.get(name).unwrap_or(&Value::Null);
    let redis = match given(field("provider")) {
        Some(provider) => reader.provider_is_redis("spec.sessionStorage.provider", provider).unwrap_or(false),
        None => {
            reader.required("spec.sessionStorage.provider", "it must be memory or redis");
            false
        }
    };
    // Read before the provider decides, so that a wrong field is found while sessions are still in memory.
    let storage = RedisStorage {
        // Go clients write an unset string as an empty one.
        address: given(field("address"))
            .filter(|_| field("address") != "")
            .and_then(|value| reader.address("spec.sessionStorage.address", value)),
        db: given(field("db")).and_then(|value| reader.count("spec.sessionStorage.db", value)).unwrap_or(0),
        key_prefix: given(field("keyPrefix"))
            .and_then(|value| reader.key_prefix("spec.sessionStorage.keyPrefix", value))
            .unwrap_or_default(),
        password: given(field("passwordRef"))
            .and_then(|_| reader.secret_object("spec.sessionStorage.passwordRef", field("passwordRef"))),
    };
    reader.database("spec.sessionStorage.db", storage.address.as_ref(), storage.db);
    if redis { SessionStorage::Redis(storage) } else { SessionStorage::Memory }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Address, SecretRef};
    use serde_json::json;

    fn read(kind: CrKind, spec: Value) -> Parsed {
        CustomResource::from_value(kind, &json!({"metadata": {"name": "x"}, "spec": spec}), None).unwrap().parsed
    }

    #[test]
    fn an_mcpserver_that_names_nothing_is_stdio_in_memory() {
        let policy = read(CrKind::McpServer, json!({"image": "i"})).into_result().unwrap();
        assert_eq!(policy, ScalingPolicy { transport: Transport::Stdio, ..ScalingPolicy::default() });
    }

    #[test]
    fn every_field_is_read() {
        let policy = read(
            CrKind::McpServer,
            json!({"replicas": 0, "backendReplicas": 3, "transport": "sse", "sessionStorage": {"provider": "redis",
                "address": "r:6379", "db": 2, "keyPrefix": "p", "passwordRef": {"name": "s", "key": "k"}}}),
        );
        let expected = ScalingPolicy {
            replicas: Some(0),
            backend_replicas: Some(3),
            transport: Transport::Sse,
            storage: SessionStorage::Redis(RedisStorage {
                address: Address::parse("r:6379").ok(),
                db: 2,
                key_prefix: "p".into(),
                password: Some(SecretRef { name: "s".into(), key: "k".into() }),
            }),
            ..ScalingPolicy::default()
        };
        assert_eq!(policy.into_result(), Ok(expected));
    }

    #[test]
    fn each_wrong_field_is_a_problem_at_its_path() {
        for (spec, field) in [
            (json!({"replicas": -1}), "spec.replicas"),
            (json!({"replicas": "3"}), "spec.replicas"),
            (json!({"replicas": 1.5}), "spec.replicas"),
            (json!({"backendReplicas": -1}), "spec.backendReplicas"),
            (json!({"transport": "carrier pigeon"}), "spec.transport"),
            (json!({"sessionStorage": []}), "spec.sessionStorage"),
            (json!({"sessionStorage": {}}), "spec.sessionStorage.provider"),
            (json!({"sessionStorage": {"provider": "etcd"}}), "spec.sessionStorage.provider"),
            (json!({"sessionStorage": {"provider": "redis", "address": "r"}}), "spec.sessionStorage.address"),
            (json!({"sessionStorage": {"provider": "redis", "db": -1}}), "spec.sessionStorage.db"),
            // What the proxy would not start with.
            (
                json!({"sessionStorage": {"provider": "redis", "address": "redis+cluster://r:1", "db": 2}}),
                "spec.sessionStorage.db",
            ),
            (json!({"sessionStorage": {"provider": "redis", "keyPrefix": "a{}"}}), "spec.sessionStorage.keyPrefix"),
            (
                json!({"sessionStorage": {"provider": "redis", "address": "redis+sentinel://r:1"}}),
                "spec.sessionStorage.address",
            ),
            (
                json!({"sessionStorage": {"provider": "redis", "passwordRef": {"name": "s"}}}),
                "spec.sessionStorage.passwordRef.key",
            ),
            (
                json!({"sessionStorage": {"provider": "redis", "passwordRef": {"key": "k"}}}),
                "spec.sessionStorage.passwordRef.name",
            ),
            (json!({"sessionStorage": {"provider": "redis", "passwordRef": "s/k"}}), "spec.sessionStorage.passwordRef"),
        ] {
            let problems = read(CrKind::McpServer, spec.clone()).problems;
            assert_eq!(problems.iter().map(|p| p.field.as_str()).collect::<Vec<_>>(), [field], "{spec}");
        }
    }

    #[test]
    fn the_operators_default_store_stands_in_only_where_none_is_named() {
        let default = RedisStorage { address: Address::parse("d:6379").ok(), ..RedisStorage::default() };
        let read = |spec: Value| {
            let cr = CustomResource::from_value(CrKind::McpServer, &json!({ "spec": spec }), Some(&default)).unwrap();
            cr.parsed.policy.storage
        };
        assert_eq!(read(json!({})), SessionStorage::Redis(default.clone()));
        assert_eq!(read(json!({"sessionStorage": {"provider": "memory"}})), SessionStorage::Memory);
    }

    #[test]
    fn a_virtual_server_always_speaks_http() {
        let parsed = read(CrKind::VirtualMcpServer, json!({"replicas": 2, "transport": "stdio", "backendReplicas": 4}));
        assert_eq!(parsed.policy, ScalingPolicy { replicas: Some(2), ..ScalingPolicy::default() });
    }
}
