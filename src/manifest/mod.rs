//! Manifests: files of YAML or JSON with Kubernetes objects, and where in them everything stands.
//!
//! A file is split into documents by the exact bytes, each document is read into a tree that knows its lines, and a
//! change is made in the text: what is not changed stays as its author wrote it.

mod document;
mod edit;
mod emit;
mod input;
mod path;
mod scalar;
mod split;
mod text;
mod tree;

pub use document::{Document, Object, Rewritten};
pub use input::{InputError, parse, read};
pub use split::{Piece, split};

/// A value as YAML that every reader takes for the same, of version 1.1 and 1.2. Ends in a line break.
#[must_use]
pub fn to_yaml(value: &serde_json::Value) -> String {
    let mut text = emit::block(value, 0, emit::Style::default(), None);
    text.push('\n');
    text
}

/// One file, or standard input.
#[derive(Debug)]
pub struct Source {
    /// Its path as it was given or found; `None` for standard input.
    pub path: Option<std::path::PathBuf>,
    /// Its documents: their texts, one after the other, are the file.
    pub documents: Vec<Document>,
}

impl Source {
    /// The name for messages.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.as_ref().map_or_else(|| "<stdin>".to_owned(), |path| path.display().to_string())
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> String {
        self.documents.iter().map(Document::text).collect()
    }
}
