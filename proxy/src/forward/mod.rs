//! One request, from its head to its response: asks what the routing table needs to know, and obeys it.

pub mod body;
pub mod events;
pub mod headers;
pub mod json_rpc;

mod answer;
mod orphan;
mod placed;
mod send;
mod stream;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, request};
use hyper::body::Incoming;

use self::answer::Call;
use self::body::ResponseBody;
use self::headers::Client;
use crate::connection_state::ConnectionState;
use crate::errors::Answer;
use crate::metrics::{Event, Route};
use crate::route::{self, Action, Facts, Kind, Known, Peek, Refusal, Standing};
use crate::session::{Found, Pin, SessionKey, UnpinReason};
use crate::upstream::{BodyError, Failure, RequestBody};
use crate::worker::Worker;

/// How much of a body is looked at, to tell an `initialize` and the request's id.
const PEEK: usize = 64 * 1024;
/// For how long.
const PEEK_TIME: Duration = Duration::from_secs(1);
/// How much of a body is read and thrown away, so that the connection stays usable.
const DRAIN: usize = 1024 * 1024;

/// A client's connection.
pub(crate) struct ClientConnection {
    pub(crate) state: Arc<ConnectionState>,
    pub(crate) client: Client,
}

/// Answers one request.
///
/// Whatever is rare is boxed: the future of each request is moved as a whole, and only the way of a pinned session to a
/// pooled connection is to count in its size.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    connection: &ClientConnection,
    request: Request<Incoming>,
) -> (Route, Response<ResponseBody>) {
    let tracked = worker.track(&connection.state);
    let (mut head, body) = request.into_parts();
    let mut body = RequestBody::new(body, worker.shared.limits.body);
    let checked = check(worker, connection, &head, &body);
    let class = checked.and_then(|()| {
        route::classify(&head.method, &head.uri, &head.headers, &worker.shared.names).map_err(Answer::Refused)
    });
    let class = match class {
        Ok(class) => class,
        Err(answer) => return (Route::Refused, Box::pin(refuse(worker, answer, &head.headers, &mut body)).await),
    };
    let kind = class.kind;
    let sessions = &worker.shared.sessions;
    let session = class.session.map(|session| (session.source, sessions.key(&session.value)));
    let sessionless = class.sessionless;
    let mut call = Call::new(tracked, kind, session, sessionless, &head);
    let mut facts = Facts {
        kind,
        source: session.map(|(source, _)| source),
        known: Known::NoSession,
        standing: Standing::Present,
        peek: Peek::NotYet,
    };
    let mut key = None;
    if let Some((_, named)) = session {
        key = Some(named);
        facts.known = match sessions.find_cached(&named) {
            Some(pin) => Known::Cached(pin),
            None => Known::NotCached,
        };
        facts.standing = standing(worker, &named, &facts.known).await;
    }
    loop {
        return match (route::decide(&facts), key) {
            (Action::Forward(pin), Some(_)) => {
                let route = if matches!(facts.known, Known::Cached(_)) { Route::Cached } else { Route::Stored };
                call.prepare(&mut head, connection);
                (route, call.send_pinned(pin, head, body).await)
            }
            (Action::LookUp, Some(key)) => {
                facts.known = match Box::pin(sessions.find(&key)).await {
                    Found::Pinned(pin) => Known::Stored(pin),
                    Found::Unknown => Known::Unknown,
                    Found::Unavailable => Known::StoreUnavailable,
                };
                facts.standing = Box::pin(standing(worker, &key, &facts.known)).await;
                continue;
            }
            (Action::Peek, _) => match Box::pin(peek(&head.headers, &mut body)).await {
                Ok(found) => {
                    facts.peek = found;
                    continue;
                }
                Err(answer) => (Route::Refused, Box::pin(call.answer(answer, Some(body))).await),
            },
            (Action::Claim, Some(key)) => {
                call.prepare(&mut head, connection);
                (Route::Claimed, Box::pin(call.claim(key, head, body)).await)
            }
            (Action::Unpin(pin), Some(key)) => {
                tracing::info!(session = %key, pod = %pin.pod, "a session ended with its pod");
                Box::pin(sessions.unpin(&key, pin.pod, UnpinReason::PodGone)).await;
                facts.known = Known::Ended;
                continue;
            }
            (Action::SessionNotFound, _) => {
                (Route::Unknown, Box::pin(call.answer(Answer::SessionNotFound, Some(body))).await)
            }
            (Action::Unavailable(why), _) => {
                let answer = match why {
                    route::Why::Store => Answer::StoreUnavailable,
                    route::Why::PodUnproven => Answer::PodUnavailable,
                };
                (Route::Unavailable, Box::pin(call.answer(answer, Some(body))).await)
            }
            // The last four name a session, so they have a key.
            (Action::Place | Action::PlaceAnew, _)
            | (Action::Forward(_) | Action::LookUp | Action::Claim | Action::Unpin(_), None) => {
                let anew = matches!(facts.known, Known::Unknown | Known::Ended);
                let route = match (anew, sessionless) {
                    (true, _) => Route::PlacedAnew,
                    (_, true) => Route::Sessionless,
                    _ => Route::Placed,
                };
                if anew {
                    head.headers.remove(&route::request::SESSION_HEADER);
                    call.start_anew();
                }
                if kind == Kind::Get {
                    // The first event of its stream may name a session, and is read here.
                    head.headers.remove(header::ACCEPT_ENCODING);
                }
                call.prepare(&mut head, connection);
                (route, Box::pin(call.place(head, body)).await)
            }
        };
    }
}

/// Refuses what no server may see.
fn check(
    worker: &Worker,
    connection: &ClientConnection,
    head: &request::Parts,
    body: &RequestBody,
) -> Result<(), Answer> {
    headers::check_request(head.version, &head.uri, &head.headers).map_err(Answer::Refused)?;
    if head.headers.contains_key(header::TRANSFER_ENCODING)
        && connection.state.came_with_length(head.method.as_str(), &head.uri.to_string())
    {
        return Err(Answer::Refused(Refusal::Framing));
    }
    let length = http_body::Body::size_hint(body).lower();
    if worker.shared.limits.body.is_some_and(|limit| length > limit) {
        worker.counters().event(Event::BodyLimit);
        return Err(Answer::BodyTooLarge);
    }
    Ok(())
}

/// How the pinned pod stands. Only a pod that is missing costs a question.
async fn standing(worker: &Worker, key: &SessionKey, known: &Known<Pin>) -> Standing {
    let (pin, read_now) = match known {
        Known::Cached(pin) => (pin, false),
        Known::Stored(pin) => (pin, true),
        _ => return Standing::Present,
    };
    if worker.target(pin.pod).is_some() {
        return Standing::Present;
    }
    Box::pin(worker.shared.pods.standing_of(pin.pod, key, read_now)).await
}

/// Looks whether the body is an `initialize`.
async fn peek(headers: &HeaderMap, body: &mut RequestBody) -> Result<Peek, Answer> {
    if headers.contains_key(header::EXPECT) {
        // Reading would ask the client for a body that it may keep.
        return Ok(Peek::Other);
    }
    match tokio::time::timeout(PEEK_TIME, body.peek(PEEK)).await {
        Ok(Ok(true)) if json_rpc::read(body.peeked()).is_initialize => Ok(Peek::Initialize),
        Ok(Ok(_)) | Err(_) => Ok(Peek::Other),
        Ok(Err(BodyError::TooLarge)) => Err(Answer::BodyTooLarge),
        Ok(Err(_)) => Err(Answer::BadBody),
    }
}

/// The proxy's own answer to a request that goes no further.
async fn refuse(
    worker: &Worker,
    answer: Answer,
    headers: &HeaderMap,
    body: &mut RequestBody,
) -> Response<ResponseBody> {
    let expects = headers.contains_key(header::EXPECT);
    let id = if expects { None } else { read_id(body).await };
    tracing::debug!(?answer, "answered without a server");
    if answer == Answer::TooManySessions {
        worker.counters().event(Event::SessionLimit);
    }
    answer.response(headers.get(header::ORIGIN), id.as_deref()).map(ResponseBody::full)
}

/// Reads the body to its end, within bounds, and the JSON-RPC id in it.
async fn read_id(body: &mut RequestBody) -> Option<String> {
    let read = async {
        let whole = body.peek(PEEK).await.unwrap_or(false);
        let id = whole.then(|| json_rpc::read(body.peeked()).id).flatten();
        if !whole {
            body.discard(DRAIN).await;
        }
        id
    };
    tokio::time::timeout(PEEK_TIME, read).await.ok().flatten()
}

/// What a failure is to the client.
fn answer_to(failure: &Failure) -> Answer {
    match failure {
        Failure::Refused(_) => Answer::PodUnavailable,
        Failure::Silent => Answer::PodSilent,
        Failure::ClientBody => Answer::BadBody,
        Failure::TooLarge => Answer::BodyTooLarge,
        Failure::Unsent(_) | Failure::Broken => Answer::PodBroken,
    }
}

/// The value of a header, cheaply kept.
fn kept(headers: &HeaderMap, name: &header::HeaderName) -> Option<HeaderValue> {
    headers.get(name).cloned()
}
