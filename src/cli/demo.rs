//! `berth demo`: webhook and session proxy at work, without a cluster.

use std::net::SocketAddr;

use super::{CliError, Outcome, Output};
use crate::demo::{self, DemoError, Options};

/// Show the webhook and the session proxy at work, without a cluster.
///
/// Starts the webhook on this machine with a certificate made for the occasion, sends it what an API server would send,
/// and shows what it answers. Then starts three MCP servers and two replicas of the proxy, ends some of them while clients
/// have sessions there, and shows what the clients see. All goes on serving until Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  berth demo

  # for a script: end after the tour
  berth demo --once")]
pub(super) struct Args {
    /// End after the tour
    #[arg(long)]
    once: bool,

    /// Where the webhook listens; port 0 is any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

impl Args {
    pub(super) fn run(self, out: &mut Output) -> Result<Outcome, CliError> {
        let options = Options { listen: self.listen, once: self.once, colour: out.colour() };
        match demo::run(options, out) {
            Ok(()) => Ok(Outcome::Fine),
            Err(DemoError::Output(error)) => Err(error.into()),
            Err(error @ DemoError::Sessions(_)) => {
                Err(CliError::new(error).help("run it again on a machine that is less busy"))
            }
            Err(error @ DemoError::Webhook(_)) => {
                Err(CliError::new(error).help("choose another address with --listen, or leave it out for any free one"))
            }
        }
    }
}
