//! A certificate authority for development, tests and the self-managed case, and what it issues.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use x509_parser::parse_x509_certificate;

use super::{Bundle, CertError};

/// Clocks of other machines may be this far behind.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// A certificate authority with its key. `Debug` shows neither.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    not_after: SystemTime,
}

/// A server certificate with its key, both PEM.
#[derive(Clone)]
pub struct Leaf {
    /// The certificate.
    pub cert_pem: String,
    /// Its private key (PKCS #8).
    pub key_pem: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf").finish_non_exhaustive()
    }
}

impl Authority {
    /// A new authority (P-256), valid for so long from now on.
    ///
    /// # Errors
    /// When there is no randomness, or the end is beyond the year 9999.
    pub fn new(validity: Duration) -> Result<Self, CertError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Berth CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let not_after = set_validity(&mut params, validity)?;
        let key = KeyPair::generate()?;
        let pem = CertifiedIssuer::self_signed(params.clone(), &key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key), not_after })
    }

    /// The authority of a certificate and its key, both PEM.
    ///
    /// # Errors
    /// When either does not parse, they do not belong together, or the certificate is no CA's.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self, CertError> {
        let bundle = Bundle::parse(cert_pem.as_bytes())?;
        let der = bundle.first();
        let (_, parsed) = parse_x509_certificate(der).map_err(|error| CertError::Malformed(error.to_string()))?;
        let key = KeyPair::from_pem(key_pem)?;
        if parsed.tbs_certificate.subject_pki.raw != key.subject_public_key_info() {
            return Err(CertError::KeyMismatch);
        }
        if !parsed.is_ca() {
            return Err(CertError::NotAnAuthority);
        }
        let not_after = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or_default();
        Ok(Self {
            pem: bundle.pem().to_owned(),
            issuer: Issuer::from_ca_cert_der(der, key)?,
            not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(not_after),
        })
    }

    /// The authority's certificate: what clients trust.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The authority's private key (PKCS #8 PEM).
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A server certificate (P-256) for these DNS names and IP addresses, valid from now on for so long, or as long as
    /// the authority's own.
    ///
    /// # Errors
    /// When a name is not ASCII, or the authority has expired.
    pub fn issue(&self, names: &[String], validity: Duration) -> Result<Leaf, CertError> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "berth-webhook");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let left = self.not_after.duration_since(SystemTime::now()).map_err(|_| CertError::AuthorityExpired)?;
        set_validity(&mut params, validity.min(left))?;
        let key = KeyPair::generate()?;
        Ok(Leaf { cert_pem: params.signed_by(&key, &self.issuer)?.pem(), key_pem: key.serialize_pem() })
    }
}

/// The last moment that X.509 can write: 9999-12-31T23:59:59Z.
const END_OF_TIME: Duration = Duration::from_secs(253_402_300_799);

fn set_validity(params: &mut CertificateParams, validity: Duration) -> Result<SystemTime, CertError> {
    let now = SystemTime::now();
    let not_after = now
        .checked_add(validity)
        .filter(|end| *end <= SystemTime::UNIX_EPOCH + END_OF_TIME)
        .ok_or(rcgen::Error::Time)?;
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = not_after.into();
    Ok(not_after)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn an_authority_survives_its_pem() {
        let made = Authority::new(DAY).unwrap();
        let read = Authority::from_pem(made.pem(), &made.key_pem()).unwrap();
        assert_eq!(read.pem(), made.pem());
        assert_eq!(read.key_pem(), made.key_pem());
    }

    #[test]
    fn a_key_of_another_authority_is_refused() {
        let (one, other) = (Authority::new(DAY).unwrap(), Authority::new(DAY).unwrap());
        assert!(matches!(Authority::from_pem(one.pem(), &other.key_pem()), Err(CertError::KeyMismatch)));
    }

    #[test]
    fn a_server_certificate_is_no_authority() {
        let leaf = Authority::new(DAY).unwrap().issue(&["localhost".to_owned()], DAY).unwrap();
        assert!(matches!(Authority::from_pem(&leaf.cert_pem, &leaf.key_pem), Err(CertError::NotAnAuthority)));
    }

    #[test]
    fn a_validity_that_x509_cannot_write_is_an_error() {
        assert!(Authority::new(DAY * 4_000_000).is_err());
        assert!(Authority::new(Duration::MAX).is_err());
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let authority = Authority::new(DAY).unwrap();
        let leaf = authority.issue(&["localhost".to_owned()], DAY).unwrap();
        assert!(!format!("{authority:?} {leaf:?}").contains("KEY"));
    }
}
