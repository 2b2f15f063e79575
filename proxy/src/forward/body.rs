//! The body of a response on its way to the client, with the connection it comes over.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::stream::EventStream;
use crate::pods::PodId;
use crate::upstream::{BodyError, PodConnection};
use crate::worker::Tracked;

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
    pub fn full(bytes: Bytes) -> Self {
        Self::Own(Some(bytes).filter(|bytes| !bytes.is_empty()))
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
            Self::Pod(body) => body.ended && body.failure.is_none(),
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
    /// Why it ended early, as long as that was not told.
    failure: Option<BodyError>,
}

impl PodBody {
    pub(crate) fn new(
        incoming: Incoming,
        carrier: Option<Carrier>,
        tracked: Tracked,
        events: Option<Box<EventStream>>,
    ) -> Self {
        let mut body = Self { incoming, carrier, tracked, events, ended: false, failure: None };
        if body.events.is_none() && body.incoming.is_end_stream() {
            body.end(&mut Context::from_waker(Waker::noop()));
        }
        body
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(self.failure.take().map(Err));
        }
        if let Some(mut events) = self.events.take() {
            let worker = Rc::clone(self.tracked.worker());
            let polled = events.poll_frame(cx, &worker, |cx| self.poll_pod(cx));
            self.events = Some(events);
            return match polled {
                Poll::Ready(Some(Err(error))) => self.fail(cx, error),
                Poll::Ready(None) => {
                    self.end(cx);
                    polled
                }
                _ => polled,
            };
        }
        let polled = self.poll_pod(cx);
        match polled {
            Poll::Ready(Some(Err(error))) => return self.fail(cx, error),
            Poll::Ready(Some(Ok(_))) if self.incoming.is_end_stream() => self.end(cx),
            Poll::Ready(None) => self.end(cx),
            _ => {}
        }
        polled
    }

    /// Ends the body too early. An error makes the client's connection throw away what it has not written yet, so there
    /// is a pause before it, in which that is written.
    fn fail(&mut self, cx: &mut Context<'_>, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.end(cx);
        self.failure = Some(error);
        cx.waker().wake_by_ref();
        Poll::Pending
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
