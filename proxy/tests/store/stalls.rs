//! Redis is late, or breaks connections, and goes on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_proxy::pods::PodId;
use berth_proxy::session::{Found, PathTag, PinMode, PinOutcome, Readiness, UnpinReason};
use berth_test_cluster::Redis;

use crate::world::{Replica, on_pod, wait};

/// How long a look-up waits, whatever for.
const LOOK_UP: Duration = Duration::from_millis(800);

/// The ids of the connections of all replicas.
fn connections(redis: &Redis) -> BTreeSet<String> {
    let list = redis.command("CLIENT LIST").expect("a list of connections");
    let others = list.lines().filter(|line| !line.contains("cmd=client|list"));
    others.filter_map(|line| line.split(' ').find(|field| field.starts_with("id="))).map(str::to_owned).collect()
}

/// Sessions that `b` has to ask for, the n-th on pod n mod 3.
fn sessions(a: &Replica, count: u16) -> Vec<(String, u16)> {
    let sessions: Vec<_> = (0..count).map(|number| (format!("session {number}"), number % 3)).collect();
    for (id, pod) in &sessions {
        assert_eq!(a.pin(id, *pod), PinOutcome::Pinned);
    }
    sessions
}

/// Looks sessions up one by one, over a time. How many are answered, each as its own session; the others must have
/// waited for as long as a client is let wait.
fn ask(b: &Replica, sessions: &[(String, u16)], every: Duration) -> usize {
    let mut asked = Vec::new();
    for (id, pod) in sessions {
        let (of, key, pod) = (Arc::clone(&b.sessions), b.key(id), *pod);
        asked.push(b.spawn(async move {
            let since = Instant::now();
            (of.find(&key).await, pod, since.elapsed())
        }));
        std::thread::sleep(every);
    }
    let mut answered = 0;
    for look_up in asked {
        match b.wait(look_up).expect("a look-up that ends") {
            (Found::Unavailable, _, took) => assert!(took >= LOOK_UP, "refused after {took:?}"),
            (found, pod, _) => {
                assert_eq!(found, on_pod(pod));
                answered += 1;
            }
        }
    }
    answered
}

/// Only those that waited for as long as a client is let wait hear of it, each by itself, whatever others do.
#[test]
fn who_asks_a_redis_that_is_late_is_answered_unless_his_own_time_is_over() {
    let redis = Redis::start().unwrap();
    let (a, b) = (Replica::on(&redis), Replica::on(&redis));
    let sessions = sessions(&a, 60);
    let before = connections(&redis);
    // Well below the silence that ends a connection, whatever a busy machine adds.
    redis.command("CLIENT PAUSE 820 ALL").unwrap();
    let pinning = {
        let (of, key) = (Arc::clone(&a.sessions), a.key("new"));
        a.spawn(async move { of.pin(&key, PodId(1), PathTag::default(), PinMode::First).await })
    };
    let answered = ask(&b, &sessions[..50], Duration::from_millis(18));
    assert!(answered > 0);
    assert_eq!(a.wait(pinning).unwrap(), PinOutcome::Pinned, "whoever asked meanwhile");
    // What came too late went to those who had asked for it, and to nobody else.
    for (id, pod) in &sessions {
        assert_eq!(b.find(id), on_pod(*pod));
    }
    assert_eq!(connections(&redis), before, "no connection was given up");
}

/// The link is given up meanwhile: what is asked then is asked over the next one.
#[test]
fn who_asks_while_a_link_is_given_up_is_answered_over_the_next_one() {
    let redis = Redis::start().unwrap();
    let (a, b) = (Replica::on(&redis), Replica::on(&redis));
    let sessions = sessions(&a, 100);
    let before = connections(&redis);
    redis.command("CLIENT PAUSE 1700 ALL").unwrap();
    let pinning = {
        let (of, key) = (Arc::clone(&b.sessions), b.key("new"));
        b.spawn(async move { of.pin(&key, PodId(1), PathTag::default(), PinMode::First).await })
    };
    let answered = ask(&b, &sessions, Duration::from_millis(18));
    assert!(answered > 0);
    assert_eq!(b.wait(pinning).unwrap(), PinOutcome::Pinned, "once more");
    assert_ne!(connections(&redis), before, "one that is silent for so long is given up");
}

#[test]
fn connections_that_break_are_made_anew_before_anybody_hears_of_it() {
    let redis = Redis::start().unwrap();
    let (a, b) = (Replica::on(&redis), Replica::on(&redis));
    let mut done = (0, 0);
    for (number, session) in sessions(&a, 20).into_iter().enumerate() {
        redis.command("CLIENT KILL TYPE normal").unwrap();
        done.0 += ask(&b, &[session], Duration::ZERO);
        redis.command("CLIENT KILL TYPE normal").unwrap();
        let since = Instant::now();
        let pinned = a.pin(&format!("another {number}"), 0);
        assert!(pinned == PinOutcome::Pinned || since.elapsed() >= LOOK_UP, "{pinned:?} {:?}", since.elapsed());
        done.1 += usize::from(pinned == PinOutcome::Pinned);
    }
    assert!(done.0 > 10 && done.1 > 10, "{done:?}");
}

/// Nobody asks but the replica itself.
#[test]
fn a_hung_redis_is_found_although_nobody_asks_it() {
    let mut redis = Redis::start().unwrap();
    let a = Replica::on(&redis);
    redis.hang().unwrap();
    let start = Instant::now();
    wait("an outage", || a.sessions.readiness() == Readiness::Degraded);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

/// Writes that are held up would keep the replica from looking.
#[test]
fn a_redis_that_hangs_while_it_takes_no_writes_is_found_as_soon() {
    let mut redis = Redis::start().unwrap();
    let a = Replica::on(&redis);
    assert_eq!(a.pin("one", 0), PinOutcome::Pinned);
    redis.command("CLIENT PAUSE 20000 WRITE").unwrap();
    let (of, key) = (Arc::clone(&a.sessions), a.key("one"));
    a.spawn(async move { of.unpin(&key, PodId(0), UnpinReason::Deleted).await });
    // Not told in time, it is told again by the replica itself after its next look, which then waits for that.
    wait("a deletion that is not told", || a.sessions.statistics().store_errors > 0);
    let looks = || {
        let statistics = redis.command("INFO commandstats").unwrap();
        let calls = statistics.split_once("cmdstat_hmget:calls=").and_then(|(_, rest)| rest.split_once(','));
        calls.unwrap().0.parse::<u64>().unwrap()
    };
    let before = looks();
    wait("two looks", || looks() >= before + 2);
    redis.hang().unwrap();
    let start = Instant::now();
    wait("an outage", || a.sessions.readiness() == Readiness::Degraded);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
