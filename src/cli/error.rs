//! What a command could not do, and what to do about it.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;

/// Why a command did not do its work: exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The input or the arguments are at fault.
    #[error("{message}")]
    Input {
        /// What is wrong, and what it is now.
        message: String,
        /// What to do about it.
        help: Option<String>,
    },
    /// The result could not be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// An error of the input or the arguments.
    pub fn new(message: impl Display) -> Self {
        Self::Input { message: message.to_string(), help: None }
    }

    /// A file that cannot be read.
    pub fn unreadable(path: &Path, error: impl Display) -> Self {
        Self::new(format!("cannot read {}: {error}", path.display()))
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn help(self, advice: impl Display) -> Self {
        match self {
            Self::Input { message, .. } => Self::Input { message, help: Some(advice.to_string()) },
            output @ Self::Output(_) => output,
        }
    }

    /// Writes it as people see it: `error: …`, then `help: …` on a line of its own.
    pub(super) fn report(&self, to: &mut dyn Write, colour: bool) -> io::Result<()> {
        let (red, cyan, reset) = if colour { ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m") } else { ("", "", "") };
        writeln!(to, "{red}error:{reset} {self}")?;
        if let Self::Input { help: Some(help), .. } = self {
            writeln!(to, "{cyan}help:{reset} {help}")?;
        }
        Ok(())
    }
}
