//! How the demo looks.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use similar::{ChangeTag, TextDiff};

/// Width that text is broken at.
const WIDTH: usize = 96;
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

    pub(super) fn opening(&mut self, address: SocketAddr) -> io::Result<()> {
        let name = self.ink(Ink::Bold, "Berth");
        writeln!(self.out, "{name} makes session-holding servers safe to scale on Kubernetes.")?;
        writeln!(
            self.out,
            "Its webhook now answers at https://{address}, with a certificate made for this demo. What an API server\n\
             would send it follows, over TLS and HTTP/2. The objects are those of examples/."
        )?;
        self.out.flush()
    }

    pub(super) fn step(&mut self, number: usize, title: &str, command: &str) -> io::Result<()> {
        let title = self.ink(Ink::Bold, title);
        let command = self.ink(Ink::Cyan, command);
        writeln!(self.out, "\n{number:>2}  {title}\n    {command}")
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
                let line = change.value().trim_end();
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
        let figures = format!(
            "{} reviews: {reviews} above, then {} of the first one, over one connection: p50 {}, p99 {}",
            reviews + latencies.len(),
            latencies.len(),
            millis(at(50)),
            millis(at(99))
        );
        let figures = self.ink(Ink::Bold, &figures);
        writeln!(self.out, "\n{figures}")?;
        self.out.flush()
    }

    pub(super) fn invitation(&mut self, address: SocketAddr, review: &Value) -> io::Result<()> {
        let until =
            self.ink(Ink::Bold, "It serves on until Ctrl-C. To try (-k, because the certificate is this demo's own):");
        writeln!(
            self.out,
            "\n{until}\n\ncurl -sk https://{address}/validate -H 'Content-Type: application/json' -d '{review}'\n"
        )?;
        self.out.flush()
    }
}

fn millis(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
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
