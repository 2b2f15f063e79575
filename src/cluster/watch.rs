//! Follows the custom resources of one kind into the cache.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Error};
use tokio::time::{Instant, sleep, timeout};

use super::Shared;
use super::resource::{Arriving, api_resource};
use super::store::Copies;
use super::watching::{self, Attempts};
use crate::backoff::jitter;
use crate::policy::CrKind;
use crate::policy::names::{TOOLHIVE_GROUP, TOOLHIVE_VERSIONS};

/// How often to look for a definition that is not installed.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// For the question which versions are served.
const DISCOVERY: Duration = Duration::from_secs(10);

/// Keeps the cache of one kind.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    kind: CrKind,
}

impl Watch {
    pub(super) fn new(shared: Arc<Shared>, kind: CrKind) -> Self {
        Self { shared, kind }
    }

    /// Follows the cluster, for ever; calls `synced` when the cache is complete for the first time.
    ///
    /// A kind that is not installed has no objects, so its cache is complete; it is looked for again and again.
    pub async fn run(self, synced: impl FnOnce()) {
        let mut synced = Some(synced);
        let mut attempts = Attempts::new(self.kind.as_str());
        loop {
            match self.served_version().await {
                Ok(Some(version)) => {
                    self.shared.store.set_version(self.kind, Some(version));
                    if self.shared.followers.get().is_some() {
                        self.follow::<true>(version, &mut synced, &mut attempts).await;
                    } else {
                        self.follow::<false>(version, &mut synced, &mut attempts).await;
                    }
                    // What is still said to be served is asked for again at once, otherwise.
                    self.failed();
                    attempts.failed_before("not served any more".to_owned()).await;
                }
                Ok(None) => {
                    attempts.succeeded();
                    self.shared.store.set_version(self.kind, None);
                    self.replace(Copies::new());
                    if let Some(synced) = synced.take() {
                        tracing::info!(
                            kind = self.kind.as_str(),
                            "not installed; looking for it again from time to time"
                        );
                        synced();
                    }
                    sleep(jitter(LOOK_AGAIN)).await;
                }
                Err(reason) => {
                    self.failed();
                    attempts.failed_before(reason).await;
                }
            }
        }
    }

    /// The first of Berth's versions at which the API server has the kind.
    async fn served_version(&self) -> Result<Option<&'static str>, String> {
        for version in TOOLHIVE_VERSIONS {
            let group_version = format!("{TOOLHIVE_GROUP}/{version}");
            match timeout(DISCOVERY, self.shared.watching.list_api_group_resources(&group_version)).await {
                Ok(Ok(list)) => {
                    if list.resources.iter().any(|resource| resource.name == self.kind.plural()) {
                        return Ok(Some(version));
                    }
                }
                Ok(Err(error)) if is_not_found(&error) => {}
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => return Err(format!("no answer within {} s", DISCOVERY.as_secs())),
            }
        }
        Ok(None)
    }

    /// Follows one version until it is not served any more.
    async fn follow<const WHOLE: bool>(
        &self,
        version: &'static str,
        synced: &mut Option<impl FnOnce()>,
        attempts: &mut Attempts,
    ) {
        let kind = self.kind.as_str();
        let resource = api_resource(self.kind, version);
        let api: Api<Arriving<WHOLE>> = Api::all_with(self.shared.watching.clone(), &resource);
        let mut events = pin!(watcher(api, watching::config()));
        let mut listing = Copies::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => {
                    self.shared.store.listing(self.kind);
                    listing = Copies::new();
                }
                Ok(Event::InitApply(arriving)) => {
                    listing.insert(arriving.key(), arriving.copy(self.read(&arriving)));
                }
                Ok(Event::InitDone) => {
                    self.succeeded(attempts);
                    self.replace(std::mem::take(&mut listing));
                    tracing::info!(kind, version, objects = self.shared.store.count(self.kind), "cache synced");
                    if let Some(synced) = synced.take() {
                        synced();
                    }
                }
                Ok(Event::Apply(arriving)) => {
                    self.succeeded(attempts);
                    // One that cannot be read leaves no outdated reading behind: a review then asks the API server.
                    if self.shared.store.insert(self.kind, arriving.key(), arriving.copy(self.read(&arriving))) {
                        self.shared.tell(self.kind, arriving.key());
                    }
                    self.count();
                }
                Ok(Event::Delete(arriving)) => {
                    self.shared.store.remove(self.kind, &arriving.key(), arriving.version());
                    self.shared.tell(self.kind, arriving.key());
                    self.count();
                }
                Err(error) if is_gone(&error) => {
                    tracing::info!(kind, version, "not served any more");
                    return;
                }
                Err(error) => {
                    self.failed();
                    attempts.failed(&error).await;
                }
            }
        }
    }

    fn succeeded(&self, attempts: &mut Attempts) {
        attempts.succeeded();
        self.shared.store.watched(self.kind, None);
    }

    /// The copies may be outdated from now on.
    fn failed(&self) {
        self.shared.store.watched(self.kind, Some(Instant::now()));
    }

    fn read<const WHOLE: bool>(&self, arriving: &Arriving<WHOLE>) -> Option<crate::policy::CustomResource> {
        match arriving.read(self.kind, self.shared.default_storage.as_ref()) {
            Ok(copy) => Some(copy),
            Err(error) => {
                let (namespace, name) = arriving.key();
                tracing::warn!(kind = self.kind.as_str(), namespace, name, %error, "cannot be read");
                None
            }
        }
    }

    fn replace(&self, copies: Copies) {
        let before = self.shared.store.replace(self.kind, copies);
        for key in before.into_keys().chain(self.shared.store.keys(self.kind)) {
            self.shared.tell(self.kind, key);
        }
        self.count();
    }

    fn count(&self) {
        self.shared.metrics.watched(self.kind, self.shared.store.count(self.kind));
    }
}

fn is_not_found(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 404)
}

/// Whether the kind is not there at this version any more.
fn is_gone(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => is_not_found(error),
        _ => false,
    }
}
