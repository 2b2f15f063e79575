//! Where the values of a policy come from.

use std::time::Duration;

use serde_json::Value;

use super::explain::{Origin, Setting};
use crate::admission::session_container;
use crate::policy::names::{self, DEFAULT_CONTAINER, DEFAULT_GRACE_PERIOD_SECONDS};
use crate::policy::{CustomResource, Metadata, Problem, Resolved, ScalingPolicy, annotation_path};

/// Says where a value of one source comes from.
pub(super) struct Provenance<'a> {
    object: String,
    metadata: &'a Metadata,
    /// The custom resource, where that is the source.
    resource: Option<&'a Value>,
    default_storage: bool,
    problems: &'a [Problem],
}

impl<'a> Provenance<'a> {
    /// Of the annotations of an object.
    pub(super) fn annotations(object: String, metadata: &'a Metadata, problems: &'a [Problem]) -> Self {
        Self { object, metadata, resource: None, default_storage: false, problems }
    }

    /// Of a custom resource; `default_storage` says whether Berth has a session storage for those that name none.
    pub(super) fn resource(cr: &'a CustomResource, value: &'a Value, default_storage: bool) -> Self {
        let object = format!("{}/{}", cr.kind.as_str(), cr.meta.name);
        Self { object, metadata: &cr.meta, resource: Some(value), default_storage, problems: &cr.parsed.problems }
    }

    fn origin(&self, annotation: &str, field: &str) -> Origin {
        let from = |field: String| Origin::Field { object: self.object.clone(), field };
        let Some(resource) = self.resource else {
            return self.metadata.annotation(annotation).map_or(Origin::Default, |_| from(annotation_path(annotation)));
        };
        let present = |field: &str| {
            let pointer = format!("/{}", field.replace('.', "/"));
            resource.pointer(&pointer).is_some_and(|value| !value.is_null())
        };
        if !field.is_empty() {
            if present(field) {
                return from(field.to_owned());
            }
            if self.default_storage && field.starts_with("spec.sessionStorage") && !present("spec.sessionStorage") {
                return Origin::Flag { flag: "--default-session-storage" };
            }
            return Origin::Default;
        }
        self.metadata.annotation(annotation).map_or(Origin::Default, |_| from(annotation_path(annotation)))
    }

    /// One value: `annotation` is where annotations have it, `field` where custom resources do.
    pub(super) fn setting(&self, name: &'static str, annotation: &str, field: &str, value: Value) -> Setting {
        let from = self.origin(annotation, field);
        let unreadable = match &from {
            Origin::Field { field, .. } => {
                self.problems.iter().any(|problem| problem.field.starts_with(field.as_str()))
            }
            Origin::Flag { .. } | Origin::Default => false,
        };
        Setting { name, value, unreadable, from }
    }

    /// Where sessions live.
    pub(super) fn storage(&self, policy: &ScalingPolicy) -> Vec<Setting> {
        let of = |name, annotation: &str, field: &str, value: Value| {
            self.setting(name, annotation, &format!("spec.sessionStorage.{field}"), value)
        };
        let provider = if policy.storage.is_shared() { "redis" } else { "memory" };
        let mut settings = vec![of("session storage", names::SESSION_PROVIDER, "provider", provider.into())];
        if let Some(redis) = policy.storage.redis() {
            let address = redis.address.as_ref().map_or(Value::Null, |address| address.as_str().into());
            settings.push(of("address", names::SESSION_ADDRESS, "address", address));
            settings.push(of("database", names::SESSION_DB, "db", redis.db.into()));
            settings.push(of("key prefix", names::SESSION_KEY_PREFIX, "keyPrefix", redis.key_prefix.as_str().into()));
            let password =
                redis.password.as_ref().map(|secret| format!("key {} of Secret {}", secret.key, secret.name));
            settings.push(of("password", names::SESSION_PASSWORD_SECRET, "passwordRef", password.into()));
        }
        settings
    }

    /// How clients reach the server.
    pub(super) fn transport(&self, policy: &ScalingPolicy) -> Setting {
        self.setting("transport", names::TRANSPORT, "spec.transport", policy.transport.as_str().into())
    }

    /// How long pods get to end. `workload` is the object and its template that have the say where the policy says nothing.
    pub(super) fn grace(&self, policy: &ScalingPolicy, workload: Option<(&str, &Value)>) -> Setting {
        let name = "grace period (s)";
        if let Some(seconds) = policy.grace_period_seconds {
            return self.setting(name, names::GRACE_PERIOD, "", seconds.into());
        }
        let own = workload.and_then(|(object, template)| {
            let seconds = template.pointer("/spec/terminationGracePeriodSeconds").filter(|value| !value.is_null())?;
            let field = "spec.template.spec.terminationGracePeriodSeconds".to_owned();
            Some(Setting {
                name,
                value: seconds.clone(),
                unreadable: false,
                from: Origin::Field { object: object.to_owned(), field },
            })
        });
        own.unwrap_or(Setting {
            name,
            value: DEFAULT_GRACE_PERIOD_SECONDS.into(),
            unreadable: false,
            from: Origin::Default,
        })
    }

    /// What the session proxy is told.
    pub(super) fn server(&self, policy: &ScalingPolicy) -> [Setting; 2] {
        [
            self.setting("session cache", names::SESSION_CACHE_SIZE, "", policy.session_cache_size.into()),
            self.setting("session lifetime", names::SESSION_TTL, "", duration(policy.session_ttl).into()),
        ]
    }
}

/// The container that holds the sessions, and who says so.
pub(super) fn container(
    provenance: &Provenance<'_>,
    resolved: &Resolved<'_>,
    template: &Value,
    object: &str,
) -> Option<Setting> {
    let named = resolved.parsed.policy.container.as_deref();
    let chosen = session_container(template, named, resolved.owner.map(|owner| owner.kind)).ok()?;
    let default = format!("/metadata/annotations/{}", DEFAULT_CONTAINER.replace('/', "~1"));
    let by_default = template.pointer(&default).and_then(Value::as_str) == Some(chosen.as_str());
    let from = match named {
        Some(_) => provenance.origin(names::CONTAINER, ""),
        None if by_default && resolved.owner.is_none() => {
            let field = format!("spec.template.metadata.annotations[{DEFAULT_CONTAINER}]");
            Origin::Field { object: object.to_owned(), field }
        }
        None => Origin::Default,
    };
    Some(Setting { name: "container", value: chosen.into(), unreadable: false, from })
}

/// A count; null is hands off.
pub(super) fn number(count: Option<u32>) -> Value {
    count.map_or(Value::Null, Value::from)
}

/// `2h`, `1h30m`, `90s`.
fn duration(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s"), (u64::from(millis), "ms")];
    let text: String =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}
