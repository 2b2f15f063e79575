//! Plain HTTP for `/readyz` and `/metrics`: one GET, one connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::{Error, Result};

const BOUND: Duration = Duration::from_secs(5);

/// The answer to a GET.
#[derive(Debug, Clone)]
pub struct HttpResponse {
    /// As in 200.
    pub status: u16,
    /// The body as it was sent.
    pub body: String,
}

/// Asks `http://ADDRESS/PATH`, by HTTP/1.0 so that the end of the connection is the end of the body.
///
/// # Errors
/// When nobody answers within five seconds, or what answers is not HTTP.
pub fn http_get(address: SocketAddr, path: &str) -> Result<HttpResponse> {
    let failed = |cause: std::io::Error| Error::new(format!("cannot get http://{address}{path}: {cause}"));
    let mut stream = TcpStream::connect_timeout(&address, BOUND).map_err(failed)?;
    stream.set_read_timeout(Some(BOUND)).map_err(failed)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").map_err(failed)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(failed)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status =
        status.ok_or_else(|| Error::new(format!("http://{address}{path} did not answer with HTTP: {head}")))?;
    Ok(HttpResponse { status, body: body.to_owned() })
}
