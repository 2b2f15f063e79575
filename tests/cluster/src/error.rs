//! The one error of the harness: a sentence for whoever runs the tests.

use std::fmt;
use std::path::Path;

/// What went wrong, and where it can be looked at.
#[derive(Debug, Clone)]
pub struct Error(String);

/// Result of everything in the harness that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error that says `message`.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// For `map_err`: says what was tried, on which file, and how it failed.
    pub(crate) fn at<E: fmt::Display>(tried: &str, path: &Path) -> impl FnOnce(E) -> Self {
        move |cause| Self(format!("cannot {tried} {}: {cause}", path.display()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<rcgen::Error> for Error {
    fn from(cause: rcgen::Error) -> Self {
        Self(format!("cannot make a certificate: {cause}"))
    }
}
