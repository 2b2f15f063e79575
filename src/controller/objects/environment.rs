//! Environment variables of the containers that are built.

use k8s_openapi::api::core::v1::EnvVar;
use serde_json::{Value, json};

use super::Warning;
use super::metadata::ignored;
use super::refusal::Refusal;
use super::resource::Fields;
use crate::admission::password_entry;
use crate::policy::names::{OWN_ENV, PASSWORD_ENV};
use crate::policy::{ScalingPolicy, SecretRef};

/// Entries in order, one of each name: a later one takes the place of an earlier one, as it would in a container.
#[derive(Default)]
pub(super) struct Environment(Vec<Value>);

impl Environment {
    pub(super) fn set(&mut self, entry: Value) {
        let name = name_of(&entry);
        match self.0.iter_mut().find(|known| name_of(known) == name) {
            Some(known) => *known = entry,
            None => self.0.push(entry),
        }
    }

    pub(super) fn set_text(&mut self, name: &str, value: impl Into<String>) {
        self.set(json!({"name": name, "value": value.into()}));
    }

    pub(super) fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|entry| name_of(entry) != name);
        self.0.len() < before
    }

    pub(super) fn into_entries(self) -> Vec<Value> {
        self.0
    }

    /// The entries of a list in a custom resource.
    pub(super) fn extend(&mut self, fields: &Fields<'_>, list: &str) -> Result<(), Refusal> {
        for entry in fields.objects(list)? {
            entry.required("name")?;
            self.set(entry.as_typed::<EnvVar>()?);
        }
        Ok(())
    }

    /// `spec.secrets`: single entries of Secrets, as variables.
    pub(super) fn extend_by_secrets(&mut self, fields: &Fields<'_>, list: &str) -> Result<(), Refusal> {
        for entry in fields.objects(list)? {
            let (name, key) = (entry.required("name")?, entry.required("key")?);
            let variable = entry.text("targetEnvName")?.unwrap_or(key);
            self.set(json!({"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}));
        }
        Ok(())
    }
}

fn name_of(entry: &Value) -> &str {
    entry.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// Reads a user's variables for a container whose password and generation are Berth's to give.
pub(super) fn without_own(mut given: Environment, field: &str, warnings: &mut Vec<Warning>) -> Environment {
    for name in OWN_ENV {
        if given.remove(name) {
            let why = match name {
                PASSWORD_ENV => "the password comes from spec.sessionStorage.passwordRef alone",
                _ => "Berth writes it",
            };
            warnings.push(ignored(&format!("{field}[{name}]"), why));
        }
    }
    given
}

/// The variable with the password of the session store, where there is one.
pub(super) fn password(policy: &ScalingPolicy) -> Option<Value> {
    let secret: &SecretRef = policy.storage.redis()?.password.as_ref()?;
    Some(password_entry(secret))
}
