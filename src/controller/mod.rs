//! The controller: from custom resources to the workloads that they ask for, and keeping them so.
//!
//! A change of a resource, or of an object that it owns, puts the resource into the `queue`. Looking at one (`reconcile`)
//! compares what `objects` says it should have with what the caches know (`decide`), carries the difference out (`write`),
//! and says so in the status (`status`) and by Events. What is as it should be costs no request at all.
//!
//! One replica of several writes: the one that holds the Lease (`leader`). All keep their caches, so that another can take
//! over at once; only the one that leads keeps a queue, and begins with everything that its caches have.

mod clock;
mod decide;
mod duel;
mod events;
#[cfg(test)]
mod fake;
mod leader;
mod lease;
mod not_kept;
pub mod objects;
mod owned;
mod path;
mod queue;
mod reconcile;
mod status;
mod steady;
mod told;
mod toolhives;
mod write;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

pub use decide::Scope;

use self::events::Recorder;
use self::leader::{Candidate, HAND_OVER, Leadership};
use self::not_kept::NotKept;
use self::objects::{ObjectKind, Settings};
use self::owned::Owned;
use self::queue::Queue;
use self::reconcile::Reconciler;
use self::told::Told;
use self::toolhives::Sightings;
use crate::backoff::jitter;
use crate::cluster::{Cluster, ConfigError, CrKey};
use crate::metrics::Metrics;

/// Resources that are looked at at the same time. Each waits for the API server most of its time; more would only make it
/// busier.
const WORKERS: usize = 8;

/// How the controller runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which custom resources it builds from.
    pub scope: Scope,
    /// What it builds them with.
    pub settings: Settings,
    /// How often everything is looked at again, changed or not; `None`: never. Costs no request where nothing is wrong.
    pub resync: Option<Duration>,
    /// The namespace of the Lease; absent, the process's own.
    pub lease_namespace: Option<String>,
}

/// The controller of one cluster.
pub struct Controller {
    options: Options,
    client: Client,
    cluster: Cluster,
    metrics: Arc<Metrics>,
    changes: UnboundedReceiver<CrKey>,
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller").field("options", &self.options).finish_non_exhaustive()
    }
}

/// The kinds that are built.
const BUILT: [ObjectKind; 4] =
    [ObjectKind::ConfigMap, ObjectKind::Service, ObjectKind::StatefulSet, ObjectKind::Deployment];

impl Controller {
    /// A controller of this cluster's custom resources; to be made before the cluster's watches run.
    ///
    /// # Errors
    /// When the cluster's certificates or addresses cannot be used.
    pub fn new(cluster: Cluster, options: Options, metrics: Arc<Metrics>) -> Result<Self, ConfigError> {
        let (client, changes) = (cluster.client()?, cluster.follow());
        Ok(Self { options, client, cluster, metrics, changes })
    }

    /// Works until `end` comes; then ends what is being written, and gives its Lease back.
    ///
    /// `resources_synced` waits until all custom resources are known; `synced` is called when the objects are known, too.
    pub async fn run(
        self,
        resources_synced: impl Future<Output = ()>,
        synced: impl FnOnce(),
        end: impl Future<Output = ()>,
    ) {
        let Self { options, client, cluster, metrics, mut changes } = self;
        let identity = identity();
        let (queue, owned, leadership) =
            (Arc::new(Queue::new(Arc::clone(&metrics))), Arc::new(Owned::default()), Arc::new(Leadership::default()));
        let mut tasks = JoinSet::new();
        {
            let queue = Arc::clone(&queue);
            tasks.spawn(async move {
                while let Some(key) = changes.recv().await {
                    queue.add(key);
                }
            });
        }
        let mut pending = Vec::new();
        for kind in BUILT {
            let (done, is_done) = tokio::sync::oneshot::channel::<()>();
            let (client, owned, queue) = (client.clone(), Arc::clone(&owned), Arc::clone(&queue));
            pending.push(is_done);
            tasks.spawn(owned::watch(
                client,
                owned,
                kind,
                move |key| queue.add(key),
                move || {
                    // Nobody waits any more when the process is about to end.
                    let _ = done.send(());
                },
            ));
        }
        let namespace = options.lease_namespace.clone().unwrap_or_else(|| cluster.default_namespace().to_owned());
        let mut candidate =
            Candidate::new(client.clone(), &namespace, identity.clone(), Arc::clone(&leadership), Arc::clone(&metrics));
        let reconciler = Arc::new(Reconciler {
            events: Recorder::new(client.clone(), identity),
            client,
            cluster: cluster.clone(),
            owned,
            settings: options.settings.clone(),
            scope: options.scope,
            leadership: Arc::clone(&leadership),
            metrics: Arc::clone(&metrics),
            not_kept: NotKept::new(options.resync),
            sightings: Sightings::default(),
            told: Told::default(),
        });
        let work = async {
            resources_synced.await;
            for is_done in pending {
                // Dropped only with the watch, which runs for ever.
                let _ = is_done.await;
            }
            synced();
            let everything = || cluster.keys().into_iter().for_each(|key| queue.add(key));
            let resync = async {
                let Some(resync) = options.resync else { return std::future::pending::<()>().await };
                loop {
                    sleep(jitter(resync)).await;
                    everything();
                }
            };
            let elected = || {
                queue.open();
                everything();
            };
            let lost = || {
                queue.close();
                reconciler.sightings.forget_all();
                reconciler.told.forget_all();
            };
            tokio::join!(candidate.run(elected, lost), resync)
        };
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            workers.spawn(worker(Arc::clone(&queue), Arc::clone(&reconciler)));
        }
        tokio::select! {
            _ = work => {}
            () = end => {}
            // None does; one that broke would leave work undone that nothing shows.
            Some(ended) = workers.join_next() => broke("a worker", ended),
            Some(ended) = tasks.join_next() => broke("a watch", ended),
        }
        // Whoever looks at a resource stops before its next write.
        leadership.retire();
        let over = async { while workers.join_next().await.is_some() {} };
        if timeout(HAND_OVER, over).await.is_err() {
            tracing::warn!("a write did not end in time; the lease is kept until it ends by itself");
            return;
        }
        if timeout(HAND_OVER, candidate.release()).await.is_err() {
            tracing::debug!("the lease could not be given back in time; it ends by itself");
        }
    }
}

fn broke(what: &str, ended: Result<(), JoinError>) {
    match ended {
        Ok(()) => tracing::error!(what, "a part of the controller ended unasked"),
        Err(error) => tracing::error!(what, %error, "a part of the controller broke"),
    }
}

async fn worker(queue: Arc<Queue>, reconciler: Arc<Reconciler>) {
    loop {
        let key = tokio::select! {
            key = queue.next() => key,
            () = reconciler.leadership.retired() => return,
        };
        if !reconciler.leadership.wait().await {
            return;
        }
        let looked = reconciler.look(&key, queue.trouble_since(&key)).await;
        queue.finish(&key, looked, reconciler.cluster.whole(&key).is_some());
    }
}

/// A name that no other process has, a restarted one in the same pod included: only who knows it may renew the lease.
fn identity() -> String {
    // A pod's own name. Elsewhere the rest tells processes apart.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = host.trim();
    let mut random = [0; 4];
    // Without randomness the process id still tells most apart.
    let _ = SystemRandom::new().fill(&mut random);
    format!("{name}_{}_{:08x}", std::process::id(), u32::from_ne_bytes(random))
}
