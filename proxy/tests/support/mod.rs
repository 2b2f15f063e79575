//! Small servers and a plain client, for the tests of a whole replica.
#![allow(missing_docs, dead_code, unreachable_pub, reason = "each test file has it as a module, and uses its part")]

pub mod dns;

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use berth_proxy::drain::Pauses;
use berth_proxy::pods::{Backend, Naming, Pods};
use berth_proxy::proxy::{Proxy, ProxySettings};
use berth_proxy::route::Names;
use berth_proxy::session::{Identity, SessionSettings, Sessions};
use berth_proxy::worker::Limits;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// More than anything here takes, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a condition.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never came true: {what}"));
}

/// A request that a pod saw.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

type PodBody = BoxBody<Bytes, Infallible>;

/// A server that holds sessions. It answers as MCP servers do, and differs where a test says so.
pub struct Pod {
    pub address: SocketAddr,
    pub state: Arc<PodState>,
    task: JoinHandle<()>,
}

#[derive(Default)]
pub struct PodState {
    name: String,
    pub seen: Mutex<Vec<Seen>>,
    pub sessions: Mutex<HashSet<String>>,
    /// Streams of events that are open, by session.
    pub streams: Mutex<HashMap<String, mpsc::UnboundedSender<Bytes>>>,
    /// Streams that their clients left.
    pub left: AtomicUsize,
    /// The ids it gives out, instead of its own.
    pub ids: Mutex<Vec<String>>,
    /// Another session that the next answer to a known one gives out.
    pub another: Mutex<Option<String>>,
    /// The status of all answers, instead of the right one.
    pub status: Mutex<Option<StatusCode>>,
    next: AtomicUsize,
}

impl Pod {
    pub async fn start(name: &str) -> Self {
        Self::start_on(name, TcpListener::bind("127.0.0.1:0").await.unwrap()).await
    }

    pub async fn start_on(name: &str, listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let state = Arc::new(PodState { name: name.to_owned(), ..PodState::default() });
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&shared);
                connections.spawn(async move {
                    let service = service_fn(|request| answer(Arc::clone(&state), request));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
                });
            }
        });
        Self { address, state, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().clone()
    }

    /// Sends bytes over an open stream.
    pub fn send(&self, session: &str, bytes: &'static str) {
        self.state.streams.lock()[session].send(Bytes::from(bytes)).unwrap();
    }

    /// Stops accepting, and drops all connections.
    pub fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(state: Arc<PodState>, request: Request<Incoming>) -> Result<Response<PodBody>, Infallible> {
    let (mut head, body) = request.into_parts();
    let upgrade = head.extensions.remove::<hyper::upgrade::OnUpgrade>();
    let path = head.uri.path().to_owned();
    if path == "/early" {
        // Answers before the body came.
        return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, "too large"));
    }
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let seen = Seen {
        method: head.method.clone(),
        target: head.uri.to_string(),
        headers: head.headers.clone(),
        body: body.clone(),
    };
    state.seen.lock().push(seen);
    if let Some(status) = *state.status.lock() {
        return Ok(plain(status, "as told"));
    }
    if path == "/upgrade"
        && let Some(upgrade) = upgrade
    {
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            let mut bytes = [0; 5];
            stream.read_exact(&mut bytes).await.unwrap();
            bytes.reverse();
            stream.write_all(&bytes).await.unwrap();
        });
        let response = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "mirror");
        return Ok(response.body(Full::new(Bytes::new()).boxed()).unwrap());
    }
    let named = head.headers.get("mcp-session-id").map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
    let known = named.as_ref().is_some_and(|id| state.sessions.lock().contains(id));
    let response = match (&head.method, path.as_str()) {
        (&Method::GET, "/sse") => {
            let id = state.new_id();
            let stream = state.stream(&id);
            let first = format!("event: endpoint\ndata: /messages?sessionId={id}\n\n");
            state.streams.lock()[&id].send(Bytes::from(first)).unwrap();
            events(stream)
        }
        (&Method::POST, "/messages") => {
            let id = head.uri.query().and_then(|query| query.strip_prefix("sessionId=")).unwrap_or_default();
            let known = state.streams.lock().contains_key(id);
            let status = if known { StatusCode::ACCEPTED } else { StatusCode::NOT_FOUND };
            plain(status, "")
        }
        (&Method::GET, "/mcp") if known => events(state.stream(&named.unwrap_or_default())),
        (&Method::GET, "/ticks") if known => {
            let last = head.headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
            events(state.ticks(last.unwrap_or(0)))
        }
        (&Method::DELETE, "/mcp") => {
            let ended = named.is_some_and(|id| state.sessions.lock().remove(&id));
            plain(if ended { StatusCode::OK } else { StatusCode::NOT_FOUND }, "")
        }
        (&Method::POST, "/mcp") => match named {
            Some(id) if known => {
                let another = state.another.lock().take();
                state.sessions.lock().extend(another.clone());
                with_session(plain(StatusCode::OK, &state.name), &[another.unwrap_or(id)])
            }
            Some(_) => plain(StatusCode::NOT_FOUND, "no such session"),
            None => {
                let given = std::mem::take(&mut *state.ids.lock());
                let given = if given.is_empty() { vec![state.new_session()] } else { given };
                with_session(plain(StatusCode::OK, &state.name), &given)
            }
        },
        (&Method::POST, "/stream") => events(state.stream("stream")),
        (_, "/missing") => plain(StatusCode::NOT_FOUND, "nothing here"),
        _ => plain(StatusCode::OK, &state.name),
    };
    Ok(response)
}

impl PodState {
    fn new_id(&self) -> String {
        format!("{}-{}", self.name, self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn new_session(&self) -> String {
        let id = self.new_id();
        self.sessions.lock().insert(id.clone());
        id
    }

    fn stream(
        self: &Arc<Self>,
        id: &str,
    ) -> impl futures_core::Stream<Item = Result<Frame<Bytes>, Infallible>> + use<> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.streams.lock().insert(id.to_owned(), sender);
        Events { receiver, state: Arc::clone(self) }
    }

    /// Numbered events after `last`, each in two pieces.
    fn ticks(
        self: &Arc<Self>,
        last: u64,
    ) -> impl futures_core::Stream<Item = Result<Frame<Bytes>, Infallible>> + use<> {
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for number in last + 1.. {
                let (start, end) = (format!("id: {number}\nda"), format!("ta: {number}\n\n"));
                for piece in [start, end] {
                    if sender.send(Bytes::from(piece)).is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        });
        Events { receiver, state: Arc::clone(self) }
    }
}

struct Events {
    receiver: mpsc::UnboundedReceiver<Bytes>,
    state: Arc<PodState>,
}

impl futures_core::Stream for Events {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.receiver.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.state.left.fetch_add(1, Ordering::Relaxed);
    }
}

fn events(
    stream: impl futures_core::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + Sync + 'static,
) -> Response<PodBody> {
    let body = BodyExt::boxed(StreamBody::new(stream));
    Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
}

fn plain(status: StatusCode, text: &str) -> Response<PodBody> {
    let body = Full::new(Bytes::from(text.to_owned())).boxed();
    Response::builder().status(status).body(body).unwrap()
}

fn with_session(mut response: Response<PodBody>, ids: &[String]) -> Response<PodBody> {
    for id in ids {
        response.headers_mut().append("mcp-session-id", HeaderValue::from_bytes(id.as_bytes()).unwrap());
    }
    response
}

/// How a replica differs from the usual one.
pub struct Replica {
    pub settings: ProxySettings,
    pub ttl: Duration,
    pub max_sessions: usize,
}

impl Default for Replica {
    fn default() -> Self {
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        Self {
            settings: ProxySettings {
                listen: any,
                admin: Some(any),
                threads: 1,
                limits: Limits::default(),
                names: Names::default(),
                pauses: Pauses { lame_duck: Duration::ZERO, drain: Duration::from_millis(300) },
            },
            ttl: Duration::from_secs(60),
            max_sessions: 1_000,
        }
    }
}

impl Replica {
    /// Starts it before these backends, with sessions in memory.
    pub async fn start(self, backends: &[String]) -> Proxy {
        let backends = backends.iter().map(|url| Backend::parse(url).unwrap()).collect();
        let naming = Naming::Fixed(backends);
        let sessions = Sessions::in_memory(SessionSettings {
            identity: Identity { namespace: "-".into(), name: "test".into() },
            naming: naming.clone(),
            ttl: self.ttl,
            cache_size: 1_000,
            max_sessions: self.max_sessions,
        });
        self.start_with(sessions, Pods::new(naming, None).unwrap()).await
    }

    /// Starts it with these sessions and pods, and waits until it is ready.
    pub async fn start_with(self, sessions: Arc<Sessions>, pods: Pods) -> Proxy {
        let proxy = Proxy::start(self.settings, sessions, Arc::new(pods)).await.unwrap();
        let admin = proxy.admin.unwrap();
        let ready = async {
            while Client::connect(admin).await.get("/readyz", &[]).await.status != 200 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.expect("the replica never became ready");
        proxy
    }
}

/// Starts the usual replica.
pub async fn proxy(pods: &[&Pod]) -> Proxy {
    Replica::default().start(&pods.iter().map(|pod| pod.url()).collect::<Vec<_>>()).await
}

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

/// A server that does what it is told with each connection.
pub async fn raw_server<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Reads a request's head from a connection.
pub async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
            break;
        }
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}
