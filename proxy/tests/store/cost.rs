//! What steady use costs, as Redis itself counts it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use berth_proxy::session::PinOutcome;
use berth_test_cluster::Redis;

use crate::world::{Replica, on_pod, settings, target};

/// Calls of each command so far, those inside scripts too; without the INFO that asks.
fn calls(redis: &Redis) -> BTreeMap<String, u64> {
    let text = redis.command("INFO commandstats").unwrap();
    let call = |line: &str| {
        let (command, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((command.to_owned(), rest.split(',').next()?.parse().ok()?))
    };
    text.lines().filter_map(call).filter(|(command, _)| command != "info").collect()
}

#[test]
fn steady_use_costs_at_most_two_commands_a_second_and_none_a_request() {
    let redis = Redis::start().unwrap();
    let mut steady = settings("web");
    // A refresh interval of five seconds, of which two are watched.
    steady.ttl = Duration::from_secs(50);
    let a = Replica::of(steady, target(&redis.address()));
    a.ready();
    let ids: Vec<_> = (0..1000u16).map(|number| (number.to_string(), number % 3)).collect();
    for (id, pod) in &ids {
        assert_eq!(a.pin(id, *pod), PinOutcome::Pinned);
    }
    let (start, before) = (Instant::now(), calls(&redis));
    let mut requests = 0;
    while start.elapsed() < Duration::from_secs(10) {
        for (id, pod) in &ids {
            assert_eq!(a.find(id), on_pod(*pod));
            requests += 1;
        }
    }
    let (seconds, after) = (start.elapsed().as_secs_f64(), calls(&redis));
    let made: BTreeMap<_, _> =
        after.iter().map(|(command, count)| (command, count - before.get(command).unwrap_or(&0))).collect();
    let total: u64 = made.values().sum();
    assert!(requests > 10_000);
    assert!(total as f64 <= 2.0 * seconds + 1.0, "{total} commands in {seconds} s: {made:?}");
    assert!(made.get(&"zadd".to_owned()).is_some_and(|count| *count >= 3), "uses are told: {made:?}");
}
