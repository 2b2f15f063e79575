//! Small caches, few sessions, short lives.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::json;

use crate::support::{CALL, INITIALIZE};
use crate::trial;
use crate::world::{World, is_later, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_cache_of_100_serves_1000_sessions", small_cache),
        trial("memory_keeps_as_many_sessions_as_it_may", full_memory),
        trial("unused_sessions_end_and_open_streams_count_as_use", lifetime),
    ]
}

async fn small_cache() {
    let world = World::new("small-cache", 3).await;
    let more = json!({"session_cache_size": 100});
    let replicas = [world.replica_with(&more), world.replica_with(&more)];
    let sessions = replicas[0].sessions(1_000).await;
    let mut clients = [replicas[0].client().await, replicas[1].client().await];
    // In an order in which the cache never has the next one, and in one in which it often has.
    for step in [1, 377] {
        for at in 0..1_000 {
            let session = &sessions[at * step % sessions.len()];
            let mut reply = clients[at % 2].post(Some(&session.id), CALL).await;
            // On a busy machine the store may answer too late once. The client is sent away for a moment, and no session
            // may be lost by it.
            if is_later(&reply) {
                let replica = &replicas[at % 2];
                println!("{session:?}: {reply:?}\n{}", replica.process.log_tail());
                reply = replica.eventually("the session", Some(&session.id), |reply| !is_later(reply)).await;
            }
            session.check(&reply);
        }
    }
    for replica in &replicas {
        let metrics = replica.metrics();
        assert_eq!(metrics.metric("berth_proxy_sessions_cached", &[]), 100.0);
        assert!(metrics.metric("berth_proxy_session_cache_misses_total", &[]) >= 800.0);
    }
}

async fn full_memory() {
    let mut world = World::without_store("full-memory", 2).await;
    world.arguments.push("--max-sessions=20".to_owned());
    let replica = world.replica();
    let sessions = replica.sessions(20).await;
    let reply = replica.post(None, INITIALIZE).await;
    assert!(is_later(&reply), "{reply:?}");
    until("the refused session is taken back", || world.living() == 20).await;
    for session in &sessions {
        session.check(&replica.call(session).await);
    }
    assert_eq!(replica.metrics().metric("berth_proxy_events_total", &[("event", "session_limit")]), 1.0);
    let named = [("Mcp-Session-Id", sessions[0].id.as_str())];
    assert_eq!(replica.client().await.request("DELETE", "/mcp", &named, "").await.status, 200);
    let new = replica.initialize().await;
    new.check(&replica.call(&new).await);
}

async fn lifetime() {
    let world = World::new("lifetime", 2).await;
    let more = json!({"session_ttl": "3s"});
    let replicas = [world.replica_with(&more), world.replica_with(&more)];
    let [idle, streaming, used] = [(); 3].map(|()| replicas[0].initialize());
    let (idle, streaming, used) = (idle.await, streaming.await, used.await);
    // In both caches.
    for session in [&idle, &used] {
        session.check(&replicas[1].call(session).await);
    }
    let mut stream = replicas[0].client().await;
    stream.ask("GET", "/mcp", &[("Mcp-Session-Id", &streaming.id)], "").await;
    stream.head().await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(9) {
        used.check(&replicas[0].call(&used).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for replica in &replicas {
        let reply = replica.call(&idle).await;
        assert_eq!(reply.status, 404, "though it is in the cache still: {reply:?}");
    }
    used.check(&replicas[1].call(&used).await);
    streaming.check(&replicas[1].call(&streaming).await);
    world.pods[&streaming.pod.parse().unwrap()].send(&streaming.id, "data: 1\n\n");
    assert_eq!(stream.chunk().await.unwrap().as_deref(), Some("data: 1\n\n"));
}
