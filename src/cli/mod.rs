//! The command line: one file a command, each with its arguments and what it does.
//!
//! A command is an `Args` struct with `run(self, &mut Output) -> Result<Outcome, CliError>`. It prints results
//! through [`Output`] and never ends the process itself, so that the exit code, the form of an error and a closed
//! pipe are decided in one place, here.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod certs;
mod completions;
mod crds;
#[cfg(feature = "demo")]
mod demo;
mod error;
mod explain;
mod files;
mod findings;
mod format;
mod mutate;
mod output;
mod serve;
mod sessions;
mod validate;
mod webhook_config;

pub use error::CliError;
pub use format::Format;
pub use output::Output;

/// Makes session-holding servers safe to scale on Kubernetes.
///
/// Berth is an admission webhook that wires workloads for scaling as they are written, and refuses what would lose
/// sessions. The other commands do the same work on files, make what an installation needs, and show the sessions that
/// proxies share.
#[derive(Debug, Parser)]
#[command(name = "berth", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 fine, 1 findings, 2 usage or input that cannot be read.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Certs(certs::Args),
    Completions(completions::Args),
    Crds(crds::Args),
    #[cfg(feature = "demo")]
    Demo(demo::Args),
    Explain(explain::Args),
    Mutate(mutate::Args),
    Serve(serve::Args),
    Sessions(sessions::Args),
    Validate(validate::Args),
    WebhookConfig(webhook_config::Args),
}

/// How a command that did its work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to report: exit code 0.
    Fine,
    /// The input was read and something in it is wrong: exit code 1.
    Findings,
}

impl Cli {
    fn run(self, out: &mut Output) -> Result<Outcome, CliError> {
        match self.command {
            Command::Certs(args) => args.run(out),
            Command::Completions(args) => args.run(out),
            Command::Crds(args) => args.run(out),
            #[cfg(feature = "demo")]
            Command::Demo(args) => args.run(out),
            Command::Explain(args) => args.run(out),
            Command::Mutate(args) => args.run(out),
            Command::Serve(args) => args.run(out),
            Command::Sessions(args) => args.run(out),
            Command::Validate(args) => args.run(out),
            Command::WebhookConfig(args) => args.run(out),
        }
    }
}

/// Parses the process's arguments, runs the command, and says how it ended.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap too; a closed pipe is nothing to tell anyone about.
            let _ = error.print();
            return exit_code(error.exit_code());
        }
    };
    let mut out = Output::stdout();
    let result = cli.run(&mut out).and_then(|outcome| {
        out.flush()?;
        Ok(outcome)
    });
    match result {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Findings) => ExitCode::from(1),
        // `berth crds | head -1`: the reader has what it wanted.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // What was printed before the error comes before it. Where that fails too, the error says why.
            let _ = out.flush();
            let stderr = io::stderr();
            let colour = output::wants_colour(stderr.is_terminal());
            // Nobody can be told that standard error is closed.
            let _ = error.report(&mut stderr.lock(), colour);
            ExitCode::from(2)
        }
    }
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(2))
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Every command that can be run, with the words that run it.
    fn runnable(command: &clap::Command, words: &str) -> Vec<(String, clap::Command)> {
        let deeper = command.get_subcommands().flat_map(|sub| runnable(sub, &format!("{words} {}", sub.get_name())));
        [(words.to_owned(), command.clone())].into_iter().chain(deeper).collect()
    }

    #[test]
    fn every_command_shows_examples() {
        for (words, command) in runnable(&Cli::command(), "berth").into_iter().skip(1) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("EXAMPLES") && help.contains(&words), "`{words} --help` has no EXAMPLES");
            // A command that is wrapped cannot be copied.
            let is_command = |line: &&str| line.starts_with("  ") && !line.trim_start().starts_with('#');
            assert!(help.lines().filter(is_command).all(|line| line.len() < 80), "{help}");
        }
    }
}
