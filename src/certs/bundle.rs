//! Certificates in PEM, and nothing else.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::CertError;

/// One certificate or more, as published in `caBundle`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    pem: String,
    first: CertificateDer<'static>,
    rest: Vec<CertificateDer<'static>>,
}

impl Bundle {
    /// Reads PEM. Text around the blocks is ignored.
    ///
    /// # Errors
    /// When there is no certificate, one that does not parse, or a private key: bundles are published.
    pub fn parse(pem: &[u8]) -> Result<Self, CertError> {
        if PrivateKeyDer::from_pem_slice(pem).is_ok() {
            return Err(CertError::UnexpectedKey);
        }
        let mut certificates = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| CertError::Malformed(error.to_string()))?
            .into_iter();
        let first = certificates.next().ok_or(CertError::NoCertificate)?;
        let rest: Vec<_> = certificates.collect();
        for der in std::iter::once(&first).chain(&rest) {
            x509_parser::parse_x509_certificate(der).map_err(|error| CertError::Malformed(error.to_string()))?;
        }
        Ok(Self { pem: only_certificates(pem), first, rest })
    }

    /// The first certificate, in DER.
    pub fn first(&self) -> &CertificateDer<'static> {
        &self.first
    }

    /// All certificates, in DER.
    pub fn certificates(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// The certificates in PEM, without whatever else the input had.
    pub fn pem(&self) -> &str {
        &self.pem
    }
}

/// The lines of the certificate blocks of a PEM file that parsed.
fn only_certificates(pem: &[u8]) -> String {
    let text = String::from_utf8_lossy(pem);
    let mut inside = false;
    let mut blocks = String::new();
    for line in text.lines().map(str::trim_end) {
        inside |= line == "-----BEGIN CERTIFICATE-----";
        if inside {
            blocks.push_str(line);
            blocks.push('\n');
        }
        inside &= line != "-----END CERTIFICATE-----";
    }
    blocks
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Authority;
    use super::*;

    #[test]
    fn only_the_certificates_are_kept() {
        let one = Authority::new(Duration::from_secs(60)).unwrap();
        let two = Authority::new(Duration::from_secs(60)).unwrap();
        let file = format!("subject: one\r\n{}\nan old note\n{}", one.pem().replace('\n', "\r\n"), two.pem());
        let bundle = Bundle::parse(file.as_bytes()).unwrap();
        assert_eq!(bundle.certificates().count(), 2);
        assert_eq!(bundle.pem(), format!("{}{}", one.pem(), two.pem()));
    }

    #[test]
    fn a_private_key_is_never_part_of_a_bundle() {
        let ca = Authority::new(Duration::from_secs(60)).unwrap();
        for file in [format!("{}{}", ca.pem(), ca.key_pem()), format!("{}{}", ca.key_pem(), ca.pem())] {
            assert!(matches!(Bundle::parse(file.as_bytes()), Err(CertError::UnexpectedKey)));
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        for (file, expected) in [
            ("", "has no certificate"),
            ("hello", "has no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "does not parse"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", "does not parse"),
        ] {
            let error = Bundle::parse(file.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{file:?}: {error}");
        }
    }
}
