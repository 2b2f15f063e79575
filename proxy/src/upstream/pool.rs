//! Idle connections of one thread, by pod.

use std::cell::RefCell;
use std::net::SocketAddr;

use super::connection::PodConnection;
use crate::pods::PodId;

/// How long a connection is kept idle: less than any server's own limit is likely to be.
const IDLE_MS: u32 = 4_000;
/// How much earlier than the server a connection is given up.
const MARGIN_MS: u32 = 1_000;

/// Idle connections of one thread.
#[derive(Default)]
pub(crate) struct Pool {
    #[expect(clippy::vec_box, reason = "a connection is large, and moves with every request")]
    by_pod: RefCell<Vec<Vec<Box<PodConnection>>>>,
}

impl Pool {
    /// The connection to `pod` that was used last, if it is young enough and leads to where the pod is now.
    pub(crate) fn take(&self, pod: PodId, address: SocketAddr, now: u32) -> Option<Box<PodConnection>> {
        let mut by_pod = self.by_pod.borrow_mut();
        let idle = by_pod.get_mut(usize::from(pod.0))?;
        while let Some(connection) = idle.pop() {
            if connection.address() == address && !is_old(&connection, now) {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection. `server_limit`: for how many seconds the server says it keeps it.
    pub(crate) fn put(&self, pod: PodId, mut connection: Box<PodConnection>, now: u32, server_limit: Option<u32>) {
        let limit = server_limit.map_or(IDLE_MS, idle_limit);
        if limit == 0 {
            return;
        }
        connection.idle_since = now;
        connection.idle_limit = limit;
        let mut by_pod = self.by_pod.borrow_mut();
        let at = usize::from(pod.0);
        if by_pod.len() <= at {
            by_pod.resize_with(at + 1, Vec::new);
        }
        by_pod[at].push(connection);
    }

    /// Closes what has been idle for too long.
    pub(crate) fn sweep(&self, now: u32) {
        for idle in self.by_pod.borrow_mut().iter_mut() {
            idle.retain(|connection| !is_old(connection, now));
        }
    }
}

fn is_old(connection: &PodConnection, now: u32) -> bool {
    now.wrapping_sub(connection.idle_since) >= connection.idle_limit
}

/// How long to keep a connection that the server keeps for `seconds`.
fn idle_limit(seconds: u32) -> u32 {
    seconds.saturating_mul(1_000).saturating_sub(MARGIN_MS).min(IDLE_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_for_four_seconds_or_one_less_than_the_server_says() {
        assert_eq!(idle_limit(60), 4_000);
        assert_eq!(idle_limit(5), 4_000);
        assert_eq!(idle_limit(3), 2_000);
        assert_eq!(idle_limit(1), 0);
        assert_eq!(idle_limit(0), 0);
    }
}
