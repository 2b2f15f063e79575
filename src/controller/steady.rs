//! What an error says, without what is another each time. Pure.
//!
//! A message stands in a condition, and is news when it changes: with a number of its own in each attempt, every attempt would
//! be a write and an Event.

use std::net::SocketAddr;

/// The same for the same trouble, whenever it is met.
pub(super) fn steady(text: &str) -> String {
    let text = without_clock(&without_own_ports(text));
    NUMBERED.iter().fold(text, |text, before| without_number(&text, before))
}

/// What Go's HTTP/2 counts on each connection, as in `server sent GOAWAY and closed the connection; LastStreamID=1999`.
const NUMBERED: [&str; 2] = ["LastStreamID=", "stream ID "];
/// What Go calls the network before an address.
const NETWORKS: [&str; 6] = ["tcp ", "tcp4 ", "tcp6 ", "udp ", "udp4 ", "udp6 "];

fn without_number(text: &str, before: &str) -> String {
    let mut parts = text.split(before);
    let mut steady = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        steady.push_str(before);
        steady.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    steady
}

/// As in `read tcp 10.0.0.1:43512->10.0.0.2:9443: connection reset by peer`: before the arrow is the end of the connection that
/// asked, whose port is any that was free. Others' arrows stand in what people wrote.
fn without_own_ports(text: &str) -> String {
    const ARROW: &str = "->";
    let mut steady = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(ARROW) {
        let address = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '[' | ']');
        let kept = before.trim_end_matches(address);
        let is_address = NETWORKS.iter().any(|network| kept.ends_with(network))
            && before.get(kept.len()..).is_some_and(|end| end.parse::<SocketAddr>().is_ok());
        steady.push_str(if is_address { kept } else { before });
        if !is_address {
            steady.push_str(ARROW);
        }
        rest = after;
    }
    steady.push_str(rest);
    steady
}

/// As in `certificate has expired or is not yet valid: current time 2026-01-01T00:00:00Z is after 2025-12-31T23:59:59Z`.
fn without_clock(text: &str) -> String {
    const CLOCK: &str = "current time ";
    let Some((before, after)) = text.split_once(CLOCK) else { return text.to_owned() };
    match after.split_once(' ') {
        Some((time, after)) if time.starts_with(|c: char| c.is_ascii_digit()) => format!("{before}{CLOCK}{after}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_says_nothing_of_the_port_and_the_time_that_it_had() {
        for (text, expected) in [
            ("read tcp 10.0.0.1:43512->10.0.0.2:9443: i/o timeout", "read tcp 10.0.0.2:9443: i/o timeout"),
            (
                "dial tcp 10.0.0.2:9443: connect: connection refused",
                "dial tcp 10.0.0.2:9443: connect: connection refused",
            ),
            ("write tcp [fd00::1]:43512->[fd00::2]:9443: EOF", "write tcp [fd00::2]:9443: EOF"),
            (
                "lookup x on 10.96.0.10:53: read udp 10.0.0.1:1->10.96.0.10:53: no; read tcp 1.2.3.4:5->6.7.8.9:10: no",
                "lookup x on 10.96.0.10:53: read udp 10.96.0.10:53: no; read tcp 6.7.8.9:10: no",
            ),
            (
                "http2: server sent GOAWAY and closed the connection; LastStreamID=1999, ErrCode=NO_ERROR",
                "http2: server sent GOAWAY and closed the connection; LastStreamID=, ErrCode=NO_ERROR",
            ),
            ("stream error: stream ID 7; INTERNAL_ERROR", "stream error: stream ID ; INTERNAL_ERROR"),
            (
                "x509: current time 2026-01-01T00:00:00Z is after 2025-12-31T23:59:59Z",
                "x509: current time is after 2025-12-31T23:59:59Z",
            ),
        ] {
            assert_eq!(steady(text), expected);
            assert_eq!(steady(expected), expected, "and is the same from then on");
        }
    }

    #[test]
    fn what_people_wrote_is_left() {
        for text in [
            "",
            "->",
            "a->b",
            "a: 10:30->11:30",
            "1.2.3.4->5",
            "Invalid value: \"1.2.3.4:5->6\"",
            "é->",
            "the current time is late",
            "current time 1",
        ] {
            assert_eq!(steady(text), text);
        }
    }
}
