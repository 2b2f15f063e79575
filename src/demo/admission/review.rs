//! Questions in the form of the API server, and what stands in the answers.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use json_patch::Patch;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admission::{GroupResource, GroupVersionKind};

/// What an `AdmissionReview` asks about.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) kind: GroupVersionKind,
    pub(super) resource: GroupResource,
    pub(super) sub_resource: &'static str,
    pub(super) name: String,
    pub(super) object: Value,
    pub(super) old_object: Value,
}

impl Question {
    /// The whole `AdmissionReview`.
    pub(super) fn review(&self, uid: &str) -> Value {
        let version = |group: &str| match group {
            "autoscaling" => "v2",
            "toolhive.stacklok.dev" => "v1beta1",
            _ => "v1",
        };
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": uid,
            "kind": {"group": self.kind.group, "version": self.kind.version, "kind": self.kind.kind},
            "resource": {
                "group": self.resource.group, "version": version(&self.resource.group), "resource": self.resource.resource,
            },
            "subResource": self.sub_resource,
            "name": self.name,
            "namespace": "default",
            "operation": if self.old_object.is_null() { "CREATE" } else { "UPDATE" },
            "userInfo": {"username": "demo"},
            "object": self.object,
            "oldObject": self.old_object,
            "dryRun": false,
        }})
    }

    pub(super) fn body(&self, uid: &str) -> Bytes {
        Bytes::from(self.review(uid).to_string())
    }
}

/// What came back.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    pub(super) allowed: bool,
    #[serde(default)]
    patch: Option<String>,
    #[serde(default)]
    pub(super) warnings: Vec<String>,
    #[serde(default)]
    status: Option<Status>,
}

#[derive(Debug, Deserialize)]
struct Status {
    code: u16,
    #[serde(default)]
    reason: String,
    message: String,
    #[serde(default)]
    details: Option<Details>,
}

#[derive(Debug, Deserialize)]
struct Details {
    kind: String,
    name: String,
}

impl Answer {
    /// Reads the answer to the question with this uid.
    pub(super) fn read(body: &[u8], uid: &str) -> io::Result<Self> {
        let review: Value = serde_json::from_slice(body)?;
        let response = review.get("response").unwrap_or(&Value::Null);
        if response.get("uid").and_then(Value::as_str) != Some(uid) {
            return Err(io::Error::other("the webhook answered another question"));
        }
        Ok(Self::deserialize(response)?)
    }

    pub(super) fn patch(&self) -> io::Result<Patch> {
        let Some(text) = &self.patch else { return Ok(Patch(Vec::new())) };
        Ok(serde_json::from_slice(&BASE64.decode(text).map_err(io::Error::other)?)?)
    }

    /// HTTP status and reason of a refusal.
    pub(super) fn status(&self) -> (u16, &str) {
        self.status.as_ref().map_or((0, ""), |status| (status.code, status.reason.as_str()))
    }

    /// What kubectl prints of a refusal.
    pub(super) fn as_kubectl_prints(&self) -> String {
        let Some(status) = &self.status else { return String::new() };
        match &status.details {
            Some(details) => format!("The {} \"{}\" is invalid: {}", details.kind, details.name, status.message),
            None => format!(
                "Error from server ({}): admission webhook denied the request: {}",
                status.reason, status.message
            ),
        }
    }
}
