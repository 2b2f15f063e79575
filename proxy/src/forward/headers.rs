//! What changes in heads on their way through: hop-by-hop headers go, forwarding headers come.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Uri, Version};

use crate::route::Refusal;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

const HOPS: usize = 7;
/// Headers that are for one hop, whether or not `Connection` says so (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; HOPS] = [
    header::CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    HTTP2_SETTINGS,
    header::TRANSFER_ENCODING,
    header::TE,
    header::UPGRADE,
];

/// Which of the headers that matter here a head has. One walk over the names costs less than a look-up for each.
#[derive(Default)]
struct Standing {
    /// By their place in [`HOP_BY_HOP`].
    hop_by_hop: [bool; HOPS],
    expect: bool,
    forwarded_for: bool,
    forwarded: bool,
    forwarded_proto: bool,
    forwarded_host: bool,
}

impl Standing {
    fn in_head(headers: &HeaderMap) -> Self {
        let mut standing = Self::default();
        for name in headers.keys() {
            match name.as_str() {
                "connection" => standing.hop_by_hop[0] = true,
                "keep-alive" => standing.hop_by_hop[1] = true,
                "proxy-connection" => standing.hop_by_hop[2] = true,
                "http2-settings" => standing.hop_by_hop[3] = true,
                "transfer-encoding" => standing.hop_by_hop[4] = true,
                "te" => standing.hop_by_hop[5] = true,
                "upgrade" => standing.hop_by_hop[6] = true,
                "expect" => standing.expect = true,
                "x-forwarded-for" => standing.forwarded_for = true,
                "forwarded" => standing.forwarded = true,
                "x-forwarded-proto" => standing.forwarded_proto = true,
                "x-forwarded-host" => standing.forwarded_host = true,
                _ => {}
            }
        }
        standing
    }

    fn connection(&self) -> bool {
        self.hop_by_hop[0]
    }

    fn transfer_encoding(&self) -> bool {
        self.hop_by_hop[4]
    }

    fn te(&self) -> bool {
        self.hop_by_hop[5]
    }

    fn upgrade(&self) -> bool {
        self.hop_by_hop[6]
    }
}

/// What is the same in the forwarding headers of each request of one connection.
#[derive(Clone, Debug)]
pub struct Client {
    address: HeaderValue,
    forwarded: HeaderValue,
}

impl Client {
    /// For a connection from this address.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let forwarded = match address {
            IpAddr::V4(v4) => format!("for={v4};proto=http"),
            IpAddr::V6(v6) => format!("for=\"[{v6}]\";proto=http"),
        };
        let value = |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown"));
        Self { address: value(&address.to_string()), forwarded: value(&forwarded) }
    }
}

/// What a request asks of the connection to the pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hop {
    /// The client asks for another protocol, which the server may agree to.
    pub upgrade: bool,
}

/// Refuses heads that two readers could take for different requests. The server's parser has refused contradicting lengths,
/// folded lines and bad names before.
///
/// # Errors
/// Host missing or repeated, or with a user's name before it, or a transfer coding other than `chunked`.
pub fn check_request(version: Version, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() || (host.is_none() && version == Version::HTTP_11 && uri.authority().is_none()) {
        return Err(Refusal::Host);
    }
    // It would be part of Host, and is most likely there to deceive (RFC 9110, 4.2.4).
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(Refusal::Host);
    }
    if let Some(coding) = headers.get(header::TRANSFER_ENCODING) {
        let once = headers.get_all(header::TRANSFER_ENCODING).iter().nth(1).is_none();
        if !once || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::Framing);
        }
    }
    Ok(())
}

/// Makes the head of a request that of the next hop.
pub fn forward_request(uri: &mut Uri, headers: &mut HeaderMap, client: &Client) -> Hop {
    let mut standing = Standing::in_head(headers);
    let hop = Hop { upgrade: standing.upgrade() && wants_upgrade(headers) };
    let protocol = if hop.upgrade { headers.get(header::UPGRADE).cloned() } else { None };
    let trailers = standing.te() && headers.get(header::TE).is_some_and(accepts_trailers);
    if remove_hop_by_hop(headers, &standing) {
        standing = Standing::in_head(headers);
    }
    if let Some(protocol) = protocol {
        headers.insert(header::UPGRADE, protocol);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if standing.expect {
        // Answered here, when the body is asked for.
        headers.remove(header::EXPECT);
    }
    // The authority of an absolute or HTTP/2 request is its Host (RFC 9112, 3.2.2).
    if let Some(host) = uri.authority().map(|authority| HeaderValue::from_str(authority.as_str())) {
        if let Ok(host) = host {
            headers.insert(header::HOST, host);
        }
        let path = uri.path_and_query().cloned();
        *uri = path.map_or(Uri::from_static("/"), Uri::from);
    }
    append(headers, X_FORWARDED_FOR, standing.forwarded_for, &client.address);
    append(headers, header::FORWARDED, standing.forwarded, &client.forwarded);
    if !standing.forwarded_proto {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if !standing.forwarded_host
        && let Some(host) = headers.get(header::HOST).cloned()
    {
        headers.insert(X_FORWARDED_HOST, host);
    }
    hop
}

/// Makes one line of the cookies that an HTTP/2 client may have sent one by one (RFC 9113, 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    let lines: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if lines.len() > 1
        && let Ok(line) = HeaderValue::from_maybe_shared(lines.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, line);
    }
}

/// Makes the head of a response that of the next hop; `upgraded` when it is a 101.
pub fn forward_response(headers: &mut HeaderMap, upgraded: bool) {
    let protocol = if upgraded { headers.get(header::UPGRADE).cloned() } else { None };
    let standing = Standing::in_head(headers);
    if standing.transfer_encoding() {
        // The body was read by its coding, and may have another length (RFC 9112, 6.3).
        headers.remove(header::CONTENT_LENGTH);
    }
    remove_hop_by_hop(headers, &standing);
    if let Some(protocol) = protocol {
        headers.insert(header::UPGRADE, protocol);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// For how many seconds the server says it keeps an idle connection.
#[must_use]
pub fn keep_alive_timeout(headers: &HeaderMap) -> Option<u32> {
    let value = headers.get(KEEP_ALIVE)?.to_str().ok()?;
    value.split(',').find_map(|part| part.trim().strip_prefix("timeout=")?.trim().parse().ok())
}

/// Whether the client asks for another protocol. `h2c` is dropped: what follows it would escape the routing.
fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
        && headers.get_all(header::CONNECTION).iter().any(|value| has_token(value, b"upgrade"))
        && !headers.get_all(header::UPGRADE).iter().any(|value| has_token(value, b"h2c"))
}

fn accepts_trailers(value: &HeaderValue) -> bool {
    has_token(value, b"trailers")
}

fn has_token(value: &HeaderValue, token: &[u8]) -> bool {
    value.as_bytes().split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}

/// Whether others went than those in [`HOP_BY_HOP`].
fn remove_hop_by_hop(headers: &mut HeaderMap, standing: &Standing) -> bool {
    let mut others = false;
    if standing.connection() {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            // All but a few say no more than this, which names no header that there might be.
            .filter(|name| !name.eq_ignore_ascii_case(b"keep-alive") && !name.eq_ignore_ascii_case(b"close"))
            .filter_map(|name| HeaderName::from_bytes(name).ok())
            .filter(|name| !is_end_to_end(name))
            .collect();
        for name in named {
            others |= headers.remove(name).is_some();
        }
    }
    for (name, _) in HOP_BY_HOP.iter().zip(standing.hop_by_hop).filter(|(_, stands)| *stands) {
        headers.remove(name);
    }
    others
}

/// Headers that a client cannot have removed by naming them in `Connection`: what they say holds for the whole way.
fn is_end_to_end(name: &HeaderName) -> bool {
    [header::HOST, header::CONTENT_LENGTH, header::CONTENT_TYPE, header::AUTHORIZATION, header::COOKIE].contains(name)
        || name.as_str().starts_with("mcp-")
}

/// Appends to a comma-separated list, as one line; `stands` says whether there is one.
fn append(headers: &mut HeaderMap, name: HeaderName, stands: bool, value: &HeaderValue) {
    if !stands {
        headers.insert(name, value.clone());
        return;
    }
    let lines: Vec<&[u8]> = headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
    let mut list = lines.join(&b", "[..]);
    list.extend_from_slice(b", ");
    list.extend_from_slice(value.as_bytes());
    if let Ok(list) = HeaderValue::from_maybe_shared(list) {
        headers.insert(name, list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(lines: &[(&str, &str)]) -> (HeaderMap, Hop) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let mut uri = Uri::from_static("/mcp");
        let hop = forward_request(&mut uri, &mut headers, &Client::new([192, 0, 2, 7].into()));
        (headers, hop)
    }

    #[test]
    fn forwarding_headers_are_appended_or_set_when_absent() {
        let (headers, _) = forwarded(&[("host", "example.org")]);
        assert_eq!(headers["host"], "example.org");
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(headers["forwarded"], "for=192.0.2.7;proto=http");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "example.org");
        let (headers, _) = forwarded(&[
            ("host", "inside"),
            ("x-forwarded-for", "198.51.100.1"),
            ("x-forwarded-for", "198.51.100.2"),
            ("forwarded", "for=198.51.100.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "example.org"),
        ]);
        assert_eq!(headers["x-forwarded-for"], "198.51.100.1, 198.51.100.2, 192.0.2.7");
        assert_eq!(headers.get_all("x-forwarded-for").iter().count(), 1);
        assert_eq!(headers["forwarded"], "for=198.51.100.1, for=192.0.2.7;proto=http");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "example.org");
        let v6 = Client::new("2001:db8::1".parse().unwrap());
        assert_eq!(v6.forwarded, "for=\"[2001:db8::1]\";proto=http");
    }

    #[test]
    fn hop_by_hop_headers_and_those_that_connection_names_are_dropped() {
        let (headers, hop) = forwarded(&[
            ("host", "h"),
            ("connection", "keep-alive, X-Mine, Mcp-Session-Id"),
            ("keep-alive", "timeout=5"),
            ("x-mine", "1"),
            ("mcp-session-id", "s"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("proxy-connection", "close"),
        ]);
        for gone in ["connection", "keep-alive", "x-mine", "transfer-encoding", "proxy-connection"] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
        assert_eq!(headers["te"], "trailers");
        assert_eq!(headers["mcp-session-id"], "s", "a client cannot have the session dropped on the way");
        assert_eq!(hop, Hop::default());
        let forwarding = "X-Forwarded-For, Forwarded, X-Forwarded-Proto, X-Forwarded-Host";
        let (headers, _) = forwarded(&[
            ("host", "h"),
            ("connection", forwarding),
            ("x-forwarded-for", "198.51.100.1"),
            ("forwarded", "for=198.51.100.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "example.org"),
        ]);
        let expected = [
            ("x-forwarded-for", "192.0.2.7"),
            ("forwarded", "for=192.0.2.7;proto=http"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "h"),
        ];
        for (name, value) in expected {
            assert_eq!(headers[name], value, "what went because of Connection is as if it had never been there");
        }
    }

    #[test]
    fn cookies_that_came_one_by_one_become_one_line() {
        let mut headers = HeaderMap::new();
        join_cookies(&mut headers);
        assert!(headers.is_empty());
        for cookie in ["a=1", "b=2; c=3"] {
            headers.append(header::COOKIE, HeaderValue::from_static(cookie));
        }
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
    }

    #[test]
    fn upgrades_pass_except_h2c() {
        let (headers, hop) = forwarded(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        assert!(hop.upgrade);
        assert_eq!(headers["upgrade"], "websocket");
        assert_eq!(headers["connection"], "upgrade");
        let (headers, hop) =
            forwarded(&[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "x")]);
        assert!(!hop.upgrade);
        assert!(headers.get("upgrade").or(headers.get("http2-settings")).is_none());
    }

    #[test]
    fn heads_of_two_meanings_are_refused() {
        let check = |version, lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, HeaderValue::from_static(value));
            }
            check_request(version, &Uri::from_static("/"), &headers)
        };
        assert_eq!(check(Version::HTTP_11, &[("host", "a")]), Ok(()));
        assert_eq!(check(Version::HTTP_11, &[("host", "a"), ("transfer-encoding", "Chunked")]), Ok(()));
        assert_eq!(check(Version::HTTP_10, &[]), Ok(()));
        assert_eq!(check(Version::HTTP_11, &[]), Err(Refusal::Host));
        assert_eq!(check(Version::HTTP_11, &[("host", "a"), ("host", "a")]), Err(Refusal::Host));
        let coding = [("host", "a"), ("transfer-encoding", "gzip, chunked")];
        assert_eq!(check(Version::HTTP_11, &coding), Err(Refusal::Framing));
    }

    #[test]
    fn an_absolute_target_becomes_a_path_and_its_authority_the_host() {
        let mut uri = Uri::from_static("http://right:81/a?b=c");
        let mut headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("wrong"))]);
        forward_request(&mut uri, &mut headers, &Client::new([192, 0, 2, 7].into()));
        assert_eq!(uri, "/a?b=c");
        assert_eq!(headers["host"], "right:81");
    }

    #[test]
    fn the_server_says_how_long_it_keeps_a_connection() {
        let timeout =
            |value| keep_alive_timeout(&HeaderMap::from_iter([(KEEP_ALIVE, HeaderValue::from_static(value))]));
        assert_eq!(timeout("timeout=5, max=100"), Some(5));
        assert_eq!(timeout("max=100, timeout=15"), Some(15));
        assert_eq!(timeout("max=100"), None);
        assert_eq!(keep_alive_timeout(&HeaderMap::new()), None);
    }
}
