//! What a session that nobody uses now costs in memory.

use super::candidate::{Candidate, Kind, Size, Surroundings};
use super::load::{End, Load, Pace};
use super::message;
use super::speed::CONNECTIONS;
use crate::{Result, resources};

/// Sessions before the first look: buffers and pools have their size then.
const WARM_UP: usize = 2_000;
/// The shortest length that HAProxy can be told which an id of 32 digits and a UUID fit.
const ID_LENGTH: usize = 40;

/// Bytes of resident memory per session of one candidate, at each count of sessions.
#[derive(Debug)]
pub(crate) struct PerSession {
    pub(crate) kind: Kind,
    pub(crate) bytes: Vec<f64>,
}

/// Fills each candidate that pins.
pub(crate) fn measure(with: &Surroundings<'_>, counts: &[usize]) -> Result<Vec<PerSession>> {
    let most = counts.iter().copied().max().unwrap_or_default();
    let size = Size { sessions: most + WARM_UP, id_length: ID_LENGTH };
    let mut measured = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| kind.pins()) {
        eprintln!("memory: {}", kind.name());
        let candidate = Candidate::start(kind, size, with)?;
        let Some(pid) = candidate.pid() else { continue };
        let mut load = Load::connect(candidate.address, CONNECTIONS)?;
        let initialize = [message::post(None)];
        let mut issue = |count| load.run(&initialize, Pace::Full, End::Requests(count), |_| Ok(()));
        issue(WARM_UP)?;
        let before = resources::memory(pid)?.resident;
        let (mut bytes, mut issued) = (Vec::new(), 0);
        for &count in counts {
            issue(count.saturating_sub(issued))?;
            issued = issued.max(count);
            bytes.push((resources::memory(pid)?.resident - before) * 1e6 / issued as f64);
        }
        measured.push(PerSession { kind, bytes });
    }
    Ok(measured)
}
