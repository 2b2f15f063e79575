//! Resident memory: just started, and with custom resources watched.

use std::thread;
use std::time::Duration;

use crate::Result;
use crate::candidate::{Candidate, Kind, Surroundings};
use crate::resources::Memory;

/// Time for a start's leftovers to be given back.
pub(crate) const SETTLE: Duration = Duration::from_secs(3);

/// Starts each webhook afresh `rounds` times, in turns, and gives what each held once settled.
pub(crate) fn after_start(with: &Surroundings<'_>, rounds: usize) -> Result<Vec<(Kind, Memory)>> {
    let mut held = Vec::new();
    for _ in 0..rounds {
        for kind in Kind::ALL {
            let candidate = Candidate::start(kind, with)?;
            thread::sleep(SETTLE);
            held.push((kind, candidate.memory()?));
            candidate.stop()?;
        }
    }
    Ok(held)
}
