//! What steady use costs the Redis, as it counts itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use berth_test_cluster::Redis;
use libtest_mimic::Trial;
use serde_json::json;

use crate::support::CALL;
use crate::trial;
use crate::world::World;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("a_thousand_sessions_in_steady_use_cost_two_commands_a_second", steady)]
}

/// Calls of each command so far, those inside scripts too; without the INFO that asks.
fn calls(redis: &Redis) -> BTreeMap<String, u64> {
    let text = redis.command("INFO commandstats").unwrap();
    let call = |line: &str| {
        let (command, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((command.to_owned(), rest.split(',').next()?.parse().ok()?))
    };
    text.lines().filter_map(call).filter(|(command, _)| command != "info").collect()
}

async fn steady() {
    let mut world = World::new("steady", 3).await;
    // A refresh interval of five seconds.
    let more = json!({"session_ttl": "50s"});
    let replicas = [world.replica_with(&more), world.replica_with(&more)];
    let sessions = replicas[0].sessions(1_000).await;
    let mut clients = [replicas[0].client().await, replicas[1].client().await];
    // Into the caches of both.
    for session in &sessions {
        session.check(&clients[1].post(Some(&session.id), CALL).await);
    }
    let (begun, before) = (Instant::now(), calls(world.redis()));
    let mut requests = 0;
    // Longer where the machine is slow: it is the store's work by the second that counts.
    let go_on = |requests| {
        let elapsed = begun.elapsed();
        elapsed < Duration::from_secs(12) || (requests <= 2_000 && elapsed < Duration::from_secs(60))
    };
    while go_on(requests) {
        for session in &sessions {
            for client in &mut clients {
                let reply = client.post(Some(&session.id), CALL).await;
                assert_eq!((reply.status, reply.session()), (200, session.id.clone()), "the id is on every response");
                requests += 1;
            }
            if !go_on(requests) {
                break;
            }
        }
    }
    let (seconds, after) = (begun.elapsed().as_secs_f64(), calls(world.redis()));
    let made: BTreeMap<_, _> =
        after.iter().map(|(command, count)| (command, count - before.get(command).unwrap_or(&0))).collect();
    let total: u64 = made.values().sum();
    assert!(requests > 2_000, "{requests}");
    assert!(
        total as f64 <= 2.0 * 2.0 * seconds + 2.0,
        "{total} commands in {seconds} s for {requests} requests: {made:?}"
    );
    assert!(made.get(&"zadd".to_owned()).is_some_and(|count| *count >= 3), "uses are told: {made:?}");
}
