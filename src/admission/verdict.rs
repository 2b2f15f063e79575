//! What Berth answers, and the `AdmissionReview` that carries it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use json_patch::Patch;
use serde::Serialize;

use super::review::Review;
use crate::policy::{CodeWord, Problem};

/// The answer to one review.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Let through, or not.
    pub outcome: Outcome,
    /// Lines that kubectl shows; each without a newline (the API server drops others).
    pub warnings: Vec<String>,
}

/// Let through, or not.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Let through, with these changes (none from a validating webhook).
    Allowed(Patch),
    /// Refused.
    Refused(Refusal),
}

/// A refusal, in the terms of the API's `Status`.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// HTTP status that the client sees.
    pub code: u16,
    /// The API's reason, which clients act on.
    pub reason: Reason,
    /// The rule, where one is broken.
    pub word: Option<CodeWord>,
    /// One sentence, with the code word at its end.
    pub message: String,
    /// The fields at fault; kubectl prints these as one clean line.
    pub problems: Vec<Problem>,
    /// The kind that the message is about, where that is not the review's.
    pub about: Option<&'static str>,
    /// Whether it is not even known that the object is Berth's: then the API server has to hear that nothing was decided,
    /// so that what is registered for that (`failurePolicy`) holds.
    pub undecided: bool,
}

/// Reasons of the API's `Status` that Berth gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// 400: the review is for us and cannot be read.
    BadRequest,
    /// 403: not this writer.
    Forbidden,
    /// 422: the object says something wrong.
    Invalid,
    /// 500: not known; worth retrying.
    InternalError,
    /// 503: nothing can be said; only ever as the status of the HTTP answer itself.
    ServiceUnavailable,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "BadRequest",
            Self::Forbidden => "Forbidden",
            Self::Invalid => "Invalid",
            Self::InternalError => "InternalError",
            Self::ServiceUnavailable => "ServiceUnavailable",
        }
    }
}

impl Verdict {
    /// Let through as it is.
    #[must_use]
    pub fn allow() -> Self {
        Self { outcome: Outcome::Allowed(Patch(Vec::new())), warnings: Vec::new() }
    }

    /// Refused because of what the object says (422).
    #[must_use]
    pub fn invalid(problems: Vec<Problem>, warnings: Vec<String>) -> Self {
        let message = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let word = problems.first().map(|problem| problem.word);
        Self {
            outcome: Outcome::Refused(Refusal {
                code: 422,
                reason: Reason::Invalid,
                word,
                message,
                problems,
                about: None,
                undecided: false,
            }),
            warnings,
        }
    }

    /// Refused for another reason than what a field says.
    #[must_use]
    pub fn refuse(code: u16, reason: Reason, word: Option<CodeWord>, sentence: &str) -> Self {
        let message = match word {
            Some(word) => format!("{sentence} [berth:{word}]"),
            None => sentence.to_owned(),
        };
        let refusal = Refusal { code, reason, word, message, problems: Vec::new(), about: None, undecided: false };
        Self { outcome: Outcome::Refused(refusal), warnings: Vec::new() }
    }

    /// Nothing is known of the object, not even that it is Berth's.
    #[must_use]
    pub fn undecided(sentence: &str) -> Self {
        let mut verdict = Self::refuse(503, Reason::ServiceUnavailable, Some(CodeWord::PolicyNotFound), sentence);
        if let Outcome::Refused(refusal) = &mut verdict.outcome {
            refusal.undecided = true;
        }
        verdict
    }

    /// Makes a refusal speak of another kind than the review's: of a scale's parent.
    #[must_use]
    pub fn about(mut self, kind: &'static str) -> Self {
        if let Outcome::Refused(refusal) = &mut self.outcome {
            refusal.about = Some(kind);
        }
        self
    }

    /// Whether the write goes through.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self.outcome, Outcome::Allowed(_))
    }

    /// The changes; empty when refused.
    #[must_use]
    pub fn patch(&self) -> &[json_patch::PatchOperation] {
        match &self.outcome {
            Outcome::Allowed(patch) => &patch.0,
            Outcome::Refused(_) => &[],
        }
    }

    /// The refusal, if it is one.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.outcome {
            Outcome::Allowed(_) => None,
            Outcome::Refused(refusal) => Some(refusal),
        }
    }

    /// The `AdmissionReview` that answers `review`, as JSON.
    ///
    /// # Errors
    /// When the patch cannot be written as JSON.
    pub fn to_json(&self, review: &Review<'_>) -> Result<Vec<u8>, serde_json::Error> {
        let patch = match self.patch() {
            [] => None,
            operations => Some(BASE64.encode(serde_json::to_vec(operations)?)),
        };
        serde_json::to_vec(&Answer {
            api_version: &review.api_version,
            kind: "AdmissionReview",
            response: Response {
                uid: &review.uid,
                allowed: self.is_allowed(),
                status: self.refusal().map(|refusal| Status::new(refusal, review)),
                patch_type: patch.is_some().then_some("JSONPatch"),
                patch,
                warnings: &self.warnings,
            },
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    api_version: &'a str,
    kind: &'a str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

#[derive(Serialize)]
struct Status<'a> {
    status: &'a str,
    code: u16,
    reason: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details<'a>>,
}

#[derive(Serialize)]
struct Details<'a> {
    name: &'a str,
    group: &'a str,
    kind: &'a str,
    causes: Vec<Cause<'a>>,
}

#[derive(Serialize)]
struct Cause<'a> {
    reason: &'a str,
    message: String,
    field: &'a str,
}

impl<'a> Status<'a> {
    fn new(refusal: &'a Refusal, review: &'a Review<'_>) -> Self {
        let causes: Vec<_> = refusal
            .problems
            .iter()
            .map(|problem| Cause { reason: problem.cause(), message: problem.message(), field: &problem.field })
            .collect();
        let details = Details {
            name: &review.name,
            group: &review.kind.group,
            kind: refusal.about.unwrap_or(&review.kind.kind),
            causes,
        };
        Self {
            status: "Failure",
            code: refusal.code,
            reason: refusal.reason.as_str(),
            message: &refusal.message,
            details: (!refusal.problems.is_empty()).then_some(details),
        }
    }
}
