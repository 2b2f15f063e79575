//! Server-sent events, as far as a proxy has to see them: the first event, and where events end.

use bytes::{Bytes, BytesMut};

/// More than this is no `endpoint` event.
const LIMIT: usize = 64 * 1024;

/// What the start of a stream is.
#[derive(Debug, PartialEq, Eq)]
pub enum Start {
    /// Comments so far, which pass; nothing yet can be said of the first event.
    Undecided(Bytes),
    /// The first event is `endpoint` with this data. The bytes are to be held back until its session is pinned.
    Endpoint(String, Bytes),
    /// The first event is another; everything passes from here on.
    Other(Bytes),
}

/// Reads a stream up to the end of its first event.
#[derive(Debug, Default)]
pub struct FirstEvent {
    held: BytesMut,
}

impl FirstEvent {
    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> Start {
        self.held.extend_from_slice(bytes);
        let mut lines = Lines { text: &self.held, at: 0 };
        let (mut event, mut data, mut passed) = (None::<&[u8]>, None::<Vec<u8>>, 0);
        while let Some(line) = lines.next() {
            if line.is_empty() {
                match (event, data.take()) {
                    (Some(b"endpoint"), Some(data)) => {
                        let data = String::from_utf8_lossy(&data).into_owned();
                        return Start::Endpoint(data, self.held.split().freeze());
                    }
                    // An event without data is never dispatched, and comments are none.
                    (_, None) => (event, passed) = (None, lines.at),
                    (_, Some(_)) => return Start::Other(self.held.split().freeze()),
                }
                continue;
            }
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let value = line.get(colon + 1..).unwrap_or_default();
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match &line[..colon] {
                b"event" => event = Some(value),
                b"data" => match &mut data {
                    None => data = Some(value.to_vec()),
                    Some(data) => {
                        data.push(b'\n');
                        data.extend_from_slice(value);
                    }
                },
                _ => {}
            }
        }
        if self.held.len() - passed > LIMIT {
            return Start::Other(self.held.split().freeze());
        }
        Start::Undecided(self.held.split_to(passed).freeze())
    }

    /// What is held back at the end of the stream.
    pub fn rest(&mut self) -> Bytes {
        self.held.split().freeze()
    }
}

/// Complete lines; they end with LF, CR LF or CR. A CR at the very end waits for what follows it.
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = &self.text[self.at..];
        let length = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
        let end = match &rest[length..] {
            [b'\r', b'\n', ..] => 2,
            [b'\r'] => return None,
            _ => 1,
        };
        let start = if self.at == 0 { rest[..length].strip_prefix(b"\xef\xbb\xbf") } else { None };
        self.at += length + end;
        Some(start.unwrap_or(&rest[..length]))
    }
}

/// Follows a stream, so that it can be ended between two events.
#[derive(Debug, Default)]
pub struct Boundary {
    /// The last bytes that passed, newest last.
    tail: [u8; 3],
    started: bool,
}

impl Boundary {
    /// Bytes pass.
    pub fn pass(&mut self, bytes: &[u8]) {
        for &byte in &bytes[bytes.len().saturating_sub(3)..] {
            let [_, b, c] = self.tail;
            self.tail = [b, c, byte];
        }
        self.started |= !bytes.is_empty();
    }

    /// Whether an event has just ended.
    #[must_use]
    pub fn is_between_events(&self) -> bool {
        !self.started || ends_event(&self.tail)
    }

    /// How many of these bytes belong to events that end in them; `None` when no event ends here.
    #[must_use]
    pub fn last_end(&self, bytes: &[u8]) -> Option<usize> {
        let mut text = self.tail.to_vec();
        text.extend_from_slice(bytes);
        let before = self.tail.len();
        (before + 1..=text.len()).rev().find(|end| ends_event(&text[..*end])).map(|end| end - before)
    }
}

/// Waits for the first event that has an id, after which a stream can be resumed.
#[derive(Debug)]
pub struct EventIds {
    /// What is still missing of `id:` in this line, unless it began otherwise.
    missing: Option<&'static [u8]>,
}

impl Default for EventIds {
    fn default() -> Self {
        Self { missing: Some(b"id:") }
    }
}

impl EventIds {
    /// Bytes pass; says whether an id began in them.
    pub fn pass(&mut self, bytes: &[u8]) -> bool {
        for &byte in bytes {
            match (byte, self.missing) {
                (b'\n' | b'\r', _) => *self = Self::default(),
                (_, Some([next, rest @ ..])) if byte == *next => {
                    if rest.is_empty() {
                        return true;
                    }
                    self.missing = Some(rest);
                }
                _ => self.missing = None,
            }
        }
        false
    }
}

fn ends_event(text: &[u8]) -> bool {
    text.ends_with(b"\n\n") || text.ends_with(b"\r\r") || text.ends_with(b"\n\r\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn start(text: &str) -> Start {
        FirstEvent::default().feed(text.as_bytes())
    }

    #[test]
    fn the_endpoint_event_is_held_whole() {
        for text in [
            "event: endpoint\ndata: /messages?sessionId=1\n\n",
            "event:endpoint\r\ndata:/messages?sessionId=1\r\n\r\n",
            "data: /messages?sessionId=1\revent: endpoint\r\r\r",
            "\u{feff}event: endpoint\nid: 7\ndata: /messages?sessionId=1\n\n",
        ] {
            assert_eq!(
                start(text),
                Start::Endpoint("/messages?sessionId=1".into(), Bytes::from(text.to_owned())),
                "{text:?}"
            );
        }
    }

    #[test]
    fn another_first_event_passes_untouched() {
        for text in ["data: x\n\n", "event: message\ndata: x\n\nevent: endpoint\ndata: y\n\n"] {
            assert_eq!(start(text), Start::Other(Bytes::from(text)), "{text:?}");
        }
        assert!(matches!(start(&"x".repeat(LIMIT + 1)), Start::Other(_)));
    }

    #[test]
    fn comments_pass_while_the_first_event_is_awaited() {
        let mut first = FirstEvent::default();
        assert_eq!(first.feed(b": ping\n\n: pi"), Start::Undecided(Bytes::from(": ping\n\n")));
        assert_eq!(first.feed(b"ng\n\nevent: endpoint\n"), Start::Undecided(Bytes::from(": ping\n\n")));
        assert_eq!(first.feed(b"data: /m\n\n"), Start::Endpoint("/m".into(), "event: endpoint\ndata: /m\n\n".into()));
    }

    #[test]
    fn a_stream_is_cut_between_events_only() {
        let mut boundary = Boundary::default();
        assert!(boundary.is_between_events());
        boundary.pass(b"data: 1\n");
        assert!(!boundary.is_between_events());
        assert_eq!(boundary.last_end(b"\ndata: 2"), Some(1));
        assert_eq!(boundary.last_end(b"data: 2"), None);
        boundary.pass(b"\n");
        assert!(boundary.is_between_events());
        assert_eq!(boundary.last_end(b"data: 2\r\n\r\ndata: 3\n"), Some(11));
    }

    #[test]
    fn an_id_is_seen_at_the_start_of_a_line_only() {
        for text in ["id: 1\ndata: x\n\n", "data: x\r\nid:1", "\rid: 1", ": id: 1\n\nid: 2"] {
            assert!(EventIds::default().pass(text.as_bytes()), "{text:?}");
            let mut ids = EventIds::default();
            assert!(text.bytes().any(|byte| ids.pass(&[byte])), "{text:?}, byte by byte");
        }
        for text in ["data: id: 1\n\n", "idle: 1\n", "event: id\ndata: x\n\n", "iid: 1\n"] {
            assert!(!EventIds::default().pass(text.as_bytes()), "{text:?}");
        }
    }

    proptest! {
        /// However a stream is cut into pieces, every byte comes out once, in order, and the same is found.
        #[test]
        fn pieces_make_no_difference(text in "(: c\n\n)?(event: (endpoint|m)\n)?(data: [a-z?=]{0,5}\n){0,2}\n?", cuts in proptest::collection::vec(0usize..40, 0..4)) {
            let whole = start(&text);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut first = FirstEvent::default();
            let (mut out, mut endpoint) = (Vec::new(), None);
            let mut decided = false;
            for pair in cuts.windows(2) {
                let piece = &text.as_bytes()[pair[0]..pair[1]];
                if decided {
                    out.extend_from_slice(piece);
                    continue;
                }
                match first.feed(piece) {
                    Start::Undecided(bytes) => out.extend_from_slice(&bytes),
                    Start::Other(bytes) => { out.extend_from_slice(&bytes); decided = true; }
                    Start::Endpoint(data, bytes) => { out.extend_from_slice(&bytes); endpoint = Some(data); decided = true; }
                }
            }
            out.extend_from_slice(&first.rest());
            prop_assert_eq!(out, text.as_bytes());
            let expected = if let Start::Endpoint(data, _) = whole { Some(data) } else { None };
            prop_assert_eq!(endpoint, expected);
        }
    }
}
