//! A server that holds sessions.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

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
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

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
