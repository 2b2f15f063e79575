//! Follows the owned objects of one kind into the cache.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::{Arriving, Live, Owned, SELECTOR};
use crate::cluster::CrKey;
use crate::cluster::watching::{self, Attempts};
use crate::controller::objects::ObjectKind;
use crate::controller::path::api_resource;

/// Follows the cluster, for ever; calls `synced` when the cache is complete for the first time, and `tell` with the custom
/// resource of each object that comes, changes or goes.
pub(in crate::controller) async fn watch(
    client: Client,
    owned: Arc<Owned>,
    kind: ObjectKind,
    tell: impl Fn(CrKey),
    synced: impl FnOnce(),
) {
    let resource = api_resource(kind);
    match kind {
        // Their counts and stamps are needed.
        ObjectKind::Deployment | ObjectKind::StatefulSet => {
            let api: Api<Arriving> = Api::all_with(client, &resource);
            follow(api, &owned, kind, tell, synced, |arriving| (arriving.metadata.clone(), arriving.live())).await;
        }
        ObjectKind::Service | ObjectKind::ConfigMap => {
            let api: Api<PartialObjectMeta<Arriving>> = Api::all_with(client, &resource);
            follow(api, &owned, kind, tell, synced, |arriving| {
                (arriving.metadata.clone(), Live::of(&arriving.metadata))
            })
            .await;
        }
    }
}

async fn follow<K>(
    api: Api<K>,
    owned: &Owned,
    kind: ObjectKind,
    tell: impl Fn(CrKey),
    synced: impl FnOnce(),
    read: impl Fn(&K) -> (ObjectMeta, Live),
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut synced = Some(synced);
    let mut attempts = Attempts::new(kind.as_str());
    let config = watching::config().labels(SELECTOR);
    let mut events = pin!(watcher(api, config));
    let mut listing = Vec::new();
    let place = |meta: &ObjectMeta| (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listing = Vec::new(),
            Ok(Event::InitApply(arriving)) => {
                let (meta, live) = read(&arriving);
                let (namespace, name) = place(&meta);
                listing.push((namespace, name, live));
            }
            Ok(Event::InitDone) => {
                attempts.succeeded();
                let listed = std::mem::take(&mut listing);
                listed.iter().filter_map(|(namespace, _, live)| key(namespace, live)).for_each(&tell);
                let gone = owned.replace(kind, listed);
                gone.iter().filter_map(|(namespace, live)| key(namespace, live)).for_each(&tell);
                tracing::info!(kind = kind.as_str(), "owned objects synced");
                if let Some(synced) = synced.take() {
                    synced();
                }
            }
            Ok(Event::Apply(arriving)) => {
                attempts.succeeded();
                let (meta, live) = read(&arriving);
                let (namespace, name) = place(&meta);
                let (now, version) = (key(&namespace, &live), live.version.clone());
                let before = owned.insert(kind, &namespace, &name, live);
                // The answer to a write of ours comes a second time here, and changes nothing.
                if before.as_ref().is_some_and(|before| before.version == version && !version.is_empty()) {
                    continue;
                }
                let before = before.and_then(|before| key(&namespace, &before));
                let moved = before.filter(|before| Some(before) != now.as_ref());
                now.into_iter().chain(moved).for_each(&tell);
            }
            Ok(Event::Delete(arriving)) => {
                let (meta, live) = read(&arriving);
                let (namespace, name) = place(&meta);
                owned.remove(kind, &namespace, &name, &live);
                key(&namespace, &live).into_iter().for_each(&tell);
            }
            Err(error) => attempts.failed(&error).await,
        }
    }
}

fn key(namespace: &str, live: &Live) -> Option<CrKey> {
    let owner = live.owner.as_ref()?;
    Some(CrKey { kind: owner.kind, namespace: namespace.to_owned(), name: owner.name.clone() })
}
