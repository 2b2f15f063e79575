//! Time as the session tables keep it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time in tenths of a second since the process started: 13 years in 4 bytes.
pub(super) type Tick = u32;

/// Tells the time in tenths of a second since it was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
}

/// The first tick, so that subtracting a lifetime of a year stays above zero.
const FIRST: Tick = 400_000_000;

impl Clock {
    pub(super) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(super) fn now(self) -> Tick {
        FIRST.saturating_add(ticks(self.start.elapsed()))
    }
}

/// Whole ticks, at least one for any duration but none.
pub(super) fn ticks(duration: Duration) -> Tick {
    Tick::try_from(duration.as_millis().div_ceil(100)).unwrap_or(Tick::MAX)
}

/// Unix time in milliseconds.
pub(super) fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Milliseconds of a duration.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
