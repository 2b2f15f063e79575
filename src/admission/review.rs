//! An `AdmissionReview` as it arrives: what is asked, of which object.

use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

/// Why a body cannot be answered at all. The transport answers these with a 4xx, since without a uid no
/// `AdmissionReview` would reach its question.
#[derive(Debug, Error)]
pub enum ReviewError {
    /// Not JSON, or not of the shape of an `AdmissionReview`.
    #[error("the body is no AdmissionReview: {0}")]
    Malformed(#[from] serde_json::Error),
    /// JSON of another kind, or of a version that nobody speaks.
    #[error("the body is a {kind:?} of {api_version:?}; send an AdmissionReview of admission.k8s.io/v1")]
    NotAReview {
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
    },
    /// A review without a request, e.g. a response sent back.
    #[error("the AdmissionReview carries no request with a uid")]
    NoRequest,
}

/// What the writer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The object is new.
    Create,
    /// The object exists.
    Update,
    /// The object goes.
    Delete,
    /// A connection to a subresource.
    Connect,
    /// One that no version of the API has.
    Unknown,
}

impl Operation {
    /// A closed set of names for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// One admission question. Borrows the body that it came in; the objects stay unread until a rule needs them.
#[derive(Debug)]
pub struct Review<'a> {
    /// `apiVersion` of the review, repeated in the answer.
    pub api_version: String,
    /// `request.uid`, repeated in the answer.
    pub uid: String,
    /// Group, version and kind that the object has in this review.
    pub kind: GroupVersionKind,
    /// Group and plural name of the resource that is written.
    pub resource: GroupResource,
    /// `scale`, `status`, …; empty for the object itself.
    pub sub_resource: String,
    /// Name of the object; empty while the API server is yet to make one.
    pub name: String,
    /// Namespace of the object.
    pub namespace: String,
    /// What the writer does.
    pub operation: Operation,
    /// The object as it is to be stored.
    pub object: Option<&'a RawValue>,
    /// The object as it is stored.
    pub old_object: Option<&'a RawValue>,
}

/// Identifies a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct GroupVersionKind {
    /// API group; empty for the core group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Kind.
    pub kind: String,
}

/// Identifies a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct GroupResource {
    /// API group; empty for the core group.
    pub group: String,
    /// Plural name.
    pub resource: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(borrow)]
    request: Option<Request<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    kind: GroupVersionKind,
    #[serde(default)]
    resource: GroupResource,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    operation: String,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(borrow)]
    old_object: Option<&'a RawValue>,
}

impl<'a> Review<'a> {
    /// Reads a review of `admission.k8s.io/v1` (or of `v1beta1`, whose shape is the same).
    ///
    /// # Errors
    /// When nobody could be answered; see [`ReviewError`].
    pub fn from_slice(body: &'a [u8]) -> Result<Self, ReviewError> {
        let envelope: Envelope<'a> = serde_json::from_slice(body)?;
        let known = matches!(envelope.api_version.as_str(), "admission.k8s.io/v1" | "admission.k8s.io/v1beta1");
        if !known || envelope.kind != "AdmissionReview" {
            return Err(ReviewError::NotAReview { api_version: envelope.api_version, kind: envelope.kind });
        }
        let request = envelope.request.filter(|request| !request.uid.is_empty()).ok_or(ReviewError::NoRequest)?;
        Ok(Self {
            api_version: envelope.api_version,
            uid: request.uid,
            kind: request.kind,
            resource: request.resource,
            sub_resource: request.sub_resource.unwrap_or_default(),
            name: request.name.unwrap_or_default(),
            namespace: request.namespace.unwrap_or_default(),
            operation: match request.operation.as_str() {
                "CREATE" => Operation::Create,
                "UPDATE" => Operation::Update,
                "DELETE" => Operation::Delete,
                "CONNECT" => Operation::Connect,
                _ => Operation::Unknown,
            },
            object: request.object.filter(|object| object.get() != "null"),
            old_object: request.old_object.filter(|object| object.get() != "null"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_no_review_is_an_error_that_says_so() {
        for (body, part) in [
            ("", "no AdmissionReview"),
            ("hello", "no AdmissionReview"),
            ("[]", "no AdmissionReview"),
            ("{}", "\"\" of \"\""),
            (r#"{"apiVersion":"apps/v1","kind":"Deployment"}"#, "\"Deployment\" of \"apps/v1\""),
            (r#"{"apiVersion":"admission.k8s.io/v2","kind":"AdmissionReview","request":{"uid":"u"}}"#, "v2"),
            (r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#, "no request"),
            (r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{}}"#, "no request"),
            (
                r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":7}}"#,
                "no AdmissionReview",
            ),
        ] {
            let error = Review::from_slice(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{body}: {error}");
        }
    }

    #[test]
    fn both_versions_are_read_and_null_objects_are_absent() {
        for version in ["v1", "v1beta1"] {
            let body =
                json!({"apiVersion": format!("admission.k8s.io/{version}"), "kind": "AdmissionReview", "request": {
                "uid": "u", "operation": "DELETE", "object": null, "oldObject": {"a": 1}, "subResource": null}})
                .to_string();
            let review = Review::from_slice(body.as_bytes()).unwrap();
            assert_eq!(review.operation, Operation::Delete);
            assert!(review.object.is_none());
            assert_eq!(review.old_object.map(RawValue::get), Some(r#"{"a":1}"#));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_body_panics(body: Vec<u8>) {
            let _ = Review::from_slice(&body);
        }
    }
}
