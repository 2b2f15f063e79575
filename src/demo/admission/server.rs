//! The webhook of the demo: the real one, with a certificate and a cluster that exist in memory only.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::admission::Settings;
use crate::certs::{Authority, Bundle};
use crate::cluster::{Given, Lookup};
use crate::metrics::Metrics;
use crate::webhook::{Readiness, Reviewer, RunningServer, Server, server_config};

/// The certificate outlives any demo.
const VALIDITY: Duration = Duration::from_secs(24 * 60 * 60);
/// For requests under way at the end.
const DRAIN: Duration = Duration::from_secs(1);

/// The webhook while it runs.
pub(in crate::demo) struct Webhook {
    pub(super) address: SocketAddr,
    /// What a client has to trust.
    pub(super) ca: CertificateDer<'static>,
    running: RunningServer,
}

impl Webhook {
    /// Starts to answer on `listen`, by what is known of `cluster`.
    pub(super) fn start(listen: SocketAddr, cluster: Given) -> io::Result<Self> {
        let server = Server::bind(listen)?;
        let address = server.address();
        let authority = Authority::new(VALIDITY).map_err(io::Error::other)?;
        let names = [address.ip().to_string(), "localhost".to_owned()];
        let leaf = authority.issue(&names, VALIDITY).map_err(io::Error::other)?;
        let certificate = CertificateDer::from_pem_slice(leaf.cert_pem.as_bytes()).map_err(io::Error::other)?;
        let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).map_err(io::Error::other)?;
        let provider = crypto::ring::default_provider();
        let key = CertifiedKey::from_der(vec![certificate], key, &provider).map_err(io::Error::other)?;
        let tls = server_config(Arc::new(SingleCertAndKey::from(key))).map_err(io::Error::other)?;
        let ca = Bundle::parse(authority.pem().as_bytes()).map_err(io::Error::other)?.first().clone();
        let reviewer = Reviewer::new(Settings::default(), Lookup::Given(cluster), Arc::new(Metrics::default()));
        let running = server.start(tls, Arc::new(reviewer), Readiness::default(), DRAIN)?;
        Ok(Self { address, ca, running })
    }

    /// Ends when the webhook does, which it should not.
    pub(in crate::demo) async fn ended(&mut self) -> io::Result<()> {
        self.running.ended().await
    }

    pub(in crate::demo) async fn stop(&self) {
        self.running.stop().await;
    }
}
