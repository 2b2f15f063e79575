//! Which pod gets a new session. Pure: the caller brings counts, time and chance.

use std::time::{Duration, Instant};

use crate::pods::PodId;
use crate::session::Counts;

/// How long a failed placement counts as a session of its pod.
pub const PENALTY: Duration = Duration::from_secs(10);

/// How a placement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// A session was pinned, and the counts include it now.
    Pinned,
    /// The pod answered without making a session.
    NoSession,
    /// The pod refused, broke, or answered a request for a session with a 5xx.
    Failed,
}

/// Placements of this replica that the counts do not show: those under way, and those that failed lately.
#[derive(Debug, Default)]
pub struct Placements {
    in_flight: Vec<(PodId, u32)>,
    failed: Vec<(PodId, Instant)>,
}

impl Placements {
    /// The pod for a new session among the ready ones, and counts the placement as under way: say how it ended with
    /// [`Placements::ended`]. `chance` is any random number. `None` only when no pod is ready.
    pub fn place(&mut self, _ready: &[PodId], _counts: &Counts, _now: Instant, _chance: u64) -> Option<PodId> {
        None
    }

    /// A placement ended.
    pub fn ended(&mut self, _pod: PodId, _how: Placed, _now: Instant) {}
}
