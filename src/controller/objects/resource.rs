//! A custom resource as far as it has been read.

use k8s_openapi::serde::Serialize;
use k8s_openapi::serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Settings;
use super::refusal::{Reason, Refusal};
use crate::policy::names::{TOOLHIVE_GROUP, TOOLHIVE_VERSIONS};
use crate::policy::{CodeWord, CrKind, CustomResource, Problem, ScalingPolicy, SessionStorage, Transport};

/// A custom resource: its policy by the parser that the webhook has too, the rest field by field.
pub(super) struct Resource<'a> {
    pub(super) kind: CrKind,
    pub(super) api_version: String,
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: String,
    pub(super) policy: ScalingPolicy,
    pub(super) spec: Fields<'a>,
    problems: Vec<Problem>,
}

impl<'a> Resource<'a> {
    pub(super) fn read(cr: &'a Value, kind: CrKind, settings: &Settings) -> Result<Self, Refusal> {
        let read = CustomResource::from_value(kind, cr, settings.default_storage.as_ref())
            .map_err(|error| Refusal::invalid(kind.as_str(), error))?;
        if read.meta.name.is_empty() {
            return Err(Refusal::invalid("metadata.name", "a resource needs a name"));
        }
        let [version, _] = TOOLHIVE_VERSIONS;
        let api_version = cr.get("apiVersion").and_then(Value::as_str).filter(|version| !version.is_empty());
        let api_version = api_version.map_or_else(|| format!("{TOOLHIVE_GROUP}/{version}"), str::to_owned);
        Ok(Self {
            kind,
            api_version,
            name: read.meta.name,
            namespace: read.meta.namespace,
            uid: read.meta.uid,
            policy: read.parsed.policy,
            spec: Fields { path: "spec".to_owned(), map: cr.get("spec").and_then(Value::as_object) },
            problems: read.parsed.problems,
        })
    }

    /// Refuses what the webhook would have refused, where it cannot be made safe otherwise.
    pub(super) fn check_policy(&self) -> Result<(), Refusal> {
        if self.kind == CrKind::McpServer && self.policy.transport == Transport::Stdio {
            let message = "spec.transport: Berth does not proxy servers on stdio; use streamable-http or sse, or leave this \
                           server to ToolHive";
            return Err(Refusal { reason: Reason::TransportUnsupported, message: message.to_owned() });
        }
        if let Some(problem) = self.problems.first() {
            return Err(Refusal { reason: Reason::InvalidSpec, message: problem.to_string() });
        }
        match &self.policy.storage {
            SessionStorage::Redis(redis) if redis.address.is_none() => {
                let detail = "the session provider is redis; name its address as host:port or a redis:// URL";
                let word = CodeWord::SessionStorageAddressMissing;
                let problem = Problem::required(word, "spec.sessionStorage.address", detail);
                Err(Refusal { reason: Reason::InvalidSpec, message: problem.to_string() })
            }
            SessionStorage::Redis(_) | SessionStorage::Memory => Ok(()),
        }
    }
}

/// The fields of one JSON object, with the path that messages name. `null` is absent.
pub(super) struct Fields<'a> {
    path: String,
    map: Option<&'a Map<String, Value>>,
}

impl<'a> Fields<'a> {
    pub(super) fn path(&self, field: &str) -> String {
        format!("{}.{field}", self.path)
    }

    pub(super) fn get(&self, field: &str) -> Option<&'a Value> {
        self.map?.get(field).filter(|value| !value.is_null())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.map.into_iter().flatten().map(|(key, value)| (key.as_str(), value)).filter(|(_, value)| !value.is_null())
    }

    pub(super) fn text(&self, field: &str) -> Result<Option<&'a str>, Refusal> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| Refusal::invalid(&self.path(field), "it must be a string"))?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// The first of these fields that has a port. 0 is what Go clients write for none.
    pub(super) fn port(&self, fields: &[&str]) -> Result<Option<u16>, Refusal> {
        for field in fields {
            let Some(value) = self.get(field).filter(|value| **value != 0) else { continue };
            let port = value.as_u64().and_then(|port| u16::try_from(port).ok());
            return port
                .map(Some)
                .ok_or_else(|| Refusal::invalid(&self.path(field), "it must be a whole number from 1 to 65535"));
        }
        Ok(None)
    }

    pub(super) fn object(&self, field: &str) -> Result<Fields<'a>, Refusal> {
        let map = match self.get(field) {
            None => None,
            Some(Value::Object(map)) => Some(map),
            Some(_) => return Err(Refusal::invalid(&self.path(field), "it must be an object")),
        };
        Ok(Fields { path: self.path(field), map })
    }

    pub(super) fn list(&self, field: &str) -> Result<&'a [Value], Refusal> {
        match self.get(field) {
            None => Ok(&[]),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(Refusal::invalid(&self.path(field), "it must be a list")),
        }
    }

    /// The entries of a list, each an object with fields of its own.
    pub(super) fn objects(&self, field: &str) -> Result<Vec<Fields<'a>>, Refusal> {
        let entry = |(index, value): (usize, &'a Value)| {
            let path = format!("{}[{index}]", self.path(field));
            match value.as_object() {
                Some(map) => Ok(Fields { path, map: Some(map) }),
                None => Err(Refusal::invalid(&path, "it must be an object")),
            }
        };
        self.list(field)?.iter().enumerate().map(entry).collect()
    }

    /// A text that has to be there.
    pub(super) fn required(&self, field: &str) -> Result<&'a str, Refusal> {
        self.text(field)?.ok_or_else(|| Refusal::invalid(&self.path(field), "it is missing"))
    }

    /// A list of texts.
    pub(super) fn texts(&self, field: &str) -> Result<&'a [Value], Refusal> {
        let list = self.list(field)?;
        match list.iter().position(|value| !value.is_string()) {
            None => Ok(list),
            Some(index) => Err(Refusal::invalid(&format!("{}[{index}]", self.path(field)), "it must be a string")),
        }
    }

    /// A map of texts, as of labels.
    pub(super) fn text_map(&self, field: &str) -> Result<Vec<(&'a str, &'a str)>, Refusal> {
        let map = self.object(field)?;
        let entry = |(key, value): (&'a str, &'a Value)| {
            let text = value.as_str().ok_or_else(|| Refusal::invalid(&map.path(key), "it must be a string"));
            text.map(|text| (key, text))
        };
        map.iter().map(entry).collect()
    }

    /// All of it as one of the API's own types.
    pub(super) fn as_typed<T: DeserializeOwned + Serialize>(&self) -> Result<Value, Refusal> {
        typed::<T>(&Value::Object(self.map.cloned().unwrap_or_default()), &self.path)
    }
}

/// Checks that JSON has the shape of one of the API's own types and not a field more: an apply with an unknown field is
/// refused as a whole. Without its nulls, which say nothing in an apply.
pub(super) fn typed<T: DeserializeOwned + Serialize>(value: &Value, path: &str) -> Result<Value, Refusal> {
    let value = without_nulls(value);
    let read: T = serde_json::from_value(value.clone()).map_err(|error| Refusal::invalid(path, error))?;
    let known = serde_json::to_value(read).map_err(|error| Refusal::invalid(path, error))?;
    match unknown(&value, &known, path) {
        Some(field) => Err(Refusal::invalid(&field, "there is no such field")),
        None => Ok(value),
    }
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

/// The path of the first key that went lost on the way through the type.
fn unknown(given: &Value, known: &Value, path: &str) -> Option<String> {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => given.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            match known.get(key) {
                Some(known) => unknown(value, known, &path),
                None => Some(path),
            }
        }),
        (Value::Array(given), Value::Array(known)) => {
            let pairs = given.iter().zip(known).enumerate();
            pairs.into_iter().find_map(|(at, (given, known))| unknown(given, known, &format!("{path}[{at}]")))
        }
        _ => None,
    }
}
