//! The cache of custom resources against an API server on a bad day. (On a good one: tests/admission.)

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use berth::admission::{Answer, CrQuery, Freshness, Need, Unread, WorkloadQuery};
use berth::cluster::{Cluster, Found, Lookup};
use berth::metrics::Metrics;
use berth::policy::{CrKind, CustomResource, WorkloadKind};
use kube::Config;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::fake_api::{FakeApi, Reply, SERVERS, server};

const OBJECT: &str = "/apis/toolhive.stacklok.dev/v1beta1/namespaces/default/mcpservers/web";

pub(crate) struct Cache {
    pub(crate) lookup: Lookup,
    synced: Arc<AtomicBool>,
}

impl Cache {
    fn follow(api: &FakeApi) -> Self {
        let config = Config::new(format!("http://{}", api.address).parse().unwrap());
        let cluster = Cluster::new(config, None, Arc::new(Metrics::default())).unwrap();
        let (watch, synced) = (cluster.watch(CrKind::McpServer), Arc::new(AtomicBool::new(false)));
        let flag = Arc::clone(&synced);
        tokio::spawn(watch.run(move || flag.store(true, Ordering::Release)));
        Self { lookup: Lookup::Cluster(cluster), synced }
    }

    pub(crate) async fn synced(api: &FakeApi) -> Self {
        let cache = Self::follow(api);
        until("the cache to sync", async || cache.synced.load(Ordering::Acquire)).await;
        cache
    }

    async fn find(&self, uid: Option<&str>, generation: i64) -> Answer<Arc<CustomResource>> {
        self.find_as_new_as(uid, Freshness::Generation(generation)).await
    }

    async fn find_as_new_as(&self, uid: Option<&str>, freshness: Freshness) -> Answer<Arc<CustomResource>> {
        let (namespace, name, uid) = ("default".to_owned(), "web".to_owned(), uid.map(str::to_owned));
        let need = Need::CustomResource(CrQuery { kind: CrKind::McpServer, namespace, name, uid, freshness });
        match self.lookup.find(&need).await {
            Found::CustomResource(answer) => answer,
            Found::Workload(answer) => panic!("{answer:?}"),
        }
    }

    async fn generation(&self) -> Option<i64> {
        match self.find(None, 0).await {
            Answer::Found(found) => Some(found.meta.generation),
            Answer::Absent | Answer::Unreadable(_) => None,
        }
    }
}

pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn only_a_copy_that_is_too_old_or_of_another_uid_costs_a_read() {
    let api = FakeApi::start().await;
    api.serve_servers("v1beta1", "1", &[server("web", "u1", 3)]);
    api.reply(OBJECT, Reply::Json(200, server("web", "u1", 4)));
    let cache = Cache::synced(&api).await;
    for (uid, min_generation) in [(None, 0), (Some("u1"), 3)] {
        let Answer::Found(found) = cache.find(uid, min_generation).await else { panic!("not found") };
        assert_eq!((found.meta.generation, found.parsed.policy.replicas), (3, Some(1)));
    }
    assert_eq!(api.asked(OBJECT), 0);
    let Answer::Found(found) = cache.find(Some("u1"), 4).await else { panic!("not found") };
    assert_eq!((found.meta.generation, api.asked(OBJECT)), (4, 1));
    // A stamp that no generation has reached: the live copy is the truth all the same.
    let Answer::Found(found) = cache.find(Some("u1"), 999_999).await else { panic!("not found") };
    assert_eq!((found.meta.generation, api.asked(OBJECT)), (4, 2));
    // One that is gone, and another one under its name.
    assert_eq!(cache.find(Some("u0"), 0).await, Answer::Absent);
    assert_eq!(api.asked(OBJECT), 3);
}

#[tokio::test]
async fn a_copy_of_the_version_that_is_stored_will_do_and_no_copy_where_it_is_to_be_as_it_is_now() {
    let api = FakeApi::start().await;
    api.serve_servers("v1beta1", "1", &[server("web", "u", 3)]);
    api.reply(OBJECT, Reply::Json(200, server("web", "u", 4)));
    let cache = Cache::synced(&api).await;
    let mut read = 0;
    for (freshness, is_read) in [
        (Freshness::Version(7), false),
        (Freshness::Version(8), true),
        (Freshness::Now, true),
        (Freshness::Cached(7), false),
        (Freshness::Followed, false),
    ] {
        let Answer::Found(found) = cache.find_as_new_as(None, freshness).await else { panic!("not found") };
        read += usize::from(is_read);
        assert_eq!((found.meta.generation, api.asked(OBJECT)), (if is_read { 4 } else { 3 }, read), "{freshness:?}");
    }
    // Nobody is asked for a copy.
    assert!(matches!(cache.find_as_new_as(None, Freshness::Cached(8)).await, Answer::Unreadable(_)));
    assert_eq!(api.asked(OBJECT), read);
    // What is not followed any more may be outdated by far.
    api.stop();
    let followed = async || matches!(cache.find_as_new_as(None, Freshness::Followed).await, Answer::Found(_));
    until("the end of the watch", async || !followed().await).await;
    assert_eq!(cache.generation().await, Some(3));
    let api = api.restart().await;
    api.reply(
        &format!("{SERVERS}?watch"),
        Reply::Events(vec![json!({"type": "MODIFIED", "object": server("web", "u", 5)})]),
    );
    until("the watch to go on", followed).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_absent_and_one_that_cannot_be_read_is_not() {
    let api = FakeApi::start().await;
    api.serve_servers("v1beta1", "1", &[]);
    let cache = Cache::synced(&api).await;
    assert_eq!(cache.find(None, 0).await, Answer::Absent);
    let status = json!({"kind": "Status", "code": 500, "message": "etcd is away", "reason": "InternalError"});
    api.reply(OBJECT, Reply::Json(500, status));
    let Answer::Unreadable(Unread::Failed(reason)) = cache.find(None, 0).await else { panic!("known") };
    assert!(reason.contains("500") && reason.contains("etcd is away"), "{reason}");
    api.reply(OBJECT, Reply::Close);
    assert!(matches!(cache.find(None, 0).await, Answer::Unreadable(Unread::Unanswered(_))));
    api.reply(OBJECT, Reply::Hang);
    let waited = timeout(Duration::from_millis(300), cache.find(None, 0)).await;
    assert!(waited.is_err(), "whoever asks has a deadline: {waited:?}");
    api.reply(OBJECT, Reply::Json(200, server("web", "u", 1)));
    assert_eq!(cache.generation().await, Some(1), "one that hangs does not hold up the next");
}

#[tokio::test]
async fn a_kind_that_is_not_installed_is_complete_and_is_found_when_it_comes() {
    let api = FakeApi::start().await;
    let cache = Cache::synced(&api).await;
    assert_eq!(cache.find(None, 0).await, Answer::Absent);
    api.serve_servers("v1alpha1", "1", &[server("web", "u", 2)]);
    let object = "/apis/toolhive.stacklok.dev/v1alpha1/namespaces/default/mcpservers/web";
    api.reply(object, Reply::Json(200, server("web", "u", 2)));
    assert_eq!(cache.generation().await, Some(2), "by a live read, before the watch has noticed");
    until("the watch to notice", async || {
        let before = api.asked(object);
        cache.generation().await == Some(2) && api.asked(object) == before
    })
    .await;
}

#[tokio::test]
async fn a_watch_that_is_too_old_begins_anew() {
    let api = FakeApi::start().await;
    api.serve_servers("v1beta1", "1", &[server("web", "u", 1)]);
    let gone =
        json!({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "old"}});
    api.reply(&format!("{SERVERS}?watch"), Reply::Events(vec![gone]));
    let cache = Cache::synced(&api).await;
    api.serve_servers("v1beta1", "9", &[server("web", "u", 5)]);
    until("the new list", async || cache.generation().await == Some(5)).await;
    assert!(api.asked(SERVERS) >= 2);
    assert_eq!(api.asked(OBJECT), 0, "never without the cache");
}

#[tokio::test]
async fn changes_and_deletions_are_followed() {
    let api = FakeApi::start().await;
    api.serve_servers("v1beta1", "1", &[server("web", "u", 1), server("old", "v", 1)]);
    let events = vec![
        json!({"type": "MODIFIED", "object": server("web", "u", 2)}),
        json!({"type": "DELETED", "object": server("old", "v", 1)}),
        json!({"type": "ADDED", "object": server("new", "w", 1)}),
    ];
    api.reply(&format!("{SERVERS}?watch"), Reply::Events(events));
    let cache = Cache::synced(&api).await;
    until("the change", async || cache.generation().await == Some(2)).await;
    let namespace = "/apis/toolhive.stacklok.dev/v1beta1/namespaces/default/mcpservers";
    let find = async |name: &str| {
        let (kind, namespace, name) = (CrKind::McpServer, "default".to_owned(), name.to_owned());
        let freshness = Freshness::Generation(0);
        cache.lookup.find(&Need::CustomResource(CrQuery { kind, namespace, name, uid: None, freshness })).await
    };
    until("the addition", async || matches!(find("new").await, Found::CustomResource(Answer::Found(_)))).await;
    assert!(matches!(find("old").await, Found::CustomResource(Answer::Absent)));
    assert_eq!(api.asked(&format!("{namespace}/old")), 1, "it left the cache");
}

#[tokio::test]
async fn the_cache_serves_on_while_the_api_server_is_away_and_follows_it_afterwards() {
    let api = FakeApi::start().await;
    api.serve_servers("v1beta1", "1", &[server("web", "u", 1)]);
    let cache = Cache::synced(&api).await;
    api.stop();
    until("the end of the connections", async || matches!(cache.find(None, 99).await, Answer::Unreadable(_))).await;
    assert_eq!(cache.generation().await, Some(1));
    let watches = api.asked(&format!("{SERVERS}?watch"));
    let api = api.restart().await;
    let changed = json!({"type": "MODIFIED", "object": server("web", "u", 2)});
    api.reply(&format!("{SERVERS}?watch"), Reply::Events(vec![changed]));
    until("the watch to go on", async || cache.generation().await == Some(2)).await;
    assert!(api.asked(&format!("{SERVERS}?watch")) > watches);
}

#[tokio::test]
async fn workloads_are_read_as_they_are_now() {
    let api = FakeApi::start().await;
    let cache = Cache::synced(&api).await;
    let find = async |name: &str| {
        let (kind, namespace, name) = (WorkloadKind::StatefulSet, "default".to_owned(), name.to_owned());
        match cache.lookup.find(&Need::Workload(WorkloadQuery { kind, namespace, name })).await {
            Found::Workload(answer) => answer,
            Found::CustomResource(answer) => panic!("{answer:?}"),
        }
    };
    assert_eq!(find("web").await, Answer::Absent);
    let stored = json!({"metadata": {"name": "web", "namespace": "default", "uid": "u"}, "spec": {"replicas": 4}});
    api.reply("/apis/apps/v1/namespaces/default/statefulsets/web", Reply::Json(200, stored));
    let Answer::Found(workload) = find("web").await else { panic!("not found") };
    assert_eq!((workload.spec.replicas, workload.metadata.uid.as_str()), (Some(4), "u"));
    // A name that would lead to another path names nothing.
    assert_eq!(find("../../secrets/mine").await, Answer::Absent);
}
