//! The command line: flags, each with its environment variable, and the form of the log.

use std::env;
use std::io::{self, IsTerminal};

use clap::builder::RangedU64ValueParser;
use clap::{Parser, ValueEnum};
use clap_complete::Shell;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config;

/// What is logged where RUST_LOG says nothing else.
const DEFAULT_LOG: &str = "info,hickory_resolver=error,hickory_net=error,hickory_proto=error";

/// Keeps every session on the server that holds it, from any replica.
///
/// Speaks HTTP/1.1 and HTTP/2 without TLS to clients, and HTTP/1.1 to servers. /livez, /readyz and /metrics are on the
/// admin address. Flags beat the environment, which beats the file. The password of the store is taken from
/// THV_SESSION_REDIS_PASSWORD. SIGTERM ends it without losing a request; a second one ends it at once.
#[derive(Debug, Parser)]
#[command(name = "berth-proxy", version, max_term_width = 100)]
#[command(after_help = "EXAMPLES:
  # two servers on this machine, sessions in memory
  berth-proxy --listen 127.0.0.1:8080 \\
    --backend http://127.0.0.1:8001 --backend http://127.0.0.1:8002

  # several replicas that share a Redis
  berth-proxy --redis redis://10.0.0.9:6379 \\
    --backend http://10.0.0.7:8080 --backend http://10.0.0.8:8080

  # sessions of something other than MCP
  berth-proxy --backend http://127.0.0.1:3000 --session-cookie JSESSIONID

  # as Berth's controller runs it
  berth-proxy --config /etc/runconfig/runconfig.json

Exit codes: 0 ended as told, 1 it cannot go on, 2 usage or input that cannot be read.")]
pub struct Cli {
    /// What a file may say too.
    #[command(flatten)]
    pub settings: config::Flags,

    /// How many connections of clients there may be; more are refused with 503
    #[arg(long, value_name = "COUNT", env = "BERTH_MAX_CONNECTIONS", default_value_t = 65_536,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub max_connections: usize,

    /// How many bytes the body of a request may have; more are refused with 413 [default: any number]
    #[arg(long, value_name = "BYTES", env = "BERTH_MAX_BODY_SIZE")]
    pub max_body_size: Option<u64>,

    /// Threads that serve clients [default: one for each core]
    #[arg(long, value_name = "COUNT", env = "BERTH_THREADS")]
    pub threads: Option<usize>,

    /// The form of the log, on standard error
    #[arg(long, value_name = "FORMAT", env = "BERTH_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,

    /// Print the completion script of a shell, and end
    #[arg(long, value_name = "SHELL")]
    pub completions: Option<Shell>,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

impl LogFormat {
    /// Logs from now on.
    pub(crate) fn start(self) -> Result<(), String> {
        let wanted = env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
        let text = wanted.as_deref().unwrap_or(DEFAULT_LOG);
        let targets = text
            .parse::<Targets>()
            .map_err(|error| format!("RUST_LOG: {error}; write levels by module, as in {DEFAULT_LOG}"))?;
        let log = tracing_subscriber::fmt::layer().with_writer(io::stderr);
        let log = match self {
            Self::Text => log.with_ansi(io::stderr().is_terminal()).boxed(),
            Self::Json => log.json().flatten_event(true).with_ansi(false).boxed(),
        };
        // Fails only where a subscriber is set already.
        let _ = tracing_subscriber::registry().with(log.with_filter(targets)).try_init();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_shows_examples_and_every_shell_is_completed() {
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains("EXAMPLES") && help.contains("BERTH_REDIS"), "{help}");
        // A command that is wrapped cannot be copied.
        let examples = Cli::command().get_after_help().unwrap().to_string();
        assert!(examples.lines().filter(|line| line.starts_with("  ")).all(|line| line.len() < 80), "{examples}");
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "berth-proxy", &mut script);
            assert!(String::from_utf8(script).unwrap().contains("session-cookie"), "{shell}");
        }
        let version = Cli::command().render_version();
        assert_eq!(version.trim(), concat!("berth-proxy ", env!("CARGO_PKG_VERSION")));
    }
}
