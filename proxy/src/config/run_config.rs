//! The RunConfig: one file that the controller writes and the proxy reads.
//!
//! The names and the schema are ToolHive's, so that either program reads the other's files: keys that are not known here
//! are skipped, `null` is the same as absent, and what is not set is not written.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The schema version that is written; additions do not change it.
pub const SCHEMA_VERSION: &str = "v0.1.0";

/// How one server is run and reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunConfig {
    /// Version of this schema.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub schema_version: String,
    /// The generation of the resource that this was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcpserver_generation: Option<i64>,
    /// Name of the server.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its container image.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// `streamable-http`, `sse` or `stdio`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub transport: String,
    /// Address that the proxy listens on.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Port that the proxy listens on. Negative and too large ones are refused where they are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i64>,
    /// Host that the server listens on, where it is not one of Kubernetes' pods.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub target_host: String,
    /// Port that the server listens on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_port: Option<i64>,
    /// Desired replicas of the server: none is "somebody else decides", 0 is a number. Stands in `scaling_config` too;
    /// [`RunConfig::backend_replicas`] reads both.
    #[serde(rename = "backend_replicas", skip_serializing_if = "Option::is_none")]
    top_backend_replicas: Option<i32>,
    /// Sessions in a proxy's local cache; 0 is the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_cache_size: Option<u32>,
    /// How long an unused session lives. Written as ToolHive does, as a number of nanoseconds; text such as `2h` is read.
    #[serde(with = "nanoseconds", skip_serializing_if = "Option::is_none")]
    pub session_ttl: Option<Duration>,
    /// What scaling needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling_config: Option<ScalingConfig>,
}

/// What scaling needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScalingConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    backend_replicas: Option<i32>,
    /// The store that replicas share; the password is never here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_redis: Option<SessionRedis>,
    /// Where the pods of the server are found, on Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headless_service: Option<HeadlessService>,
}

/// A Redis without its password.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionRedis {
    /// `host:port` or a Redis URL.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// Number of the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub db: Option<i32>,
    /// Prefix of all keys.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub key_prefix: String,
}

/// A StatefulSet behind a headless Service, as it stands in a file; [`HeadlessService::routing`] has all parts or fails.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeadlessService {
    /// Name of the StatefulSet.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub statefulset_name: String,
    /// Name of the headless Service that governs it.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub service_name: String,
    /// Namespace of both.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Replicas when this was written. Says nothing of which pods there are now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Name of the Service whose addresses are those of ready pods; without one all pods count as ready.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub ready_service_name: String,
}

/// Headless routing with all its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadlessRouting {
    /// Name of the StatefulSet.
    pub statefulset: String,
    /// Name of the headless Service.
    pub service: String,
    /// Namespace of both.
    pub namespace: String,
    /// Replicas when the configuration was written.
    pub replicas: u32,
    /// Name of the Service of ready pods, where there is one.
    pub ready_service: Option<String>,
}

/// Text that is no RunConfig.
#[derive(Debug, thiserror::Error)]
pub enum RunConfigError {
    /// JSON, or a value in it, cannot be read.
    #[error("not a RunConfig: {0}")]
    Json(#[from] serde_json::Error),
    /// YAML, or a value in it, cannot be read.
    #[error("not a RunConfig: {0}")]
    Yaml(String),
}

impl RunConfig {
    /// Reads JSON or YAML: what begins with a brace is JSON.
    ///
    /// # Errors
    /// Where the text is neither, or a known key has a value of another kind.
    pub fn parse(text: &str) -> Result<Self, RunConfigError> {
        if text.trim_start().starts_with('{') {
            return Ok(serde_json::from_str(text)?);
        }
        serde_saphyr::from_str(text).map_err(|error| RunConfigError::Yaml(error.to_string()))
    }

    /// As JSON, keys in a fixed order, so that the same values are the same text.
    ///
    /// # Errors
    /// Never in practice: every value has a form in JSON.
    pub fn to_json(&self) -> Result<String, RunConfigError> {
        Ok(serde_json::to_string_pretty(&self.with_version())?)
    }

    /// As YAML.
    ///
    /// # Errors
    /// Never in practice: every value has a form in YAML.
    pub fn to_yaml(&self) -> Result<String, RunConfigError> {
        serde_saphyr::to_string(&self.with_version()).map_err(|error| RunConfigError::Yaml(error.to_string()))
    }

    fn with_version(&self) -> Self {
        let mut config = self.clone();
        if config.schema_version.is_empty() {
            config.schema_version = SCHEMA_VERSION.to_owned();
        }
        config
    }

    /// Desired replicas of the server: from the top, else from `scaling_config`, where ToolHive has it.
    #[must_use]
    pub fn backend_replicas(&self) -> Option<i32> {
        self.top_backend_replicas.or_else(|| self.scaling_config.as_ref()?.backend_replicas)
    }

    /// Sets the desired replicas in both places.
    pub fn set_backend_replicas(&mut self, replicas: Option<i32>) {
        self.top_backend_replicas = replicas;
        match (&mut self.scaling_config, replicas) {
            (Some(scaling), _) => scaling.backend_replicas = replicas,
            (none, Some(_)) => {
                *none = Some(ScalingConfig { backend_replicas: replicas, ..ScalingConfig::default() });
            }
            (None, None) => {}
        }
    }
}

impl HeadlessService {
    /// The routing that is asked for.
    ///
    /// # Errors
    /// Names every part that is missing or wrong: a proxy that ignored them would send sessions to the wrong place.
    pub fn routing(&self) -> Result<HeadlessRouting, String> {
        let parts = [
            ("statefulset_name", &self.statefulset_name),
            ("service_name", &self.service_name),
            ("namespace", &self.namespace),
        ];
        let mut missing: Vec<_> = parts.iter().filter(|(_, value)| value.is_empty()).map(|(name, _)| *name).collect();
        if self.replicas.is_none() {
            missing.push("replicas");
        }
        if !missing.is_empty() {
            return Err(format!("headless_service lacks {}; give all parts or none", missing.join(", ")));
        }
        let ready = ("ready_service_name", &self.ready_service_name);
        if let Some((name, value)) =
            parts.iter().chain([&ready]).find(|(_, value)| !value.is_empty() && !is_name(value))
        {
            return Err(format!("headless_service.{name} is {value:?}, which is no name of such an object"));
        }
        let replicas = self.replicas.unwrap_or_default();
        let replicas = u32::try_from(replicas)
            .map_err(|_| format!("headless_service.replicas is {replicas}; it must be 0 or more"))?;
        Ok(HeadlessRouting {
            statefulset: self.statefulset_name.clone(),
            service: self.service_name.clone(),
            namespace: self.namespace.clone(),
            replicas,
            ready_service: (!self.ready_service_name.is_empty()).then(|| self.ready_service_name.clone()),
        })
    }
}

/// A DNS subdomain in lower case, as Kubernetes wants it of names.
fn is_name(text: &str) -> bool {
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let label = |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
    text.len() <= 253 && text.chars().all(valid) && text.split('.').all(label)
}

/// `null` is absent: Go writes it for what it calls nil.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

mod nanoseconds {
    use serde::de::Error;

    use super::{Deserialize, Deserializer, Duration, Serialize, Serializer};
    use crate::duration::parse_duration;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Nanoseconds(i64),
        Text(String),
    }

    pub(super) fn serialize<S: Serializer>(ttl: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        let nanoseconds = ttl.map(|ttl| i64::try_from(ttl.as_nanos()).unwrap_or(i64::MAX));
        nanoseconds.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        match Option::<Written>::deserialize(deserializer)? {
            None => Ok(None),
            Some(Written::Nanoseconds(number)) => u64::try_from(number)
                .map(|number| Some(Duration::from_nanos(number)))
                .map_err(|_| D::Error::custom(format!("session_ttl is {number}; it must be 0 or more"))),
            Some(Written::Text(text)) => match parse_duration(&text) {
                Ok(ttl) => Ok(Some(ttl)),
                Err(why) => Err(D::Error::custom(format!("session_ttl is {text:?}; {why}"))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::option::of;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn unset_fields_are_not_written() {
        let config = RunConfig { name: "web".into(), ..RunConfig::default() };
        let json: serde_json::Value = serde_json::from_str(&config.to_json().unwrap()).unwrap();
        assert_eq!(json, serde_json::json!({"schema_version": "v0.1.0", "name": "web"}));
    }

    #[test]
    fn nil_and_zero_differ() {
        let mut config = RunConfig::parse(r#"{"backend_replicas": null}"#).unwrap();
        assert_eq!(config.backend_replicas(), None);
        config.set_backend_replicas(Some(0));
        config.mcpserver_generation = Some(0);
        let read = RunConfig::parse(&config.to_json().unwrap()).unwrap();
        assert_eq!((read.backend_replicas(), read.mcpserver_generation), (Some(0), Some(0)));
        config.set_backend_replicas(None);
        assert_eq!(RunConfig::parse(&config.to_json().unwrap()).unwrap().backend_replicas(), None);
    }

    #[test]
    fn replicas_are_read_from_either_place_the_top_one_first() {
        let read = |text: &str| RunConfig::parse(text).unwrap().backend_replicas();
        assert_eq!(read(r#"{"scaling_config": {"backend_replicas": 3}}"#), Some(3));
        assert_eq!(read(r#"{"backend_replicas": 2, "scaling_config": {"backend_replicas": 3}}"#), Some(2));
        assert_eq!(read(r#"{"backend_replicas": 0, "scaling_config": {"backend_replicas": 3}}"#), Some(0));
        let mut config = RunConfig::default();
        config.set_backend_replicas(Some(4));
        let json: serde_json::Value = serde_json::from_str(&config.to_json().unwrap()).unwrap();
        assert_eq!((&json["backend_replicas"], &json["scaling_config"]["backend_replicas"]), (&4.into(), &4.into()));
    }

    /// What ToolHive's operator and its command line write, with much that is none of ours.
    #[test]
    fn foreign_files_are_read() {
        let config = RunConfig::parse(
            r#"{
              "schema_version": "v0.1.0", "mcpserver_generation": 7, "image": "ghcr.io/example/server:1",
              "cmd_args": ["--x"], "name": "web", "container_name": "web", "base_name": "web",
              "transport": "streamable-http", "host": "0.0.0.0", "port": 8080, "target_port": 3000,
              "permission_profile": null, "env_vars": {"MCP_PORT": "3000"}, "session_ttl": 7200000000000,
              "container_labels": {}, "secrets": null, "proxy_mode": "streamable-http",
              "middleware_configs": [{"type": "auth", "parameters": {"a": [1, 2]}}],
              "scaling_config": {"backend_replicas": 2,
                "session_redis": {"address": "redis:6379", "db": 1, "key_prefix": "p:"}}
            }"#,
        )
        .unwrap();
        assert_eq!(config.session_ttl, Some(Duration::from_secs(7200)));
        assert_eq!(config.backend_replicas(), Some(2));
        let redis = config.scaling_config.unwrap().session_redis.unwrap();
        assert_eq!((redis.address.as_str(), redis.db, redis.key_prefix.as_str()), ("redis:6379", Some(1), "p:"));
    }

    #[test]
    fn old_files_are_read() {
        for text in ["{}", "name: web\nport: 8080\n", r#"{"name": null, "port": null, "scaling_config": null}"#] {
            let config = RunConfig::parse(text).unwrap();
            assert_eq!((config.backend_replicas(), config.scaling_config), (None, None), "{text}");
        }
    }

    #[test]
    fn lifetimes_are_nanoseconds_or_text() {
        let ttl =
            |text: &str| RunConfig::parse(&format!("{{\"session_ttl\": {text}}}")).map(|config| config.session_ttl);
        assert_eq!(ttl("90000000000").unwrap(), Some(Duration::from_secs(90)));
        assert_eq!(ttl("\"1h30m\"").unwrap(), Some(Duration::from_secs(5400)));
        assert_eq!(ttl("0").unwrap(), Some(Duration::ZERO));
        assert_eq!(ttl("null").unwrap(), None);
        for wrong in ["-1", "\"soon\"", "[]"] {
            assert!(ttl(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn headless_routing_has_all_parts_or_says_which_are_missing() {
        let whole = HeadlessService {
            statefulset_name: "web".into(),
            service_name: "mcp-web-headless".into(),
            namespace: "team".into(),
            replicas: Some(0),
            ready_service_name: String::new(),
        };
        let routing = whole.routing().unwrap();
        assert_eq!((routing.replicas, routing.ready_service), (0, None));
        let without = |change: fn(&mut HeadlessService)| {
            let mut part = whole.clone();
            change(&mut part);
            part.routing().unwrap_err()
        };
        assert!(without(|part| part.statefulset_name.clear()).contains("statefulset_name"));
        assert!(without(|part| part.service_name.clear()).contains("service_name"));
        assert!(without(|part| part.namespace.clear()).contains("namespace"));
        assert!(without(|part| part.replicas = None).contains("replicas"));
        assert!(without(|part| part.replicas = Some(-1)).contains("0 or more"));
        assert!(without(|part| part.service_name = "evil.example/x".into()).contains("no name"));
        assert!(
            HeadlessService::default().routing().unwrap_err().contains("statefulset_name, service_name, namespace")
        );
    }

    fn any_config() -> impl Strategy<Value = RunConfig> {
        let text = || "\\PC{0,12}";
        let redis = (text(), of(any::<i32>()), text()).prop_map(|(address, db, key_prefix)| SessionRedis {
            address,
            db,
            key_prefix,
        });
        let headless = (text(), text(), text(), of(any::<i32>()), text()).prop_map(
            |(statefulset_name, service_name, namespace, replicas, ready_service_name)| HeadlessService {
                statefulset_name,
                service_name,
                namespace,
                replicas,
                ready_service_name,
            },
        );
        let scaling = (of(redis), of(headless)).prop_map(|(session_redis, headless_service)| ScalingConfig {
            backend_replicas: None,
            session_redis,
            headless_service,
        });
        let names = (text(), text(), text(), text(), text());
        let numbers = (of(any::<i64>()), of(any::<i64>()), of(any::<i64>()), of(any::<i32>()), of(any::<u32>()));
        (names, numbers, of(0..i64::MAX as u64), of(scaling)).prop_map(
            |(
                (name, image, transport, host, target_host),
                (generation, port, target_port, replicas, cache),
                ttl,
                scaling,
            )| {
                let mut config = RunConfig {
                    schema_version: SCHEMA_VERSION.into(),
                    mcpserver_generation: generation,
                    name,
                    image,
                    transport,
                    host,
                    port,
                    target_host,
                    target_port,
                    session_cache_size: cache,
                    session_ttl: ttl.map(Duration::from_nanos),
                    scaling_config: scaling,
                    ..RunConfig::default()
                };
                config.set_backend_replicas(replicas);
                config
            },
        )
    }

    proptest! {
        #[test]
        fn json_round_trips(config in any_config()) {
            prop_assert_eq!(RunConfig::parse(&config.to_json().unwrap()).unwrap(), config);
        }

        #[test]
        fn yaml_round_trips(config in any_config()) {
            let yaml = config.to_yaml().unwrap();
            prop_assert_eq!(RunConfig::parse(&yaml).unwrap(), config, "{}", yaml);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}|[{]\"(port|session_ttl|scaling_config)\":\\PC{0,20}[}]") {
            let _ = RunConfig::parse(&text);
        }
    }
}
