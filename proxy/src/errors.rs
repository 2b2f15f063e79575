//! The proxy's own answers. Clients read the status; people read the text.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use crate::route::Refusal;

/// The JSON-RPC code that SDK servers give for a session they do not know.
const SESSION_NOT_FOUND: i32 = -32001;
/// The JSON-RPC code for a server's own errors.
const SERVER_ERROR: i32 = -32000;
/// When clients may come again, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Why the proxy answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No server has the session (any more).
    SessionNotFound,
    /// Whether the session exists cannot be said.
    StoreUnavailable,
    /// The session cannot be stored.
    NotStored,
    /// There are as many sessions as may be.
    TooManySessions,
    /// No pod takes new sessions.
    NoPod,
    /// The session's pod does not accept connections, or is not in DNS, which proves nothing yet.
    PodUnavailable,
    /// The pod fell silent after the request was sent.
    PodSilent,
    /// The pod closed the connection, or what it said is no HTTP.
    PodBroken,
    /// The pod gave out a session that it must not.
    SessionConflict,
    /// The client's head has two meanings.
    Refused(Refusal),
    /// The client's body is malformed.
    BadBody,
    /// The client's body is larger than allowed.
    BodyTooLarge,
}

impl Answer {
    /// Status, JSON-RPC code, text, whether to come again.
    fn parts(self) -> (StatusCode, i32, &'static str, bool) {
        let (status, text) = match self {
            Self::SessionNotFound => return (StatusCode::NOT_FOUND, SESSION_NOT_FOUND, "Session not found", false),
            Self::StoreUnavailable => (503, "the session store cannot be reached; the session may live on, try again"),
            Self::NotStored => (503, "the new session could not be stored; try again"),
            Self::TooManySessions => (503, "there are as many sessions as allowed; try again later"),
            Self::NoPod => (503, "no server takes new sessions now; try again"),
            Self::PodUnavailable => (503, "the server that holds this session cannot be reached; try again"),
            Self::PodSilent => (504, "the server fell silent"),
            Self::PodBroken => (502, "the server closed the connection, or did not answer in HTTP"),
            Self::SessionConflict => (502, "the server gave out a session that belongs elsewhere"),
            Self::Refused(Refusal::Connect) => (405, "CONNECT is not allowed here"),
            Self::Refused(Refusal::SeveralSessions) => (400, "the request names several sessions; name one"),
            Self::Refused(Refusal::Host) => (400, "the request needs exactly one Host, without a user's name"),
            Self::Refused(Refusal::Framing) => {
                (400, "the length of the body is not clear; send Content-Length or Transfer-Encoding: chunked")
            }
            Self::BadBody => (400, "the body is malformed"),
            Self::BodyTooLarge => (413, "the body is larger than allowed"),
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, SERVER_ERROR, text, status == StatusCode::SERVICE_UNAVAILABLE)
    }

    /// The answer to a request with this `Origin`, whose JSON-RPC id, as it was written, is `id`.
    #[must_use]
    pub fn response(self, origin: Option<&HeaderValue>, id: Option<&str>) -> Response<Bytes> {
        let (status, code, text, again) = self.parts();
        let id = id.unwrap_or("null");
        let body = format!(r#"{{"jsonrpc":"2.0","error":{{"code":{code},"message":"{text}"}},"id":{id}}}"#);
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if again {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"));
        }
        if let Some(origin) = origin {
            allow(headers, origin);
        }
        response
    }
}

/// Lets a page of this origin read the answer: without it, a script sees no status, and cannot start anew.
fn allow(headers: &mut HeaderMap, origin: &HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Mcp-Session-Id, Retry-After"));
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_session_is_told_as_sdk_clients_expect_it() {
        let response = Answer::SessionNotFound.response(None, Some("\"a\\\"b\""));
        assert_eq!(response.status(), 404);
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["error"]["code"], -32001);
        assert_eq!(body["id"], "a\"b");
        assert!(!response.headers().contains_key("access-control-allow-origin"));
    }

    #[test]
    fn outages_say_when_to_come_again_and_pages_may_read_it() {
        let origin = HeaderValue::from_static("https://app.example");
        let response = Answer::StoreUnavailable.response(Some(&origin), None);
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(response.headers()["access-control-allow-origin"], "https://app.example");
        assert_eq!(response.headers()["vary"], "Origin");
        assert!(serde_json::from_slice::<serde_json::Value>(response.body()).unwrap()["id"].is_null());
    }
}
