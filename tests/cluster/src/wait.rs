//! Waiting for a condition instead of for a while.

use std::thread;
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// Between two questions there is a tenth of the time that has passed, within these: what comes soon is seen soon, and what
/// takes long is not asked for all the time, by everybody who waits on a machine that has other things to do.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(100)];

/// Asks `condition` until it gives a value, for at most `bound`; `what` completes the sentence
/// "did not see …" when it never does. An error of `condition` ends the wait at once.
///
/// # Errors
/// When the time is over, or what `condition` fails with.
pub fn wait_for<T>(what: &str, bound: Duration, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if start.elapsed() >= bound {
            return Err(Error::new(format!("did not see {what} in {} s", bound.as_secs_f32())));
        }
        thread::sleep((start.elapsed() / 10).clamp(PAUSES[0], PAUSES[1]));
    }
}
