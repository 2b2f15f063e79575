//! A session that a server made and nobody will use, since its pin could not be stored: the server is told to end it.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri, request};

use crate::pods::Target;
use crate::route::request::{PROTOCOL_HEADER, SESSION_HEADER};
use crate::upstream::{PodConnection, RequestBody, h2};
use crate::worker::Shared;

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

    /// Ends the session, in the background. A server that does not allow it keeps an orphan.
    pub(crate) fn delete(self, shared: &Arc<Shared>, target: Target, session: HeaderValue) {
        let mut request = Request::new(RequestBody::empty());
        *request.method_mut() = Method::DELETE;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        request.headers_mut().insert(SESSION_HEADER, session);
        shared.background.spawn(async move {
            match tokio::time::timeout(DEADLINE, delete(target, request)).await {
                Ok(Some(status)) => tracing::info!(%status, "ended a session that could not be stored"),
                Ok(None) | Err(_) => tracing::warn!("a session that could not be stored is left on its server"),
            }
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
