//! One request to one pod: over a pooled connection or a new one, and once more where that is safe.

use std::rc::Rc;

use http::header::{self, HeaderValue};
use http::{Method, Request, Response, Version, request};
use http_body::Body;
use hyper::body::Incoming;

use super::body::Carrier;
use super::headers::keep_alive_timeout;
use crate::metrics::Event;
use crate::pods::{PodId, Target};
use crate::upstream::{Failure, PodConnection, RequestBody, h2};
use crate::worker::Worker;

/// A response, and the connection that its body comes over.
pub(crate) struct Sent {
    pub(crate) response: Response<Incoming>,
    pub(crate) carrier: Option<Carrier>,
}

/// Sends the request in `slot` to a pod. When the pod refuses the connection the request is still there.
pub(crate) async fn send(
    worker: &Rc<Worker>,
    pod: PodId,
    target: Target,
    slot: &mut Option<Request<RequestBody>>,
) -> Result<Sent, Failure> {
    let sent = if target.h2c {
        Box::pin(send_h2(worker, pod, target, slot)).await
    } else {
        send_h1(worker, pod, target, slot).await
    };
    if let Err(failure) = &sent {
        note(worker, pod, failure);
    }
    sent
}

async fn send_h1(
    worker: &Rc<Worker>,
    pod: PodId,
    target: Target,
    slot: &mut Option<Request<RequestBody>>,
) -> Result<Sent, Failure> {
    let mut copy = slot.as_ref().and_then(copy_if_repeatable);
    let mut pooled = worker.idle(pod, target.address);
    loop {
        let reused = pooled.is_some();
        let mut connection = match pooled.take() {
            Some(connection) => connection,
            None => Box::pin(PodConnection::open(target.address)).await?,
        };
        let Some(mut request) = slot.take() else { return Err(Failure::Broken) };
        chunk_unknown_length(&mut request);
        match connection.exchange(request).await {
            Ok(response) => {
                let keep_alive = keep_alive_timeout(response.headers());
                return Ok(Sent { response, carrier: Some(Carrier { connection, pod, keep_alive }) });
            }
            Err(Failure::Unsent(request)) if reused => *slot = Some(*request),
            Err(Failure::Broken) if copy.is_some() && !connection.has_read() => *slot = copy.take().map(|copy| *copy),
            Err(failure) => return Err(failure),
        }
        worker.counters().event(Event::Repeated);
    }
}

async fn send_h2(
    worker: &Rc<Worker>,
    pod: PodId,
    target: Target,
    slot: &mut Option<Request<RequestBody>>,
) -> Result<Sent, Failure> {
    loop {
        let (sender, reused) = worker.h2.get(pod, target.address).await?;
        let Some(request) = slot.take() else { return Err(Failure::Broken) };
        match h2::exchange(sender, request).await {
            Ok(response) => return Ok(Sent { response, carrier: None }),
            Err(Failure::Unsent(request)) if reused => {
                worker.h2.forget(pod);
                *slot = Some(*request);
            }
            Err(failure) => return Err(failure),
        }
        worker.counters().event(Event::Repeated);
    }
}

/// A second copy of a request that may be repeated although it was written.
fn copy_if_repeatable(request: &Request<RequestBody>) -> Option<Box<Request<RequestBody>>> {
    let repeatable = [Method::GET, Method::HEAD, Method::OPTIONS, Method::DELETE].contains(request.method());
    (repeatable && request.body().is_end_stream()).then(|| {
        let mut copy = Request::new(RequestBody::empty());
        copy_head(request, &mut copy);
        Box::new(copy)
    })
}

fn copy_head(from: &Request<RequestBody>, to: &mut Request<RequestBody>) {
    *to.method_mut() = from.method().clone();
    *to.uri_mut() = from.uri().clone();
    *to.headers_mut() = from.headers().clone();
}

/// A request for a pod, from the head of a client's.
pub(crate) fn to_pod(mut head: request::Parts, body: RequestBody) -> Request<RequestBody> {
    head.version = Version::HTTP_11;
    head.extensions.clear();
    Request::from_parts(head, body)
}

/// Says that a body of unknown length is chunked: a GET that says neither counts as one without a body.
fn chunk_unknown_length(request: &mut Request<RequestBody>) {
    if !request.body().is_end_stream() && request.body().size_hint().exact().is_none() {
        request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

fn note(worker: &Worker, pod: PodId, failure: &Failure) {
    let event = match failure {
        Failure::Refused(error) => {
            worker.shared.pods.ask_soon();
            tracing::debug!(%pod, %error, "a pod does not accept connections");
            Event::PodRefused
        }
        Failure::Silent => Event::PodSilent,
        Failure::Broken | Failure::Unsent(_) => Event::PodBroken,
        Failure::TooLarge => Event::BodyLimit,
        Failure::ClientBody => return,
    };
    worker.counters().event(event);
}
