//! `berth mutate`: what a cluster with Berth would make of manifests.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use serde_json::Value;
use similar::TextDiff;

use super::files::Inputs;
use super::findings::Finding;
use super::output::wants_colour;
use super::{CliError, Format, Outcome, Output};
use crate::manifest::{Document, Object, Source};
use crate::preview::Judged;

/// Print manifests as a cluster with Berth would take them.
///
/// What Berth does not change is printed byte for byte, comments included; what it changes is changed in the text. Refused
/// objects are printed as they are; the reason goes to standard error, and the exit code is 1.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  # what would change
  berth mutate -f deploy/ --diff

  # without a webhook: wire the manifests on their way to the cluster
  helm template web ./chart | berth mutate -f - | kubectl apply -f -

  # wire them once and for all
  berth mutate -f deploy/ --in-place")]
pub(super) struct Args {
    #[command(flatten)]
    inputs: Inputs,

    /// Print only what would change, as a unified diff.
    #[arg(long, conflicts_with_all = ["output", "in_place"])]
    diff: bool,

    /// Write the changes into the files, and print the names of those that changed.
    #[arg(long, conflicts_with = "output")]
    in_place: bool,

    /// Print every object anew in this form, rather than the text.
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

impl Args {
    pub(super) fn run(self, out: &mut Output) -> Result<Outcome, CliError> {
        let sources = self.inputs.read()?;
        let judged = self.inputs.preview(&sources)?.judged;
        let refused = report(&judged);
        match self.output {
            Some(format) => format.print(out, &objects(&sources, &judged))?,
            None => {
                let texts = texts(&sources, &judged)?;
                let pairs = sources.iter().zip(&texts);
                match (self.diff, self.in_place) {
                    (true, _) => pairs.into_iter().try_for_each(|(source, text)| diff(out, source, text))?,
                    (_, true) => pairs.into_iter().try_for_each(|(source, text)| write_back(out, source, text))?,
                    _ => print(out, &texts)?,
                }
            }
        }
        Ok(if refused { Outcome::Findings } else { Outcome::Fine })
    }
}

/// Tells what is wrong on standard error. Says whether something is refused.
fn report(judged: &[Judged<'_>]) -> bool {
    let stderr = io::stderr();
    let colour = wants_colour(stderr.is_terminal());
    let mut stderr = stderr.lock();
    for finding in judged.iter().flat_map(Finding::of) {
        // Nobody can be told that standard error is closed.
        let _ = writeln!(stderr, "{}", finding.line(colour));
    }
    judged.iter().any(|judged| judged.refusal.is_some())
}

/// The objects that change, by document and by object.
fn changes<'a, 'j>(judged: &'j [Judged<'a>]) -> HashMap<*const Document, Vec<&'j Judged<'a>>> {
    let mut changes: HashMap<_, Vec<_>> = HashMap::new();
    for judged in judged.iter().filter(|judged| judged.is_changed() && judged.refusal.is_none()) {
        changes.entry(std::ptr::from_ref(judged.document)).or_default().push(judged);
    }
    changes
}

/// The new text of every source.
fn texts(sources: &[Source], judged: &[Judged<'_>]) -> Result<Vec<String>, CliError> {
    let changes = changes(judged);
    sources
        .iter()
        .map(|source| source.documents.iter().map(|document| text(source, document, &changes)).collect())
        .collect()
}

fn text(
    source: &Source,
    document: &Document,
    changes: &HashMap<*const Document, Vec<&Judged<'_>>>,
) -> Result<String, CliError> {
    let Some(changed) = changes.get(&std::ptr::from_ref(document)) else { return Ok(document.text().to_owned()) };
    let wanted: Vec<_> = changed.iter().map(|judged| (judged.object, judged.after.clone())).collect();
    let line = wanted.first().map_or(1, |(object, _)| document.line_of(object, "").0);
    let place = format!("{}:{line}", source.name());
    let rewritten = document.rewrite(&wanted).map_err(|error| CliError::new(format!("{place}: {error}")))?;
    if rewritten.lost_comments {
        // Nobody can be told that standard error is closed.
        let _ = writeln!(
            io::stderr(),
            "{place} was written anew, because of its aliases or its layout: its comments are lost"
        );
    }
    Ok(rewritten.text)
}

/// Every object of the input as it would be stored.
fn objects(sources: &[Source], judged: &[Judged<'_>]) -> Vec<Value> {
    let stored: HashMap<*const Object, &Judged<'_>> = judged
        .iter()
        .filter(|judged| judged.refusal.is_none())
        .map(|judged| (std::ptr::from_ref(judged.object), judged))
        .collect();
    let all = sources.iter().flat_map(|source| source.documents.iter().flat_map(Document::objects));
    all.map(|object| stored.get(&std::ptr::from_ref(object)).map_or(&object.value, |judged| &judged.after).clone())
        .collect()
}

/// All sources as one stream of documents.
fn print(out: &mut Output, texts: &[String]) -> Result<(), CliError> {
    for (at, text) in texts.iter().enumerate() {
        let mut text = text.as_str();
        if at > 0 {
            text = text.strip_prefix('\u{feff}').unwrap_or(text);
            if !texts[at - 1].is_empty() && !texts[at - 1].ends_with('\n') {
                writeln!(out)?;
            }
            if !text.starts_with("---") {
                writeln!(out, "---")?;
            }
        }
        out.write_all(text.as_bytes())?;
    }
    Ok(())
}

fn diff(out: &mut Output, source: &Source, new: &str) -> Result<(), CliError> {
    let old = source.text();
    if old == new {
        return Ok(());
    }
    let name = source.name();
    let name = name.trim_start_matches('/');
    let diff = TextDiff::from_lines(old.as_str(), new);
    let text = diff.unified_diff().header(&format!("a/{name}"), &format!("b/{name}")).to_string();
    let colour = out.colour();
    for line in text.split_inclusive('\n') {
        let paint = match line.as_bytes().first() {
            _ if !colour => "",
            Some(b'+') => "\x1b[32m",
            Some(b'-') => "\x1b[31m",
            Some(b'@') => "\x1b[36m",
            _ => "",
        };
        let reset = if paint.is_empty() { "" } else { "\x1b[0m" };
        write!(out, "{paint}{line}{reset}")?;
    }
    Ok(())
}

fn write_back(out: &mut Output, source: &Source, new: &str) -> Result<(), CliError> {
    let Some(path) = &source.path else {
        return Err(CliError::new("standard input cannot be changed in place").help("leave --in-place out"));
    };
    if source.text() != new {
        replace(path, new).map_err(|error| CliError::new(format!("cannot write {}: {error}", path.display())))?;
        writeln!(out, "{}", path.display())?;
    }
    Ok(())
}

/// Replaces a file's content at one stroke; a link stays a link.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = fs::metadata(&path).and_then(|metadata| {
        fs::write(&temporary, text)?;
        fs::set_permissions(&temporary, metadata.permissions())?;
        fs::rename(&temporary, &path)
    });
    if written.is_err() {
        // The first error is the one to tell; there may be nothing to remove.
        let _ = fs::remove_file(&temporary);
    }
    written
}
