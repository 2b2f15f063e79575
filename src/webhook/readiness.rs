//! Whether the process may be sent reviews.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Ready when everything that was waited for has come, until the process drains.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    missing: Mutex<BTreeSet<&'static str>>,
    draining: AtomicBool,
}

/// A part that has to be there before the process is ready. Dropped without [`Pending::done`], it stays missing.
#[derive(Debug)]
#[must_use]
pub struct Pending {
    what: &'static str,
    state: Arc<State>,
}

impl Readiness {
    /// Adds a part to wait for; `what` is its name, told to whoever asks what is missing.
    pub fn wait_for(&self, what: &'static str) -> Pending {
        self.state.missing.lock().unwrap_or_else(PoisonError::into_inner).insert(what);
        Pending { what, state: Arc::clone(&self.state) }
    }

    /// Not ready from now on: the process is about to end.
    pub fn drain(&self) {
        self.state.draining.store(true, Ordering::Release);
    }

    /// Whether the process is about to end.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.state.draining.load(Ordering::Acquire)
    }

    /// Whether the process may be sent reviews.
    ///
    /// # Errors
    /// What is missing, for people.
    pub fn check(&self) -> Result<(), String> {
        if self.is_draining() {
            return Err("draining: this process is about to end".to_owned());
        }
        let missing = self.state.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if missing.is_empty() {
            return Ok(());
        }
        Err(format!("waiting for {}", missing.iter().copied().collect::<Vec<_>>().join(", ")))
    }
}

impl Pending {
    /// The part is there.
    pub fn done(self) {
        self.state.missing.lock().unwrap_or_else(PoisonError::into_inner).remove(self.what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_part_is_and_no_more_once_draining() {
        let readiness = Readiness::default();
        let (listener, cache) = (readiness.wait_for("the listener"), readiness.wait_for("the cache"));
        assert_eq!(readiness.check(), Err("waiting for the cache, the listener".to_owned()));
        listener.done();
        assert_eq!(readiness.check(), Err("waiting for the cache".to_owned()));
        cache.done();
        assert_eq!(readiness.check(), Ok(()));
        readiness.drain();
        assert!(readiness.check().unwrap_err().starts_with("draining"));
    }

    #[test]
    fn a_part_that_is_given_up_stays_missing() {
        let readiness = Readiness::default();
        drop(readiness.wait_for("the cache"));
        assert!(readiness.check().is_err());
    }
}
