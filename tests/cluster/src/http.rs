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

impl HttpResponse {
    /// The sum of a metric's samples (Prometheus text) that carry all of `labels`; 0 when there is none.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.body.lines().filter_map(|line| sample(line, name, labels)).sum()
    }
}

/// The value of `NAME{LABEL="VALUE",…} NUMBER` when name and labels are the ones asked for.
fn sample(line: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let (found, number) = match rest.strip_prefix('{') {
        Some(rest) => rest.split_once("} ")?,
        None => ("", rest.strip_prefix(' ')?),
    };
    let all = labels.iter().all(|(label, value)| found.split(',').any(|pair| pair == format!("{label}=\"{value}\"")));
    if all { number.split(' ').next()?.parse().ok() } else { None }
}

/// Asks `http://ADDRESS/PATH`, by HTTP/1.0 so that the end of the connection is the end of the body.
///
/// # Errors
/// When nobody answers within five seconds, or what answers is not HTTP.
pub fn http_get(address: SocketAddr, path: &str) -> Result<HttpResponse> {
    let failed = |cause: std::io::Error| Error::new(format!("cannot get http://{address}{path}: {cause}"));
    let mut stream = TcpStream::connect_timeout(&address, BOUND).map_err(failed)?;
    stream.set_read_timeout(Some(BOUND)).map_err(failed)?;
    // In one piece, since a server may answer and close after the first line.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(failed)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status =
        status.ok_or_else(|| Error::new(format!("http://{address}{path} did not answer with HTTP: {head}")))?;
    Ok(HttpResponse { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::HttpResponse;

    #[test]
    fn samples_are_summed_by_name_and_labels() {
        let body = "# TYPE a counter\na_total{kind=\"x\",verdict=\"ok\"} 2\na_total{kind=\"y\",verdict=\"ok\"} 3 # {} 1\nb 7\n";
        let answer = HttpResponse { status: 200, body: body.to_owned() };
        assert_eq!(answer.metric("a_total", &[]), 5.0);
        assert_eq!(answer.metric("a_total", &[("kind", "x")]), 2.0);
        assert_eq!(answer.metric("a_total", &[("kind", "x"), ("verdict", "no")]), 0.0);
        assert_eq!(answer.metric("a", &[]), 0.0);
        assert_eq!(answer.metric("b", &[]), 7.0);
    }
}
