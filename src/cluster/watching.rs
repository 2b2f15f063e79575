//! What all watches have in common: how long one lasts, and how soon it is tried again.

use std::time::Duration;

use kube::Error;
use kube::runtime::watcher::{self, Config};
use tokio::time::{Instant, sleep};

use crate::backoff::{Backoff, jitter};

/// How long the API server lets one watch last; the next goes on where it ended. Kept short, since a connection that fell
/// silent looks like a cluster in which nothing happens, until the end does not come.
const LASTS: Duration = Duration::from_secs(30);
/// When nothing has come for so long on a connection that is asked something, nobody is there any more. Longer than a
/// watch lasts.
pub(super) const SILENT: Duration = Duration::from_secs(45);
/// Between attempts while the API server cannot be reached. Nothing is known of the cluster for so long after it is back.
const LONGEST: Duration = Duration::from_secs(10);
/// A watch that has not failed for so long works: whatever fails does it again before, after a pause, a connection, and the
/// silence of that. With a little more than these take, since a busy machine takes it too.
pub(super) const LOST: Duration =
    SILENT.saturating_add(LONGEST).saturating_add(super::CONNECT).saturating_add(Duration::from_secs(3));
/// After it said that it has too much to do.
const THROTTLED: Duration = Duration::from_secs(2);
/// Objects in memory at once while a list comes in.
const PAGE: u32 = 100;
/// The failure that is worth a line; those before it are everyday life.
const TOLD: u32 = 4;

/// How every watch asks.
pub(crate) fn config() -> Config {
    Config::default().page_size(PAGE).timeout(u32::try_from(LASTS.as_secs()).unwrap_or(u32::MAX))
}

/// The attempts of one watch.
#[derive(Debug)]
pub(crate) struct Attempts {
    kind: &'static str,
    backoff: Backoff,
    failed: Option<Instant>,
}

impl Attempts {
    /// Those of a kind's watch.
    pub(crate) fn new(kind: &'static str) -> Self {
        Self { kind, backoff: Backoff::up_to(LONGEST), failed: None }
    }

    /// It works.
    pub(crate) fn succeeded(&mut self) {
        self.backoff.reset();
    }

    /// A watch failed; waits before the next.
    pub(crate) async fn failed(&mut self, error: &watcher::Error) {
        if let watcher::Error::WatchError(status) = error
            && status.code == 410
        {
            // It answers; a list comes next.
            self.backoff.reset();
        }
        let pause = self.pause(error.to_string());
        let pause = if is_throttled(error) { pause.max(jitter(THROTTLED)) } else { pause };
        sleep(pause).await;
    }

    /// Something else on the way to it failed; waits before the next attempt.
    pub(crate) async fn failed_before(&mut self, reason: String) {
        sleep(self.pause(reason)).await;
    }

    fn pause(&mut self, reason: String) -> Duration {
        let now = Instant::now();
        // A watch that goes on where it ended says so by no event: what is long ago is another trouble.
        if self.failed.is_some_and(|failed| now - failed > LOST) {
            self.backoff.reset();
        }
        self.failed = Some(now);
        let pause = self.backoff.next();
        if self.backoff.failures() == TOLD {
            tracing::warn!(kind = self.kind, reason, "the API server cannot be watched; trying again");
        } else {
            tracing::debug!(kind = self.kind, reason, "watch interrupted");
        }
        pause
    }
}

fn is_throttled(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => {
            matches!(error, Error::Api(status) if status.code == 429)
        }
        _ => false,
    }
}
