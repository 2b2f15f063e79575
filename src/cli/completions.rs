//! `berth completions`: what makes the shell complete the other commands.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::{Cli, CliError, Outcome, Output};

/// Print the completion script of a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  # for this shell
  source <(berth completions bash)

  # for every zsh from now on
  berth completions zsh > \"${fpath[1]}/_berth\"")]
pub(super) struct Args {
    /// The shell to complete for.
    shell: Shell,
}

impl Args {
    pub(super) fn run(self, out: &mut Output) -> Result<Outcome, CliError> {
        // Into memory first: the generator panics where a write fails.
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "berth", &mut script);
        out.write_all(&script)?;
        Ok(Outcome::Fine)
    }
}
