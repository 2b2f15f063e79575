//! Threads, sockets and connections: from an accepted socket to one request at a time.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http::header::{self, HeaderValue};
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};

use crate::connection_state::{ClientIo, ConnectionState, Order};
use crate::drain::Stage;
use crate::forward::body::ResponseBody;
use crate::forward::headers::Client;
use crate::forward::{self, ClientConnection};
use crate::metrics::Event;
use crate::proxy::unbindable;
use crate::upstream::h2::Local;
use crate::worker::{LAST_REQUEST, Shared, Worker};

/// How long a client may be silent before its machine is asked whether it is still there.
const PROBE_AFTER: Duration = Duration::from_secs(60);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;
/// What an HTTP/2 connection without TLS begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Streams of one HTTP/2 connection at the same time.
const STREAMS: u32 = 256;
/// Polls between two looks at the sockets. Each look costs a system call; under load there is always something to poll.
const EVENT_INTERVAL: u32 = 61;
/// What a connection above the limit gets.
const TURNED_AWAY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// The threads that serve clients.
#[derive(Debug)]
pub struct Threads {
    /// Where clients connect.
    pub address: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Binds `listen` once for each of `count` threads, and starts them. The kernel spreads connections over them.
    ///
    /// # Errors
    /// The address cannot be bound, or a thread cannot be started.
    pub fn start(shared: &Arc<Shared>, listen: SocketAddr, count: usize) -> io::Result<Self> {
        let first = bind(listen).map_err(|error| unbindable(listen, error))?;
        let address = first.local_addr()?;
        let mut sockets = vec![first];
        for _ in 1..count {
            sockets.push(bind(address).map_err(|error| unbindable(address, error))?);
        }
        let mut threads = Vec::with_capacity(count);
        for (index, socket) in sockets.into_iter().enumerate() {
            let shared = Arc::clone(shared);
            let run = move || {
                if let Err(error) = run_thread(shared, index, socket) {
                    tracing::error!(%error, "a thread of the proxy ended");
                }
            };
            threads.push(std::thread::Builder::new().name(format!("proxy-{index}")).spawn(run)?);
        }
        Ok(Self { address, threads })
    }

    /// Waits for the threads to end, which they do at the end of the drain.
    pub fn join(self) {
        for thread in self.threads {
            // A panic was reported by the thread itself.
            let _ = thread.join();
        }
    }

    /// Whether a thread has ended, which it does only at the end of the drain.
    #[must_use]
    pub fn any_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    // A client that vanished from the network would hold its stream, and with it its session, for ever.
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_AFTER / 4))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn run_thread(shared: Arc<Shared>, index: usize, socket: TcpListener) -> io::Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let worker = Worker::new(shared, index);
        let listener = tokio::net::TcpListener::from_std(socket)?;
        tokio::task::spawn_local(Rc::clone(&worker).tick());
        accept(&worker, listener).await;
        worker.wait_for_the_end().await;
        Ok(())
    })
}

/// Accepts connections until the drain says otherwise, and those that came before it said so.
async fn accept(worker: &Rc<Worker>, listener: tokio::net::TcpListener) {
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = worker.wait_for_drain() => break,
        };
        match accepted {
            Ok((stream, peer)) => take(worker, stream, peer),
            Err(error) => {
                // Out of file descriptors, most likely: without a pause this would spin.
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    for _ in 0..BACKLOG {
        let Ok(Ok((stream, peer))) = tokio::time::timeout(Duration::ZERO, listener.accept()).await else { break };
        take(worker, stream, peer);
    }
}

/// Serves a connection, unless there are too many.
fn take(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr) {
    let open = worker.shared.connections.fetch_add(1, Relaxed);
    if open < worker.shared.limits.connections {
        tokio::task::spawn_local(serve(Rc::clone(worker), stream, peer));
    } else {
        worker.shared.connections.fetch_sub(1, Relaxed);
        worker.counters().event(Event::ConnectionLimit);
        tokio::task::spawn_local(turn_away(stream));
    }
}

/// Tells a client that there are too many, and reads what it sends, so that it gets to see it.
async fn turn_away(mut stream: TcpStream) {
    let told = async {
        stream.write_all(TURNED_AWAY).await?;
        stream.shutdown().await?;
        let mut scrap = [0; 1024];
        for _ in 0..64 {
            if stream.read(&mut scrap).await? == 0 {
                break;
            }
        }
        io::Result::Ok(())
    };
    // Best effort: the connection is closed either way.
    let _ = tokio::time::timeout(Duration::from_secs(1), told).await;
}

/// Serves one connection of a client.
async fn serve(worker: Rc<Worker>, mut stream: TcpStream, peer: SocketAddr) {
    let state = Arc::new(ConnectionState::new(worker.clock().load(Relaxed)));
    let _entered = worker.enter(Arc::clone(&state));
    let limits = &worker.shared.limits;
    let start = tokio::select! {
        start = tokio::time::timeout(limits.idle_timeout, read_start(&mut stream)) => start,
        // What never sent anything is not waited for.
        () = worker.wait_for_drain() => tokio::time::timeout(LAST_REQUEST, read_start(&mut stream)).await,
    };
    let Ok(Ok(start)) = start else { return };
    if start.is_empty() {
        return;
    }
    let is_http2 = start == PREFACE;
    let io = ClientIo::new(stream, Arc::clone(&state), Arc::clone(worker.clock()), start, limits.head);
    let io = TokioIo::new(io);
    let connection = Rc::new(ClientConnection { state: Arc::clone(&state), client: Client::new(peer.ip()) });
    let service = service_fn(|request| answer(Rc::clone(&worker), Rc::clone(&connection), request));
    if is_http2 {
        state.is_http2();
        let http2 = http2::Builder::new(Local)
            .timer(TokioTimer::new())
            .keep_alive_interval(limits.idle_timeout / 4)
            .keep_alive_timeout(limits.head_timeout)
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(u32::try_from(limits.head).unwrap_or(u32::MAX))
            .auto_date_header(false)
            .serve_connection(io, service);
        let mut http2 = pin!(http2);
        // What went wrong with a client's connection is the client's to know.
        let _ = drive(&state, |cx, finish| {
            if finish {
                http2.as_mut().graceful_shutdown();
            }
            http2.as_mut().poll(cx)
        })
        .await;
        return;
    }
    let http1 = http1::Builder::new()
        .writev(false)
        .header_read_timeout(None)
        .max_header_size(limits.head)
        .auto_date_header(false)
        .serve_connection(io, service)
        .with_upgrades();
    let mut http1 = pin!(http1);
    // Told to finish, it goes on: its next response says that it closes, or it is idle and closed for that. Closing after
    // a response that did not say so would meet the client's next request.
    let ended = drive(&state, |cx, _finish| http1.as_mut().poll(cx)).await;
    if let Some(Err(error)) = ended
        && error.is_parse_too_large()
    {
        worker.counters().event(Event::HeadLimit);
    }
}

/// Polls a connection until it ends, or is told to. `poll` is told once when it is to finish.
async fn drive<T>(state: &ConnectionState, mut poll: impl FnMut(&mut Context<'_>, bool) -> Poll<T>) -> Option<T> {
    let (mut known, mut told) = (false, false);
    poll_fn(|cx| {
        if !known {
            state.served_by(cx.waker());
            known = true;
        }
        let order = state.ordered();
        if order == Order::Close {
            return Poll::Ready(None);
        }
        let finish = order == Order::Finish && !told;
        told |= finish;
        poll(cx, finish).map(Some)
    })
    .await
}

/// Reads until it is clear whether the client speaks HTTP/2; empty when it left.
async fn read_start(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(PREFACE.len());
    while start.len() < PREFACE.len() && PREFACE.starts_with(&start) {
        let mut rest = [0; PREFACE.len()];
        let n = stream.read(&mut rest[start.len()..]).await?;
        if n == 0 {
            break;
        }
        let from = start.len();
        start.extend_from_slice(&rest[from..from + n]);
    }
    Ok(start)
}

async fn answer(
    worker: Rc<Worker>,
    connection: Rc<ClientConnection>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let begun = Instant::now();
    let version = request.version();
    let (route, mut response) = forward::serve(&worker, &connection, request).await;
    if worker.stage() >= Stage::LameDuck && version < Version::HTTP_2 && response.status().as_u16() != 101 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    worker.counters().answered(route, response.status().as_u16(), begun.elapsed());
    Ok(response)
}
