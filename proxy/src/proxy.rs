//! A replica of the proxy: everything put together.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::admin;
use crate::drain::{Drain, Pauses};
use crate::listener::Threads;
use crate::metrics::Metrics;
use crate::place::Placements;
use crate::pods::{PodId, Pods};
use crate::route::Names;
use crate::session::Sessions;
use crate::worker::{Limits, Shared};

/// How a replica is to run.
#[derive(Clone, Debug)]
pub struct ProxySettings {
    /// Where clients connect; port 0 takes any free one.
    pub listen: SocketAddr,
    /// The admin port, if there is to be one.
    pub admin: Option<SocketAddr>,
    /// Threads that serve clients, at least 1.
    pub threads: usize,
    /// What bounds clients.
    pub limits: Limits,
    /// Names under which servers other than MCP's carry a session.
    pub names: Names,
    /// How long the stages of the drain last.
    pub pauses: Pauses,
}

/// A running replica.
pub struct Proxy {
    /// Where clients connect.
    pub address: SocketAddr,
    /// The admin port.
    pub admin: Option<SocketAddr>,
    shared: Arc<Shared>,
    threads: Threads,
    pauses: Pauses,
    background: Vec<JoinHandle<()>>,
}

impl Proxy {
    /// Binds the ports and starts to serve. The work in the background runs on the current runtime.
    ///
    /// # Errors
    /// A port cannot be bound, or a thread cannot be started.
    pub async fn start(settings: ProxySettings, sessions: Arc<Sessions>, pods: Arc<Pods>) -> io::Result<Self> {
        let threads = settings.threads.max(1);
        let shared = Arc::new(Shared {
            sessions: Arc::clone(&sessions),
            pods: Arc::clone(&pods),
            placements: Mutex::new(Placements::default()),
            names: settings.names,
            limits: settings.limits,
            metrics: Metrics::new(threads),
            drain: Drain::default(),
            connections: AtomicUsize::new(0),
            background: Handle::current(),
        });
        let mut background = Vec::new();
        background.push(tokio::spawn(Arc::clone(&sessions).run()));
        background.push(tokio::spawn(async move {
            pods.run(|snapshot| sessions.set_pods(&snapshot.pods().collect::<Vec<PodId>>())).await;
        }));
        let admin = match settings.admin {
            None => None,
            Some(address) => {
                let listener = admin::bind(address).await.map_err(|error| unbindable(address, error))?;
                let address = listener.local_addr()?;
                background.push(tokio::spawn(admin::serve(listener, Arc::clone(&shared))));
                Some(address)
            }
        };
        let threads = Threads::start(&shared, settings.listen, threads)?;
        Ok(Self { address: threads.address, admin, shared, threads, pauses: settings.pauses, background })
    }

    /// How long the stages of the drain are to last, when it comes.
    pub fn set_pauses(&mut self, pauses: Pauses) {
        self.pauses = pauses;
    }

    /// Ends the replica without anybody noticing, within the pauses.
    pub async fn drain(self) {
        let shared = &self.shared;
        shared.drain.run(self.pauses, || shared.connections.load(Relaxed)).await;
        let threads = self.threads;
        // They end within two ticks.
        let _ = tokio::task::spawn_blocking(|| threads.join()).await;
        for task in self.background {
            task.abort();
        }
    }

    /// Whether a thread has ended, which none does before the drain.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.threads.any_ended()
    }
}

/// Two ports are bound; which one cannot be has to be said.
pub(crate) fn unbindable(address: SocketAddr, error: io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("cannot listen on {address}: {error}; --listen and --admin name other addresses"),
    )
}
