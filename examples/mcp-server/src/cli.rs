//! The command line.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::Server;

/// A small MCP server that keeps its sessions in memory.
///
/// Speaks streamable HTTP at /mcp, with two tools: `whoami` tells which server answers and counts the calls of the
/// session; `work` takes its time and tells of its progress. /readyz is for probes. SIGTERM ends it.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
#[command(after_help = "EXAMPLES:
  berth-example-mcp-server --listen 127.0.0.1:8001 --name one

Exit codes: 0 ended as told, 1 it cannot go on, 2 usage.")]
struct Cli {
    /// Where to listen
    #[arg(long, value_name = "ADDR", env = "MCP_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,

    /// What the server calls itself
    #[arg(long, value_name = "NAME", env = "HOSTNAME", default_value = "mcp-server")]
    name: String,
}

/// Parses the process's arguments and serves until told to end.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap too; a closed pipe is nothing to tell anyone about.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("berth-example-mcp-server: {}: {error}", cli.listen);
            ExitCode::from(1)
        }
    }
}

fn run(cli: &Cli) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let server = Server::bind(cli.listen, &cli.name).await?;
        // For people and scripts; serving does not hang on it.
        let _ = writeln!(io::stdout(), "{} listens at http://{}/mcp", cli.name, server.address);
        let end = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        server.serve(end).await;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
