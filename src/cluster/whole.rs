//! Whole custom resources, for who builds from them.

use std::fmt;
use std::sync::Arc;

use kube::{Api, Client, Error};
use tokio::sync::mpsc;

use super::live::is_of_object;
use super::resource::{Arriving, api_resource};
use super::{Cluster, ConfigError, Shared, without_retries};
use crate::policy::CrKind;

/// Names a custom resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CrKey {
    /// Its kind.
    pub kind: CrKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for CrKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.as_str(), self.namespace, self.name)
    }
}

impl Shared {
    pub(super) fn tell(&self, kind: CrKind, (namespace, name): (String, String)) {
        if let Some(follower) = self.followers.get() {
            // A follower that has ended ends the process; there is nobody to tell then.
            let _ = follower.send(CrKey { kind, namespace, name });
        }
    }
}

impl Cluster {
    /// Keeps custom resources whole from now on, and tells of each that comes, changes or goes. To be called once, before
    /// the watches run.
    #[must_use]
    pub fn follow(&self) -> mpsc::UnboundedReceiver<CrKey> {
        let (sender, receiver) = mpsc::unbounded_channel();
        // A second follower would find its channel closed.
        let _ = self.shared.followers.set(sender);
        receiver
    }

    /// A client of its own for a part of the process that repeats its requests itself.
    ///
    /// # Errors
    /// When its certificates or addresses cannot be used.
    pub(crate) fn client(&self) -> Result<Client, ConfigError> {
        without_retries(&self.shared.config)
    }

    /// All custom resources that are known.
    pub(crate) fn keys(&self) -> Vec<CrKey> {
        let of = |kind| {
            let keys = self.shared.store.keys(kind).into_iter();
            keys.map(move |(namespace, name)| CrKey { kind, namespace, name })
        };
        CrKind::ALL.into_iter().flat_map(of).collect()
    }

    /// The JSON of a custom resource, without its managed fields, as the watch knows it.
    pub(crate) fn whole(&self, key: &CrKey) -> Option<Arc<str>> {
        self.shared.store.whole(key.kind, &(key.namespace.clone(), key.name.clone()))
    }

    /// Whether the phase in a custom resource's status is of ToolHive's writing, and nobody else's, as the watch knows it.
    pub(crate) fn status_of_toolhive(&self, key: &CrKey) -> bool {
        self.shared.store.status_of_toolhive(key.kind, &(key.namespace.clone(), key.name.clone()))
    }

    /// The version at which a kind is served, as far as is known.
    pub(crate) fn version(&self, kind: CrKind) -> Option<&'static str> {
        self.shared.store.version(kind)
    }

    /// The same as it is stored now, which the cache takes over. Nothing when there is none.
    ///
    /// # Errors
    /// When the API server cannot say.
    pub(crate) async fn read_whole(&self, client: &Client, key: &CrKey) -> Result<Option<Arc<str>>, Error> {
        let Some(version) = self.version(key.kind) else { return Ok(None) };
        let resource = api_resource(key.kind, version);
        let api: Api<Arriving<true>> = Api::namespaced_with(client.clone(), &key.namespace, &resource);
        let place = (key.namespace.clone(), key.name.clone());
        let before = self.shared.store.copy_version(key.kind, &place);
        let found = match api.get(&key.name).await {
            Ok(found) => found,
            Err(Error::Api(status)) if is_of_object(&status) => {
                self.shared.store.remove(key.kind, &place, before);
                return Ok(None);
            }
            // The kind is not served at this version any more, which its watch finds out, too.
            Err(Error::Api(status)) if status.code == 404 => return Ok(None),
            Err(error) => return Err(error),
        };
        let read = found.read(key.kind, self.shared.default_storage.as_ref()).ok();
        let copy = found.copy(read);
        let whole = copy.whole.clone();
        self.shared.store.renew(key.kind, &place, copy);
        Ok(whole)
    }

    /// Takes over an answer to a write.
    pub(crate) fn take_over(&self, key: &CrKey, answer: serde_json::Value) {
        let Ok(arriving) = serde_json::from_value::<Arriving<true>>(answer) else { return };
        let read = arriving.read(key.kind, self.shared.default_storage.as_ref()).ok();
        self.shared.store.renew(key.kind, &(key.namespace.clone(), key.name.clone()), arriving.copy(read));
    }
}
