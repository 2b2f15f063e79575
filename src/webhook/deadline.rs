//! How long a review may take.

use std::time::Duration;

use tokio::time::Instant;

use crate::policy::parse_duration;

/// When a review has to be answered: before the API server stops waiting, so that it hears a reason and not a timeout.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    allowed: Duration,
}

impl Deadline {
    /// Where the question names no timeout, and the longest that any may take (the API server's own maximum is 30 s).
    const DEFAULT: Duration = Duration::from_secs(4);
    const LONGEST: Duration = Duration::from_secs(24);

    /// Four fifths of the time that the API server says it waits (`?timeout=5s`), from now.
    #[must_use]
    pub fn from_query(query: &str) -> Self {
        let timeout = query.split('&').find_map(|pair| pair.strip_prefix("timeout="));
        let waits = timeout.and_then(|text| parse_duration(text).ok()).filter(|waits| !waits.is_zero());
        Self::after(waits.map_or(Self::DEFAULT, |waits| (waits * 4 / 5).min(Self::LONGEST)))
    }

    /// This long from now.
    #[must_use]
    pub fn after(allowed: Duration) -> Self {
        Self { at: Instant::now() + allowed, allowed }
    }

    /// When.
    #[must_use]
    pub fn at(&self) -> Instant {
        self.at
    }

    /// How long that was when the question came.
    #[must_use]
    pub fn allowed(&self) -> Duration {
        self.allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_is_answered_before_the_api_server_stops_waiting() {
        for (query, millis) in [
            ("timeout=5s", 4000),
            ("timeout=2s", 1600),
            ("a=b&timeout=500ms", 400),
            ("timeout=10h", 24_000),
            ("", 4000),
            ("timeout=", 4000),
            ("timeout=0s", 4000),
            ("timeout=-1s", 4000),
            ("timeout=soon", 4000),
        ] {
            assert_eq!(Deadline::from_query(query).allowed(), Duration::from_millis(millis), "{query:?}");
        }
    }
}
