//! How the demo looks.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use super::sessions::{Answer, Leg, Seen};

/// Width that text is broken at.
const WIDTH: usize = 80;
/// How far the text of a step stands in.
const INDENT: usize = 4;
/// Unchanged lines shown around a change.
const CONTEXT: usize = 1;

/// Writes the demo to a terminal, or to whatever stands in for it.
pub(super) struct Screen<'a> {
    out: &'a mut dyn Write,
    colour: bool,
}

/// What stands out, and how.
#[derive(Clone, Copy)]
enum Ink {
    Bold,
    Dim,
    Green,
    Red,
    Yellow,
    Cyan,
}

impl Ink {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "\x1b[1m",
            Self::Dim => "\x1b[2m",
            Self::Green => "\x1b[32m",
            Self::Red => "\x1b[31m",
            Self::Yellow => "\x1b[33m",
            Self::Cyan => "\x1b[36m",
        }
    }
}

impl<'a> Screen<'a> {
    pub(super) fn new(out: &'a mut dyn Write, colour: bool) -> Self {
        Self { out, colour }
    }

    fn ink(&self, ink: Ink, text: &str) -> String {
        if self.colour { format!("{}{text}\x1b[0m", ink.code()) } else { text.to_owned() }
    }

    /// A paragraph.
    fn prose(&mut self, text: &str) -> io::Result<()> {
        for line in wrapped(text, WIDTH) {
            writeln!(self.out, "{line}")?;
        }
        self.out.flush()
    }

    fn part(&mut self, title: &str) -> io::Result<()> {
        let rule = "─".repeat(WIDTH.saturating_sub(title.chars().count() + 4));
        let title = self.ink(Ink::Bold, title);
        writeln!(self.out, "\n── {title} {rule}\n")
    }

    pub(super) fn opening(&mut self) -> io::Result<()> {
        let name = self.ink(Ink::Bold, "Berth");
        writeln!(self.out, "{name} makes session-holding servers safe to scale on Kubernetes.")
    }

    pub(super) fn admission_opening(&mut self, address: SocketAddr) -> io::Result<()> {
        self.part("the webhook")?;
        self.prose(&format!(
            "It answers at https://{address}, with a certificate made for this demo. What an API server would send it \
             follows, over TLS and HTTP/2. The objects are those of examples/."
        ))
    }

    pub(super) fn sessions_opening(&mut self, servers: &str) -> io::Result<()> {
        self.part("the session proxy")?;
        self.prose(&format!(
            "Three MCP servers keep their sessions in memory: {servers}. Before them stand two replicas of the proxy, A \
             and B, which share one store (here in this process, in a cluster a Redis). The clients are those of the \
             official Rust SDK; each request goes through the other replica."
        ))
    }

    /// One request of a client, and the server's answer where there is one.
    pub(super) fn leg(&mut self, leg: &Leg, answer: Option<&Answer>) -> io::Result<()> {
        let told = match (&leg.seen, answer) {
            (Seen::Fine, Some(Answer { server, calls })) => format!("{server}: call {calls} of this session"),
            (Seen::Fine, None) if leg.method == "initialize" => "a session, and its pin is in the store".to_owned(),
            (Seen::Fine, None) => "answered".to_owned(),
            (Seen::Over, _) => "404: this session is over, start anew".to_owned(),
            (Seen::Error(_), _) => "an error; the session is kept:".to_owned(),
        };
        let mark = match leg.seen {
            Seen::Fine => self.ink(Ink::Green, "✓"),
            Seen::Over | Seen::Error(_) => self.ink(Ink::Yellow, "!"),
        };
        let took = self.ink(Ink::Dim, &millis(leg.took));
        writeln!(self.out, "{:INDENT$}{:<11} → {}  {mark} {told}  {took}", "", leg.method, leg.replica)?;
        if let Seen::Error(text) = &leg.seen {
            for line in wrapped(text, WIDTH - INDENT - 2) {
                let line = self.ink(Ink::Yellow, &line);
                writeln!(self.out, "{:INDENT$}  {line}", "")?;
            }
        }
        self.out.flush()
    }

    /// What a server says that is asked without a proxy.
    pub(super) fn straight(&mut self, server: &str, status: u16, knows: bool) -> io::Result<()> {
        let told = match knows {
            true => self.ink(Ink::Green, &format!("✓ {status}: it is the one")),
            false => self.ink(Ink::Red, &format!("✗ {status}: it has never seen this session")),
        };
        writeln!(self.out, "{:INDENT$}tools/call  → {server}  {told}", "")?;
        self.out.flush()
    }

    /// How many sessions each server has.
    pub(super) fn counts(&mut self, counts: &[(&str, u32)]) -> io::Result<()> {
        for (server, count) in counts {
            let bar = self.ink(Ink::Green, &"●".repeat((*count).min(40) as usize));
            writeln!(self.out, "{:INDENT$}{server}  {bar} {count}", "")?;
        }
        self.out.flush()
    }

    pub(super) fn remark(&mut self, text: &str) -> io::Result<()> {
        let text = self.ink(Ink::Dim, text);
        writeln!(self.out, "{:INDENT$}{text}", "")
    }

    pub(super) fn step(&mut self, number: usize, title: &str, command: &str) -> io::Result<()> {
        writeln!(self.out)?;
        for (at, line) in wrapped(title, WIDTH - INDENT).iter().enumerate() {
            let line = self.ink(Ink::Bold, line);
            match at {
                0 => writeln!(self.out, "{number:>2}  {line}")?,
                _ => writeln!(self.out, "{:INDENT$}{line}", "")?,
            }
        }
        let command = self.ink(Ink::Cyan, command);
        writeln!(self.out, "{:INDENT$}{command}", "")
    }

    pub(super) fn allowed(&mut self, changes: usize, took: Duration) -> io::Result<()> {
        let changes = match changes {
            0 => "nothing to change".to_owned(),
            1 => "1 change".to_owned(),
            many => format!("{many} changes"),
        };
        let verdict = self.ink(Ink::Green, "✓ allowed");
        let took = self.ink(Ink::Dim, &millis(took));
        writeln!(self.out, "    {verdict}, {changes}  {took}")?;
        self.out.flush()
    }

    pub(super) fn refused(&mut self, (code, reason): (u16, &str), message: &str, took: Duration) -> io::Result<()> {
        let verdict = self.ink(Ink::Red, "✗ refused");
        let took = self.ink(Ink::Dim, &millis(took));
        writeln!(self.out, "    {verdict}, {code} {reason}  {took}")?;
        for line in wrapped(message, WIDTH - 6) {
            // The code word never breaks: it has no blank in it.
            let line = match (line.find("[berth:"), self.colour) {
                (Some(at), true) => format!("{}{}", &line[..at], self.ink(Ink::Yellow, &line[at..])),
                _ => line,
            };
            writeln!(self.out, "      {line}")?;
        }
        self.out.flush()
    }

    pub(super) fn warning(&mut self, warning: &str) -> io::Result<()> {
        for line in wrapped(&format!("Warning: {warning}"), WIDTH - 6) {
            let line = self.ink(Ink::Yellow, &line);
            writeln!(self.out, "      {line}")?;
        }
        self.out.flush()
    }

    /// The changed lines, each group with a little of what stands around it.
    pub(super) fn diff(&mut self, old: &str, new: &str) -> io::Result<()> {
        let diff = TextDiff::from_lines(old, new);
        for (at, group) in diff.grouped_ops(CONTEXT).iter().enumerate() {
            if at > 0 {
                let gap = self.ink(Ink::Dim, "⋮");
                writeln!(self.out, "      {gap}")?;
            }
            for change in group.iter().flat_map(|operation| diff.iter_changes(operation)) {
                let line = cut(change.value().trim_end(), WIDTH - INDENT - 4);
                let line = match change.tag() {
                    ChangeTag::Equal => self.ink(Ink::Dim, &format!("  {line}")),
                    ChangeTag::Insert => self.ink(Ink::Green, &format!("+ {line}")),
                    ChangeTag::Delete => self.ink(Ink::Red, &format!("- {line}")),
                };
                writeln!(self.out, "      {line}")?;
            }
        }
        self.out.flush()
    }

    pub(super) fn figures(&mut self, reviews: usize, latencies: &[Duration]) -> io::Result<()> {
        let at =
            |share: usize| latencies.get(latencies.len().saturating_sub(1) * share / 100).copied().unwrap_or_default();
        let figures = format!("{reviews} reviews above, then {} of the first one:", latencies.len());
        let latency = format!("p50 {}, p99 {}", millis(at(50)), millis(at(99)));
        let latency = self.ink(Ink::Bold, &latency);
        writeln!(self.out, "\n{figures} {latency}")?;
        self.out.flush()
    }

    pub(super) fn invitation(&mut self, proxies: &[SocketAddr], webhook: SocketAddr, review: &Value) -> io::Result<()> {
        self.part("yours, until Ctrl-C")?;
        self.prose("For your own MCP client (streamable HTTP), through either replica:")?;
        writeln!(self.out)?;
        for address in proxies {
            let url = self.ink(Ink::Cyan, &format!("http://{address}/mcp"));
            writeln!(self.out, "{:INDENT$}{url}", "")?;
        }
        writeln!(self.out)?;
        self.prose("For the webhook (-k, because the certificate is this demo's own):")?;
        writeln!(
            self.out,
            "\ncurl -sk https://{webhook}/validate -H 'Content-Type: application/json' -d '{review}'\n"
        )?;
        self.out.flush()
    }
}

fn millis(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}

/// A line of at most so many characters.
fn cut(line: &str, width: usize) -> String {
    match line.char_indices().nth(width) {
        Some(_) => line.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        None => line.to_owned(),
    }
}

/// Lines of at most so many characters, broken at blanks.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let fits = lines
            .last()
            .is_some_and(|line| line.is_empty() || line.chars().count() + 1 + word.chars().count() <= width);
        match lines.last_mut().filter(|_| fits) {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}
