//! The end of the process, in stages: nobody who is being served is to notice it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// What the process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// All is well.
    Serving,
    /// Not ready any more, though everything is still served: balancers are learning of it. Connections close after
    /// their next response.
    LameDuck,
    /// No new connections; requests under way finish.
    Draining,
    /// Open streams end between two events.
    EndingStreams,
    /// What is still open is closed.
    Closing,
}

const STAGES: [Stage; 5] = [Stage::Serving, Stage::LameDuck, Stage::Draining, Stage::EndingStreams, Stage::Closing];

/// How long the stages last.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    /// [`Stage::LameDuck`].
    pub lame_duck: Duration,
    /// [`Stage::Draining`].
    pub drain: Duration,
}

/// How long streams may take to come to the end of an event.
const LAST_EVENT: Duration = Duration::from_secs(2);
/// How often it is looked whether anybody is still there.
const LOOK: Duration = Duration::from_millis(50);

/// The stage of the process.
#[derive(Debug, Default)]
pub struct Drain(AtomicU8);

impl Drain {
    /// What the process is doing.
    #[must_use]
    pub fn stage(&self) -> Stage {
        STAGES.get(usize::from(self.0.load(Ordering::Acquire))).copied().unwrap_or(Stage::Closing)
    }

    fn enter(&self, stage: Stage) {
        tracing::info!(?stage, "draining");
        self.0.store(stage as u8, Ordering::Release);
    }

    /// Goes through all stages, skipping what is left of them once `open`, the number of connections, is zero.
    pub async fn run(&self, pauses: Pauses, open: impl Fn() -> usize) {
        self.enter(Stage::LameDuck);
        tokio::time::sleep(pauses.lame_duck).await;
        self.enter(Stage::Draining);
        wait_until(pauses.drain, || open() == 0).await;
        if open() > 0 {
            self.enter(Stage::EndingStreams);
            wait_until(LAST_EVENT, || open() == 0).await;
        }
        self.enter(Stage::Closing);
        wait_until(LAST_EVENT / 4, || open() == 0).await;
    }
}

async fn wait_until(limit: Duration, done: impl Fn() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(LOOK).await;
        }
    };
    // Running into the limit is what the next stage is for.
    let _ = tokio::time::timeout(limit, wait).await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    const PAUSES: Pauses = Pauses { lame_duck: Duration::from_secs(5), drain: Duration::from_secs(20) };

    #[tokio::test(start_paused = true)]
    async fn an_idle_process_ends_after_the_lame_duck_pause() {
        let (drain, start) = (Drain::default(), tokio::time::Instant::now());
        drain.run(PAUSES, || 0).await;
        assert_eq!(start.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn open_streams_end_at_the_time_out() {
        let (drain, start, open) = (Drain::default(), tokio::time::Instant::now(), AtomicUsize::new(1));
        let streams = async {
            while drain.stage() < Stage::EndingStreams {
                tokio::time::sleep(LOOK).await;
            }
            assert_eq!(start.elapsed().as_secs(), 25);
            open.store(0, Ordering::Relaxed);
        };
        tokio::join!(drain.run(PAUSES, || open.load(Ordering::Relaxed)), streams);
        assert_eq!(start.elapsed().as_secs(), 25);
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_ends_is_closed_before_the_grace_period_ends() {
        let (drain, start) = (Drain::default(), tokio::time::Instant::now());
        drain.run(PAUSES, || 1).await;
        assert_eq!(drain.stage(), Stage::Closing);
        assert!(start.elapsed() < Duration::from_secs(28), "the grace period is 30 s");
    }
}
