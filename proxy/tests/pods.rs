//! Pods that come and go in DNS, and what their sessions see of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests assert, too")]

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_proxy::pods::{Naming, Pods, StatefulSetNaming};
use berth_proxy::proxy::Proxy;
use berth_proxy::session::{Identity, SessionSettings, Sessions};
use support::dns::{Dns, Mood, Zone};
use support::{CALL, Client, INITIALIZE, PATIENCE, Pod, Replica};
use tokio::net::TcpListener;

/// A DNS server that knows these pods.
async fn dns(pods: &[(u16, &Pod)]) -> Dns {
    Dns::start(pods.iter().map(|(ordinal, pod)| (*ordinal, ip(pod))).collect()).await
}

fn ip(pod: &Pod) -> Ipv4Addr {
    let IpAddr::V4(ip) = pod.address.ip() else { panic!("IPv4 only") };
    ip
}

/// Pods at different addresses, with the same port, as pods have it.
async fn pods<const N: usize>(names: [&str; N]) -> ([Pod; N], u16) {
    let first = TcpListener::bind("127.0.0.11:0").await.unwrap();
    let port = first.local_addr().unwrap().port();
    let mut listeners = vec![first];
    for last in 12..11 + u8::try_from(N).unwrap() {
        listeners.push(TcpListener::bind((Ipv4Addr::new(127, 0, 0, last), port)).await.unwrap());
    }
    let mut pods = Vec::new();
    for (name, listener) in names.iter().zip(listeners) {
        pods.push(Pod::start_on(name, listener).await);
    }
    (pods.try_into().unwrap_or_else(|_| panic!("so many pods as names")), port)
}

fn naming(port: u16) -> Naming {
    Naming::StatefulSet(StatefulSetNaming {
        statefulset: "web".into(),
        service: "mcp-web-headless".into(),
        namespace: "team".into(),
        domain: "cluster.local".into(),
        port,
    })
}

fn sessions(port: u16) -> Arc<Sessions> {
    Sessions::in_memory(SessionSettings {
        identity: Identity { namespace: "team".into(), name: "web".into() },
        naming: naming(port),
        ttl: Duration::from_secs(60),
        cache_size: 100,
        max_sessions: 100,
    })
}

async fn replica(dns: &Dns, port: u16, sessions: &Arc<Sessions>) -> Proxy {
    let pods = Pods::with_dns_server(naming(port), Some("mcp-web"), dns.address).unwrap();
    Replica::default().start_with(Arc::clone(sessions), pods).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_sessions_go_to_ready_pods_and_old_ones_stay() {
    let ([a, b], port) = pods(["a", "b"]).await;
    let dns = dns(&[(0, &a), (7, &b)]).await;
    dns.zone.lock().ready = vec![ip(&a)];
    let proxy = replica(&dns, port, &sessions(port)).await;
    let mut client = Client::connect(proxy.address).await;
    let id = client.post(None, INITIALIZE).await.session();
    dns.zone.lock().ready = vec![ip(&b)];
    let begun = Instant::now();
    while client.post(None, INITIALIZE).await.body != "b" {
        assert!(begun.elapsed() < PATIENCE, "the pod that became ready is never used");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for _ in 0..5 {
        assert_eq!(client.post(None, INITIALIZE).await.body, "b");
    }
    assert_eq!(client.post(Some(&id), CALL).await.body, "a", "pinned to the pod that is not ready");
}

/// As they come after `kubectl wait`, which may know of the first ready pod before the proxy's next look at DNS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_session_waits_for_the_first_pod_to_be_ready() {
    let ([a], port) = pods(["a"]).await;
    let dns = dns(&[(0, &a)]).await;
    dns.zone.lock().ready.clear();
    let proxy = replica(&dns, port, &sessions(port)).await;
    let mut client = Client::connect(proxy.address).await;
    let asked = || dns.zone.lock().asked;
    let (before, begun) = (asked(), Instant::now());
    let reply = client.post(None, INITIALIZE).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "none is ready");
    let (questions, waited) = (asked() - before, begun.elapsed());
    assert!(waited > Duration::from_millis(1_500) && waited < PATIENCE, "{waited:?}");
    assert!((2..10).contains(&questions), "{questions} questions for one request");
    let ready = async {
        let (before, begun) = (asked(), Instant::now());
        while asked() == before {
            assert!(begun.elapsed() < PATIENCE, "nobody asks");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        dns.zone.lock().ready = vec![ip(&a)];
    };
    let (reply, ()) = tokio::join!(client.post(None, INITIALIZE), ready);
    assert_eq!((reply.status, reply.body.as_str()), (200, "a"), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_gone_only_by_a_good_answer() {
    let ([a, b], port) = pods(["a", "b"]).await;
    let dns = dns(&[(0, &a), (1, &b)]).await;
    dns.zone.lock().ready = vec![ip(&a)];
    let proxy = replica(&dns, port, &sessions(port)).await;
    let mut client = Client::connect(proxy.address).await;
    let id = client.post(None, INITIALIZE).await.session();
    for mood in [Mood::Failing, Mood::Empty, Mood::Silent] {
        dns.set(mood);
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert_eq!(client.post(Some(&id), CALL).await.status, 200, "the last good answer stays");
    }
    dns.set(Mood::Good);
    dns.zone.lock().pods.remove(&0);
    let begun = Instant::now();
    let reply = loop {
        let reply = client.post(Some(&id), CALL).await;
        if reply.status != 200 {
            break reply;
        }
        assert!(begun.elapsed() < PATIENCE, "the pod's end is never noticed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((reply.status, reply.json()["error"]["code"].as_i64()), (404, Some(-32001)));
    dns.zone.lock().pods.insert(0, ip(&a));
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(client.post(Some(&id), CALL).await.status, 404, "unpinned");
}

/// A 404 there would send the client to the old transport.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_initialize_that_names_a_session_of_a_gone_pod_is_placed_afresh() {
    let ([a, b], port) = pods(["a", "b"]).await;
    let dns = dns(&[(0, &a), (1, &b)]).await;
    dns.zone.lock().ready = vec![ip(&a)];
    let proxy = replica(&dns, port, &sessions(port)).await;
    let mut client = Client::connect(proxy.address).await;
    let id = client.post(None, INITIALIZE).await.session();
    {
        let mut zone = dns.zone.lock();
        zone.pods.remove(&0);
        zone.ready = vec![ip(&b)];
    }
    let begun = Instant::now();
    let reply = loop {
        let reply = client.post(Some(&id), INITIALIZE).await;
        if reply.body == "b" {
            break reply;
        }
        assert!([200, 503].contains(&reply.status), "{reply:?}");
        assert!(begun.elapsed() < PATIENCE, "the pod's end is never noticed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(!b.seen()[0].headers.contains_key("mcp-session-id"), "the ended session is stripped");
    assert_eq!(client.post(Some(&reply.session()), CALL).await.body, "b");
    assert_eq!(client.post(Some(&id), CALL).await.status, 404, "unpinned");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_with_an_older_answer_does_not_unpin_a_pod_that_has_just_joined() {
    let ([a, b], port) = pods(["a", "b"]).await;
    let dns = dns(&[(0, &a)]).await;
    let sessions = sessions(port);
    let older = replica(&dns, port, &sessions).await;
    {
        let mut zone = dns.zone.lock();
        zone.pods.insert(1, ip(&b));
        zone.ready = vec![ip(&b)];
    }
    let newer = replica(&dns, port, &sessions).await;
    let reply = Client::connect(newer.address).await.post(None, INITIALIZE).await;
    assert_eq!(reply.body, "b");
    let id = reply.session();
    let reply = Client::connect(older.address).await.post(Some(&id), CALL).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "b"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_pod_costs_a_503_while_dns_is_down() {
    let ([a, b], port) = pods(["a", "b"]).await;
    let dns = dns(&[(0, &a), (1, &b)]).await;
    dns.zone.lock().ready = vec![ip(&b)];
    let sessions = sessions(port);
    let first = replica(&dns, port, &sessions).await;
    let id = Client::connect(first.address).await.post(None, INITIALIZE).await.session();
    // This one starts while the pod is missing, so it has never heard of it.
    dns.zone.lock().pods.remove(&1);
    let second = replica(&dns, port, &sessions).await;
    dns.set(Mood::Failing);
    let reply = Client::connect(second.address).await.post(Some(&id), CALL).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    dns.zone.lock().pods.insert(1, ip(&b));
    dns.set(Mood::Good);
    assert_eq!(Client::connect(second.address).await.post(Some(&id), CALL).await.status, 200, "the pin was kept");
}

/// DNS servers of a cluster that cache, each with what it heard last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_cache_of_dns_has_from_before_proves_nothing() {
    let ([a, b], port) = pods(["a", "b"]).await;
    let (early, late) = (dns(&[(0, &a)]).await, dns(&[(0, &a), (1, &b)]).await);
    for dns in [&early, &late] {
        dns.zone.lock().lifetime = 30;
    }
    late.zone.lock().ready = vec![ip(&b)];
    let sessions = sessions(port);
    let [older, newer] = [replica(&early, port, &sessions).await, replica(&late, port, &sessions).await];
    let reply = Client::connect(newer.address).await.post(None, INITIALIZE).await;
    assert_eq!(reply.body, "b");
    let id = reply.session();
    let mut client = Client::connect(older.address).await;
    early.zone.lock().lifetime = 20;
    let reply = client.post(Some(&id), CALL).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "it joined in the last ten seconds");

    // As the cache asks anew.
    *early.zone.lock() = Zone { pods: late.zone.lock().pods.clone(), lifetime: 30, ..Zone::default() };
    let begun = Instant::now();
    while client.post(Some(&id), CALL).await.body != "b" {
        assert!(begun.elapsed() < PATIENCE, "the new answer is not taken");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // An answer that another cache has from before makes nobody forget the pod.
    {
        let mut zone = early.zone.lock();
        zone.pods.remove(&1);
        zone.lifetime = 10;
    }
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(client.post(Some(&id), CALL).await.body, "b");

    // A new answer without it proves its end, for sessions that were there before.
    early.zone.lock().lifetime = 30;
    let begun = Instant::now();
    let mut last = client.post(Some(&id), CALL).await.status;
    while last != 404 {
        assert!([200, 503].contains(&last) && begun.elapsed() < PATIENCE, "{last}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        last = client.post(Some(&id), CALL).await.status;
    }
}
