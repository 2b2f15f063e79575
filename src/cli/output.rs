//! Where a command's results go.

use std::env;
use std::io::{self, BufWriter, IsTerminal, Write};

/// Standard output, buffered, or whatever stands in for it. Errors of writing go up with `?` as
/// [`CliError::Output`](super::CliError::Output), and a closed pipe then ends the command in silence.
///
/// A command that keeps running flushes where a reader should see something.
pub struct Output {
    writer: Box<dyn Write + Send>,
    colour: bool,
}

impl Output {
    /// Standard output; colours only on a terminal, and not when `NO_COLOR` is set.
    pub fn stdout() -> Self {
        let stdout = io::stdout();
        let colour = wants_colour(stdout.is_terminal());
        Self::new(BufWriter::new(stdout), colour)
    }

    /// Any writer.
    pub fn new(writer: impl Write + Send + 'static, colour: bool) -> Self {
        Self { writer: Box::new(writer), colour }
    }

    /// Whether what is printed may carry ANSI colours.
    pub fn colour(&self) -> bool {
        self.colour
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// <https://no-color.org>: any value but the empty one switches colours off.
pub(super) fn wants_colour(is_terminal: bool) -> bool {
    is_terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
