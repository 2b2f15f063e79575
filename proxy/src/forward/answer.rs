//! From a pod's response to the client's: what it means for the session happens before any of it is passed on.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode, Uri, Version, request};
use http_body::Body;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;

use super::body::{Carrier, PodBody, ResponseBody};
use super::headers::{forward_request, forward_response, join_cookies};
use super::send::{Sent, send, to_pod};
use super::stream::{EventStream, Origin};
use super::{ClientConnection, answer_to, kept, refuse};
use crate::errors::Answer;
use crate::metrics::Event;
use crate::pods::PodId;
use crate::route::request::SESSION_HEADER;
use crate::route::response::{self, Ended};
use crate::route::{Kind, SessionId, Source, Standing};
use crate::session::{PathTag, Pin, PinMode, PinOutcome, SessionKey, UnpinReason};
use crate::upstream::RequestBody;
use crate::worker::{Tracked, Worker};

/// A request, as far as its response has to do with it.
pub(super) struct Call {
    pub(super) tracked: Tracked,
    pub(super) kind: Kind,
    session: Option<(Source, SessionKey)>,
    /// The session header as the client wrote it: most responses repeat it.
    session_header: Option<HeaderValue>,
    pub(super) sessionless: bool,
    uri: Uri,
    origin: Option<HeaderValue>,
    /// The client waits to be asked for its body.
    pub(super) expects: bool,
    upgrade: Option<OnUpgrade>,
}

impl Call {
    pub(super) fn new(
        tracked: Tracked,
        kind: Kind,
        session: Option<(Source, SessionKey)>,
        sessionless: bool,
        head: &request::Parts,
    ) -> Self {
        Self {
            tracked,
            kind,
            session,
            session_header: kept(&head.headers, &SESSION_HEADER),
            sessionless,
            uri: head.uri.clone(),
            origin: kept(&head.headers, &header::ORIGIN),
            expects: head.headers.contains_key(header::EXPECT),
            upgrade: None,
        }
    }

    pub(super) fn worker(&self) -> &Rc<Worker> {
        self.tracked.worker()
    }

    /// The session that the client named has ended.
    pub(super) fn start_anew(&mut self) {
        self.session = None;
        self.session_header = None;
    }

    /// Makes the head that of the request to the pod.
    pub(super) fn prepare(&mut self, head: &mut request::Parts, connection: &ClientConnection) {
        if head.version == Version::HTTP_2 {
            join_cookies(&mut head.headers);
        }
        let hop = forward_request(&mut head.uri, &mut head.headers, &connection.client);
        self.upgrade = if hop.upgrade { head.extensions.remove::<OnUpgrade>() } else { None };
    }

    /// The path of the request, as pins have it.
    pub(super) fn path(&self) -> PathTag {
        self.worker().shared.sessions.path(self.uri.path())
    }

    /// The proxy's own answer. What there is of the body is read, so that the connection stays usable.
    pub(super) async fn answer(self, answer: Answer, body: Option<RequestBody>) -> Response<ResponseBody> {
        let mut headers = HeaderMap::new();
        if let Some(origin) = self.origin.clone() {
            headers.insert(header::ORIGIN, origin);
        }
        if self.expects {
            headers.insert(header::EXPECT, HeaderValue::from_static("100-continue"));
        }
        refuse(self.worker(), answer, &headers, &mut body.unwrap_or_else(RequestBody::empty)).await
    }

    /// To the pod that holds the session.
    pub(super) async fn send_pinned(
        self,
        pin: Pin,
        head: request::Parts,
        mut body: RequestBody,
    ) -> Response<ResponseBody> {
        let Some(target) = self.worker().target(pin.pod) else {
            // It left DNS between two looks: the next request asks anew.
            return Box::pin(self.answer(Answer::PodUnavailable, Some(body))).await;
        };
        if let Some((_, key)) = self.session {
            self.tracked.belongs_to(key, pin);
        }
        if !self.expects {
            body.fetch().await;
        }
        let mut slot = Some(to_pod(head, body));
        let sent = match send(self.worker(), pin.pod, target, &mut slot).await {
            Ok(sent) => sent,
            Err(failure) => {
                let body = slot.map(http::Request::into_body);
                return Box::pin(self.answer(answer_to(&failure), body)).await;
            }
        };
        let headers = sent.response.headers();
        let mut ids = headers.get_all(&SESSION_HEADER).iter();
        let repeated = ids.next().is_some_and(|id| Some(id) == self.session_header.as_ref()) && ids.next().is_none();
        if !repeated && let Err(answer) = self.pin_new(pin.pod, headers).await {
            return Box::pin(self.answer(answer, None)).await;
        }
        if let Some((source, key)) = self.session {
            let status = sent.response.status();
            if self.kind == Kind::Delete || status == StatusCode::NOT_FOUND {
                Box::pin(self.unpin_ended(source, &key, pin, status)).await;
            }
        }
        self.pass(sent, pin.pod)
    }

    /// Pins another session that a pinned session's pod gives out.
    async fn pin_new(&self, pod: PodId, headers: &HeaderMap) -> Result<(), Answer> {
        let shared = &self.worker().shared;
        let id = match response::session(headers, &shared.names) {
            Ok(Some(id)) => id,
            Ok(None) => return Ok(()),
            Err(response::SeveralSessions) => return Err(self.conflict()),
        };
        let key = shared.sessions.key(&id.value);
        if self.session.is_some_and(|(_, named)| named == key) {
            return Ok(());
        }
        Box::pin(self.pin(&key, pod)).await.map_err(|not_pinned| not_pinned.answer)
    }

    async fn unpin_ended(&self, source: Source, key: &SessionKey, pin: Pin, status: StatusCode) {
        let on_its_path = status == StatusCode::NOT_FOUND && self.path() == pin.path;
        let reason = match response::ended(self.kind, source, on_its_path, status) {
            Some(Ended::Deleted) => UnpinReason::Deleted,
            Some(Ended::NotFound) => UnpinReason::NotFound,
            None => return,
        };
        self.worker().shared.sessions.unpin(key, pin.pod, reason).await;
    }

    /// Stores that a session lives on a pod, which is known to have it.
    pub(super) async fn pin(&self, key: &SessionKey, pod: PodId) -> Result<(), NotPinned> {
        let shared = &self.worker().shared;
        let mut mode = PinMode::First;
        loop {
            match shared.sessions.pin(key, pod, self.path(), mode).await {
                PinOutcome::Pinned => return Ok(()),
                PinOutcome::Unavailable => return Err(NotPinned { answer: Answer::NotStored, may_arrive: true }),
                PinOutcome::NotSent => return Err(Answer::NotStored.into()),
                PinOutcome::Full => return Err(Answer::TooManySessions.into()),
                PinOutcome::AlreadyPinned(other) => {
                    let standing = shared.pods.standing(other, std::time::Instant::now()).await;
                    if standing != Standing::Gone || mode != PinMode::First {
                        tracing::warn!(session = %key, %pod, holder = %other, "a pod gave out a session of another pod");
                        return Err(self.conflict().into());
                    }
                    mode = PinMode::Replace(other);
                }
            }
        }
    }

    pub(super) fn conflict(&self) -> Answer {
        self.worker().counters().event(Event::SessionConflict);
        Answer::SessionConflict
    }

    /// The session that a response to a placed request gives out.
    pub(super) fn given<'a>(&self, headers: &'a HeaderMap) -> Result<Option<SessionId<'a>>, Answer> {
        if self.sessionless {
            return Ok(None);
        }
        response::session(headers, &self.worker().shared.names).map_err(|response::SeveralSessions| self.conflict())
    }

    /// Passes a response on.
    pub(super) fn pass(self, sent: Sent, pod: PodId) -> Response<ResponseBody> {
        let Sent { response, carrier } = sent;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(response, carrier);
        }
        let (mut head, incoming) = response.into_parts();
        forward_response(&mut head.headers, false);
        let events = if is_event_stream(&head.headers) && !incoming.is_end_stream() {
            self.tracked.is_stream();
            let makes_session = self.kind == Kind::Get && self.session.is_none() && !self.sessionless;
            let origin = makes_session.then(|| Origin { pod, path: self.path() });
            Some(EventStream::new(self.worker(), origin, self.kind == Kind::Get))
        } else {
            None
        };
        head.version = Version::HTTP_11;
        head.extensions.clear();
        Response::from_parts(head, ResponseBody::Pod(PodBody::new(incoming, carrier, self.tracked, events)))
    }

    /// Both sides change to another protocol; from here on bytes are carried.
    fn switch(self, response: Response<Incoming>, carrier: Option<Carrier>) -> Response<ResponseBody> {
        let (Some(on_client), Some(Carrier { connection, .. })) = (self.upgrade, carrier) else {
            return Answer::PodBroken.response(self.origin.as_ref(), None).map(ResponseBody::full);
        };
        let tracked = self.tracked;
        let entered = tracked.enter_tunnel();
        tokio::task::spawn_local(async move {
            let ((mut pod, early), client) = tokio::join!(connection.into_stream(), on_client);
            if let Ok(client) = client {
                let mut client = TokioIo::new(client);
                // Either side's error ends both; there is nobody to tell.
                if client.write_all(&early).await.is_ok() {
                    let _ = tokio::io::copy_bidirectional(&mut pod, &mut client).await;
                }
            }
            drop((tracked, entered));
        });
        let (mut head, _) = response.into_parts();
        forward_response(&mut head.headers, true);
        let mut response = Response::new(ResponseBody::Own(None));
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        response
    }

    /// What names a session to its server when it is to be ended; only a header of the server's own can.
    pub(super) fn orphan_header(id: &SessionId<'_>) -> Option<HeaderValue> {
        if id.source == Source::Header { HeaderValue::from_bytes(&id.value).ok() } else { None }
    }

    pub(super) fn shared(&self) -> &Arc<crate::worker::Shared> {
        &self.worker().shared
    }
}

/// A session that was not pinned.
pub(super) struct NotPinned {
    pub(super) answer: Answer,
    /// The store may get the pin all the same.
    pub(super) may_arrive: bool,
}

impl From<Answer> for NotPinned {
    fn from(answer: Answer) -> Self {
        Self { answer, may_arrive: false }
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    const EVENTS: &[u8] = b"text/event-stream";
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        value.as_bytes().get(..EVENTS.len()).is_some_and(|start| start.eq_ignore_ascii_case(EVENTS))
    })
}
