//! A session that a server made and nobody will use, since its pin could not be stored or its client left: the server is
//! told to end it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri, request};

use crate::metrics::Event;
use crate::pods::{PodId, Target};
use crate::route::request::{PROTOCOL_HEADER, SESSION_HEADER};
use crate::session::{Found, SessionKey, UnpinReason};
use crate::upstream::{PodConnection, RequestBody, h2};
use crate::worker::Worker;

/// How long the server may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// What of a request is needed to end the session that it makes.
pub(crate) struct OrphanHead {
    uri: Uri,
    headers: HeaderMap,
}

impl OrphanHead {
    /// From the head of the request as the pod gets it.
    pub(crate) fn of(head: &request::Parts) -> Self {
        let kept: [HeaderName; 4] = [header::HOST, header::AUTHORIZATION, header::COOKIE, PROTOCOL_HEADER];
        let mut headers = HeaderMap::with_capacity(8);
        for name in kept {
            for value in head.headers.get_all(&name) {
                headers.append(&name, value.clone());
            }
        }
        Self { uri: head.uri.clone(), headers }
    }

    /// Ends the session. A server that does not allow it keeps an orphan.
    async fn delete(self, target: Target, session: HeaderValue) {
        let mut request = Request::new(RequestBody::empty());
        *request.method_mut() = Method::DELETE;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        request.headers_mut().insert(SESSION_HEADER, session);
        match tokio::time::timeout(DEADLINE, delete(target, request)).await {
            Ok(Some(status)) => tracing::info!(%status, "ended a session that no client heard of"),
            Ok(None) | Err(_) => tracing::warn!("a session that no client heard of is left on its server"),
        }
    }
}

/// A session that no client has heard of yet. Dropped like that, it is an orphan.
pub(crate) struct Unrevealed {
    pub(crate) worker: Rc<Worker>,
    pub(crate) key: SessionKey,
    pub(crate) pod: PodId,
    /// Its pin is stored, or may be one day.
    pub(crate) may_be_pinned: bool,
    /// How the server is told to end it, where it can be.
    pub(crate) end: Option<(OrphanHead, Target, HeaderValue)>,
}

impl Unrevealed {
    /// It is not this request's: a client is about to hear of it, or others have.
    pub(crate) fn settle(mut self) {
        (self.may_be_pinned, self.end) = (false, None);
    }
}

impl Drop for Unrevealed {
    fn drop(&mut self) {
        let (end, may_be_pinned) = (self.end.take(), self.may_be_pinned);
        if end.is_none() && !may_be_pinned {
            return;
        }
        let (sessions, key, pod) = (Arc::clone(&self.worker.shared.sessions), self.key, self.pod);
        let counters = Arc::clone(self.worker.counters());
        self.worker.shared.background.spawn(async move {
            // A server may give the same session to several: then another replica may have pinned it. This one's own pin
            // looks the same once it is stored, and then expires like any other: rather that than to end what others use.
            if matches!(sessions.find(&key).await, Found::Pinned(pin) if pin.pod == pod) {
                return;
            }
            let unpin = async {
                if may_be_pinned {
                    sessions.unpin(&key, pod, UnpinReason::Orphaned).await;
                }
            };
            let end = async {
                if let Some((head, target, session)) = end {
                    counters.event(Event::OrphanDeleted);
                    head.delete(target, session).await;
                }
            };
            tokio::join!(unpin, end);
        });
    }
}

async fn delete(target: Target, request: Request<RequestBody>) -> Option<http::StatusCode> {
    if target.h2c {
        return h2::exchange_alone(target.address, request).await.ok();
    }
    let mut connection = PodConnection::open(target.address).await.ok()?;
    connection.exchange(request).await.ok().map(|response| response.status())
}
