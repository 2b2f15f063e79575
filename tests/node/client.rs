//! A client of MCP that shows what it is answered.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use berth_test_cluster::{Error, Result};
use serde_json::{Value, json};

const REPLY: Duration = Duration::from_secs(30);
/// How long a client does as `Retry-After` says, where a machine under test makes a store slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// A session, and how it is asked on. Each request is a connection of its own, as from different clients.
#[derive(Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    session: Option<String>,
    requests: u64,
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    body: String,
}

/// What the sample server says of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Whoami {
    pub(crate) pod: String,
    pub(crate) calls: u64,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    /// What the sample server says, where this is its answer.
    pub(crate) fn whoami(&self) -> Option<Whoami> {
        let content = self.message()?["result"]["structuredContent"].clone();
        Some(Whoami { pod: content["server"].as_str()?.to_owned(), calls: content["calls"].as_u64()? })
    }

    /// The JSON-RPC message: the body, or the first one of its events.
    pub(crate) fn message(&self) -> Option<Value> {
        let lines = self.body.lines().map(|line| line.strip_prefix("data: ").unwrap_or(line));
        lines.filter(|line| line.starts_with('{')).find_map(|line| serde_json::from_str(line).ok())
    }
}

impl Client {
    /// Initializes a new session.
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let mut client = Self { address, session: None, requests: 0 };
        let params = json!({
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "berth-test", "version": "1"},
        });
        let answer = client.insist(|client| client.request("initialize", &params))?;
        client.session = answer.header("mcp-session-id").map(str::to_owned);
        if answer.status != 200 || client.session.is_none() {
            return Err(Error::new(format!("initialize was answered with {answer:?}")));
        }
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let answer = client.insist(|client| client.post(&initialized))?;
        if answer.status != 202 {
            return Err(Error::new(format!("notifications/initialized was answered with {answer:?}")));
        }
        Ok(client)
    }

    /// Sends what follows to another address.
    pub(crate) fn go_through(&mut self, address: SocketAddr) {
        self.address = address;
    }

    /// One call of the tool that tells who answers, whatever the answer is.
    pub(crate) fn ask(&mut self) -> Result<Answer> {
        self.request("tools/call", &json!({"name": "whoami", "arguments": {}}))
    }

    /// The same, again as long as the answer is "later".
    pub(crate) fn ask_again(&mut self) -> Result<Answer> {
        self.insist(Self::ask)
    }

    /// The same, which has to succeed.
    pub(crate) fn whoami(&mut self) -> Result<Whoami> {
        let answer = self.ask_again()?;
        let whoami = answer.whoami().filter(|_| answer.status == 200);
        whoami.ok_or_else(|| Error::new(format!("whoami was answered with {answer:?}")))
    }

    /// Asks again as long as the answer is "later".
    fn insist(&mut self, mut ask: impl FnMut(&mut Self) -> Result<Answer>) -> Result<Answer> {
        let start = Instant::now();
        loop {
            let answer = ask(self)?;
            if answer.status != 503 || answer.header("retry-after").is_none() || start.elapsed() > PATIENCE {
                return Ok(answer);
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn request(&mut self, method: &str, params: &Value) -> Result<Answer> {
        self.requests += 1;
        self.post(&json!({"jsonrpc": "2.0", "id": self.requests, "method": method, "params": params}))
    }

    fn post(&self, message: &Value) -> Result<Answer> {
        let failed = |error: std::io::Error| Error::new(format!("cannot ask {}: {error}", self.address));
        let body = message.to_string();
        let session = self
            .session
            .as_ref()
            .map(|session| format!("Mcp-Session-Id: {session}\r\nMCP-Protocol-Version: 2025-06-18\r\n"));
        let request = format!(
            "POST /mcp HTTP/1.1\r\nHost: {}\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\n\
             Connection: close\r\n{}Content-Length: {}\r\n\r\n{body}",
            self.address,
            session.unwrap_or_default(),
            body.len()
        );
        let mut stream = TcpStream::connect_timeout(&self.address, REPLY).map_err(failed)?;
        stream.set_read_timeout(Some(REPLY)).map_err(failed)?;
        stream.write_all(request.as_bytes()).map_err(failed)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).map_err(failed)?;
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| Error::new(format!("no answer of HTTP: {text:?}")))?;
        Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
    }
}
