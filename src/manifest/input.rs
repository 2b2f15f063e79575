//! Finding and reading files.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{Document, Source};

/// Why an input cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The file system says no.
    #[error("cannot read {}: {error}", name.display())]
    Unreadable {
        /// What.
        name: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Not text.
    #[error("{name}:{line}: this is not UTF-8 text; save the file as UTF-8")]
    NotText {
        /// File, or standard input.
        name: String,
        /// The line with the first wrong byte.
        line: usize,
    },
    /// Neither YAML nor JSON.
    #[error("{name}:{line}: {message}")]
    Malformed {
        /// File, or standard input.
        name: String,
        /// Line of the fault.
        line: usize,
        /// What is wrong.
        message: String,
        /// Whether it looks like a template, as in a chart.
        template: bool,
    },
    /// Its end was reached when it was read first.
    #[error("standard input is named twice, and can be read once")]
    Twice,
    /// A directory without a manifest.
    #[error("{} holds no *.yaml, *.yml or *.json file", .0.display())]
    NoManifests(PathBuf),
}

/// Reads files, directories (all of their `*.yaml`, `*.yml` and `*.json` files, however deep, sorted) and, for `-`,
/// standard input, in the order given. `each` is told of every file before it is read.
///
/// # Errors
/// The first thing that cannot be read.
pub fn read(inputs: &[PathBuf], mut each: impl FnMut(&Path)) -> Result<Vec<Source>, InputError> {
    let mut sources = Vec::new();
    for input in inputs {
        if input.as_os_str() == "-" {
            if sources.iter().any(|source: &Source| source.path.is_none()) {
                return Err(InputError::Twice);
            }
            each(input);
            let mut bytes = Vec::new();
            let read = io::stdin().lock().read_to_end(&mut bytes);
            read.map_err(|error| InputError::Unreadable { name: "<stdin>".into(), error })?;
            sources.push(parse(None, bytes)?);
            continue;
        }
        for path in files(input)? {
            each(&path);
            let bytes = fs::read(&path).map_err(|error| InputError::Unreadable { name: path.clone(), error })?;
            sources.push(parse(Some(path), bytes)?);
        }
    }
    Ok(sources)
}

/// Reads the content of one file; `path` is for messages, `None` is standard input.
///
/// # Errors
/// When it is no text, or neither YAML nor JSON.
pub fn parse(path: Option<PathBuf>, bytes: Vec<u8>) -> Result<Source, InputError> {
    let mut source = Source { path, documents: Vec::new() };
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        InputError::NotText { name: source.name(), line: valid.filter(|byte| **byte == b'\n').count() + 1 }
    })?;
    source.documents = Document::read_all(&text).map_err(|(line, message)| InputError::Malformed {
        name: source.name(),
        line,
        message,
        template: text.lines().nth(line.saturating_sub(1)).is_some_and(|line| line.contains("{{")),
    })?;
    Ok(source)
}

/// The file itself, or what a directory holds.
fn files(input: &Path) -> Result<Vec<PathBuf>, InputError> {
    let unreadable = |path: &Path, error| InputError::Unreadable { name: path.to_owned(), error };
    if !fs::metadata(input).map_err(|error| unreadable(input, error))?.is_dir() {
        return Ok(vec![input.to_owned()]);
    }
    let mut found = Vec::new();
    let mut directories = vec![input.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).map_err(|error| unreadable(&directory, error))? {
            let path = entry.map_err(|error| unreadable(&directory, error))?.path();
            // A link to a directory is not followed: it may lead back here.
            let kind = fs::symlink_metadata(&path).map_err(|error| unreadable(&path, error))?;
            if kind.is_dir() {
                directories.push(path);
            } else if is_manifest(&path) && path.is_file() {
                found.push(path);
            }
        }
    }
    if found.is_empty() {
        return Err(InputError::NoManifests(input.to_owned()));
    }
    found.sort();
    Ok(found)
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["yaml", "yml", "json"].iter().any(|known| known.eq_ignore_ascii_case(extension))
}
