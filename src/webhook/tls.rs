//! The served certificate, and its replacement while connections stay open.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, crypto};
use x509_parser::parse_x509_certificate;

use crate::metrics::Metrics;

/// How often the files are looked at. Their content is compared, not their times: that works the same for a rename, a
/// symlink swap (the kubelet's `..data`) and a write in place.
const POLL: Duration = Duration::from_secs(1);

/// Why certificate files cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file without what belongs into it.
    #[error("{} holds no {what} in PEM form: {error}", path.display())]
    NoPem {
        /// Which.
        path: PathBuf,
        /// A certificate or a private key.
        what: &'static str,
        /// Why.
        error: String,
    },
    /// Two files that do not belong together, or that TLS cannot use.
    #[error("the certificate and the key in {} cannot be used: {error}", directory.display())]
    Unusable {
        /// Where they are.
        directory: PathBuf,
        /// Why.
        error: rustls::Error,
    },
    /// TLS itself cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Setup(rustls::Error),
}

/// The bytes of `tls.crt` and `tls.key`, as they were read.
#[derive(Clone, Debug, PartialEq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// A certificate that TLS can serve.
#[derive(Debug)]
struct Served {
    key: Arc<CertifiedKey>,
    /// Seconds of Unix time.
    not_after: i64,
}

/// The certificate of a directory (`tls.crt` and `tls.key`), as it is now.
///
/// New handshakes get the newest pair that can be used. A pair that cannot (half written, or a key that does not match)
/// changes nothing: the last good one stays.
#[derive(Debug)]
pub struct Certificates {
    directory: PathBuf,
    served: RwLock<Arc<CertifiedKey>>,
    first: Files,
    metrics: Arc<Metrics>,
}

impl Certificates {
    /// Reads the directory.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn load(directory: &Path, metrics: Arc<Metrics>) -> Result<Self, TlsError> {
        let first = read(directory)?;
        let served = parse(directory, &first)?;
        metrics.certificate(served.not_after);
        Ok(Self { directory: directory.to_owned(), served: RwLock::new(served.key), first, metrics })
    }

    /// Follows the files, for ever.
    pub async fn follow(&self) {
        let mut follower = Follower { current: self.first.clone(), unusable: None };
        loop {
            tokio::time::sleep(POLL).await;
            if let Some(served) = follower.look(&self.directory, &self.metrics) {
                *self.served.write().unwrap_or_else(PoisonError::into_inner) = served.key;
            }
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.served.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Compares what is in the directory with what is served.
struct Follower {
    current: Files,
    unusable: Option<Unusable>,
}

/// A state of the directory that cannot be served.
struct Unusable {
    /// `None` where the files could not even be read.
    files: Option<Files>,
    told: bool,
}

impl Follower {
    /// The new pair, when there is one.
    fn look(&mut self, directory: &Path, metrics: &Metrics) -> Option<Served> {
        let (files, parsed) = match read(directory) {
            Ok(files) if files == self.current => {
                self.unusable = None;
                return None;
            }
            Ok(files) => {
                let parsed = parse(directory, &files);
                (Some(files), parsed)
            }
            Err(error) => (None, Err(error)),
        };
        match parsed {
            Ok(served) => {
                self.unusable = None;
                self.current = files?;
                metrics.reloaded(true);
                metrics.certificate(served.not_after);
                tracing::info!(directory = %directory.display(), not_after = served.not_after, "serving a new certificate");
                Some(served)
            }
            Err(error) => {
                self.complain(directory, files, &error, metrics);
                None
            }
        }
    }

    /// Once for each state of the files, and not at first sight: a pair is written as two files.
    fn complain(&mut self, directory: &Path, files: Option<Files>, error: &TlsError, metrics: &Metrics) {
        match &mut self.unusable {
            Some(seen) if seen.files == files => {
                if !seen.told {
                    seen.told = true;
                    metrics.reloaded(false);
                    let directory = directory.display();
                    tracing::error!(%directory, %error, "the new certificate cannot be served; the old one stays");
                }
            }
            _ => self.unusable = Some(Unusable { files, told: false }),
        }
    }
}

fn read(directory: &Path) -> Result<Files, TlsError> {
    let read = |name: &str| {
        let path = directory.join(name);
        fs::read(&path).map_err(|error| TlsError::Unreadable { path, error })
    };
    Ok(Files { certificate: read("tls.crt")?, key: read("tls.key")? })
}

fn parse(directory: &Path, files: &Files) -> Result<Served, TlsError> {
    let no_pem = |name: &str, what, error: String| TlsError::NoPem { path: directory.join(name), what, error };
    let chain = CertificateDer::pem_slice_iter(&files.certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| no_pem("tls.crt", "certificate", error.to_string()))?;
    let Some(leaf) = chain.first() else {
        return Err(no_pem("tls.crt", "certificate", "there is none".to_owned()));
    };
    let not_after = match parse_x509_certificate(leaf) {
        Ok((_, certificate)) => certificate.validity().not_after.timestamp(),
        Err(error) => return Err(no_pem("tls.crt", "certificate", error.to_string())),
    };
    let key = PrivateKeyDer::from_pem_slice(&files.key)
        .map_err(|error| no_pem("tls.key", "private key", error.to_string()))?;
    let key = CertifiedKey::from_der(chain, key, &provider())
        .map_err(|error| TlsError::Unusable { directory: directory.to_owned(), error })?;
    Ok(Served { key: Arc::new(key), not_after })
}

fn provider() -> CryptoProvider {
    crypto::ring::default_provider()
}

/// TLS 1.2 and 1.3, HTTP/2 preferred to HTTP/1.1, with the certificates of `resolver`.
///
/// # Errors
/// When the cryptography at hand cannot do that.
pub fn server_config(resolver: Arc<dyn ResolvesServerCert>) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Setup)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::generate_simple_self_signed;
    use std::os::unix::fs::symlink;

    /// A directory that goes when the test ends.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("berth-tls-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    struct Pair {
        certificate: String,
        key: String,
        der: Vec<u8>,
    }

    fn pair() -> Pair {
        let made = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Pair { certificate: made.cert.pem(), key: made.signing_key.serialize_pem(), der: made.cert.der().to_vec() }
    }

    fn write(directory: &Path, pair: &Pair) {
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join("tls.crt"), &pair.certificate).unwrap();
        fs::write(directory.join("tls.key"), &pair.key).unwrap();
    }

    fn leaf(served: Option<Served>) -> Option<Vec<u8>> {
        served.map(|served| served.key.cert[0].to_vec())
    }

    fn follower(directory: &Path) -> Follower {
        Follower { current: read(directory).unwrap(), unusable: None }
    }

    #[test]
    fn a_half_written_pair_changes_nothing_until_it_is_whole() {
        let (directory, metrics) = (Directory::new("half"), Metrics::default());
        let (old, new) = (pair(), pair());
        write(&directory.0, &old);
        let mut follower = follower(&directory.0);
        let mut look = || leaf(follower.look(&directory.0, &metrics));
        assert_eq!(look(), None);
        fs::write(directory.0.join("tls.crt"), &new.certificate[..100]).unwrap();
        assert_eq!(look(), None);
        fs::write(directory.0.join("tls.crt"), &new.certificate).unwrap();
        assert_eq!(look(), None, "the key is still the old one");
        fs::remove_file(directory.0.join("tls.key")).unwrap();
        assert_eq!(look(), None);
        fs::write(directory.0.join("tls.key"), &new.key).unwrap();
        assert_eq!(look(), Some(new.der));
        assert_eq!(look(), None);
        let text = metrics.text().unwrap();
        assert!(text.contains("berth_tls_certificate_reloads_total{result=\"served\"} 1"), "{text}");
        assert!(!text.contains("unusable"), "no state stayed long enough to be worth a line: {text}");
    }

    #[test]
    fn a_pair_that_stays_unusable_is_told_once() {
        let (directory, metrics) = (Directory::new("told"), Metrics::default());
        write(&directory.0, &pair());
        let mut follower = follower(&directory.0);
        fs::write(directory.0.join("tls.key"), &pair().key).unwrap();
        for _ in 0..5 {
            assert!(follower.look(&directory.0, &metrics).is_none());
        }
        let text = metrics.text().unwrap();
        assert!(text.contains("berth_tls_certificate_reloads_total{result=\"unusable\"} 1"), "{text}");
    }

    #[test]
    fn a_symlink_swap_as_the_kubelet_does_it_is_seen() {
        let (directory, metrics) = (Directory::new("swap"), Metrics::default());
        let (old, new) = (pair(), pair());
        write(&directory.0.join("..1"), &old);
        symlink("..1", directory.0.join("..data")).unwrap();
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), directory.0.join(name)).unwrap();
        }
        let mut follower = follower(&directory.0);
        write(&directory.0.join("..2"), &new);
        symlink("..2", directory.0.join("..data_tmp")).unwrap();
        fs::rename(directory.0.join("..data_tmp"), directory.0.join("..data")).unwrap();
        fs::remove_dir_all(directory.0.join("..1")).unwrap();
        assert_eq!(leaf(follower.look(&directory.0, &metrics)), Some(new.der));
    }

    #[test]
    fn what_is_wrong_with_the_files_is_said() {
        let directory = Directory::new("wrong");
        let error = || Certificates::load(&directory.0, Arc::default()).unwrap_err().to_string();
        assert!(error().contains("tls.crt"), "{}", error());
        let (one, other) = (pair(), pair());
        write(&directory.0, &one);
        fs::write(directory.0.join("tls.key"), &other.key).unwrap();
        assert!(error().contains("cannot be used"), "{}", error());
        fs::write(directory.0.join("tls.key"), &one.certificate).unwrap();
        assert!(error().contains("tls.key holds no private key"), "{}", error());
        fs::write(directory.0.join("tls.crt"), "").unwrap();
        assert!(error().contains("tls.crt holds no certificate"), "{}", error());
    }
}
