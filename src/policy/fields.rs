//! Reading single fields, alike for annotations (always text) and custom resources (JSON).

use std::time::Duration;

use berth_proxy::address::{Address, Topology};
use berth_proxy::duration::parse_duration;
use serde_json::Value;

use super::model::{SecretRef, Transport};
use super::problem::{CodeWord, Problem};

/// One value as its source gives it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Input<'a> {
    /// An annotation's value.
    Text(&'a str),
    /// A field of a custom resource.
    Json(&'a Value),
}

impl<'a> Input<'a> {
    fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Json(value) => value.as_str(),
        }
    }

    fn integer(self) -> Option<i64> {
        match self {
            // Only plain digits: i64's parser also takes a plus sign, which no other tool would read back.
            Self::Text(text) if !text.starts_with('+') => text.parse().ok(),
            Self::Text(_) => None,
            Self::Json(value) => value.as_i64(),
        }
    }

    fn shown(self) -> Value {
        match self {
            Self::Text(text) => text.into(),
            Self::Json(value) => value.clone(),
        }
    }
}

/// Reads fields and keeps what is wrong with them; a field that cannot be read yields `None`.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) problems: Vec<Problem>,
}

impl Reader {
    pub(super) fn invalid(&mut self, field: &str, input: Input<'_>, detail: impl Into<String>) {
        self.problems.push(Problem::invalid(CodeWord::InvalidPolicy, field, input.shown(), detail));
    }

    pub(super) fn required(&mut self, field: &str, detail: &str) {
        self.problems.push(Problem::required(CodeWord::InvalidPolicy, field, detail));
    }

    /// Whatever text `parse` accepts; its error is the detail.
    fn parsed<T>(&mut self, field: &str, input: Input<'_>, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let read = input.text().ok_or_else(|| "it must be a string".to_owned()).and_then(parse);
        read.map_err(|detail| self.invalid(field, input, detail)).ok()
    }

    /// A whole number from 0 to the largest that the API's 32-bit fields hold.
    pub(super) fn count(&mut self, field: &str, input: Input<'_>) -> Option<u32> {
        let count = input.integer().and_then(|number| u32::try_from(number).ok()).filter(|n| *n <= i32::MAX as u32);
        if count.is_none() {
            self.invalid(field, input, format!("it must be a whole number from 0 to {}", i32::MAX));
        }
        count
    }

    pub(super) fn transport(&mut self, field: &str, input: Input<'_>) -> Option<Transport> {
        self.parsed(field, input, |text| match text {
            "stdio" => Ok(Transport::Stdio),
            "streamable-http" => Ok(Transport::StreamableHttp),
            "sse" => Ok(Transport::Sse),
            _ => Err("it must be stdio, streamable-http or sse".to_owned()),
        })
    }

    /// Whether the provider is Redis.
    pub(super) fn provider_is_redis(&mut self, field: &str, input: Input<'_>) -> Option<bool> {
        self.parsed(field, input, |text| match text {
            "redis" => Ok(true),
            "memory" => Ok(false),
            _ => Err("it must be memory or redis".to_owned()),
        })
    }

    pub(super) fn address(&mut self, field: &str, input: Input<'_>) -> Option<Address> {
        let read = input.text().ok_or_else(|| "it must be a string".to_owned()).and_then(Address::parse);
        match read {
            Ok(address) => Some(address),
            Err(detail) => {
                // The value may hold a password; a message that repeats it would spread it into logs and terminals.
                let shown = input.text().map_or_else(|| input.shown(), |text| without_credentials(text).into());
                self.invalid(field, Input::Json(&shown), detail);
                None
            }
        }
    }

    pub(super) fn key_prefix(&mut self, field: &str, input: Input<'_>) -> Option<String> {
        self.parsed(field, input, |text| match text {
            _ if text.chars().any(char::is_control) || text.len() > 256 => {
                Err("it must be at most 256 bytes without control characters".to_owned())
            }
            // An empty hash tag counts as none, and a server's keys would be spread over a Redis Cluster.
            _ if text.contains("{}") => Err("it must not contain {}".to_owned()),
            _ => Ok(text.to_owned()),
        })
    }

    /// Whether the address and the number of the database go together.
    pub(super) fn database(&mut self, field: &str, address: Option<&Address>, db: u32) {
        let endpoints = address.and_then(|address| address.endpoints().ok());
        if endpoints.is_some_and(|ends| ends.topology == Topology::Cluster && ends.db.unwrap_or(db) != 0) {
            let detail = "a Redis Cluster has the database 0 alone; take the number away";
            self.invalid(field, Input::Json(&db.into()), detail);
        }
    }

    pub(super) fn container(&mut self, field: &str, input: Input<'_>) -> Option<String> {
        self.parsed(field, input, |text| match is_dns_label(text) {
            true => Ok(text.to_owned()),
            false => Err("it must be the name of a container of the pod template".to_owned()),
        })
    }

    /// Text such as `90s`, `1h30m` or a number of seconds; `0` is `None`, the default.
    pub(super) fn duration(&mut self, field: &str, input: Input<'_>) -> Option<Duration> {
        self.parsed(field, input, parse_duration).filter(|duration| !duration.is_zero())
    }

    pub(super) fn secret_text(&mut self, field: &str, input: Input<'_>) -> Option<SecretRef> {
        self.parsed(field, input, |text| {
            let (name, key) = text.split_once('/').ok_or("it must be NAME/KEY of a Secret in this namespace")?;
            check_secret_name(name)?;
            check_secret_key(key)?;
            Ok(SecretRef { name: name.to_owned(), key: key.to_owned() })
        })
    }

    /// `passwordRef{name,key}`.
    pub(super) fn secret_object(&mut self, field: &str, value: &Value) -> Option<SecretRef> {
        if !value.is_object() {
            self.invalid(field, Input::Json(value), "it must be an object with name and key");
            return None;
        }
        let name = self.secret_part(&format!("{field}.name"), value.get("name"), check_secret_name);
        let key = self.secret_part(&format!("{field}.key"), value.get("key"), check_secret_key);
        Some(SecretRef { name: name?, key: key? })
    }

    fn secret_part(
        &mut self,
        field: &str,
        value: Option<&Value>,
        check: fn(&str) -> Result<(), String>,
    ) -> Option<String> {
        match value {
            None | Some(Value::Null) => {
                self.required(field, "a reference to a Secret needs both name and key");
                None
            }
            Some(value) => self.parsed(field, Input::Json(value), |text| check(text).map(|()| text.to_owned())),
        }
    }
}

fn without_credentials(text: &str) -> String {
    let hidden = match text.rsplit_once('@') {
        None => text.to_owned(),
        Some((before, after)) => {
            let scheme = before.split_once("://").map(|(scheme, _)| format!("{scheme}://")).unwrap_or_default();
            format!("{scheme}…@{after}")
        }
    };
    match hidden.to_ascii_lowercase().find("password=") {
        None => hidden,
        Some(at) => format!("{}password=…", hidden.get(..at).unwrap_or_default()),
    }
}

fn check_secret_name(name: &str) -> Result<(), String> {
    let valid = !name.is_empty() && name.len() <= 253 && name.split('.').all(is_dns_label);
    if valid { Ok(()) } else { Err(format!("{name:?} is no name of a Secret")) }
}

fn check_secret_key(key: &str) -> Result<(), String> {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !key.is_empty() && key.len() <= 253 && key.chars().all(valid) && key != "." && key != ".." {
        return Ok(());
    }
    Err(format!("{key:?} is no key of a Secret"))
}

/// RFC 1123 label, as Kubernetes wants it of the names of containers, namespaces and Services.
pub(crate) fn is_dns_label(text: &str) -> bool {
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.len() <= 63 && text.chars().all(valid) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_address_does_not_repeat_its_password() {
        for text in ["redis://:hunter2@redis:6379", "x@hunter2:y@redis:1", "redis://redis:1?password=hunter2"] {
            let mut reader = Reader::default();
            assert!(reader.address("f", Input::Text(text)).is_none());
            let message = reader.problems.iter().map(Problem::message).collect::<String>();
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
