//! A plain client.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::PATIENCE;

/// A response, as the client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The session that the response gives out.
    pub fn session(&self) -> String {
        self.header("mcp-session-id").expect("a session").to_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {:?}", self.body))
    }
}

/// A client that writes what it is told to.
pub struct Client {
    pub stream: TcpStream,
    pub read: Vec<u8>,
}

pub const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;
pub const CALL: &str = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{}}"#;

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.unwrap()
    }

    pub async fn try_connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { stream: TcpStream::connect(address).await?, read: Vec::new() })
    }

    pub async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    pub async fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        self.ask(method, target, headers, body).await;
        self.reply().await.unwrap()
    }

    /// Sends a request, and does not wait for the response.
    pub async fn ask(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) {
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: example.test\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        self.write(&format!("{text}\r\n{body}")).await;
    }

    pub async fn get(&mut self, target: &str, headers: &[(&str, &str)]) -> Reply {
        self.request("GET", target, headers, "").await
    }

    /// A message of a session, or of none.
    pub async fn post(&mut self, session: Option<&str>, body: &str) -> Reply {
        let headers: Vec<_> = session.map(|id| ("Mcp-Session-Id", id)).into_iter().collect();
        self.request("POST", "/mcp", &headers, body).await
    }

    /// Reads until a text has come.
    pub async fn read_to(&mut self, end: &str) -> io::Result<String> {
        let find = |read: &[u8]| read.windows(end.len()).position(|window| window == end.as_bytes());
        loop {
            if let Some(at) = find(&self.read) {
                let rest = self.read.split_off(at + end.len());
                let text = std::mem::replace(&mut self.read, rest);
                return Ok(String::from_utf8_lossy(&text).into_owned());
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        let n = tokio::time::timeout(PATIENCE, self.stream.read(&mut bytes)).await??;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read.extend_from_slice(&bytes[..n]);
        Ok(())
    }

    /// Reads a response's head.
    pub async fn head(&mut self) -> io::Result<Reply> {
        let head = self.read_to("\r\n\r\n").await?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok(Reply { status: status.unwrap_or_default(), head, body: String::new() })
    }

    /// Reads a response.
    pub async fn reply(&mut self) -> io::Result<Reply> {
        let mut reply = self.head().await?;
        if reply.status == 100 {
            reply = self.head().await?;
        }
        if let Some(length) = reply.header("content-length").map(|length| length.parse::<usize>().unwrap()) {
            while self.read.len() < length {
                self.more().await?;
            }
            let rest = self.read.split_off(length);
            reply.body = String::from_utf8_lossy(&std::mem::replace(&mut self.read, rest)).into_owned();
        } else if reply.header("transfer-encoding").is_some() {
            while let Some(chunk) = self.chunk().await? {
                reply.body.push_str(&chunk);
            }
        }
        Ok(reply)
    }

    /// Reads one chunk of a chunked body; `None` is the last.
    pub async fn chunk(&mut self) -> io::Result<Option<String>> {
        let length = self.read_to("\r\n").await?;
        let length = usize::from_str_radix(length.trim(), 16).map_err(io::Error::other)?;
        while self.read.len() < length + 2 {
            self.more().await?;
        }
        let rest = self.read.split_off(length + 2);
        let mut chunk = std::mem::replace(&mut self.read, rest);
        chunk.truncate(length);
        Ok((length > 0).then(|| String::from_utf8_lossy(&chunk).into_owned()))
    }

    /// As [`Client::post`]; an error when the connection breaks first.
    pub async fn try_post(&mut self, session: Option<&str>, body: &str) -> io::Result<Reply> {
        let session = session.map(|id| format!("Mcp-Session-Id: {id}\r\n")).unwrap_or_default();
        let length = body.len();
        let head = format!("POST /mcp HTTP/1.1\r\nHost: example.test\r\n{session}Content-Length: {length}\r\n\r\n");
        self.stream.write_all(format!("{head}{body}").as_bytes()).await?;
        self.reply().await
    }

    /// Whether the other side has closed.
    pub async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        matches!(tokio::time::timeout(PATIENCE, self.stream.read(&mut byte)).await, Ok(Ok(0) | Err(_)))
    }
}
