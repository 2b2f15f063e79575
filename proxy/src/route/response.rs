//! What a response means for its session.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};

use super::request::{Kind, Names, SESSION_HEADER, SessionId, Source, cookie_pair};

/// A cookie that expires before this, counted from 1970 on, is one that is cleared, whatever the server's clock says.
const UNDATED: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The response names several sessions: whichever was pinned, the client might go on with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeveralSessions;

/// Why a pin is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// The client deleted it, and the server agreed or did not know it.
    Deleted,
    /// The server does not know it (any more).
    NotFound,
}

/// The session a response gives out: `Mcp-Session-Id`, else the named header, else the named cookie.
///
/// # Errors
/// Two different ones.
pub fn session<'a>(headers: &'a HeaderMap, names: &Names) -> Result<Option<SessionId<'a>>, SeveralSessions> {
    // Nearly every response: one look for one header.
    let by_header = one(headers.get_all(&SESSION_HEADER).iter().map(|value| value.as_bytes()))?;
    if let Some(value) = by_header {
        return Ok(Some(SessionId { source: Source::Header, value: Cow::Borrowed(value) }));
    }
    if let Some(name) = &names.header
        && let Some(value) = one(headers.get_all(name).iter().map(|value| value.as_bytes()))?
    {
        return Ok(Some(SessionId { source: Source::NamedHeader, value: Cow::Borrowed(value) }));
    }
    let Some(name) = &names.cookie else { return Ok(None) };
    let cookies = headers.get_all(header::SET_COOKIE).iter().filter_map(|line| {
        let mut parts = line.as_bytes().split(|byte| *byte == b';');
        let value = cookie_pair(parts.next()?, name)?;
        (!is_cleared(parts, headers.get(header::DATE))).then_some(value)
    });
    Ok(one(cookies)?.map(|value| SessionId { source: Source::NamedCookie, value: Cow::Borrowed(value) }))
}

/// Whether a cookie with these attributes is gone at once: what it is set to then names nothing (RFC 6265, 5.3).
///
/// `date` is when the server sent it, by its own clock.
fn is_cleared<'a>(attributes: impl Iterator<Item = &'a [u8]>, date: Option<&HeaderValue>) -> bool {
    let (mut max_age, mut expires) = (None, None);
    for attribute in attributes.filter_map(|attribute| std::str::from_utf8(attribute).ok()) {
        let Some((name, value)) = attribute.split_once('=') else { continue };
        let (name, value) = (name.trim(), value.trim());
        if name.eq_ignore_ascii_case("max-age") {
            max_age = value.parse::<i64>().ok().or(max_age);
        } else if name.eq_ignore_ascii_case("expires") {
            expires = read_date(value).or(expires);
        }
    }
    match (max_age, expires) {
        (Some(seconds), _) => seconds <= 0,
        (None, Some(expires)) => {
            let now = date.and_then(|date| read_date(date.to_str().ok()?));
            expires <= now.unwrap_or(SystemTime::UNIX_EPOCH + UNDATED)
        }
        (None, None) => false,
    }
}

/// Reads a date, also as Netscape wrote it: `01-Jan-1970` instead of `01 Jan 1970`.
fn read_date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text).or_else(|_| httpdate::parse_http_date(&text.replace('-', " "))).ok()
}

fn one<'a>(values: impl Iterator<Item = &'a [u8]>) -> Result<Option<&'a [u8]>, SeveralSessions> {
    let mut found = None;
    for value in values.filter(|value| !value.is_empty()) {
        match found {
            None => found = Some(value),
            Some(first) if first == value => {}
            Some(_) => return Err(SeveralSessions),
        }
    }
    Ok(found)
}

/// Whether the answer to a pinned request ends its session.
///
/// `source` is where the request named it, `on_its_path` whether the request's path is the one that made it: behind
/// one pod stand other paths, whose 404 says nothing of the session.
#[must_use]
pub fn ended(kind: Kind, source: Source, on_its_path: bool, status: StatusCode) -> Option<Ended> {
    if source != Source::Header {
        return None;
    }
    let not_found = status == StatusCode::NOT_FOUND && on_its_path;
    match kind {
        Kind::Delete if status.is_success() || not_found => Some(Ended::Deleted),
        _ => not_found.then_some(Ended::NotFound),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names { header: None, cookie: Some("SID".to_owned()) }
    }

    fn given(lines: &[(header::HeaderName, &'static str)]) -> Result<Option<Vec<u8>>, SeveralSessions> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_static(value));
        }
        session(&headers, &names()).map(|found| found.map(|session| session.value.into_owned()))
    }

    #[test]
    fn a_response_names_one_session_or_none() {
        assert_eq!(given(&[]), Ok(None));
        assert_eq!(given(&[(SESSION_HEADER, "a")]), Ok(Some(b"a".to_vec())));
        assert_eq!(given(&[(SESSION_HEADER, "a"), (SESSION_HEADER, "a")]), Ok(Some(b"a".to_vec())));
        assert_eq!(given(&[(SESSION_HEADER, "a"), (SESSION_HEADER, "b")]), Err(SeveralSessions));
        let cookies = [(header::SET_COOKIE, "x=1; Path=/"), (header::SET_COOKIE, "SID=c; HttpOnly")];
        assert_eq!(given(&cookies), Ok(Some(b"c".to_vec())));
        assert_eq!(given(&[(header::SET_COOKIE, "SID=; Max-Age=0")]), Ok(None));
    }

    #[test]
    fn a_cookie_that_is_cleared_names_no_session() {
        let date = (header::DATE, "Thu, 26 Nov 2026 12:00:00 GMT");
        for line in [
            // As PHP, Tomcat, Express and ASP.NET do it.
            "SID=deleted; expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0; path=/",
            "SID=deleted; Expires=Thu, 01-Jan-1970 00:00:10 GMT; Path=/",
            "SID=deleted; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
            "SID=deleted; expires=Wed, 25-Nov-2026 12:00:00 GMT; path=/",
            "SID=deleted; max-age=-1",
            "SID=deleted; Max-Age = 0 ; Expires=Fri, 27 Nov 2026 12:00:00 GMT",
        ] {
            assert_eq!(given(&[date.clone(), (header::SET_COOKIE, line)]), Ok(None), "{line}");
            let anew = [date.clone(), (header::SET_COOKIE, line), (header::SET_COOKIE, "SID=new; Path=/")];
            assert_eq!(given(&anew), Ok(Some(b"new".to_vec())), "{line}");
        }
        assert_eq!(given(&[(header::SET_COOKIE, "SID=; expires=Thu, 01 Jan 1970 00:00:00 GMT")]), Ok(None));
        assert_eq!(given(&[(header::SET_COOKIE, "SID=x; expires=Thu, 01 Jan 1970 00:00:00 GMT")]), Ok(None), "no Date");
        for line in [
            "SID=live; Expires=Fri, 27 Nov 2026 12:00:00 GMT",
            "SID=live; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
            "SID=live; Expires=whenever; Max-Age=soon",
            "SID=live; Max-Age; Secure",
        ] {
            assert_eq!(given(&[date.clone(), (header::SET_COOKIE, line)]), Ok(Some(b"live".to_vec())), "{line}");
        }
    }

    #[test]
    fn delete_with_2xx_or_404_unpins() {
        let end = |on_its_path, status: u16| {
            ended(Kind::Delete, Source::Header, on_its_path, StatusCode::from_u16(status).unwrap())
        };
        for on_its_path in [true, false] {
            assert_eq!(end(on_its_path, 200), Some(Ended::Deleted));
            assert_eq!(end(on_its_path, 204), Some(Ended::Deleted));
            assert_eq!(end(on_its_path, 405), None);
            assert_eq!(end(on_its_path, 500), None);
        }
        assert_eq!(end(true, 404), Some(Ended::Deleted));
        assert_eq!(end(false, 404), None, "another path knows nothing of the session");
    }

    #[test]
    fn pinned_pod_answers_404_unpins_only_on_the_path_that_made_the_session_in_header_mode() {
        let end = |source, on_its_path| ended(Kind::Post, source, on_its_path, StatusCode::NOT_FOUND);
        assert_eq!(end(Source::Header, true), Some(Ended::NotFound));
        assert_eq!(end(Source::Header, false), None);
        for source in [Source::Query, Source::NamedHeader, Source::NamedCookie] {
            assert_eq!(end(source, true), None, "{source:?}");
        }
        assert_eq!(ended(Kind::Post, Source::Header, true, StatusCode::BAD_REQUEST), None);
    }
}
