//! What Berth knows of the cluster: a cache of the custom resources that follows it, and reads of single objects.

mod live;
mod lookup;
mod raw;
mod resource;
mod store;
mod watch;
pub(crate) mod watching;
mod whole;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kube::{Client, Config};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;

pub use lookup::{Found, Given, Lookup};
pub use watch::Watch;
pub use whole::CrKey;

use self::live::unreadable;
use self::store::Store;
use crate::admission::{Answer, CrQuery, Freshness, LiveWorkload, WorkloadQuery};
use crate::metrics::Metrics;
use crate::policy::{CrKind, CustomResource, RedisStorage};

/// For connecting to the API server, and for a single read from it.
const CONNECT: Duration = Duration::from_secs(2);

/// The cluster is not configured.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// Access to a cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    client: Client,
    /// For what repeats its requests itself, at its own pace.
    watching: Client,
    /// Where requests run. Workers come and go with their own runtimes; connections to the API server stay on this one.
    runtime: Handle,
    store: Store,
    default_storage: Option<RedisStorage>,
    metrics: Arc<Metrics>,
    /// Where each change of a custom resource is told, when somebody builds from them.
    followers: OnceLock<mpsc::UnboundedSender<CrKey>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Cluster {
    /// The cluster of `KUBECONFIG` or of the pod's service account. Needs a tokio runtime, on which its requests run.
    ///
    /// Nothing is asked of the API server yet: it may come later than Berth.
    ///
    /// # Errors
    /// When neither names a cluster.
    pub async fn infer(default_storage: Option<RedisStorage>, metrics: Arc<Metrics>) -> Result<Self, ConfigError> {
        let config = Config::infer().await.map_err(|error| ConfigError(error.to_string()))?;
        Self::new(config, default_storage, metrics)
    }

    /// The cluster of a configuration.
    ///
    /// # Errors
    /// When its certificates or addresses cannot be used.
    pub fn new(
        mut config: Config,
        default_storage: Option<RedisStorage>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ConfigError> {
        config.connect_timeout = Some(CONNECT);
        // Counted from the question: an answer that a connection was kept for counts no time before it.
        (config.read_timeout, config.reset_reader_on_write) = (Some(watching::SILENT), true);
        let watching = without_retries(&config)?;
        let client = Client::try_from(config.clone()).map_err(|error| ConfigError(error.to_string()))?;
        let (runtime, store, followers) = (Handle::current(), Store::default(), OnceLock::new());
        Ok(Self {
            shared: Arc::new(Shared { config, client, watching, runtime, store, default_storage, metrics, followers }),
        })
    }

    /// What keeps the cache of a kind; run it for as long as the cache is to follow the cluster.
    #[must_use]
    pub fn watch(&self, kind: CrKind) -> Watch {
        Watch::new(Arc::clone(&self.shared), kind)
    }

    /// A custom resource: from the cache where its copy is new enough, else from the API server.
    pub(crate) async fn custom_resource(&self, query: &CrQuery) -> Answer<Arc<CustomResource>> {
        if let Some(cached) = self.shared.store.find(query, Instant::now()) {
            return Answer::Found(cached);
        }
        if let Freshness::Cached(_) | Freshness::Followed = query.freshness {
            return unreadable("there is no copy of it that is known to be of late".to_owned());
        }
        let (shared, query) = (Arc::clone(&self.shared), query.clone());
        self.run(async move { shared.read_custom_resource(&query).await }).await
    }

    /// A workload, from the API server.
    pub(crate) async fn workload(&self, query: &WorkloadQuery) -> Answer<LiveWorkload> {
        let (shared, query) = (Arc::clone(&self.shared), query.clone());
        self.run(async move { shared.read_workload(&query).await }).await
    }

    async fn run<T: Send + 'static>(&self, read: impl Future<Output = Answer<T>> + Send + 'static) -> Answer<T> {
        let read = self.shared.runtime.spawn(read);
        read.await.unwrap_or_else(|error| unreadable(format!("the read was given up: {error}")))
    }
}

/// The usual client repeats what was refused for being too much, in pauses that grow to minutes.
fn without_retries(config: &Config) -> Result<Client, ConfigError> {
    let mut config = config.clone();
    config.default_retry = false;
    Client::try_from(config).map_err(|error| ConfigError(error.to_string()))
}
