//! HTTP/2 with an orderly end: when the process drains, the client is told to go away (GOAWAY), what it has asked by then
//! is answered, and only then the connection closes. The API server asks everything over one connection, so without this
//! each restart would lose reviews.

use std::cell::RefCell;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_http::body::{BoxBody, MessageBody};
use actix_http::error::PayloadError;
use actix_http::{Payload, Request, Response};
use actix_server::GracefulShutdownSignal;
use actix_service::Service;
use bytes::Bytes;
use futures::stream;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::HeaderValue;
use http::header::CONTENT_LENGTH;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::connection::{Answered, IDLE};

/// For the client's preface and settings.
const PREFACE: Duration = Duration::from_secs(5);
/// For answers under way once the client was told to go. Longer than any review takes.
const LAST_ANSWERS: Duration = Duration::from_secs(30);
/// Requests at a time on one connection; a client with more opens another.
const MAX_STREAMS: u32 = 250;
/// Of one request's head.
const MAX_HEAD: u32 = 16 * 1024;
/// What may be under way of one body, and of all bodies of a connection.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;

/// Answers the requests of one connection until it ends.
pub(super) async fn serve<T, S>(io: T, app: Rc<S>, draining: GracefulShutdownSignal) -> Result<(), h2::Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request, Response = Answered, Error = actix_web::Error> + 'static,
{
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD);
    let handshake = timeout(PREFACE, builder.handshake::<_, Bytes>(io)).await;
    let mut connection = handshake.unwrap_or_else(|_| Err(Reason::SETTINGS_TIMEOUT.into()))?;
    // Ends with the connection: nobody waits for those answers any more.
    let mut answering = JoinSet::new();
    let mut going = false;
    let mut end = pin!(sleep(IDLE));
    let mut draining = pin!(draining.notified());
    loop {
        let unused = answering.is_empty() && !going;
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let app = Rc::clone(&app);
                    answering.spawn_local(async move { answer(&*app, request, respond).await });
                }
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            Some(_) = answering.join_next() => {}
            () = draining.as_mut(), if !going => {
                connection.graceful_shutdown();
                end.as_mut().reset(Instant::now() + LAST_ANSWERS);
                going = true;
            }
            // Begun anew with every event.
            () = sleep(IDLE), if unused => {
                connection.graceful_shutdown();
                end.as_mut().reset(Instant::now() + LAST_ANSWERS);
                going = true;
            }
            // A client that takes no answer, or does not go.
            () = end.as_mut(), if going => return Ok(()),
        }
    }
}

async fn answer<S>(app: &S, request: http::Request<RecvStream>, mut respond: SendResponse<Bytes>)
where
    S: Service<Request, Response = Answered, Error = actix_web::Error>,
{
    let (parts, body) = request.into_parts();
    // Kept until the answer is sent: an answer that comes before the end of the body (413) would else be taken back with a
    // reset of its stream.
    let body = Rc::new(RefCell::new(body));
    let response: Response<BoxBody> = match app.call(to_actix(parts, Rc::clone(&body))).await {
        Ok(answered) => answered.into(),
        Err(error) => error.into(),
    };
    let sent = send(response, &mut respond);
    drop(body);
    if let Err(error) = sent {
        tracing::debug!(%error, "answer not sent");
    }
}

fn to_actix(parts: http::request::Parts, body: Rc<RefCell<RecvStream>>) -> Request {
    let payload: Payload = match body.borrow().is_end_stream() {
        true => Payload::None,
        false => {
            let body = Rc::clone(&body);
            Payload::Stream { payload: Box::pin(stream::poll_fn(move |context| next_piece(&body, context))) }
        }
    };
    let mut request = Request::with_payload(payload);
    let head = request.head_mut();
    head.method = parts.method;
    head.uri = parts.uri;
    head.version = parts.version;
    head.headers = parts.headers.into();
    request
}

fn next_piece(body: &RefCell<RecvStream>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
    let mut body = body.borrow_mut();
    let piece = ready!(body.poll_data(context)).map(|piece| {
        let bytes = piece?;
        // What was taken may be sent again.
        body.flow_control().release_capacity(bytes.len())?;
        Ok(bytes)
    });
    Poll::Ready(piece.map(|piece| piece.map_err(|error: h2::Error| PayloadError::Io(io::Error::other(error)))))
}

fn send(response: Response<BoxBody>, respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
    let (response, body) = response.into_parts();
    let Ok(body) = body.try_into_bytes() else {
        // Every answer here is made in one piece; a stream would be a defect.
        respond.send_reset(Reason::INTERNAL_ERROR);
        return Ok(());
    };
    let mut head = http::Response::new(());
    *head.status_mut() = response.status();
    for (name, value) in response.headers() {
        head.headers_mut().append(name.clone(), value.clone());
    }
    head.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    let mut stream = respond.send_response(head, body.is_empty())?;
    if !body.is_empty() {
        stream.send_data(body, true)?;
    }
    Ok(())
}
