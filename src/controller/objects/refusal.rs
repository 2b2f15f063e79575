//! Why nothing is built.

use std::fmt;

/// The kind of reason, as it stands in the condition `Ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The server speaks stdio, which Berth does not proxy.
    TransportUnsupported,
    /// A field asks for what Berth does not do, and to leave it out could open what was to be closed.
    UnsupportedField,
    /// A field cannot be read, or says what cannot be.
    InvalidSpec,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::TransportUnsupported, Self::UnsupportedField, Self::InvalidSpec];

    /// The word as users see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TransportUnsupported => "TransportUnsupported",
            Self::UnsupportedField => "UnsupportedField",
            Self::InvalidSpec => "InvalidSpec",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Nothing is built, for this reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl Refusal {
    /// A field that cannot be what it is.
    pub(super) fn invalid(field: &str, detail: impl fmt::Display) -> Self {
        Self { reason: Reason::InvalidSpec, message: format!("{field}: {detail}") }
    }

    /// A field that Berth does not do.
    pub(super) fn unsupported(field: &str, detail: impl fmt::Display) -> Self {
        Self { reason: Reason::UnsupportedField, message: format!("{field}: {detail}") }
    }
}
