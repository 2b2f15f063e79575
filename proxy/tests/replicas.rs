//! Two replicas that share a real Redis: no client notices which one it talks to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests assert, too")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use berth_proxy::address::Address;
use berth_proxy::pods::{Backend, Naming, Pods};
use berth_proxy::proxy::Proxy;
use berth_proxy::session::{DEFAULT_KEY_PREFIX, Identity, RedisTarget, SessionSettings, Sessions};
use berth_test_cluster::Redis;
use http::Method;
use support::{CALL, Client, INITIALIZE, PATIENCE, Pod, Replica, until};

async fn replica(redis: &Redis, pods: &[Pod]) -> Proxy {
    let naming = Naming::Fixed(pods.iter().map(|pod| Backend::parse(&pod.url()).unwrap()).collect());
    let settings = SessionSettings {
        identity: Identity { namespace: "team".into(), name: "web".into() },
        naming: naming.clone(),
        ttl: Duration::from_secs(60),
        cache_size: 100,
        max_sessions: 100,
    };
    let address = Address::parse(&redis.address()).unwrap();
    let target =
        RedisTarget { endpoints: address.endpoints().unwrap(), db: 0, username: None, password: None, ca: None };
    let sessions: Arc<Sessions> = Sessions::in_redis(settings, target, DEFAULT_KEY_PREFIX);
    Replica::default().start_with(sessions, Pods::new(naming, None).unwrap()).await
}

/// A replica that has stored a session. Redis has the script from then on: what is sent next is a pin, no question for it.
async fn replica_that_pinned(redis: &Redis, pods: &[Pod]) -> Proxy {
    let replica = replica(redis, pods).await;
    assert_eq!(Client::connect(replica.address).await.post(None, INITIALIZE).await.status, 200);
    replica
}

async fn pods() -> [Pod; 2] {
    [Pod::start("a").await, Pod::start("b").await]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_on_through_any_replica_also_after_a_restart_of_all() {
    let (redis, pods) = (Redis::start().unwrap(), pods().await);
    let [one, two] = [replica(&redis, &pods).await, replica(&redis, &pods).await];
    let mut sessions = Vec::new();
    for _ in 0..10 {
        let reply = Client::connect(one.address).await.post(None, INITIALIZE).await;
        sessions.push((reply.session(), reply.body));
    }
    let mut client = Client::connect(two.address).await;
    for (id, pod) in &sessions {
        assert_eq!(client.post(Some(id), CALL).await.body, *pod);
    }
    one.drain().await;
    two.drain().await;
    let three = replica(&redis, &pods).await;
    let mut client = Client::connect(three.address).await;
    for (id, pod) in &sessions {
        assert_eq!(client.post(Some(id), CALL).await.body, *pod);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_deleted_through_one_replica_ends_on_the_other_within_a_second() {
    let (redis, pods) = (Redis::start().unwrap(), pods().await);
    let [one, two] = [replica(&redis, &pods).await, replica(&redis, &pods).await];
    let mut client = Client::connect(one.address).await;
    let mut other = Client::connect(two.address).await;
    // A store that was empty at first may have lost something, for a moment.
    let begun = Instant::now();
    while other.post(Some("nobody"), CALL).await.status == 503 {
        assert!(begun.elapsed() < PATIENCE, "unknown sessions are in doubt for ever");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let asked = |pods: &[Pod; 2]| pods.iter().map(|pod| pod.seen().len()).sum::<usize>();
    let mut heard = Vec::new();
    // A busy machine may be late now and then.
    while heard.last().is_none_or(|heard| *heard >= Duration::from_millis(1_500)) {
        assert!(heard.len() < 5, "the other replica sends it to the server for so long: {heard:?}");
        let id = client.post(None, INITIALIZE).await.session();
        assert_eq!(other.post(Some(&id), CALL).await.status, 200);
        assert_eq!(client.request("DELETE", "/mcp", &[("Mcp-Session-Id", &id)], "").await.status, 200);
        let begun = Instant::now();
        loop {
            let before = asked(&pods);
            assert_eq!(other.post(Some(&id), CALL).await.status, 404);
            if asked(&pods) == before {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "the other replica still sends it to the server");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        heard.push(begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_revealed_before_the_pin_is_written() {
    let (redis, pods) = (Redis::start().unwrap(), pods().await);
    let [one, two] = [replica(&redis, &pods).await, replica(&redis, &pods).await];
    let begun = Instant::now();
    redis.command("CLIENT PAUSE 400 WRITE").unwrap();
    let reply = Client::connect(one.address).await.post(None, INITIALIZE).await;
    let waited = begun.elapsed();
    if reply.status == 200 {
        assert!(waited >= Duration::from_millis(300), "answered after {waited:?}, before writes were let through");
        assert_eq!(Client::connect(two.address).await.post(Some(&reply.session()), CALL).await.body, reply.body);
    } else {
        assert_eq!(reply.status, 503);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_store_costs_nobody_their_session() {
    let (mut redis, pods) = (Redis::start().unwrap(), pods().await);
    let [one, two] = [replica(&redis, &pods).await, replica(&redis, &pods).await];
    let mut client = Client::connect(one.address).await;
    let id = client.post(None, INITIALIZE).await.session();
    redis.hang().unwrap();
    assert_eq!(client.post(Some(&id), CALL).await.status, 200, "cached");
    let begun = Instant::now();
    let reply = Client::connect(two.address).await.post(Some(&id), CALL).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "not cached");
    // A second, and what a busy machine adds.
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let before = pods.iter().map(|pod| pod.state.sessions.lock().len()).sum::<usize>();
    let reply = client.post(None, INITIALIZE).await;
    assert_eq!((reply.status, reply.json()["id"].is_null()), (503, true));
    until("the orphan is deleted", || {
        pods.iter().flat_map(Pod::seen).any(|seen| seen.method == Method::DELETE)
            && pods.iter().map(|pod| pod.state.sessions.lock().len()).sum::<usize>() == before
    })
    .await;
    // Without a connection nothing is sent, and so nothing is to be taken back.
    let begun = Instant::now();
    loop {
        let before = orphaned(&one).await;
        assert_eq!(client.post(None, INITIALIZE).await.status, 503);
        tokio::time::sleep(Duration::from_millis(100)).await;
        if orphaned(&one).await == before {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "the store is to be told of sessions that it never heard of");
    }
    redis.wake().unwrap();
    let begun = Instant::now();
    while Client::connect(two.address).await.post(Some(&id), CALL).await.status != 200 {
        assert!(begun.elapsed() < PATIENCE, "the session is lost");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Deletions of sessions that no client heard of.
async fn orphaned(proxy: &Proxy) -> String {
    let metrics = Client::connect(proxy.admin.unwrap()).await.get("/metrics", &[]).await.body;
    let line = metrics.lines().find(|line| line.starts_with("berth_proxy_unpins_total{reason=\"orphaned\"}"));
    line.unwrap().to_owned()
}

/// The number that a command answers.
fn number(redis: &Redis, command: &str) -> u64 {
    let reply = redis.command(command).unwrap();
    reply.trim_start_matches(':').trim_end().parse().unwrap_or_else(|_| panic!("no number: {reply:?}"))
}

/// Whether a script, as a pin is, has come and waits for the end of a pause.
fn pauses_script(redis: &Redis) -> bool {
    let clients = redis.command("CLIENT LIST").unwrap();
    clients.lines().any(|client| client.contains(" flags=b ") && client.contains(" cmd=eval"))
}

const KEYS: &str = "berth:session:team/web/{team/web}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_while_its_session_is_pinned_leaves_none() {
    let (redis, pods) = (Redis::start().unwrap(), pods().await);
    let one = replica_that_pinned(&redis, &pods).await;
    // Besides the first.
    let living = || pods.iter().map(|pod| pod.state.sessions.lock().len()).sum::<usize>() - 1;
    redis.command("CLIENT PAUSE 60000 WRITE").unwrap();
    let mut client = Client::connect(one.address).await;
    client.ask("POST", "/mcp", &[("Authorization", "Bearer t")], INITIALIZE).await;
    until("a session", || living() == 1).await;
    until("a pin under way", || pauses_script(&redis)).await;
    drop(client);
    until("the server is told", || living() == 0).await;
    let deletion = pods.iter().flat_map(Pod::seen).find(|seen| seen.method == Method::DELETE).unwrap();
    assert_eq!(deletion.headers["authorization"], "Bearer t");
    redis.command("CLIENT UNPAUSE").unwrap();
    until("a deletion", || number(&redis, &format!("ZCARD {KEYS}:gone")) == 1).await;
    assert_eq!(number(&redis, &format!("HLEN {KEYS}:pins")), 1, "the first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_while_a_session_of_others_is_pinned_again_does_not_end_it() {
    let (redis, pods) = (Redis::start().unwrap(), [Pod::start("a").await]);
    let [one, two] = [replica(&redis, &pods).await, replica(&redis, &pods).await];
    let give_the_same = || *pods[0].state.ids.lock() = vec!["same".to_owned()];
    pods[0].state.sessions.lock().insert("same".to_owned());
    give_the_same();
    assert_eq!(Client::connect(one.address).await.post(None, INITIALIZE).await.session(), "same");
    give_the_same();
    redis.command("CLIENT PAUSE 60000 WRITE").unwrap();
    let mut client = Client::connect(two.address).await;
    client.ask("POST", "/mcp", &[], INITIALIZE).await;
    until("a pin under way", || pauses_script(&redis)).await;
    drop(client);
    // Time for it to be taken back, if it is.
    tokio::time::sleep(Duration::from_millis(500)).await;
    redis.command("CLIENT UNPAUSE").unwrap();
    // Its pin is stored after whatever was sent before.
    assert_eq!(Client::connect(two.address).await.post(None, INITIALIZE).await.status, 200);
    assert_eq!(number(&redis, &format!("HLEN {KEYS}:pins")), 2);
    assert_eq!(number(&redis, &format!("ZCARD {KEYS}:gone")), 0);
    assert!(pods[0].seen().iter().all(|seen| seen.method != Method::DELETE));
    for replica in [&one, &two] {
        assert_eq!(Client::connect(replica.address).await.post(Some("same"), CALL).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_ends_while_its_session_is_pinned_leaves_none() {
    let (redis, pods) = (Redis::start().unwrap(), pods().await);
    let one = replica_that_pinned(&redis, &pods).await;
    let left = || pods.iter().map(|pod| pod.state.left.load(Ordering::Relaxed)).sum::<usize>();
    redis.command("CLIENT PAUSE 60000 WRITE").unwrap();
    let mut stream = Client::connect(one.address).await;
    stream.ask("GET", "/sse", &[], "").await;
    stream.head().await.unwrap();
    until("a pin under way", || pauses_script(&redis)).await;
    drop(stream);
    until("the server feels that its client left", || left() == 1).await;
    redis.command("CLIENT UNPAUSE").unwrap();
    until("a deletion", || number(&redis, &format!("ZCARD {KEYS}:gone")) == 1).await;
    assert_eq!(number(&redis, &format!("HLEN {KEYS}:pins")), 1, "the first");
}
