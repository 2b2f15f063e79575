//! A response of server-sent events: the session that its first event may make, and an end between two events.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;

use super::events::{Boundary, EventIds, FirstEvent, Start};
use crate::metrics::Event;
use crate::pods::PodId;
use crate::route::request::query_session;
use crate::session::{self, InUse, PathTag, PinMode, PinOutcome, SessionKey, UnpinReason};
use crate::upstream::BodyError;
use crate::worker::{StreamSlot, Worker};

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

/// What is to be known when the first event makes a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) pod: PodId,
    pub(crate) path: PathTag,
}

/// A stream of events on its way through.
pub(crate) struct EventStream {
    first: First,
    boundary: Boundary,
    /// Until the client can come back for the rest, where the stream answers a request that cannot be repeated.
    ids: Option<EventIds>,
    slot: StreamSlot,
    session: Option<EndsWithStream>,
    done: bool,
}

enum First {
    /// Not complete yet.
    Awaited(FirstEvent, Origin),
    /// It made a session, which is being pinned. The bytes follow when that is done.
    Pinning(Pin<Box<dyn Future<Output = PinOutcome>>>, SessionKey, Origin, Bytes),
    /// Everything passes.
    Passed,
}

impl EventStream {
    /// `origin` when the first event may make a session. A stream that is `repeatable` can be asked for again, as a GET
    /// can; another one can be resumed once an event had an id, and is not ended before that.
    pub(crate) fn new(worker: &Rc<Worker>, origin: Option<Origin>, repeatable: bool) -> Box<Self> {
        let first = origin.map_or(First::Passed, |origin| First::Awaited(FirstEvent::default(), origin));
        let slot = StreamSlot::new(worker);
        let ids = (!repeatable).then(EventIds::default);
        Box::new(Self { first, boundary: Boundary::default(), ids, slot, session: None, done: false })
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Rc<Worker>,
        mut poll_pod: impl FnMut(&mut Context<'_>) -> Polled,
    ) -> Polled {
        loop {
            if self.done {
                return Poll::Ready(None);
            }
            if let First::Pinning(pinning, key, origin, held) = &mut self.first {
                let outcome = ready!(pinning.as_mut().poll(cx));
                let (key, origin, held) = (*key, *origin, std::mem::take(held));
                self.first = First::Passed;
                if outcome != PinOutcome::Pinned {
                    if outcome != PinOutcome::Unavailable
                        && let Some(session) = self.session.take()
                    {
                        session.was_not_pinned();
                    }
                    tracing::warn!(session = %key, ?outcome, "a stream's session cannot be pinned; the stream is closed");
                    worker.counters().event(Event::StreamUnpinned);
                    self.done = true;
                    return Poll::Ready(Some(Err(BodyError::Pod)));
                }
                let pin = session::Pin { pod: origin.pod, path: origin.path };
                if let Some(session) = &mut self.session {
                    session.in_use = Some(worker.shared.sessions.in_use(key, pin));
                }
                return self.pass(held);
            }
            self.slot.register(cx);
            let ending = worker.is_ending_streams() && self.ids.is_none();
            if ending && self.boundary.is_between_events() {
                return self.cut(worker, None);
            }
            let frame = match ready!(poll_pod(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    self.done = true;
                    let rest = if let First::Awaited(first, _) = &mut self.first { first.rest() } else { Bytes::new() };
                    return if rest.is_empty() { Poll::Ready(None) } else { self.pass(rest) };
                }
            };
            let bytes = match frame.into_data() {
                Ok(bytes) => bytes,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            };
            if ending && let Some(end) = self.boundary.last_end(&bytes) {
                return self.cut(worker, Some(bytes.slice(..end)));
            }
            let bytes = self.look_at_start(worker, bytes);
            if !bytes.is_empty() {
                return self.pass(bytes);
            }
        }
    }

    /// What may pass of these bytes.
    fn look_at_start(&mut self, worker: &Rc<Worker>, bytes: Bytes) -> Bytes {
        let First::Awaited(first, origin) = &mut self.first else { return bytes };
        match first.feed(&bytes) {
            Start::Undecided(comments) => comments,
            Start::Other(bytes) => {
                self.first = First::Passed;
                bytes
            }
            Start::Endpoint(uri, held) => {
                let origin = *origin;
                let query = uri.split_once('?').map_or("", |(_, query)| query.split('#').next().unwrap_or_default());
                let Ok(Some(id)) = query_session(query) else {
                    self.first = First::Passed;
                    return held;
                };
                let sessions = std::sync::Arc::clone(&worker.shared.sessions);
                let key = sessions.key(&id);
                // Its client may leave, or the store confirm too late: the pin must not outlive the stream then either.
                self.session = Some(EndsWithStream::new(worker, key, origin.pod));
                let pinning =
                    Box::pin(async move { sessions.pin(&key, origin.pod, origin.path, PinMode::First).await });
                self.first = First::Pinning(pinning, key, origin, held);
                Bytes::new()
            }
        }
    }

    fn pass(&mut self, bytes: Bytes) -> Polled {
        self.boundary.pass(&bytes);
        if self.ids.as_mut().is_some_and(|ids| ids.pass(&bytes)) {
            self.ids = None;
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    /// Ends the stream, after the rest of an event.
    fn cut(&mut self, worker: &Worker, rest: Option<Bytes>) -> Polled {
        worker.counters().event(Event::StreamDrained);
        self.done = true;
        Poll::Ready(rest.map(|rest| Ok(Frame::data(rest))))
    }
}

/// A session of the HTTP+SSE transport: it ends with its stream.
struct EndsWithStream {
    worker: Rc<Worker>,
    key: SessionKey,
    pod: PodId,
    may_be_pinned: bool,
    /// Once it is pinned, it lives for as long as its stream, whether or not anything is sent.
    in_use: Option<InUse>,
}

impl EndsWithStream {
    fn new(worker: &Rc<Worker>, key: SessionKey, pod: PodId) -> Self {
        Self { worker: Rc::clone(worker), key, pod, may_be_pinned: true, in_use: None }
    }

    fn was_not_pinned(mut self) {
        self.may_be_pinned = false;
    }
}

impl Drop for EndsWithStream {
    fn drop(&mut self) {
        if !self.may_be_pinned {
            return;
        }
        let (sessions, key, pod) = (std::sync::Arc::clone(&self.worker.shared.sessions), self.key, self.pod);
        // The client hears of it when it is pinned.
        let reason = if self.in_use.is_some() { UnpinReason::StreamEnded } else { UnpinReason::Orphaned };
        let unpin = async move { sessions.unpin(&key, pod, reason).await };
        self.worker.shared.background.spawn(unpin);
    }
}
