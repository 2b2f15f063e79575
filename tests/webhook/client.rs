//! A client that shows what a test has to see: the protocol that was agreed on, the certificate, each status and header.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// For anything that one answer needs.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    pub(crate) const BOTH: [Self; 2] = [Self::Http1, Self::Http2];

    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    config: ClientConfig,
}

/// An open connection.
pub(crate) enum Connection {
    Http1 { stream: Box<BufReader<TlsStream<TcpStream>>>, certificate: Vec<u8> },
    Http2 { sender: SendRequest<Bytes>, certificate: Vec<u8> },
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn new(ca_pem: &str, address: SocketAddr) -> Self {
        Self::with_versions(ca_pem, address, rustls::ALL_VERSIONS)
    }

    pub(crate) fn with_versions(
        ca_pem: &str,
        address: SocketAddr,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        // A resumed session shows the certificate that it began with.
        config.resumption = Resumption::disabled();
        Self { address, config }
    }

    /// A TLS connection that offers these protocols.
    pub(crate) async fn tls(&self, alpn: &[&[u8]]) -> io::Result<TlsStream<TcpStream>> {
        let mut config = self.config.clone();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, socket).await
    }

    pub(crate) async fn connect(&self, protocol: Protocol) -> io::Result<Connection> {
        let stream = self.tls(&[protocol.alpn()]).await?;
        let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        match protocol {
            Protocol::Http1 => Ok(Connection::Http1 { stream: Box::new(BufReader::new(stream)), certificate }),
            Protocol::Http2 => {
                let (sender, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
                tokio::spawn(connection);
                Ok(Connection::Http2 { sender, certificate })
            }
        }
    }

    /// One request on a connection of its own.
    pub(crate) async fn once(&self, protocol: Protocol, method: &str, path: &str, body: &[u8]) -> Answer {
        let once = async { self.connect(protocol).await?.request(method, path, body).await };
        timeout(BOUND, once).await.expect("an answer in time").expect("an answer")
    }
}

impl Connection {
    /// The certificate that the server showed.
    pub(crate) fn certificate(&self) -> &[u8] {
        match self {
            Self::Http1 { certificate, .. } | Self::Http2 { certificate, .. } => certificate,
        }
    }

    pub(crate) async fn request(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
        match self {
            Self::Http1 { stream, .. } => http1(stream, method, path, body).await,
            Self::Http2 { sender, .. } => {
                let sender = sender.clone().ready().await.map_err(io::Error::other)?;
                http2(sender, method, path, body).await.map_err(io::Error::other)
            }
        }
    }
}

async fn http1(
    stream: &mut BufReader<TlsStream<TcpStream>>,
    method: &str,
    path: &str,
    body: &[u8],
) -> io::Result<Answer> {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.flush().await?;
    read_answer(stream).await
}

/// Reads one answer of HTTP/1.1 with a `Content-Length`.
pub(crate) async fn read_answer(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Answer> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let status = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &String| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let headers: Vec<_> = lines[1..].iter().filter_map(header).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, n)| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Answer { status, headers, body })
}

async fn http2(mut sender: SendRequest<Bytes>, method: &str, path: &str, body: &[u8]) -> Result<Answer, h2::Error> {
    let uri = format!("https://localhost{path}");
    let length = body.len();
    let request = http::Request::builder().method(method).uri(uri).header("content-length", length).body(()).unwrap();
    let (response, mut upload) = sender.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        upload.send_data(Bytes::copy_from_slice(body), true)?;
    }
    let (parts, mut stream) = response.await?.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece?;
        stream.flow_control().release_capacity(piece.len())?;
        body.extend_from_slice(&piece);
    }
    let header =
        |(name, value): (&http::HeaderName, &http::HeaderValue)| (name.to_string(), value.to_str().unwrap().to_owned());
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers.iter().map(header).collect(), body })
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The `response` of the AdmissionReview in it.
    pub(crate) fn response(&self) -> serde_json::Value {
        let mut review: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        review["response"].take()
    }
}
