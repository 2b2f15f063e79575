//! Clients that go on calling, and remember what went wrong.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::support::{CALL, Client, Reply};
use crate::world::Session;

/// Between two calls of one client.
const PAUSE: Duration = Duration::from_millis(20);

/// What clients saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) calls: AtomicUsize,
    /// Answers that were no answer of the session's own pod, and connections that broke.
    pub(crate) wrong: Mutex<Vec<String>>,
    ended: AtomicBool,
}

impl Seen {
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    pub(crate) fn note(&self, what: String) {
        let mut wrong = self.wrong.lock();
        if wrong.len() < 20 {
            wrong.push(what);
        }
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

/// Clients at work.
pub(crate) struct Load {
    pub(crate) seen: Arc<Seen>,
    tasks: JoinSet<()>,
}

impl Load {
    pub(crate) fn new() -> Self {
        Self { seen: Arc::default(), tasks: JoinSet::new() }
    }

    /// Calls each of the sessions in turn, at an address. `allowed` says which answers are fine besides those of the
    /// session's own pod, and `None` is a connection that broke.
    pub(crate) fn call(
        &mut self,
        address: SocketAddr,
        sessions: &[Session],
        allowed: impl Fn(Option<&Reply>) -> bool + Send + 'static,
    ) {
        let (seen, sessions) = (Arc::clone(&self.seen), sessions.to_vec());
        self.tasks.spawn(async move {
            let mut client = None;
            for session in sessions.iter().cycle() {
                if seen.has_ended() {
                    return;
                }
                let reply = call(&mut client, address, session).await;
                match &reply {
                    Ok(reply) if reply.status == 200 && reply.body == session.pod => {}
                    other if allowed(other.as_ref().ok()) => {}
                    other => seen.note(format!("{session:?}: {other:?}")),
                }
                // As a client does that was told so, or that lost its connection.
                if reply.as_ref().map_or(true, |reply| reply.header("connection") == Some("close")) {
                    client = None;
                }
                seen.calls.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
            }
        });
    }

    /// Any other client; it is to end when the load has.
    pub(crate) fn spawn<F: Future<Output = ()> + Send + 'static>(&mut self, client: impl FnOnce(Arc<Seen>) -> F) {
        let client = client(Arc::clone(&self.seen));
        self.tasks.spawn(client);
    }

    /// Waits for some more calls.
    pub(crate) async fn go_on(&self, calls: usize) {
        let goal = self.seen.calls() + calls;
        crate::world::until("more calls", || self.seen.calls() >= goal).await;
    }

    /// Ends the clients, and fails when anything went wrong.
    pub(crate) async fn end(mut self) {
        self.seen.ended.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a client that ends well");
        }
        let wrong = self.seen.wrong.lock();
        assert!(wrong.is_empty(), "of {} calls went wrong: {wrong:#?}", self.seen.calls());
        assert!(self.seen.calls() > 0);
    }
}

async fn call(client: &mut Option<Client>, address: SocketAddr, session: &Session) -> std::io::Result<Reply> {
    if client.is_none() {
        *client = Some(Client::try_connect(address).await?);
    }
    let Some(client) = client else { return Err(std::io::ErrorKind::NotConnected.into()) };
    client.try_post(Some(&session.id), CALL).await
}
