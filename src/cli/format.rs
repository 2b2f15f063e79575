//! `-o yaml|json`, for commands that print Kubernetes objects.

use std::io::Write;

use clap::ValueEnum;
use serde_json::{Value, json};
use serde_saphyr::SerializerOptions;

use super::{CliError, Output};

/// The form of printed objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// One YAML document an object.
    #[default]
    Yaml,
    /// One JSON object; several stand in a `List`.
    Json,
}

impl Format {
    /// Prints objects in a form that `kubectl apply -f -` takes.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn print(self, out: &mut Output, objects: &[Value]) -> Result<(), CliError> {
        match (self, objects) {
            (Self::Yaml, _) => {
                let mut options = SerializerOptions::default();
                // Base64 is not to be folded, and a long line is no worse than three.
                options.folded_wrap_chars = usize::MAX;
                for (index, object) in objects.iter().enumerate() {
                    if index > 0 {
                        writeln!(out, "---")?;
                    }
                    let text = serde_saphyr::to_string_with_options(object, options.clone()).map_err(CliError::new)?;
                    out.write_all(text.as_bytes())?;
                }
            }
            (Self::Json, [object]) => {
                writeln!(out, "{object:#}")?;
            }
            (Self::Json, _) => {
                let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
                writeln!(out, "{list:#}")?;
            }
        }
        Ok(())
    }
}
