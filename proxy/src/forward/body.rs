//! Bodies on their way through: that of a request, and that of a response with the connection it comes over.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::connection::PodConnection;
use super::stream::EventStream;
use crate::pods::PodId;
use crate::worker::Tracked;

/// Why a body ended early.
#[derive(Debug)]
pub enum BodyError {
    /// The client left, or its framing is wrong.
    Client(hyper::Error),
    /// The client sends more than is allowed.
    TooLarge,
    /// The pod left, or its framing is wrong.
    Pod,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => write!(f, "the client's body failed: {error}"),
            Self::TooLarge => f.write_str("the client's body is larger than allowed"),
            Self::Pod => f.write_str("the server's body failed"),
        }
    }
}

impl Error for BodyError {}

/// The body of a request; what was peeked at comes first.
#[derive(Debug)]
pub struct RequestBody {
    peeked: BytesMut,
    fetched: Option<Result<Frame<Bytes>, BodyError>>,
    rest: Option<Incoming>,
    /// How many bytes may still come.
    allowance: u64,
}

impl RequestBody {
    /// A client's body of at most `limit` bytes.
    #[must_use]
    pub fn new(body: Incoming, limit: Option<u64>) -> Self {
        Self { peeked: BytesMut::new(), fetched: None, rest: Some(body), allowance: limit.unwrap_or(u64::MAX) }
    }

    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Self { peeked: BytesMut::new(), fetched: None, rest: None, allowance: 0 }
    }

    /// Reads about `limit` bytes ahead, if there are so many; they stay part of the body, also when this is
    /// cancelled. Tells whether that is all of it, and no more than `limit`.
    pub(crate) async fn peek(&mut self, limit: usize) -> Result<bool, BodyError> {
        while self.fetched.is_some() || !self.rest.as_ref().is_none_or(Body::is_end_stream) {
            if self.peeked.len() >= limit {
                return Ok(false);
            }
            match poll_fn(|cx| self.poll_rest(cx)).await {
                None => break,
                Some(frame) => {
                    if let Some(data) = frame?.data_ref() {
                        self.peeked.extend_from_slice(data);
                    }
                }
            }
        }
        Ok(self.peeked.len() <= limit)
    }

    /// Takes what has come already, so that it goes out with the head in one piece: a system call less.
    pub(crate) async fn fetch(&mut self) {
        if self.is_end_stream() || !self.peeked.is_empty() {
            return;
        }
        let mut asked = false;
        poll_fn(|cx| match self.poll_rest(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(frame) => {
                self.fetched = frame;
                Poll::Ready(())
            }
            Poll::Pending if asked => Poll::Ready(()),
            Poll::Pending => {
                // Now the connection knows that the body is wanted; what it has read is there at the next poll.
                asked = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await;
    }

    /// Reads up to `limit` more bytes and throws them away.
    pub(crate) async fn discard(&mut self, limit: usize) {
        let mut left = limit;
        while let Some(Ok(frame)) = poll_fn(|cx| self.poll_rest(cx)).await {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }

    /// What was peeked at.
    pub(crate) fn peeked(&self) -> &[u8] {
        &self.peeked
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(frame) = self.fetched.take() {
            return Poll::Ready(Some(frame));
        }
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        Pin::new(rest).poll_frame(cx).map(|frame| match frame? {
            Ok(frame) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Some(left) = self.allowance.checked_sub(length) else { return Some(Err(BodyError::TooLarge)) };
                self.allowance = left;
                Some(Ok(frame))
            }
            Err(error) => Some(Err(BodyError::Client(error))),
        })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.peeked.is_empty() {
            let peeked = std::mem::take(&mut self.peeked);
            return Poll::Ready(Some(Ok(Frame::data(peeked.freeze()))));
        }
        self.poll_rest(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.peeked.is_empty() && self.fetched.is_none() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let fetched = self.fetched.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
        let peeked = (self.peeked().len() + fetched) as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + peeked);
        }
        hint.set_lower(hint.lower() + peeked);
        hint
    }
}

/// The body of a response to a client.
pub enum ResponseBody {
    /// The proxy's own answer.
    Own(Option<Bytes>),
    /// A pod's.
    Pod(PodBody),
}

impl ResponseBody {
    /// Of these bytes.
    #[must_use]
    pub fn full(text: String) -> Self {
        Self::Own(Some(Bytes::from(text)).filter(|text| !text.is_empty()))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    #[inline]
    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Pod(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Pod(body) => body.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Pod(body) => body.incoming.size_hint(),
        }
    }
}

/// The connection that a body comes over, and where it goes afterwards.
pub(crate) struct Carrier {
    pub(crate) connection: Box<PodConnection>,
    pub(crate) pod: PodId,
    /// For how many seconds the server keeps it idle.
    pub(crate) keep_alive: Option<u32>,
}

/// The body of a pod's response. While it lasts, the request counts as in flight and its session as in use.
pub struct PodBody {
    incoming: Incoming,
    /// None for HTTP/2, whose connection is shared.
    carrier: Option<Carrier>,
    tracked: Tracked,
    events: Option<Box<EventStream>>,
    ended: bool,
}

impl PodBody {
    pub(crate) fn new(
        incoming: Incoming,
        carrier: Option<Carrier>,
        tracked: Tracked,
        events: Option<Box<EventStream>>,
    ) -> Self {
        let mut body = Self { incoming, carrier, tracked, events, ended: false };
        if body.events.is_none() && body.incoming.is_end_stream() {
            body.end(&mut Context::from_waker(Waker::noop()));
        }
        body
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(mut events) = self.events.take() {
            let worker = Rc::clone(self.tracked.worker());
            let polled = events.poll_frame(cx, &worker, |cx| self.poll_pod(cx));
            if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
                self.end(cx);
            }
            self.events = Some(events);
            return polled;
        }
        let polled = self.poll_pod(cx);
        match &polled {
            Poll::Ready(Some(Ok(_))) if self.incoming.is_end_stream() => self.end(cx),
            Poll::Ready(None | Some(Err(_))) => self.end(cx),
            _ => {}
        }
        polled
    }

    /// The next frame from the pod.
    fn poll_pod(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(carrier) = &mut self.carrier else {
            return Pin::new(&mut self.incoming).poll_frame(cx).map_err(|_| BodyError::Pod);
        };
        carrier.connection.poll_body(cx, &mut self.incoming).map_err(|_| BodyError::Pod)
    }

    /// Gives the connection back, if the whole response was read and the whole request written.
    fn end(&mut self, cx: &mut Context<'_>) {
        self.ended = true;
        let Some(Carrier { mut connection, pod, keep_alive }) = self.carrier.take() else { return };
        if !self.incoming.is_end_stream() {
            return;
        }
        if !connection.is_reusable() {
            connection.drive(cx);
        }
        if connection.is_reusable() {
            self.tracked.worker().keep(pod, connection, keep_alive);
        }
    }
}
