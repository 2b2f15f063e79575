//! The body of a request on its way to a pod; what was peeked at comes first.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

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
