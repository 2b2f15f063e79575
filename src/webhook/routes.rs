//! The HTTP side of a review: which path, how large, how long.

use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Bytes, BytesMut, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use futures::StreamExt;
use tokio::time::timeout_at;

use super::deadline::Deadline;
use super::readiness::Readiness;
use super::reviewer::{NoAnswer, Reviewer};
use crate::admission::Webhook;

/// The largest review that is read. An object has at most 3 MiB in etcd, and an update carries it twice.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// How much of a body that is too large is read and thrown away. A stream that ends before is reset, and a client that is
/// still sending then sees the reset rather than the answer.
const MAX_DISCARDED: usize = 4 * MAX_BODY;

/// Memory set aside for a body before any of it has come.
const FIRST_BODY: usize = 256 * 1024;

/// What a request needs of the process.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) reviewer: Arc<Reviewer>,
    pub(super) readiness: Readiness,
}

/// A request that carries no readable review: the status, and a sentence for people.
#[derive(Debug)]
struct Rejection {
    status: StatusCode,
    text: String,
}

impl Service {
    /// Two paths; anything else is turned away with a reason.
    pub(super) fn configure(&self, config: &mut ServiceConfig) {
        for (path, webhook) in [("/mutate", Webhook::Mutate), ("/validate", Webhook::Validate)] {
            let service = self.clone();
            config.route(
                path,
                web::route().to(move |request: HttpRequest, body: web::Payload| {
                    let service = service.clone();
                    async move { service.review(webhook, &request, body.into_inner()).await }
                }),
            );
        }
        let service = self.clone();
        config.default_service(web::to(move |request: HttpRequest| {
            let text = format!("there is nothing at {:?}; reviews go to /mutate and /validate", request.path());
            let response = service.reject(Rejection { status: StatusCode::NOT_FOUND, text });
            async move { response }
        }));
    }

    async fn review(&self, webhook: Webhook, request: &HttpRequest, body: Payload) -> HttpResponse {
        let deadline = Deadline::from_query(request.query_string());
        let answer = match read(request, body, deadline).await {
            Ok(body) => self
                .reviewer
                .answer(webhook, &body, deadline)
                .await
                .map_err(|error| Rejection { status: status_of(&error), text: error.to_string() }),
            Err(rejection) => Err(rejection),
        };
        match answer {
            Ok(answer) => {
                let mut response = HttpResponse::Ok();
                // Of HTTP/1.1 only, where a client cannot be told otherwise to go elsewhere.
                if self.readiness.is_draining() {
                    response.force_close();
                }
                response.insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json"))).body(answer)
            }
            Err(rejection) => self.reject(rejection),
        }
    }

    fn reject(&self, rejection: Rejection) -> HttpResponse {
        self.reviewer.metrics().rejected(rejection.status.as_u16());
        tracing::debug!(status = rejection.status.as_u16(), text = rejection.text.as_str(), "request turned away");
        let mut response = HttpResponse::build(rejection.status);
        if rejection.status == StatusCode::METHOD_NOT_ALLOWED {
            response.insert_header((ALLOW, HeaderValue::from_static("POST")));
        }
        let text = rejection.text + "\n";
        response.insert_header((CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))).body(text)
    }
}

fn status_of(error: &NoAnswer) -> StatusCode {
    match error {
        NoAnswer::NoReview(_) => StatusCode::BAD_REQUEST,
        NoAnswer::Undecided(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The whole body, within its bounds of size and time.
async fn read(request: &HttpRequest, mut body: Payload, deadline: Deadline) -> Result<Bytes, Rejection> {
    if request.method() != Method::POST {
        let text = format!("{} is not for this path; POST an AdmissionReview", request.method());
        return Err(Rejection { status: StatusCode::METHOD_NOT_ALLOWED, text });
    }
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let read = async {
        let mut whole = match announced {
            Some(length) if length > MAX_BODY => return Err(discard(body).await),
            _ => BytesMut::new(),
        };
        while let Some(piece) = body.next().await.transpose().map_err(broken)? {
            // Most reviews come in one piece, which is then used as it is.
            if announced == Some(piece.len()) {
                return Ok(piece);
            }
            if whole.len() + piece.len() > MAX_BODY {
                return Err(discard(body).await);
            }
            if whole.is_empty() {
                whole.reserve(announced.unwrap_or(piece.len()).min(FIRST_BODY));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    };
    timeout_at(deadline.at(), read).await.unwrap_or_else(|_| {
        let text = format!("the body did not come within {} ms", deadline.allowed().as_millis());
        Err(Rejection { status: StatusCode::REQUEST_TIMEOUT, text })
    })
}

/// Reads on for a while: many clients look for an answer only when all is sent.
async fn discard(mut body: Payload) -> Rejection {
    let mut discarded = 0;
    while let Some(Ok(piece)) = body.next().await {
        discarded += piece.len();
        if discarded > MAX_DISCARDED {
            break;
        }
    }
    let text = format!("the body is larger than {MAX_BODY} bytes");
    Rejection { status: StatusCode::PAYLOAD_TOO_LARGE, text }
}

fn broken(error: actix_web::error::PayloadError) -> Rejection {
    Rejection { status: StatusCode::BAD_REQUEST, text: format!("the body broke off: {error}") }
}
