//! The session proxy beside what people would use instead.

mod calls;
mod candidate;
mod configuration;
mod load;
mod memory;
mod message;
mod report;
mod speed;
mod streams;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;

use self::candidate::{Candidate, Kind, Servers, Size, Surroundings};
use crate::Result;

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Requests per second, CPU time, latency.
    Speed,
    /// System calls per request.
    Calls,
    /// Open streams of events.
    Streams,
    /// Memory per session.
    Memory,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ProxyArguments {
    /// The program `berth-proxy`.
    #[arg(long)]
    berth_proxy: PathBuf,
    /// What to measure; everything where it is not given.
    #[arg(long, value_enum, value_delimiter = ',')]
    parts: Vec<Part>,
    /// Interleaved rounds of speed.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds for each load, of which a round has three.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Seconds for the open streams of each candidate.
    #[arg(long, default_value_t = 60.0)]
    stream_seconds: f64,
    /// Open streams.
    #[arg(long, default_value_t = 1000)]
    streams: usize,
    /// Sessions at which memory is looked at.
    #[arg(long, value_delimiter = ',', default_values_t = [100_000, 1_000_000])]
    sessions: Vec<usize>,
}

impl ProxyArguments {
    fn does(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }
}

/// Runs everything and prints the tables on standard output, each as soon as it is there.
pub(crate) fn run(arguments: &ProxyArguments) -> Result<()> {
    let dir = Directory::new()?;
    let servers = Servers::start(&dir.0)?;
    let with = Surroundings { berth_proxy: &arguments.berth_proxy, dir: &dir.0, servers: servers.addresses };
    if arguments.does(Part::Speed) || arguments.does(Part::Calls) {
        let candidates = Kind::ALL
            .map(|kind| Candidate::start(kind, Size::default(), &with))
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        let sessions = candidates.iter().map(speed::issue).collect::<Result<Vec<_>>>()?;
        if arguments.does(Part::Speed) {
            let time = Duration::from_secs_f64(arguments.seconds);
            let speed = speed::measure(&candidates, &sessions, servers.pid(), arguments.rounds, time)?;
            print!("{}", report::Speed { arguments, speed: &speed });
        }
        if arguments.does(Part::Calls) {
            println!("{}", report::Calls(&calls::measure(&candidates, &sessions, &dir.0)?));
        }
    }
    if arguments.does(Part::Streams) {
        println!("{}", report::Streams { arguments, streams: &streams::measure(&with, arguments)? });
    }
    if arguments.does(Part::Memory) {
        println!("{}", report::Memory { arguments, memory: &memory::measure(&with, &arguments.sessions)? });
    }
    Ok(())
}

/// A directory that goes with its owner.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("berth-bench-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left lies in the directory for temporary files.
        let _ = fs::remove_dir_all(Path::new(&self.0));
    }
}
