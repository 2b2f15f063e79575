//! The byte stream to a pod. It counts, so that a request is repeated only when that is safe, and it mends.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What is known of the stream from outside. All of it belongs to one thread; it is shared because an upgraded stream may
/// move.
#[derive(Debug, Default)]
pub(crate) struct PodIoState {
    written: AtomicU64,
    read: AtomicU64,
    /// The first write of a request failed: the connection died while it was idle.
    dead_before_write: AtomicBool,
    replacement: Mutex<Option<TcpStream>>,
}

impl PodIoState {
    /// Starts to count anew, for the next request.
    pub(crate) fn begin(&self) {
        self.written.store(0, Relaxed);
        self.read.store(0, Relaxed);
    }

    /// Whether any of the request was written.
    pub(crate) fn has_written(&self) -> bool {
        self.written.load(Relaxed) > 0
    }

    /// Whether any of the response was read.
    pub(crate) fn has_read(&self) -> bool {
        self.read.load(Relaxed) > 0
    }

    /// Whether the stream waits for [`PodIoState::replace`].
    pub(crate) fn wants_replacement(&self) -> bool {
        self.dead_before_write.load(Relaxed)
    }

    /// Goes on over a new connection. Nothing was written over the old one, so the request starts whole.
    pub(crate) fn replace(&self, stream: TcpStream) {
        *self.replacement.lock() = Some(stream);
    }
}

/// A connection to a pod.
#[derive(Debug)]
pub(crate) struct PodIo {
    stream: TcpStream,
    state: Arc<PodIoState>,
    /// Writing failed in the middle of a request. What the server said before it closed may still be read.
    write_failed: bool,
}

impl PodIo {
    pub(crate) fn new(stream: TcpStream) -> (Self, Arc<PodIoState>) {
        let state = Arc::new(PodIoState::default());
        (Self { stream, state: Arc::clone(&state), write_failed: false }, state)
    }

    /// Pending while a replacement is waited for; whoever gives it polls again.
    fn poll_mended(&mut self) -> Poll<()> {
        if self.state.wants_replacement() {
            let Some(stream) = self.state.replacement.lock().take() else { return Poll::Pending };
            self.stream = stream;
            self.state.dead_before_write.store(false, Relaxed);
        }
        Poll::Ready(())
    }
}

/// One thread writes: no read-modify-write is needed.
fn add(counter: &AtomicU64, n: usize) {
    counter.store(counter.load(Relaxed) + n as u64, Relaxed);
}

impl AsyncRead for PodIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_mended());
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        add(&self.state.read, buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for PodIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_mended());
        if self.write_failed {
            return Poll::Ready(Ok(bytes.len()));
        }
        match ready!(Pin::new(&mut self.stream).poll_write(cx, bytes)) {
            Ok(n) => {
                add(&self.state.written, n);
                Poll::Ready(Ok(n))
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Poll::Ready(Err(error)),
            Err(_) if !self.state.has_written() => {
                self.state.dead_before_write.store(true, Relaxed);
                Poll::Pending
            }
            // The server closed before the end of the body; its answer, if there is one, is still to be read.
            Err(_) => {
                self.write_failed = true;
                Poll::Ready(Ok(bytes.len()))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
