//! One HTTP/1.1 connection to a pod, driven by the task whose request it carries: no task of its own, so that a request
//! costs no switch between tasks, and dropping the request closes the connection.

use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, Parts};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::pod_io::{PodIo, PodIoState};
use super::request_body::{BodyError, RequestBody};

/// How long a pod may take to accept a connection.
pub(crate) const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// How long a pod may leave bytes unacknowledged, or probes unanswered, before it counts as silent.
pub(crate) const SILENCE: Duration = Duration::from_secs(10);
/// The largest head of a response.
const MAX_RESPONSE_HEAD: usize = 64 * 1024;

/// Why a request got no response from a pod.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The pod does not accept connections.
    Refused(io::Error),
    /// The connection had ended before any of the request was taken; here it is.
    Unsent(Box<Request<RequestBody>>),
    /// The pod's machine fell silent after the request was sent.
    Silent,
    /// The client's body was malformed, or the client left.
    ClientBody,
    /// The client's body is larger than allowed.
    TooLarge,
    /// The connection ended, or what came was no HTTP.
    Broken,
}

impl Failure {
    /// Whether the pod is to blame, and not the client.
    pub(crate) fn is_the_pods(&self) -> bool {
        !matches!(self, Self::ClientBody | Self::TooLarge)
    }
}

/// A connection to a pod.
pub(crate) struct PodConnection {
    sender: http1::SendRequest<RequestBody>,
    connection: Option<http1::Connection<TokioIo<PodIo>, RequestBody>>,
    /// What is left of the connection when it has ended, or changes the protocol.
    rest: Option<Parts<TokioIo<PodIo>>>,
    io: Arc<PodIoState>,
    gate: Arc<Gate>,
    /// Goes through the gate. The same for all requests, so that the socket need not learn a new one for each.
    waker: Waker,
    address: SocketAddr,
    /// When it was put into the pool, in the worker's milliseconds.
    pub(crate) idle_since: u32,
    /// For how long the pool may keep it, in milliseconds.
    pub(crate) idle_limit: u32,
}

impl PodConnection {
    /// Connects within [`CONNECT_DEADLINE`].
    pub(crate) async fn open(address: SocketAddr) -> Result<Box<Self>, Failure> {
        let stream = connect(address).await.map_err(Failure::Refused)?;
        let (io, state) = PodIo::new(stream);
        let (sender, connection) = http1::Builder::new()
            .writev(false)
            .max_header_size(MAX_RESPONSE_HEAD)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|_| Failure::Broken)?;
        let gate = Arc::<Gate>::default();
        Ok(Box::new(Self {
            sender,
            connection: Some(connection),
            rest: None,
            io: state,
            waker: Waker::from(Arc::clone(&gate)),
            gate,
            address,
            idle_since: 0,
            idle_limit: 0,
        }))
    }

    /// Where it leads.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether any byte of a response to the last request came.
    pub(crate) fn has_read(&self) -> bool {
        self.io.has_read()
    }

    /// Whether the last exchange is complete, on both sides, and another may follow.
    pub(crate) fn is_reusable(&self) -> bool {
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Sends a request and reads the head of the response. The body comes while [`PodConnection::drive`] is called.
    ///
    /// A connection that turns out to be dead before the first byte is replaced by a new one, once.
    pub(crate) async fn exchange(&mut self, request: Request<RequestBody>) -> Result<Response<Incoming>, Failure> {
        self.io.begin();
        let mut response = pin!(self.sender.try_send_request(request));
        let mut mended = false;
        loop {
            let answer = poll_fn(|cx| {
                self.drive(cx);
                // Only driving can bring it, so nobody need wake us for it.
                match response.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(result) => Poll::Ready(Some(result)),
                    Poll::Pending if self.io.wants_replacement() => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                }
            })
            .await;
            match answer {
                Some(Ok(response)) => return Ok(response),
                Some(Err(error)) => return Err(failure(error)),
                None if mended => return Err(Failure::Broken),
                None => {
                    mended = true;
                    self.io.replace(Box::pin(connect(self.address)).await.map_err(Failure::Refused)?);
                }
            }
        }
    }

    /// The bare stream, after a response that changed the protocol, and what was read of it already.
    pub(crate) async fn into_stream(mut self) -> (PodIo, Bytes) {
        let rest = poll_fn(|cx| {
            self.drive(cx);
            self.rest.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        (rest.io.into_inner(), rest.read_buf)
    }

    /// The next frame of a response's body.
    #[inline]
    pub(crate) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Incoming,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // To ask tells the connection that more is wanted, which would wake the task for what it does next anyway.
        let quiet = &mut Context::from_waker(Waker::noop());
        self.gate.closed.store(true, Relaxed);
        let frame = Pin::new(&mut *body).poll_frame(quiet);
        self.gate.closed.store(false, Relaxed);
        if frame.is_ready() {
            return frame;
        }
        self.drive(cx);
        Pin::new(body).poll_frame(quiet)
    }

    /// Moves bytes. What happens to the connection later wakes the calling task.
    #[inline]
    pub(crate) fn drive(&mut self, cx: &Context<'_>) {
        self.gate.leads_to(cx.waker());
        // An error reaches whoever waits for the response or its body.
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(&mut Context::from_waker(&self.waker)).is_ready()
        {
            // Taken apart, it gives back a request that it had not begun.
            self.rest = self.connection.take().map(http1::Connection::into_parts);
        }
    }
}

/// Between a connection and the task that drives it.
#[derive(Default)]
struct Gate {
    task: Mutex<Option<Waker>>,
    closed: AtomicBool,
}

impl Gate {
    fn leads_to(&self, waker: &Waker) {
        let mut task = self.task.lock();
        if !task.as_ref().is_some_and(|task| task.will_wake(waker)) {
            *task = Some(waker.clone());
        }
    }
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.closed.load(Relaxed)
            && let Some(task) = &*self.task.lock()
        {
            task.wake_by_ref();
        }
    }
}

/// Opens a TCP connection whose death is noticed within [`SILENCE`].
pub(crate) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(CONNECT_DEADLINE, TcpStream::connect(address))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    let probes = TcpKeepalive::new().with_time(SILENCE / 2).with_interval(SILENCE / 5);
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(SILENCE))?;
    Ok(stream)
}

fn failure(mut error: TrySendError<Request<RequestBody>>) -> Failure {
    if let Some(request) = error.take_message() {
        return Failure::Unsent(Box::new(request));
    }
    classify(&error.into_error())
}

/// What an error of a connection means for the request.
pub(crate) fn classify(error: &hyper::Error) -> Failure {
    if error.is_timeout() {
        return Failure::Silent;
    }
    let mut cause = error.source();
    while let Some(current) = cause {
        if let Some(body) = current.downcast_ref::<BodyError>() {
            return match body {
                BodyError::TooLarge => Failure::TooLarge,
                BodyError::Client(_) | BodyError::Pod => Failure::ClientBody,
            };
        }
        if let Some(io) = current.downcast_ref::<io::Error>()
            && matches!(
                io.kind(),
                io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable
            )
        {
            return Failure::Silent;
        }
        cause = current.source();
    }
    Failure::Broken
}
