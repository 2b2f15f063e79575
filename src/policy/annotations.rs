//! A policy from a workload's annotations.

use serde_json::Value;

use super::fields::{Input, Reader};
use super::metadata::Metadata;
use super::model::{Parsed, RedisStorage, ScalingPolicy, SessionStorage, Transport};
use super::names;

/// Path of an annotation, in the API server's own form.
#[must_use]
pub fn annotation_path(key: &str) -> String {
    format!("metadata.annotations[{key}]")
}

/// What the workload says about being Berth's.
#[derive(Clone, Debug, PartialEq)]
pub enum OptIn {
    /// No annotation.
    Absent,
    /// `disabled`.
    Disabled,
    /// `enabled`.
    Enabled,
    /// Anything else.
    Unknown(Value),
}

/// Reads `berth.dev/inject`.
#[must_use]
pub fn opt_in(meta: &Metadata) -> OptIn {
    match meta.annotation(names::INJECT) {
        None => OptIn::Absent,
        Some(Value::String(text)) if text == "enabled" => OptIn::Enabled,
        Some(Value::String(text)) if text == "disabled" => OptIn::Disabled,
        Some(other) => OptIn::Unknown(other.clone()),
    }
}

/// Reads the policy of a workload from its annotations, whether or not it opted in.
#[must_use]
pub fn from_annotations(meta: &Metadata) -> Parsed {
    let mut reader = Annotations { meta, reader: Reader::default() };
    let redis = reader.read(names::SESSION_PROVIDER, Reader::provider_is_redis).unwrap_or(false);
    let address = reader.read(names::SESSION_ADDRESS, Reader::address);
    let db = reader.read(names::SESSION_DB, Reader::count).unwrap_or(0);
    reader.reader.database(&annotation_path(names::SESSION_DB), address.as_ref(), db);
    let key_prefix = reader.read(names::SESSION_KEY_PREFIX, Reader::key_prefix).unwrap_or_default();
    let password = reader.read(names::SESSION_PASSWORD_SECRET, Reader::secret_text);
    let defaults = ScalingPolicy::default();
    let policy = ScalingPolicy {
        replicas: reader.read(names::REPLICAS, Reader::count),
        backend_replicas: None,
        storage: match redis {
            true => SessionStorage::Redis(RedisStorage { address, db, key_prefix, password }),
            false => SessionStorage::Memory,
        },
        transport: reader.read(names::TRANSPORT, Reader::transport).unwrap_or(Transport::StreamableHttp),
        container: reader.read(names::CONTAINER, Reader::container),
        ..reader.server_settings(defaults)
    };
    Parsed { policy, problems: reader.reader.problems }
}

/// The settings that stand in annotations for every source: on a workload, and on a custom resource.
pub(super) struct Annotations<'a> {
    pub(super) meta: &'a Metadata,
    pub(super) reader: Reader,
}

impl Annotations<'_> {
    fn read<T>(&mut self, key: &str, read: impl FnOnce(&mut Reader, &str, Input<'_>) -> Option<T>) -> Option<T> {
        let value = self.meta.annotation(key)?;
        let path = annotation_path(key);
        match value {
            Value::String(text) => read(&mut self.reader, &path, Input::Text(text)),
            other => {
                self.reader.invalid(&path, Input::Json(other), "an annotation must be a string; put it in quotes");
                None
            }
        }
    }

    /// Grace period, cache size and TTL, over those of `base`.
    pub(super) fn server_settings(&mut self, base: ScalingPolicy) -> ScalingPolicy {
        let grace = self.read(names::GRACE_PERIOD, Reader::count);
        let cache = self.read(names::SESSION_CACHE_SIZE, Reader::count).filter(|size| *size > 0);
        let ttl = self.read(names::SESSION_TTL, Reader::duration);
        ScalingPolicy {
            grace_period_seconds: grace.map(i64::from).or(base.grace_period_seconds),
            session_cache_size: cache.unwrap_or(base.session_cache_size),
            session_ttl: ttl.unwrap_or(base.session_ttl),
            ..base
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Address, SecretRef};
    use serde_json::json;
    use std::time::Duration;

    fn read(annotations: Value) -> Parsed {
        from_annotations(&serde_json::from_value(json!({ "annotations": annotations })).unwrap())
    }

    #[test]
    fn nothing_said_is_hands_off_and_memory() {
        assert_eq!(read(json!({})).into_result(), Ok(ScalingPolicy::default()));
    }

    #[test]
    fn every_annotation_is_read() {
        let policy = read(json!({
            "berth.dev/replicas": "0", "berth.dev/session-provider": "redis", "berth.dev/session-address": "r:6379",
            "berth.dev/session-db": "3", "berth.dev/session-key-prefix": "p:", "berth.dev/session-password-secret": "s/k",
            "berth.dev/transport": "sse", "berth.dev/termination-grace-period-seconds": "0", "berth.dev/container": "app",
            "berth.dev/session-cache-size": "5", "berth.dev/session-ttl": "30m",
        }))
        .into_result();
        let expected = ScalingPolicy {
            replicas: Some(0),
            backend_replicas: None,
            storage: SessionStorage::Redis(RedisStorage {
                address: Address::parse("r:6379").ok(),
                db: 3,
                key_prefix: "p:".into(),
                password: Some(SecretRef { name: "s".into(), key: "k".into() }),
            }),
            transport: Transport::Sse,
            grace_period_seconds: Some(0),
            container: Some("app".into()),
            session_cache_size: 5,
            session_ttl: Duration::from_secs(1800),
        };
        assert_eq!(policy, Ok(expected));
    }

    #[test]
    fn each_wrong_value_is_a_problem_at_its_annotation() {
        for (key, value) in [
            ("replicas", json!("-1")),
            ("replicas", json!("three")),
            ("replicas", json!("2147483648")),
            ("replicas", json!("99999999999999999999")),
            ("replicas", json!("1.5")),
            ("replicas", json!("+1")),
            ("replicas", json!(" 1")),
            ("replicas", json!("")),
            ("replicas", json!(3)),
            ("replicas", json!("３")),
            ("session-provider", json!("Redis")),
            ("session-provider", json!(null)),
            ("session-address", json!("redis")),
            ("session-db", json!("-1")),
            ("session-key-prefix", json!("a\nb")),
            ("session-password-secret", json!("name")),
            ("session-password-secret", json!("/key")),
            ("session-password-secret", json!("name/")),
            ("session-password-secret", json!("name/a/b")),
            ("transport", json!("http")),
            ("termination-grace-period-seconds", json!("-5")),
            ("container", json!("🦀")),
            ("session-cache-size", json!("many")),
            ("session-ttl", json!("2 hours")),
        ] {
            let key = format!("berth.dev/{key}");
            let problems =
                read(json!({ key.clone(): value.clone() })).into_result().expect_err(&format!("{key}: {value}"));
            let fields: Vec<_> = problems.iter().map(|p| p.field.as_str()).collect();
            assert_eq!(fields, [format!("metadata.annotations[{key}]")], "{value}");
        }
    }

    #[test]
    fn opting_in_is_exact() {
        let of = |value: Value| {
            opt_in(&serde_json::from_value(json!({"annotations": {"berth.dev/inject": value}})).unwrap())
        };
        assert_eq!(of(json!("enabled")), OptIn::Enabled);
        assert_eq!(of(json!("disabled")), OptIn::Disabled);
        for odd in [json!("Enabled"), json!("true"), json!(true), json!("")] {
            assert_eq!(of(odd.clone()), OptIn::Unknown(odd));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_annotation_panics(key in 0..11_usize, text in "\\PC{0,30}|[0-9]{1,25}|-?[0-9]{1,3}") {
            let keys = [
                names::REPLICAS, names::SESSION_PROVIDER, names::SESSION_ADDRESS, names::SESSION_DB, names::SESSION_KEY_PREFIX,
                names::SESSION_PASSWORD_SECRET, names::TRANSPORT, names::GRACE_PERIOD, names::CONTAINER,
                names::SESSION_CACHE_SIZE, names::SESSION_TTL,
            ];
            for problem in read(json!({ keys[key]: text })).problems {
                proptest::prop_assert_eq!(problem.field, annotation_path(keys[key]));
            }
        }
    }
}
