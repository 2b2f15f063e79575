//! `berth sessions list --watch`.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, SystemTime};

use berth_proxy::session::Inspector;
use tokio::signal::unix::{SignalKind, signal};

use super::super::{CliError, Output};
use super::filter::Wanted;
use super::list::text;
use super::row::{Count, Row, UNKNOWN, counts, read};
use super::store::Store;

/// The screen of a terminal that does not say how large it is.
const SCREEN: (usize, usize) = (80, 24);

pub(super) struct Watch<'a> {
    pub(super) store: &'a Store,
    pub(super) wanted: Wanted,
    pub(super) per_pod: bool,
    pub(super) interval: Duration,
}

impl Watch<'_> {
    /// Shows what there is, then what changes, until told to end. A Redis that goes away is waited for.
    pub(super) async fn run(self, inspector: Inspector, rows: Vec<Row>, out: &mut Output) -> Result<(), CliError> {
        let listen = |kind| signal(kind).map_err(|error| CliError::new(format!("signals cannot be received: {error}")));
        let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        tokio::select! {
            ended = self.follow(inspector, rows, out) => ended,
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    }

    async fn follow(&self, inspector: Inspector, mut rows: Vec<Row>, out: &mut Output) -> Result<(), CliError> {
        let on_screen = io::stdout().is_terminal();
        let mut inspector = Some(inspector);
        let mut before = Vec::new();
        let mut trouble: Option<String> = None;
        loop {
            if on_screen {
                self.draw(&rows, trouble.as_deref(), out)?;
            } else {
                for line in changes(&before, &rows, self.per_pod) {
                    writeln!(out, "{line}")?;
                }
            }
            out.flush()?;
            tokio::time::sleep(self.interval).await;
            match self.look(inspector.take()).await {
                Ok((again, new)) => {
                    trouble = None;
                    inspector = Some(again);
                    before = std::mem::replace(&mut rows, new);
                }
                Err(error) => {
                    let text = error.to_string();
                    if !on_screen && trouble.is_none() {
                        // Nobody can be told that standard error is closed.
                        let _ = writeln!(io::stderr(), "{text}; trying again");
                    }
                    trouble = Some(text);
                    before.clone_from(&rows);
                }
            }
        }
    }

    /// Looks again, over a new connection where the old one failed.
    async fn look(&self, inspector: Option<Inspector>) -> Result<(Inspector, Vec<Row>), CliError> {
        let mut inspector = match inspector {
            Some(inspector) => inspector,
            None => self.store.connect().await?,
        };
        let rows = read(&mut inspector, &self.wanted).await.map_err(|error| self.store.failed(&error))?;
        Ok((inspector, rows))
    }

    fn draw(&self, rows: &[Row], trouble: Option<&str>, out: &mut Output) -> Result<(), CliError> {
        let size = terminal_size::terminal_size();
        let (width, height) = size.map_or(SCREEN, |(width, height)| (width.0.into(), height.0.into()));
        let title = match trouble {
            None if rows.is_empty() => format!("no sessions {}", self.store.place()),
            None => format!("{} sessions {}", rows.len(), self.store.place()),
            Some(trouble) => format!("{trouble}; trying again"),
        };
        let mut lines = vec![title, String::new()];
        if !rows.is_empty() {
            lines.extend(text(rows, self.per_pod, SystemTime::now()));
        }
        out.write_all(frame(&lines, width, height, out.colour()).as_bytes())?;
        Ok(())
    }
}

/// Draws lines over what the screen shows, without flicker: what does not fit is counted. The first line stands out.
fn frame(lines: &[String], width: usize, height: usize, colour: bool) -> String {
    let fits = height.saturating_sub(1).max(1);
    let hidden = lines.len().saturating_sub(fits);
    let shown = if hidden > 0 { fits.saturating_sub(1) } else { lines.len() };
    let mut text = String::from("\x1b[H");
    let more = (hidden > 0).then(|| format!("… and {} more lines", lines.len() - shown));
    for (at, line) in lines.iter().take(shown).chain(&more).enumerate() {
        let cut: String = line.chars().take(width).collect();
        match at == 0 && colour {
            true => text.push_str(&format!("\x1b[1m{cut}\x1b[0m")),
            false => text.push_str(&cut),
        }
        text.push_str("\x1b[K\r\n");
    }
    text.push_str("\x1b[J");
    text
}

/// A line for each difference: `+` what came, `-` what went, and how many a pod has where that was asked for.
fn changes(before: &[Row], after: &[Row], per_pod: bool) -> Vec<String> {
    if per_pod {
        let name = |count: &Count| format!("{} {}", count.server, count.pod.as_deref().unwrap_or(UNKNOWN));
        let told = |rows: &[Row]| -> BTreeMap<String, usize> {
            counts(rows).iter().map(|count| (name(count), count.sessions)).collect()
        };
        let (before, after) = (told(before), told(after));
        let gone = before.keys().filter(|pod| !after.contains_key(*pod)).map(|pod| format!("{pod} 0"));
        let new = after.iter().filter(|(pod, sessions)| before.get(*pod) != Some(sessions));
        return gone.chain(new.map(|(pod, sessions)| format!("{pod} {sessions}"))).collect();
    }
    let told = |rows: &[Row]| -> BTreeMap<String, ()> { rows.iter().map(|row| (row.line(), ())).collect() };
    let (before, after) = (told(before), told(after));
    let gone = before.keys().filter(|line| !after.contains_key(*line)).map(|line| format!("- {line}"));
    let new = after.keys().filter(|line| !before.contains_key(*line)).map(|line| format!("+ {line}"));
    gone.chain(new).collect()
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::row;
    use super::*;

    #[test]
    fn what_comes_and_goes_is_told_once() {
        let [one, two] = ["one", "two"].map(|id| row("web", id, Some("web-0")));
        let (first, second) = (one.line(), two.line());
        let (before, after) = ([one.clone()], [two]);
        assert_eq!(changes(&[], &before, false), [format!("+ {first}")]);
        assert_eq!(changes(&before, &after, false), [format!("- {first}"), format!("+ {second}")]);
        assert!(changes(&after, &after, false).is_empty());
        assert_eq!(changes(&[], &before, true), ["shop/web web-0 1"]);
        assert!(changes(&before, &after, true).is_empty(), "still one");
        assert_eq!(changes(&before, &[], true), ["shop/web web-0 0"]);
    }

    #[test]
    fn a_frame_fits_the_screen() {
        let lines: Vec<_> = (0..30).map(|number| format!("line {number} {}", "x".repeat(100))).collect();
        let text = frame(&lines, 20, 10, false);
        assert_eq!(text.matches("\r\n").count(), 9);
        assert!(text.contains("… and 22 more lines") && text.contains("line 7") && !text.contains("line 8"), "{text}");
        assert!(text.split("\r\n").all(|line| line.replace("\x1b[K", "").replace("\x1b[H", "").chars().count() <= 20));
        assert_eq!(frame(&lines[..2], 80, 24, false).matches("\r\n").count(), 2);
    }
}
