//! What a request head says about its session.

use std::borrow::Cow;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};

/// The session header of streamable HTTP.
pub const SESSION_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");
/// The protocol revision a client speaks.
pub const PROTOCOL_HEADER: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// The first revision without sessions.
const FIRST_SESSIONLESS: &[u8] = b"2026-07-28";
/// The query parameters that name a session in the HTTP+SSE transport (TypeScript SDK, Python SDK).
const QUERY_NAMES: [&[u8]; 2] = [b"sessionId", b"session_id"];

/// Names under which servers other than MCP's carry a session.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// `--session-header`.
    pub header: Option<HeaderName>,
    /// `--session-cookie`.
    pub cookie: Option<String>,
}

/// Where a request carries its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// `Mcp-Session-Id`: the server chose the id.
    Header,
    /// The query of the HTTP+SSE transport: the server chose the id.
    Query,
    /// The configured header: the client may have chosen the id.
    NamedHeader,
    /// The configured cookie: the client may have chosen the id.
    NamedCookie,
}

impl Source {
    /// Whether an unknown id may be the client's own choice, so that it is placed instead of refused.
    #[must_use]
    pub fn is_named(self) -> bool {
        matches!(self, Self::NamedHeader | Self::NamedCookie)
    }
}

/// The session that a message carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionId<'a> {
    /// Where it stood.
    pub source: Source,
    /// Its bytes; from a query, percent-decoded.
    pub value: Cow<'a, [u8]>,
}

/// What the method means for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// May open a stream of events.
    Get,
    /// Carries messages; may be an `initialize`.
    Post,
    /// Ends a session.
    Delete,
    /// HEAD, OPTIONS and all others.
    Other,
}

/// A request, as the routing table sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class<'a> {
    /// The method's meaning.
    pub kind: Kind,
    /// The session, if any. Always absent when `sessionless`.
    pub session: Option<SessionId<'a>>,
    /// The protocol revision has no sessions: placed freely, answers are not looked into.
    pub sessionless: bool,
}

/// A head that no server may see, since two readers could understand it differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// CONNECT asks for a tunnel.
    Connect,
    /// More than one `Mcp-Session-Id`, or several values where one session is named.
    SeveralSessions,
    /// HTTP/1.1 without Host, or with several, or a target with a user's name in it.
    Host,
    /// `Transfer-Encoding` other than `chunked`, or beside `Content-Length`.
    Framing,
}

/// Reads what `headers` and `uri` say about the session.
///
/// # Errors
/// Several sessions at once, or CONNECT.
pub fn classify<'a>(
    method: &Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    names: &Names,
) -> Result<Class<'a>, Refusal> {
    let kind = match *method {
        Method::POST => Kind::Post,
        Method::GET => Kind::Get,
        Method::DELETE => Kind::Delete,
        Method::CONNECT => return Err(Refusal::Connect),
        _ => Kind::Other,
    };
    let by_header = only(headers, &SESSION_HEADER)?.filter(|value| !value.is_empty());
    if is_sessionless(headers) {
        return Ok(Class { kind, session: None, sessionless: true });
    }
    let session = match by_header {
        Some(value) => Some(SessionId { source: Source::Header, value: Cow::Borrowed(value.as_bytes()) }),
        None => match uri.query().map(query_session).transpose()?.flatten() {
            Some(value) => Some(SessionId { source: Source::Query, value }),
            None => named_session(headers, names)?,
        },
    };
    Ok(Class { kind, session, sessionless: false })
}

/// The session in a URI's query, percent-decoded, so that a client may write it in another form than the server did.
///
/// # Errors
/// Two different values.
pub fn query_session(query: &str) -> Result<Option<Cow<'_, [u8]>>, Refusal> {
    let mut found: Option<Cow<'_, [u8]>> = None;
    for pair in query.as_bytes().split(|byte| *byte == b'&') {
        let Some(at) = pair.iter().position(|byte| *byte == b'=') else { continue };
        let (name, value) = (&pair[..at], &pair[at + 1..]);
        if value.is_empty() || !QUERY_NAMES.contains(&name) {
            continue;
        }
        let value = percent_decode(value);
        match &found {
            None => found = Some(value),
            Some(first) if *first == value => {}
            Some(_) => return Err(Refusal::SeveralSessions),
        }
    }
    Ok(found)
}

/// Whether the revision is of the form YYYY-MM-DD and has no sessions. Any other form counts as the older era.
fn is_sessionless(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(&PROTOCOL_HEADER).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let value = value.as_bytes();
    let is_date = value.len() == FIRST_SESSIONLESS.len()
        && value.iter().zip(FIRST_SESSIONLESS).all(|(byte, form)| match form {
            b'-' => *byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    is_date && value >= FIRST_SESSIONLESS
}

/// The session under the configured names: the header before the cookie.
fn named_session<'a>(headers: &'a HeaderMap, names: &Names) -> Result<Option<SessionId<'a>>, Refusal> {
    if let Some(name) = &names.header
        && let Some(value) = only(headers, name)?.filter(|value| !value.is_empty())
    {
        return Ok(Some(SessionId { source: Source::NamedHeader, value: Cow::Borrowed(value.as_bytes()) }));
    }
    let Some(name) = &names.cookie else { return Ok(None) };
    Ok(cookie(headers, name).map(|value| SessionId { source: Source::NamedCookie, value: Cow::Borrowed(value) }))
}

/// The first cookie of this name. Browsers send the one with the longest path first, and servers take the first.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|pair| cookie_pair(pair, name))
        .find(|value| !value.is_empty())
}

/// The value of `pair` (`name=value`, spaces around it, quotes around the value) when it has this name.
pub(crate) fn cookie_pair<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
    Some(value.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).unwrap_or(value))
}

/// The value of a header that may stand once.
pub(crate) fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(Refusal::SeveralSessions) } else { Ok(first) }
}

/// Decodes `%XX` and `+`; what is no such escape stays as it is.
fn percent_decode(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        decoded.push(match (first, tail) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => first,
            },
            _ => first,
        });
    }
    Cow::Owned(decoded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn session_of(uri: &str, lines: &[(&str, &str)]) -> Option<(Source, Vec<u8>)> {
        let names = Names { header: Some(HeaderName::from_static("x-session")), cookie: Some("SID".to_owned()) };
        let (uri, headers) = (uri.parse().unwrap(), head(lines));
        let class = classify(&Method::POST, &uri, &headers, &names).unwrap();
        class.session.map(|session| (session.source, session.value.into_owned()))
    }

    #[test]
    fn the_header_beats_the_query_beats_the_named_ones() {
        let all = [("mcp-session-id", "a"), ("x-session", "c"), ("cookie", "x=1; SID=\"d\"")];
        assert_eq!(session_of("/m?sessionId=b", &all), Some((Source::Header, b"a".to_vec())));
        assert_eq!(session_of("/m?sessionId=b", &all[1..]), Some((Source::Query, b"b".to_vec())));
        assert_eq!(session_of("/m", &all[1..]), Some((Source::NamedHeader, b"c".to_vec())));
        assert_eq!(session_of("/m", &all[2..]), Some((Source::NamedCookie, b"d".to_vec())));
        assert_eq!(session_of("/m?sessionid=b", &[("cookie", "XSID=1; SIDE=2")]), None);
    }

    #[test]
    fn a_session_in_the_query_is_the_same_however_it_is_escaped() {
        assert_eq!(session_of("/m?x=1&session_id=a%2Fb", &[]), session_of("/m?session_id=a/b", &[]));
        assert_eq!(session_of("/m?session_id=a%2", &[]), Some((Source::Query, b"a%2".to_vec())));
    }

    #[test]
    fn revisions_without_sessions_are_dates_only() {
        let sessionless = |version: &str| {
            let headers = head(&[("mcp-protocol-version", version), ("mcp-session-id", "a")]);
            let uri = Uri::from_static("/");
            let class = classify(&Method::POST, &uri, &headers, &Names::default()).unwrap();
            assert_eq!(class.sessionless, class.session.is_none());
            class.sessionless
        };
        assert!(sessionless("2026-07-28"));
        assert!(sessionless("2027-01-01"));
        for older in ["2025-11-25", "2026-07-27", "9999", "DRAFT-2026-v1", "2026-07-28x", "zzzz-zz-zz", ""] {
            assert!(!sessionless(older), "{older:?}");
        }
    }

    #[test]
    fn several_sessions_and_tunnels_are_refused() {
        let none = HeaderMap::new();
        let refused = |method: Method, uri: &str, headers: &HeaderMap| {
            classify(&method, &uri.parse().unwrap(), headers, &Names::default()).map(|_| ()).unwrap_err()
        };
        let twice = head(&[("mcp-session-id", "a"), ("mcp-session-id", "a")]);
        assert_eq!(refused(Method::POST, "/", &twice), Refusal::SeveralSessions);
        assert_eq!(refused(Method::POST, "/?sessionId=a&session_id=b", &none), Refusal::SeveralSessions);
        assert_eq!(refused(Method::CONNECT, "host:1", &none), Refusal::Connect);
    }

    proptest! {
        /// Whatever bytes a session id has, header and query yield exactly them.
        #[test]
        fn any_id_survives(id in proptest::collection::vec(any::<u8>(), 1..200)) {
            let escaped: String = id.iter().map(|byte| format!("%{byte:02X}")).collect();
            let uri: Uri = format!("/messages?sessionId={escaped}").parse().unwrap();
            let headers = HeaderMap::new();
            let class = classify(&Method::POST, &uri, &headers, &Names::default()).unwrap();
            prop_assert_eq!(class.session.unwrap().value.into_owned(), id.clone());
            if let Ok(value) = HeaderValue::from_bytes(&id) {
                let headers = HeaderMap::from_iter([(SESSION_HEADER, value)]);
                let uri = Uri::from_static("/");
                let class = classify(&Method::POST, &uri, &headers, &Names::default()).unwrap();
                prop_assert_eq!(class.session.unwrap().value.into_owned(), id);
            }
        }

        /// No query and no header makes the classifier fail otherwise than by a refusal.
        #[test]
        fn never_panics(query in "[ -~&&[^#\"<>`{}|\\\\^ ]]{0,80}", value in "[ -~]{0,80}") {
            if let Ok(uri) = format!("/x?{query}").parse::<Uri>() {
                let headers = head(&[("cookie", &value), ("mcp-protocol-version", &value)]);
                let names = Names { header: None, cookie: Some("a".to_owned()) };
                let _ = classify(&Method::GET, &uri, &headers, &names);
            }
        }
    }
}
