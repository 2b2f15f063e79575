//! What a TLS client would object to, now or soon. No I/O, and no clock but the caller's.

use std::fmt;
use std::time::{Duration, SystemTime};

use k8s_openapi::jiff::Timestamp;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, RootCertStore};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::{Bundle, CertError};

/// What there is to check: a server's certificate (and intermediates), or a CA's.
#[derive(Debug)]
pub struct Material {
    chain: Vec<CertificateDer<'static>>,
    key: Option<PrivateKeyDer<'static>>,
    authorities: Option<Bundle>,
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The subject, as `CN=…`.
    pub subject: String,
    /// The subject of the certificate that signed it.
    pub issuer: String,
    /// DNS names and IP addresses of subjectAltName.
    pub names: Vec<String>,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
    /// Whether it may sign others.
    pub is_authority: bool,
}

/// Something that stops a TLS client, or soon will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Its time is over.
    Expired {
        /// The certificate's subject.
        subject: String,
        /// Since when.
        since: Timestamp,
    },
    /// Its time has not come.
    NotYetValid {
        /// The certificate's subject.
        subject: String,
        /// From when on.
        from: Timestamp,
    },
    /// Its time is over within the period that was asked about.
    ExpiresSoon {
        /// The certificate's subject.
        subject: String,
        /// When.
        at: Timestamp,
    },
    /// The private key is another certificate's.
    KeyMismatch,
    /// The private key cannot be used.
    UnusableKey(String),
    /// There is no subjectAltName, and nobody looks at the subject's common name any more.
    NoNames,
    /// It is not valid for a name that is needed.
    NameMissing(String),
    /// The CA did not sign it.
    NotSigned,
    /// A TLS client refuses it for another reason.
    Refused(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { subject, since } => {
                write!(f, "{subject} expired at {since}; make a new one")
            }
            Self::NotYetValid { subject, from } => write!(
                f,
                "{subject} is valid from {from} on only; check the clocks, or wait"
            ),
            Self::ExpiresSoon { subject, at } => {
                write!(f, "{subject} expires at {at}; make a new one before")
            }
            Self::KeyMismatch => f.write_str(
                "the private key does not belong to the certificate; put the two of one pair together",
            ),
            Self::UnusableKey(error) => write!(f, "the private key cannot be used: {error}"),
            Self::NoNames => f.write_str(
                "the certificate has no subjectAltName; clients do not look at the common name, so issue one with names",
            ),
            Self::NameMissing(name) => write!(
                f,
                "the certificate is not valid for {name}; issue one that names it"
            ),
            Self::NotSigned => f.write_str(
                "the CA did not sign the certificate; put the CA that did beside it, or issue one with this CA",
            ),
            Self::Refused(error) => write!(f, "clients refuse the certificate: {error}"),
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The server's certificate first, then what else its file has, then the CA's.
    pub certificates: Vec<Certificate>,
    /// Empty when clients are content.
    pub findings: Vec<Finding>,
    /// Whether there was a key to compare.
    pub has_key: bool,
    /// Whether there was a CA to compare.
    pub has_authority: bool,
}

impl Material {
    /// A certificate file, with the key in it or in a file of its own, and the CA's file, where there are any.
    ///
    /// # Errors
    /// When one of them does not parse.
    pub fn parse(certificates: &[u8], key: Option<&[u8]>, authorities: Option<&[u8]>) -> Result<Self, CertError> {
        let chain = CertificateDer::pem_slice_iter(certificates).collect::<Result<Vec<_>, _>>().map_err(malformed)?;
        if chain.is_empty() {
            return Err(CertError::NoCertificate);
        }
        for der in &chain {
            parse_certificate(der)?;
        }
        let key = match key {
            Some(pem) => Some(read_key(pem)?.ok_or(CertError::NoKey)?),
            None => read_key(certificates)?,
        };
        Ok(Self { chain, key, authorities: authorities.map(Bundle::parse).transpose()? })
    }

    /// What a client that needs these `names` objects to at the time `now`, or will within `soon`.
    ///
    /// # Errors
    /// When a certificate says something that cannot be read.
    pub fn check(&self, names: &[ServerName<'static>], now: SystemTime, soon: Duration) -> Result<Report, CertError> {
        let authorities = self.authorities.iter().flat_map(Bundle::certificates);
        let certificates = self.chain.iter().chain(authorities).map(describe).collect::<Result<Vec<_>, _>>()?;
        let seconds = unix_time(now).as_secs();
        let mut findings: Vec<_> =
            certificates.iter().filter_map(|certificate| certificate.time_finding(seconds, soon)).collect();
        findings.extend(self.key_finding());
        // A CA's own certificate is nobody's server.
        if let Some(server) = certificates.first().filter(|first| !first.is_authority) {
            if server.names.is_empty() {
                findings.push(Finding::NoNames);
            } else {
                findings.extend(self.client_findings(server, names, seconds)?);
            }
        }
        Ok(Report { certificates, findings, has_key: self.key.is_some(), has_authority: self.authorities.is_some() })
    }

    fn key_finding(&self) -> Option<Finding> {
        let key = self.key.as_ref()?.clone_key();
        match CertifiedKey::from_der(self.chain.clone(), key, &ring::default_provider()) {
            Ok(_) => None,
            Err(Error::InconsistentKeys(_)) => Some(Finding::KeyMismatch),
            Err(error) => Some(Finding::UnusableKey(error.to_string())),
        }
    }

    /// Asks what TLS clients ask, at a time when the certificate is valid: dates have findings of their own.
    fn client_findings(
        &self,
        server: &Certificate,
        names: &[ServerName<'static>],
        now: u64,
    ) -> Result<Vec<Finding>, CertError> {
        let Some((end_entity, intermediates)) = self.chain.split_first() else {
            return Err(CertError::NoCertificate);
        };
        let parsed = match ParsedCertificate::try_from(end_entity) {
            Ok(parsed) => parsed,
            Err(error) => return Ok(vec![Finding::Refused(error.to_string())]),
        };
        let mut findings: Vec<_> = names
            .iter()
            .filter(|name| verify_server_name(&parsed, name).is_err())
            .map(|name| Finding::NameMissing(name.to_str().into_owned()))
            .collect();
        let Some(authorities) = &self.authorities else {
            return Ok(findings);
        };
        let mut roots = RootCertStore::empty();
        for der in authorities.certificates() {
            if let Err(error) = roots.add(der.clone()) {
                findings.push(Finding::Refused(error.to_string()));
            }
        }
        let [from, until] =
            [server.not_before, server.not_after].map(|time| u64::try_from(time.as_second()).unwrap_or_default());
        // Not clamp: it panics on a certificate that ends before it begins.
        let at = now.max(from).min(until);
        let verdict = verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &roots,
            intermediates,
            UnixTime::since_unix_epoch(Duration::from_secs(at)),
            ring::default_provider().signature_verification_algorithms.all,
        );
        findings.extend(verdict.err().and_then(chain_finding));
        Ok(findings)
    }
}

/// What an error of the chain says beyond the dates, which are judged for each certificate.
fn chain_finding(error: Error) -> Option<Finding> {
    use CertificateError as E;
    match error {
        Error::InvalidCertificate(
            E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. },
        ) => None,
        Error::InvalidCertificate(E::UnknownIssuer | E::BadSignature) => Some(Finding::NotSigned),
        error => Some(Finding::Refused(error.to_string())),
    }
}

impl Certificate {
    fn time_finding(&self, now: u64, soon: Duration) -> Option<Finding> {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let horizon = now.saturating_add(i64::try_from(soon.as_secs()).unwrap_or(i64::MAX));
        let subject = self.subject.clone();
        if self.not_after.as_second() < now {
            Some(Finding::Expired { subject, since: self.not_after })
        } else if self.not_before.as_second() > now {
            Some(Finding::NotYetValid { subject, from: self.not_before })
        } else if self.not_after.as_second() < horizon {
            Some(Finding::ExpiresSoon { subject, at: self.not_after })
        } else {
            None
        }
    }
}

fn malformed(error: PemError) -> CertError {
    CertError::Malformed(error.to_string())
}

fn read_key(pem: &[u8]) -> Result<Option<PrivateKeyDer<'static>>, CertError> {
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Ok(Some(key)),
        Err(PemError::NoItemsFound) => Ok(None),
        Err(error) => Err(malformed(error)),
    }
}

fn parse_certificate(der: &[u8]) -> Result<X509Certificate<'_>, CertError> {
    x509_parser::parse_x509_certificate(der)
        .map(|(_, certificate)| certificate)
        .map_err(|error| CertError::Malformed(error.to_string()))
}

fn describe(der: &CertificateDer<'_>) -> Result<Certificate, CertError> {
    let parsed = parse_certificate(der)?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|error| CertError::Malformed(error.to_string()))?
        .map(|extension| extension.value.general_names.iter().filter_map(name).collect())
        .unwrap_or_default();
    let timestamp = |time: x509_parser::time::ASN1Time| {
        Timestamp::from_second(time.timestamp()).map_err(|error| CertError::Malformed(error.to_string()))
    };
    Ok(Certificate {
        subject: parsed.subject().to_string(),
        issuer: parsed.issuer().to_string(),
        names,
        not_before: timestamp(parsed.validity().not_before)?,
        not_after: timestamp(parsed.validity().not_after)?,
        is_authority: parsed.is_ca(),
    })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => Some(std::net::Ipv4Addr::from(v4).to_string()),
            Err(_) => <[u8; 16]>::try_from(*bytes).ok().map(|v6| std::net::Ipv6Addr::from(v6).to_string()),
        },
        _ => None,
    }
}

fn unix_time(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::{Authority, Leaf};
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn findings(ca: &Authority, leaf: &Leaf, names: &[&str], after: Duration) -> Vec<Finding> {
        let names: Vec<_> = names.iter().map(|name| ServerName::try_from((*name).to_owned()).unwrap()).collect();
        Material::parse(leaf.cert_pem.as_bytes(), Some(leaf.key_pem.as_bytes()), Some(ca.pem().as_bytes()))
            .unwrap()
            .check(&names, SystemTime::now() + after, DAY * 14)
            .unwrap()
            .findings
    }

    fn authority() -> Authority {
        Authority::new(DAY * 100).unwrap()
    }

    fn leaf(ca: &Authority) -> Leaf {
        let names = ["localhost", "127.0.0.1", "::1", "*.example.com"].map(str::to_owned);
        ca.issue(&names, DAY * 50).unwrap()
    }

    #[test]
    fn a_fresh_certificate_has_no_findings() {
        let ca = authority();
        let needed = ["localhost", "127.0.0.1", "::1", "a.example.com"];
        assert_eq!(findings(&ca, &leaf(&ca), &needed, DAY), []);
    }

    #[test]
    fn it_soon_expires_and_then_has() {
        let ca = authority();
        let leaf = leaf(&ca);
        assert!(matches!(findings(&ca, &leaf, &[], DAY * 40)[..], [Finding::ExpiresSoon { .. }]));
        assert!(matches!(findings(&ca, &leaf, &["localhost"], DAY * 60)[..], [Finding::Expired { .. }]));
        assert!(matches!(findings(&ca, &leaf, &[], DAY * 200)[..], [Finding::Expired { .. }, Finding::Expired { .. }]));
    }

    #[test]
    fn a_name_that_is_needed_is_missing() {
        let ca = authority();
        assert_eq!(
            findings(&ca, &leaf(&ca), &["localhost", "other.example", "10.0.0.1"], DAY),
            [Finding::NameMissing("other.example".to_owned()), Finding::NameMissing("10.0.0.1".to_owned())]
        );
    }

    #[test]
    fn a_certificate_without_names_is_no_use() {
        let ca = authority();
        let leaf = ca.issue(&[], DAY * 50).unwrap();
        assert_eq!(findings(&ca, &leaf, &[], DAY), [Finding::NoNames]);
    }

    #[test]
    fn another_ca_and_another_key_are_noticed() {
        let (ca, other) = (authority(), authority());
        let mut mixed = leaf(&ca);
        assert_eq!(findings(&other, &mixed, &[], DAY), [Finding::NotSigned]);
        mixed.key_pem = leaf(&ca).key_pem;
        assert_eq!(findings(&ca, &mixed, &[], DAY), [Finding::KeyMismatch]);
    }

    #[test]
    fn names_are_judged_without_a_ca_too() {
        let leaf = leaf(&authority());
        let material = Material::parse(leaf.cert_pem.as_bytes(), None, None).unwrap();
        let name = ServerName::try_from("other.example".to_owned()).unwrap();
        let report = material.check(&[name], SystemTime::now(), DAY).unwrap();
        assert_eq!(report.findings, [Finding::NameMissing("other.example".to_owned())]);
        assert!(!report.has_authority && !report.has_key);
    }
}
