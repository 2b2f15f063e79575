//! Measures Berth beside what people would use instead; `benches/run` builds everything and calls this.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

mod admission;
mod candidate;
mod controller;
mod creates;
mod load;
mod memory;
mod proxy;
mod report;
mod resources;
mod reviews;
mod statistics;

/// Whatever went wrong; the harness ends with it.
type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T, E = Error> = std::result::Result<T, E>;

/// Measures Berth beside what people would use instead.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Debug, Subcommand)]
enum Subject {
    /// The webhook over TLS and through an API server, beside a Go webhook and CEL policies.
    Admission(AdmissionArguments),
    /// The controller with many custom resources, on a control plane of its own.
    Controller(controller::ControllerArguments),
    /// The session proxy, beside HAProxy, nginx and nothing at all.
    Proxy(proxy::ProxyArguments),
}

#[derive(Debug, clap::Args)]
struct AdmissionArguments {
    /// The program `berth`.
    #[arg(long)]
    berth: PathBuf,
    /// The Go webhook (benches/peers/webhook).
    #[arg(long)]
    peer: PathBuf,
    /// Directory of the CEL policies.
    #[arg(long)]
    cel: PathBuf,
    /// Interleaved rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds for each review and round.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Deployments created through the API server for each candidate, round and number of clients.
    #[arg(long, default_value_t = 300)]
    creates: usize,
    /// Custom resources that the webhooks watch.
    #[arg(long, default_value_t = 1000)]
    custom_resources: usize,
}

impl AdmissionArguments {
    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

fn main() -> Result<()> {
    match Arguments::parse().subject {
        Subject::Admission(arguments) => admission::run(&arguments),
        Subject::Controller(arguments) => controller::run(&arguments),
        Subject::Proxy(arguments) => proxy::run(&arguments),
    }
}
