//! How commands are sent: over which link, until when, and what becomes of the link.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::{ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, ServerErrorKind};
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout_at};

use super::link::Pair;
use super::trouble::Trouble;
use super::{RedisStore, Unavailable};

/// Until a look-up must have ended, so that a client hears within a second.
pub(super) const READ: Duration = Duration::from_millis(800);
/// Until a write must have ended. Longer: giving up means to throw away a session that the server has just made.
pub(super) const WRITE: Duration = Duration::from_secs(5);
/// Until what may be pinned already is pinned once more where its link is lost: longer than a dead link may last, and than
/// most servers that hang for a moment need.
pub(super) const REPEAT: Duration = Duration::from_secs(3);
/// How long a server may answer nothing at all before its link is given up. Longer than a look-up: one that is late costs
/// itself alone, and a new link to a server that is merely slow is no faster.
pub(super) const SILENCE: Duration = Duration::from_millis(1200);
/// For how long after a link was lost the next one is waited for. After that the store is away: who asks hears so at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether there is a link.
#[derive(Debug)]
pub(super) enum LinkState {
    /// There was none yet.
    Never,
    Lost(Instant),
    Up(Arc<Link>),
}

pub(super) struct Link {
    pub(super) pair: Pair,
    /// Becomes true when the link is given up, so that nobody waits for it any longer.
    down: watch::Sender<bool>,
    silence: Mutex<Silence>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Link")
    }
}

impl Link {
    pub(super) fn new(pair: Pair) -> Self {
        Self { pair, down: watch::Sender::new(false), silence: Mutex::default() }
    }

    pub(super) fn is_down(&self) -> bool {
        *self.down.borrow()
    }

    /// Waits for a command: until a moment, or until the link is given up.
    async fn wait<T>(&self, until: Instant, command: impl Future<Output = RedisResult<T>>) -> Ended<T> {
        let mut down = self.down.subscribe();
        let command = pin!(command);
        tokio::select! {
            biased;
            ended = command => Ended::Answered(ended),
            _ = down.wait_for(|down| *down) => Ended::Down,
            () = sleep_until(until.into()) => Ended::Late,
        }
    }
}

/// How waiting for a command ended.
enum Ended<T> {
    Answered(RedisResult<T>),
    /// There was no answer in time.
    Late,
    /// The link was given up meanwhile.
    Down,
}

/// Since when reads have been waited for without an answer to any of them. A server answers a connection's commands in
/// order, so an answer to one says that the others are only behind it.
#[derive(Debug, Default)]
struct Silence {
    waiting: usize,
    since: Option<Instant>,
}

impl Silence {
    fn lasts(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

/// A read that is waited for. What comes after its end nobody hears.
struct Waiting<'a>(&'a Mutex<Silence>);

impl<'a> Waiting<'a> {
    fn new(silence: &'a Mutex<Silence>, now: Instant) -> Self {
        let mut kept = silence.lock();
        kept.waiting += 1;
        kept.since.get_or_insert(now);
        drop(kept);
        Self(silence)
    }

    fn is_answered(&self, now: Instant) {
        self.0.lock().since = Some(now);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut silence = self.0.lock();
        silence.waiting -= 1;
        if silence.waiting == 0 {
            silence.since = None;
        }
    }
}

impl RedisStore {
    /// Whether there is a connection.
    pub(in crate::session) fn is_connected(&self) -> bool {
        matches!(*self.link.borrow(), LinkState::Up(_))
    }

    /// The link that there is now.
    pub(super) fn link(&self) -> Result<Arc<Link>, Unavailable> {
        match &*self.link.borrow() {
            LinkState::Up(link) => Ok(Arc::clone(link)),
            LinkState::Never | LinkState::Lost(_) => Err(Unavailable),
        }
    }

    /// The link that there is now or, where one was lost just now, the next one.
    pub(super) async fn link_until(&self, until: Instant) -> Result<Arc<Link>, Unavailable> {
        let mut state = self.link.subscribe();
        match &*state.borrow_and_update() {
            LinkState::Up(link) => return Ok(Arc::clone(link)),
            LinkState::Lost(at) if at.elapsed() < PATIENCE => {}
            LinkState::Never | LinkState::Lost(_) => return Err(Unavailable),
        }
        let linked = state.wait_for(|state| matches!(state, LinkState::Up(_)));
        match timeout_at(until.into(), linked).await.ok().and_then(Result::ok).as_deref() {
            Some(LinkState::Up(link)) => Ok(Arc::clone(link)),
            _ => Err(Unavailable),
        }
    }

    /// Gives a link up, unless it was replaced already.
    fn drop_link(&self, link: &Arc<Link>) {
        let lost = self.link.send_if_modified(|state| {
            let is_current = matches!(state, LinkState::Up(now) if Arc::ptr_eq(now, link));
            if is_current {
                *state = LinkState::Lost(Instant::now());
            }
            is_current
        });
        if lost {
            self.attention.notify_one();
        }
        link.down.send_replace(true);
    }

    /// What a read answers within a time.
    pub(super) async fn read<T: FromRedisValue>(
        &self,
        link: &Arc<Link>,
        limit: Duration,
        commands: &Pipeline,
    ) -> Result<T, Unavailable> {
        let now = Instant::now();
        let mut connection = link.pair.read.clone();
        let waiting = Waiting::new(&link.silence, now);
        let ended = link.wait(now + limit, commands.query_async(&mut connection)).await;
        match &ended {
            Ended::Answered(_) => waiting.is_answered(Instant::now()),
            Ended::Late if link.silence.lock().lasts(Instant::now()) >= SILENCE => self.drop_link(link),
            Ended::Late | Ended::Down => {}
        }
        self.value(link, ended)
    }

    /// What a write answers. That one is late says nothing: a server may hold up all writes and go on with reads.
    pub(super) async fn write<T>(
        &self,
        link: &Arc<Link>,
        command: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, Unavailable> {
        self.write_until(link, Instant::now() + WRITE, command).await
    }

    /// As [`RedisStore::write`], until a moment.
    pub(super) async fn write_until<T>(
        &self,
        link: &Arc<Link>,
        until: Instant,
        command: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, Unavailable> {
        let ended = link.wait(until, command).await;
        self.value(link, ended)
    }

    /// Does what may wait long for writes, and finds out meanwhile whether the server hangs.
    pub(in crate::session) async fn watching<T>(&self, work: impl Future<Output = T>) -> T {
        let watch = async {
            loop {
                tokio::time::sleep(READ).await;
                if let Ok(link) = self.link() {
                    let _ = self.state(&link).await;
                }
            }
        };
        tokio::select! {
            done = work => done,
            never = watch => never,
        }
    }

    fn value<T>(&self, link: &Arc<Link>, ended: Ended<T>) -> Result<T, Unavailable> {
        match ended {
            Ended::Answered(Ok(value)) => return Ok(value),
            Ended::Answered(Err(error)) => {
                tracing::debug!(error = %error, "a command to the session store failed");
                *self.objection.lock() = Some(Trouble::of(&error).advice());
                if is_of_the_link(&error) {
                    self.drop_link(link);
                }
            }
            Ended::Late => {}
            Ended::Down => return Err(Unavailable),
        }
        self.errors.fetch_add(1, Ordering::Relaxed);
        Err(Unavailable)
    }
}

/// Whether the connection is of no more use: broken, or to a server that is no master, or not up.
fn is_of_the_link(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_io_error()
        || matches!(
            error.kind(),
            ErrorKind::AuthenticationFailed
                | ErrorKind::ClusterConnectionNotFound
                | ErrorKind::Server(
                    ServerErrorKind::ReadOnly
                        | ServerErrorKind::BusyLoading
                        | ServerErrorKind::MasterDown
                        | ServerErrorKind::ClusterDown
                )
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_silent_while_reads_are_waited_for_and_none_is_answered() {
        let silence = Mutex::new(Silence::default());
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let lasts = |seconds| silence.lock().lasts(at(seconds)).as_secs();
        let one = Waiting::new(&silence, at(1));
        let other = Waiting::new(&silence, at(2));
        assert_eq!(lasts(4), 3, "since the first was asked");
        drop(one);
        assert_eq!(lasts(4), 3, "whoever gave up meanwhile");
        let late = Waiting::new(&silence, at(4));
        other.is_answered(at(5));
        drop(other);
        assert_eq!(lasts(7), 2, "since the last answer");
        drop(late);
        assert_eq!(lasts(9), 0, "nobody listens");
        let _next = Waiting::new(&silence, at(9));
        assert_eq!(lasts(10), 1);
    }
}
