//! Sends reviews as an API server does: over one HTTP/2 connection, with TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{Method, Request};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, crypto};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// One connection to a webhook.
#[derive(Clone)]
pub(super) struct Client {
    requests: SendRequest<Bytes>,
    address: SocketAddr,
}

impl Client {
    /// Connects, and trusts nobody but `ca`.
    pub(super) async fn connect(address: SocketAddr, ca: CertificateDer<'static>) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(ca).map_err(io::Error::other)?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::IpAddress(address.ip().into());
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        let (requests, connection) = h2::client::handshake(tls).await.map_err(io::Error::other)?;
        tokio::spawn(async move {
            // Whoever waits for an answer on it hears of its end.
            let _ = connection.await;
        });
        Ok(Self { requests, address })
    }

    /// Posts a body; the answer and how long it took.
    pub(super) async fn post(&self, path: &str, body: Bytes) -> io::Result<(Bytes, Duration)> {
        let answer = tokio::time::timeout(PATIENCE, self.send(path, body)).await;
        answer.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the webhook does not answer"))?
    }

    async fn send(&self, path: &str, body: Bytes) -> io::Result<(Bytes, Duration)> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("https://{}{path}?timeout=5s", self.address))
            .header("content-type", "application/json")
            .header("content-length", body.len())
            .body(())
            .map_err(io::Error::other)?;
        let started = Instant::now();
        let mut requests = self.requests.clone().ready().await.map_err(io::Error::other)?;
        let (response, mut stream) = requests.send_request(request, false).map_err(io::Error::other)?;
        stream.send_data(body, true).map_err(io::Error::other)?;
        let mut response = response.await.map_err(io::Error::other)?.into_body();
        let mut answer = BytesMut::new();
        while let Some(part) = response.data().await {
            let part = part.map_err(io::Error::other)?;
            answer.extend_from_slice(&part);
            response.flow_control().release_capacity(part.len()).map_err(io::Error::other)?;
        }
        Ok((answer.freeze(), started.elapsed()))
    }
}
