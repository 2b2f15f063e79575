//! What is known of a client's connection outside the task that serves it.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::metrics::Event;

/// How long a connection is read after its last response, so that the client gets all of it (RFC 9112, 9.6).
const LINGER: Duration = Duration::from_secs(2);

/// How long what came last is kept, for a head that follows at once.
const FORGET_AFTER: Duration = Duration::from_secs(1);

/// What a connection is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// Nothing.
    Serve,
    /// End after the request under way.
    Finish,
    /// End now.
    Close,
}

/// What a connection is doing. One thread writes it.
#[derive(Debug, Default)]
pub(crate) struct ConnectionState {
    order: AtomicU8,
    /// Requests under way.
    active: AtomicU32,
    /// The first bytes of a head came, and no request yet.
    in_head: AtomicBool,
    /// The write side is shut; the client's end of stream is awaited.
    lingers: AtomicBool,
    /// Many requests at once, frames that are no requests: heads are not timed.
    http2: AtomicBool,
    /// What comes next is waited for, so that the client's leaving is felt.
    listens: AtomicBool,
    /// Nothing is waited for, and a request is under way: whether the client has left is to be looked at, once.
    watched: AtomicBool,
    /// A stream of events answers the request under way: it may be quiet for ever.
    streams: AtomicBool,
    /// It changed its protocol: what the end of the client's bytes means is for the two sides to say.
    tunnel: AtomicBool,
    /// Since when it has been doing that, in the worker's milliseconds.
    since: AtomicU32,
    waker: Mutex<Option<Waker>>,
    /// What came since the last request began, as far as heads may be in it.
    head: Mutex<Vec<u8>>,
}

impl ConnectionState {
    /// Of a connection that was just accepted.
    pub(crate) fn new(now: u32) -> Self {
        Self { since: AtomicU32::new(now), ..Self::default() }
    }

    /// What to do.
    pub(crate) fn ordered(&self) -> Order {
        match self.order.load(Relaxed) {
            0 => Order::Serve,
            1 => Order::Finish,
            _ => Order::Close,
        }
    }

    /// Tells the connection what to do.
    pub(crate) fn order(&self, order: Order) {
        self.order.store(order as u8, Relaxed);
        self.wake();
    }

    /// Has the client looked at, again and again, if a request is under way and nobody reads: a byte too many, which stays
    /// unread until the response is complete, would hide that the client leaves.
    pub(crate) fn watch(&self) {
        let reads = self.listens.load(Relaxed) || self.tunnel.load(Relaxed);
        if self.active.load(Relaxed) > 0 && !reads {
            self.watched.store(true, Relaxed);
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    /// Says which task serves the connection.
    pub(crate) fn served_by(&self, waker: &Waker) {
        *self.waker.lock() = Some(waker.clone());
    }

    /// Says that the connection speaks HTTP/2.
    pub(crate) fn is_http2(&self) {
        self.http2.store(true, Relaxed);
    }

    /// Says that the connection has changed its protocol.
    pub(crate) fn is_tunnel(&self) {
        self.tunnel.store(true, Relaxed);
        self.watched.store(false, Relaxed);
    }

    /// Says that a stream of events answers the request under way.
    pub(crate) fn is_stream(&self) {
        self.streams.store(true, Relaxed);
    }

    /// A request begins.
    pub(crate) fn begin(&self) {
        self.in_head.store(false, Relaxed);
        self.active.store(self.active.load(Relaxed) + 1, Relaxed);
    }

    /// A request ended.
    pub(crate) fn end(&self, now: u32) {
        self.active.store(self.active.load(Relaxed).saturating_sub(1), Relaxed);
        self.streams.store(false, Relaxed);
        self.since.store(now, Relaxed);
    }

    /// Which limit the connection has run into.
    pub(crate) fn overdue(&self, now: u32, head: Duration, idle: Duration) -> Option<Event> {
        if self.active.load(Relaxed) > 0 {
            return None;
        }
        let since = Duration::from_millis(u64::from(now.wrapping_sub(self.since.load(Relaxed))));
        let timed_head = self.in_head.load(Relaxed) && !self.http2.load(Relaxed);
        if self.lingers.load(Relaxed) {
            (since > LINGER).then_some(Event::IdleTimeout)
        } else if timed_head {
            (since > head).then_some(Event::HeadTimeout)
        } else {
            (since > idle).then_some(Event::IdleTimeout)
        }
    }

    /// Frees what was kept of the last head, once the connection has been idle for a while.
    pub(crate) fn forget_head(&self, now: u32) {
        let since = Duration::from_millis(u64::from(now.wrapping_sub(self.since.load(Relaxed))));
        if self.active.load(Relaxed) == 0 && !self.in_head.load(Relaxed) && since > FORGET_AFTER {
            *self.head.lock() = Vec::new();
        }
    }

    /// Whether the head of this request, which has `Transfer-Encoding`, came with `Content-Length` too: the parser drops
    /// the latter and closes after the response, and another reader may not.
    pub(crate) fn came_with_length(&self, method: &str, target: &str) -> bool {
        came_with_length(&self.head.lock(), method, target)
    }
}

/// Whether a head with this request line is in `text` that has both headers.
fn came_with_length(text: &[u8], method: &str, target: &str) -> bool {
    let request_line = format!("{method} {target}");
    let mut lines = text.split(|byte| *byte == b'\n');
    while let Some(line) = lines.next() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = line.strip_suffix(b" HTTP/1.1").or_else(|| line.strip_suffix(b" HTTP/1.0")).unwrap_or_default();
        // A body may stand before it, without a line's end.
        if !line.ends_with(request_line.as_bytes()) {
            continue;
        }
        let (mut length, mut coding) = (false, false);
        for line in lines.by_ref().take_while(|line| !matches!(*line, b"" | b"\r")) {
            length |= names(line, "content-length");
            coding |= names(line, "transfer-encoding");
        }
        if length && coding {
            return true;
        }
    }
    false
}

fn names(line: &[u8], name: &str) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
        && line.get(name.len()).is_some_and(|byte| matches!(byte, b':' | b' ' | b'\t'))
}

/// A client's connection. What was read to tell the protocol is read again.
#[derive(Debug)]
pub(crate) struct ClientIo {
    stream: TcpStream,
    state: Arc<ConnectionState>,
    clock: Arc<AtomicU32>,
    replay: Vec<u8>,
    /// The most that is kept of a head.
    keep: usize,
    shut: bool,
}

impl ClientIo {
    pub(crate) fn new(
        stream: TcpStream,
        state: Arc<ConnectionState>,
        clock: Arc<AtomicU32>,
        replay: Vec<u8>,
        keep: usize,
    ) -> Self {
        Self { stream, state, clock, replay, keep, shut: false }
    }

    /// Whether the client has left. Whoever ends their bytes after several requests still waits for all responses, so
    /// that alone says it of a stream only, behind which nobody waits for another one. What is unread hides nothing here.
    fn has_left(&self, cx: &mut Context<'_>) -> bool {
        // Never waited for: the next look comes anyway.
        match pin!(self.stream.ready(Interest::READABLE | Interest::WRITABLE)).poll(cx) {
            Poll::Pending => false,
            Poll::Ready(Ok(ready)) => {
                ready.is_write_closed() || (ready.is_read_closed() && self.state.streams.load(Relaxed))
            }
            Poll::Ready(Err(_)) => true,
        }
    }

    /// Takes note of what came.
    fn note(&self, bytes: &[u8]) {
        let state = &self.state;
        if bytes.is_empty() || state.http2.load(Relaxed) {
            return;
        }
        let mut head = state.head.lock();
        if state.active.load(Relaxed) > 0 {
            // The rest of a body, which may end with the head of the next request.
            head.extend_from_slice(bytes);
            if head.len() > 2 * self.keep {
                let old = head.len() - self.keep;
                head.drain(..old);
            }
            return;
        }
        if !state.in_head.load(Relaxed) {
            state.in_head.store(true, Relaxed);
            state.since.store(self.clock.load(Relaxed), Relaxed);
            head.clear();
            head.shrink_to(self.keep / 8);
        }
        if head.len() < self.keep {
            head.extend_from_slice(bytes);
        }
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        self.state.watched.store(false, Relaxed);
        if self.replay.is_empty() {
            let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
            // Nothing more: there is nothing to wait for, and the reader knows it.
            self.state.listens.store(read.is_pending() || buffer.filled().len() == before, Relaxed);
            ready!(read)?;
        } else {
            let n = self.replay.len().min(buffer.remaining());
            buffer.put_slice(&self.replay[..n]);
            self.replay.drain(..n);
        }
        self.note(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    /// Comes with every look at a connection, whether or not there is anything to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.state.watched.swap(false, Relaxed) && self.has_left(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Shuts the write side and reads until the client has done the same: closing with unread bytes would reset the
    /// connection, and the client might lose the response.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.shut = true;
            self.state.since.store(self.clock.load(Relaxed), Relaxed);
            self.state.lingers.store(true, Relaxed);
        }
        let mut scrap = [0; 16 * 1024];
        for _ in 0..16 {
            let mut buffer = ReadBuf::new(&mut scrap);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A connection, and the client's end of it.
    async fn pair() -> (ClientIo, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        (ClientIo::new(stream, Arc::new(ConnectionState::new(0)), Arc::default(), Vec::new(), 1024), client)
    }

    /// Looks at the client until it has left, or so many times.
    async fn leaves(io: &mut ClientIo, looks: u32) -> bool {
        for _ in 0..looks {
            io.state.watch();
            if io.flush().await.is_err() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    #[tokio::test]
    async fn a_client_is_watched_while_a_request_is_under_way_and_nobody_reads() {
        let (mut io, mut client) = pair().await;
        let state = Arc::clone(&io.state);
        client.write_all(b"xyz").await.unwrap();
        io.read_u8().await.unwrap();
        state.watch();
        assert!(!state.watched.load(Relaxed), "no request is under way");
        state.begin();
        assert!(!leaves(&mut io, 3).await);
        client.shutdown().await.unwrap();
        assert!(!leaves(&mut io, 30).await, "it may wait for several responses");
        state.is_stream();
        assert!(leaves(&mut io, 1_000).await, "it was never felt");
        // As it is with a tunnel, whose client may have said all and be there nevertheless.
        state.is_tunnel();
        assert!(!leaves(&mut io, 30).await);
        state.tunnel.store(false, Relaxed);
        assert_eq!(io.read(&mut [0; 8]).await.unwrap(), 2);
        assert_eq!(io.read(&mut [0]).await.unwrap(), 0);
        state.watch();
        assert!(!state.watched.load(Relaxed), "who reads to the end feels it there");
        state.end(0);
        state.begin();
        assert!(!state.streams.load(Relaxed), "that was the last response");
    }

    #[tokio::test]
    async fn a_reset_is_felt_whatever_is_unread_and_awaited() {
        let (mut io, mut client) = pair().await;
        client.write_all(b"xyz").await.unwrap();
        io.read_u8().await.unwrap();
        io.state.begin();
        assert!(!leaves(&mut io, 3).await);
        client.set_zero_linger().unwrap();
        drop(client);
        assert!(leaves(&mut io, 1_000).await, "it was never felt");
    }

    #[test]
    fn both_headers_in_one_head_are_found() {
        let both = b"POST /m HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
        assert!(came_with_length(both, "POST", "/m"));
        assert!(!came_with_length(both, "POST", "/other"), "nothing is known of its head");
        let pipelined =
            b"POST /a HTTP/1.1\r\nContent-Length: 1\r\n\r\nxPOST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(!came_with_length(pipelined, "POST", "/a") && !came_with_length(pipelined, "POST", "/b"));
        let second = [&pipelined[..], &both[..]].concat();
        assert!(came_with_length(&second, "POST", "/m") && !came_with_length(&second, "POST", "/b"));
    }

    #[test]
    fn what_is_kept_of_a_head_is_freed_when_the_connection_is_idle() {
        let state = ConnectionState::new(0);
        let keeps = |state: &ConnectionState| state.head.lock().capacity() > 0;
        state.head.lock().extend_from_slice(b"POST /m HTTP/1.1\r\n");
        state.begin();
        state.forget_head(5_000);
        assert!(keeps(&state), "a request is under way");
        state.end(5_000);
        state.forget_head(6_000);
        assert!(keeps(&state), "another may follow");
        state.in_head.store(true, Relaxed);
        state.forget_head(7_000);
        assert!(keeps(&state), "another began");
        state.in_head.store(false, Relaxed);
        state.forget_head(7_000);
        assert!(!keeps(&state));
    }

    #[test]
    fn a_connection_is_overdue_in_its_head_or_when_idle_but_never_during_a_request() {
        let state = ConnectionState::new(5_000);
        let (head, idle) = (Duration::from_secs(10), Duration::from_secs(100));
        assert_eq!(state.overdue(105_001, head, idle), Some(Event::IdleTimeout));
        assert_eq!(state.overdue(105_000, head, idle), None);
        state.in_head.store(true, Relaxed);
        assert_eq!(state.overdue(15_001, head, idle), Some(Event::HeadTimeout));
        state.begin();
        assert_eq!(state.overdue(1_000_000, head, idle), None);
        state.end(1_000_000);
        assert_eq!(state.overdue(1_050_000, head, idle), None);
    }
}
