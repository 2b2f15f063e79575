//! The load generator: keep-alive HTTP/1.1 connections over TLS, each with one review in flight.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::Result;
use crate::resources;
use crate::statistics::percentile;
use berth_bench::fixtures::Fixture;

/// Connections that are open at once.
pub(crate) const CONNECTIONS: usize = 16;

/// What one measurement gave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) reviews_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// CPU time of the server's process for each review.
    pub(crate) cpu_us: f64,
}

/// Reaches one webhook.
#[derive(Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    tls: TlsConnector,
}

impl Target {
    /// A webhook at `address` whose certificate for `localhost` is signed by `ca_pem`.
    pub(crate) fn new(address: SocketAddr, ca_pem: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes())?)?;
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Self { address, tls: TlsConnector::from(Arc::new(config)) })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let tls = self.tls.connect(ServerName::try_from("localhost")?, tcp).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(tls)).await?;
        // It ends with its sender; an error of it is seen by the request that it broke.
        tokio::spawn(connection);
        Ok(sender)
    }

    /// Sends one review on a connection of its own and gives the answer.
    pub(crate) async fn ask(&self, fixture: &Fixture) -> Result<serde_json::Value> {
        let mut sender = self.connect().await?;
        let answer = send(&mut sender, fixture.path, &Bytes::from(fixture.body())).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// Sends `fixture` for `time` on all connections, after a tenth of that to warm up.
    pub(crate) async fn measure(&self, fixture: &Fixture, pid: u32, time: Duration) -> Result<Measured> {
        let body = Bytes::from(fixture.body());
        let mut senders = Vec::new();
        for _ in 0..CONNECTIONS {
            senders.push(self.connect().await?);
        }
        let (senders, _) = run(senders, fixture.path, &body, time / 10).await?;
        let (start, cpu) = (Instant::now(), resources::cpu_us(pid)?);
        let (_, mut latencies) = run(senders, fixture.path, &body, time).await?;
        let (elapsed, cpu) = (start.elapsed(), resources::cpu_us(pid)? - cpu);
        let reviews = latencies.len() as f64;
        Ok(Measured {
            reviews_per_second: reviews / elapsed.as_secs_f64(),
            p50_ms: percentile(&mut latencies, 0.5),
            p99_ms: percentile(&mut latencies, 0.99),
            cpu_us: cpu / reviews,
        })
    }
}

type Senders = Vec<SendRequest<Full<Bytes>>>;

/// Keeps every connection busy for `time`; gives the connections back, and all latencies in ms.
async fn run(senders: Senders, path: &'static str, body: &Bytes, time: Duration) -> Result<(Senders, Vec<f64>)> {
    let end = Instant::now() + time;
    let tasks: Vec<_> = senders
        .into_iter()
        .map(|mut sender| {
            let body = body.clone();
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while Instant::now() < end {
                    let start = Instant::now();
                    let answer = send(&mut sender, path, &body).await?;
                    latencies.push(start.elapsed().as_secs_f64() * 1e3);
                    if !allows(&answer) {
                        return Err(format!("{path} answered {}", String::from_utf8_lossy(&answer)).into());
                    }
                }
                Ok::<_, crate::Error>((sender, latencies))
            })
        })
        .collect();
    let (mut senders, mut all) = (Vec::new(), Vec::new());
    for task in tasks {
        let (sender, latencies) = task.await??;
        senders.push(sender);
        all.extend(latencies);
    }
    Ok((senders, all))
}

/// Whether the answer says yes, told without parsing it, so that the load costs little.
fn allows(answer: &[u8]) -> bool {
    let yes = b"\"allowed\":true";
    answer.windows(yes.len()).any(|window| window == yes)
}

async fn send(sender: &mut SendRequest<Full<Bytes>>, path: &str, body: &Bytes) -> Result<Bytes> {
    sender.ready().await?;
    let request = Request::post(format!("{path}?timeout=5s"))
        .header(HOST, "localhost")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body.clone()))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let answer = response.into_body().collect().await?.to_bytes();
    if status == StatusCode::OK {
        Ok(answer)
    } else {
        Err(format!("{path} answered {status}: {}", String::from_utf8_lossy(&answer)).into())
    }
}
