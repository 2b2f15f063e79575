//! Pods that leave, come back as others, or cannot be reached.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use crate::load::Load;
use crate::namespace::Unreachable;
use crate::support::{CALL, Reply};
use crate::trial;
use crate::world::{Replica, Session, World, is_later};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_pod_that_was_scaled_in", scaled_in),
        trial("a_pod_that_was_restarted", restarted),
        trial("a_pod_that_cannot_be_reached", unreachable),
    ]
}

/// Less than the 10 s in which a silent connection is given up, and far more than the 2 s that opening one may take.
const AT_ONCE: Duration = Duration::from_secs(9);

/// Sessions of two replicas; those of pod 0, and all others under load, which must not notice anything.
async fn scene(world: &World) -> ([Replica; 2], Vec<Session>, Load) {
    let replicas = [world.replica(), world.replica()];
    let sessions = replicas[0].sessions(30).await;
    for replica in &replicas {
        replica.settle().await;
    }
    let (of_zero, others): (Vec<_>, Vec<_>) = sessions.into_iter().partition(|session| session.pod == "0");
    let mut load = Load::new();
    for replica in &replicas {
        load.call(replica.listen, &others, |_| false);
    }
    load.go_on(50).await;
    assert!(of_zero.len() >= 5, "{}", of_zero.len());
    (replicas, of_zero, load)
}

/// The proxy's own 404.
fn is_not_found(reply: &Reply) -> bool {
    reply.status == 404 && reply.body.contains("-32001")
}

async fn scaled_in() {
    let mut world = World::new("scaled-in", 3).await;
    let (replicas, sessions, load) = scene(&world).await;
    world.pods[&0].stop();
    world.forget_pod(0);
    for replica in &replicas {
        for session in &sessions {
            // Until DNS has said so, the pod just does not accept.
            let ended = |reply: &Reply| {
                assert!(is_later(reply) || is_not_found(reply) || reply.status == 502, "{reply:?}");
                is_not_found(reply)
            };
            replica.eventually("the end of a session", Some(&session.id), ended).await;
        }
    }
    let unpinned: f64 = (replicas.iter())
        .map(|replica| replica.metrics().metric("berth_proxy_unpins_total", &[("reason", "pod_gone")]))
        .sum();
    assert!(unpinned >= sessions.len() as f64, "{unpinned}");
    load.end().await;
}

async fn restarted() {
    let mut world = World::new("restarted", 3).await;
    let (replicas, sessions, load) = scene(&world).await;
    world.pods[&0].stop();
    let mut ip = world.ip(0).octets();
    ip[3] += 100;
    world.start_pod(0, ip.into()).await;
    for session in &sessions {
        let told = |reply: &Reply| {
            assert!(is_later(reply) || reply.status == 404 || reply.status == 502, "{reply:?}");
            reply.status == 404
        };
        let reply = replicas[0].eventually("the server's answer", Some(&session.id), told).await;
        assert_eq!(reply.body, "no such session", "passed on as the server gave it");
        assert!(is_not_found(&replicas[0].call(session).await), "and unpinned");
        replicas[1].eventually("the unpinning elsewhere", Some(&session.id), is_not_found).await;
    }
    load.end().await;
    // New sessions go there again.
    let new = replicas[0].sessions(30).await;
    assert!(new.iter().any(|session| session.pod == "0"));
}

async fn unreachable() {
    let world = World::new("unreachable", 3).await;
    let (replicas, sessions, load) = scene(&world).await;
    let mut connected = replicas[0].client().await;
    sessions[0].check(&connected.post(Some(&sessions[0].id), CALL).await);
    let dropped = Unreachable::new(world.ip(0));
    let silent = async {
        // Over the connection that was open: sent, and never acknowledged.
        let begun = Instant::now();
        connected.ask("POST", "/mcp", &[("Mcp-Session-Id", &sessions[0].id)], CALL).await;
        let head = tokio::time::timeout(Duration::from_secs(40), async {
            loop {
                if let Ok(head) = connected.head().await {
                    break head;
                }
            }
        });
        let head = head.await.expect("an answer");
        assert_eq!(head.status, 504, "after {:?}: {head:?}", begun.elapsed());
    };
    let refusing = async {
        for session in &sessions[1..4] {
            let begun = Instant::now();
            let reply = replicas[1].call(session).await;
            let after = begun.elapsed();
            // Over a connection that was open, or over a new one.
            assert!(is_later(&reply) || reply.status == 504, "{reply:?}");
            if reply.status == 503 {
                assert!(after < AT_ONCE, "the deadline of a connection is 2 s: {after:?}");
            }
        }
        let begun = Instant::now();
        let reply = replicas[1].call(&sessions[4]).await;
        assert!(is_later(&reply), "{reply:?}");
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    };
    tokio::join!(silent, refusing);
    // New sessions are placed elsewhere.
    let new = replicas[1].sessions(10).await;
    assert!(new.iter().all(|session| session.pod != "0"), "{new:?}");
    drop(dropped);
    for replica in &replicas {
        for session in &sessions {
            let back = |reply: &Reply| {
                assert!(reply.status == 200 || reply.status == 504 || is_later(reply), "{reply:?}");
                reply.status == 200
            };
            session.check(&replica.eventually("the session again", Some(&session.id), back).await);
        }
    }
    load.end().await;
}
