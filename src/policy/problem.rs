//! What can be wrong with a policy or an object: a code word, a field, and one sentence.

use std::fmt;

use serde_json::Value;

/// The stable name of a rule, for machines and for search engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CodeWord {
    /// More than one replica, and sessions that only one pod knows.
    SessionStorageMissingForReplicas,
    /// A stdio server is one process with one client; it cannot have replicas.
    StdioTransportCapAt1,
    /// Redis without an address.
    SessionStorageAddressMissing,
    /// A password in plain text, and no reference to replace it with.
    PlaintextPassword,
    /// A field that cannot be read.
    InvalidPolicy,
    /// A writer that works from an older state than the live object.
    StaleGeneration,
    /// The owner cannot be read; nothing is known about the object's policy.
    PolicyNotFound,
}

impl CodeWord {
    /// Every code word, in the order of the documentation.
    pub const ALL: [Self; 7] = [
        Self::SessionStorageMissingForReplicas,
        Self::StdioTransportCapAt1,
        Self::SessionStorageAddressMissing,
        Self::PlaintextPassword,
        Self::InvalidPolicy,
        Self::StaleGeneration,
        Self::PolicyNotFound,
    ];

    /// The word as users see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SessionStorageMissingForReplicas => "SessionStorageMissingForReplicas",
            Self::StdioTransportCapAt1 => "StdioTransportCapAt1",
            Self::SessionStorageAddressMissing => "SessionStorageAddressMissing",
            Self::PlaintextPassword => "PlaintextPassword",
            Self::InvalidPolicy => "InvalidPolicy",
            Self::StaleGeneration => "StaleGeneration",
            Self::PolicyNotFound => "PolicyNotFound",
        }
    }
}

impl fmt::Display for CodeWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a field is wrong; the API's own distinction, so that clients can tell them apart.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The field says something that cannot be.
    Invalid(Value),
    /// The field is absent and has to be there.
    Required,
}

/// One rule broken by one field.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The rule.
    pub word: CodeWord,
    /// Path of the field in its object, e.g. `spec.replicas`.
    pub field: String,
    /// How the field is wrong.
    pub fault: Fault,
    /// What is wrong and what to do, without the code word.
    pub detail: String,
}

impl Problem {
    /// A field with a value that breaks a rule.
    pub fn invalid(
        word: CodeWord,
        field: impl Into<String>,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) -> Self {
        Self { word, field: field.into(), fault: Fault::Invalid(value.into()), detail: detail.into() }
    }

    /// A field that is missing.
    pub fn required(word: CodeWord, field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { word, field: field.into(), fault: Fault::Required, detail: detail.into() }
    }

    /// The API's name for [`Fault`], for `details.causes[].reason`.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self.fault {
            Fault::Invalid(_) => "FieldValueInvalid",
            Fault::Required => "FieldValueRequired",
        }
    }

    /// The sentence that follows the field's path, in the API server's own form, with the code word.
    #[must_use]
    pub fn message(&self) -> String {
        match &self.fault {
            Fault::Invalid(value) => format!("Invalid value: {}: {} [berth:{}]", shown(value), self.detail, self.word),
            Fault::Required => format!("Required value: {} [berth:{}]", self.detail, self.word),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message())
    }
}

/// The longest value that a message repeats; longer ones are cut, since the text goes to terminals and logs.
const SHOWN_CHARS: usize = 120;

/// A value as messages repeat it.
pub(super) fn shown(value: &Value) -> String {
    // JSON's escapes keep newlines and control characters out of the message.
    let text = value.to_string();
    if text.chars().count() <= SHOWN_CHARS {
        return text;
    }
    let mut cut: String = text.chars().take(SHOWN_CHARS).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_as_the_api_servers_own() {
        let problem = Problem::invalid(
            CodeWord::SessionStorageMissingForReplicas,
            "spec.replicas",
            3,
            "sessions are kept in memory; set the session provider to redis, or keep replicas at 1 or 0",
        );
        assert_eq!(
            problem.to_string(),
            "spec.replicas: Invalid value: 3: sessions are kept in memory; set the session provider to redis, or keep \
             replicas at 1 or 0 [berth:SessionStorageMissingForReplicas]"
        );
    }

    #[test]
    fn a_hostile_value_is_cut_and_escaped() {
        let problem = Problem::invalid(CodeWord::InvalidPolicy, "f", "a\nb".repeat(1000), "no");
        assert!(!problem.message().contains('\n'));
        assert!(problem.message().chars().count() < 200);
    }
}
