//! Certificates: a certificate authority and what it issues, in memory; PEM; and what a TLS client would object to.

mod authority;
mod bundle;
mod check;
mod files;

pub use authority::{Authority, Leaf};
pub use bundle::Bundle;
pub use check::{Certificate, Finding, Material, Report};
pub use files::write_atomically;

/// Why certificates cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// No certificate in the PEM.
    #[error("has no certificate (no BEGIN CERTIFICATE line)")]
    NoCertificate,
    /// No private key in the PEM.
    #[error("has no private key (no BEGIN PRIVATE KEY line)")]
    NoKey,
    /// A private key where only certificates belong, because they are published.
    #[error("has a private key, which must not be published with the certificates")]
    UnexpectedKey,
    /// A block of the PEM, or the DER in it, is broken.
    #[error("does not parse: {0}")]
    Malformed(String),
    /// The authority's key is not the one in its certificate.
    #[error("the CA's key does not belong to the CA's certificate")]
    KeyMismatch,
    /// The certificate that should sign others may not.
    #[error("is no CA certificate")]
    NotAnAuthority,
    /// Nothing can be issued any more.
    #[error("the CA's certificate has expired")]
    AuthorityExpired,
    /// Making a key or certificate failed.
    #[error("cannot make a certificate: {0}")]
    Generate(#[from] rcgen::Error),
}
