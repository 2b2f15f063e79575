//! Connections to pods that speak HTTP/2 without TLS: one for each pod, shared by all requests of a thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::rt::Executor;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::connection::{Failure, SILENCE, classify, connect};
use super::request_body::RequestBody;
use crate::pods::PodId;

type Sender = http2::SendRequest<RequestBody>;

/// Connections by pod.
#[derive(Default)]
pub(crate) struct SharedConnections {
    by_pod: RefCell<HashMap<PodId, (SocketAddr, Sender)>>,
}

/// Spawns on the thread that asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Local;

impl<F> Executor<F> for Local
where
    F: Future<Output: 'static> + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

impl SharedConnections {
    /// A sender to the pod, and whether it was there before.
    pub(crate) async fn get(&self, pod: PodId, address: SocketAddr) -> Result<(Sender, bool), Failure> {
        let known = self.by_pod.borrow().get(&pod).filter(|(at, _)| *at == address).map(|(_, sender)| sender.clone());
        if let Some(sender) = known.filter(|sender| !sender.is_closed()) {
            return Ok((sender, true));
        }
        let stream = connect(address).await.map_err(Failure::Refused)?;
        let (sender, connection) = http2::Builder::new(Local)
            .timer(TokioTimer::new())
            // A shared connection that is silent would hold up everybody.
            .keep_alive_interval(SILENCE / 2)
            .keep_alive_timeout(SILENCE / 2)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| classify(&error))?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%pod, %error, "a connection to a pod ended");
            }
        });
        self.by_pod.borrow_mut().insert(pod, (address, sender.clone()));
        Ok((sender, false))
    }

    /// Forgets the connection to a pod.
    pub(crate) fn forget(&self, pod: PodId) {
        self.by_pod.borrow_mut().remove(&pod);
    }
}

/// Sends a request over a shared connection.
pub(crate) async fn exchange(mut sender: Sender, request: Request<RequestBody>) -> Result<Response<Incoming>, Failure> {
    match sender.try_send_request(to_http2(request)).await {
        Ok(response) => Ok(response),
        Err(mut error) => Err(match error.take_message() {
            Some(request) => Failure::Unsent(Box::new(to_http1(request))),
            None => classify(&error.into_error()),
        }),
    }
}

/// HTTP/2 has the host in the target.
fn to_http2(mut request: Request<RequestBody>) -> Request<RequestBody> {
    *request.version_mut() = Version::HTTP_2;
    let host = request.headers_mut().remove(header::HOST);
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = authority.is_some().then_some(Scheme::HTTP);
    parts.authority = authority;
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    request
}

/// Back to what it was, to be sent anew.
fn to_http1(mut request: Request<RequestBody>) -> Request<RequestBody> {
    *request.version_mut() = Version::HTTP_11;
    let host = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if let Some(host) = host {
        request.headers_mut().insert(header::HOST, host);
    }
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map(Uri::from).unwrap_or_default();
    request
}

/// Sends a request over a connection of its own, on any thread.
pub(crate) async fn exchange_alone(address: SocketAddr, request: Request<RequestBody>) -> Result<StatusCode, Failure> {
    let stream = connect(address).await.map_err(Failure::Refused)?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| classify(&error))?;
    let driver = tokio::spawn(connection);
    let response = exchange(sender, request).await;
    driver.abort();
    response.map(|response| response.status())
}
