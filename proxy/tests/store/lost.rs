//! Redis loses pins, and the replicas write back what they remember.

use std::time::{Duration, Instant};

use berth_proxy::pods::PodId;
use berth_proxy::session::{Found, PathTag, Pin, PinOutcome, Readiness, UnpinReason};
use berth_test_cluster::Redis;

use crate::world::{Replica, on_pod, wait};

/// No session that a replica still has is ever unknown to another, and all are back within five seconds.
#[test]
fn a_redis_that_restarts_empty() {
    let mut redis = Redis::start().unwrap();
    let (a, b) = (Replica::on(&redis), Replica::on(&redis));
    for number in 0..300u16 {
        let replica = if number % 2 == 0 { &a } else { &b };
        assert_eq!(replica.pin(&number.to_string(), number % 3), PinOutcome::Pinned);
    }
    assert_eq!(a.settled("nobody"), Found::Unknown);
    redis.kill().unwrap();
    redis.run().unwrap();
    let start = Instant::now();
    let c = Replica::on(&redis);
    let mut missing: Vec<u16> = (0..300).collect();
    while !missing.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(5), "{} are missing", missing.len());
        missing.retain(|number| {
            [&a, &b, &c].iter().any(|replica| match replica.find(&number.to_string()) {
                Found::Unknown => panic!("{number} is unknown after {:?}", start.elapsed()),
                found => found != on_pod(number % 3),
            })
        });
    }
    assert_eq!(c.settled("nobody"), Found::Unknown);
    let counts = |replica: &Replica| [0, 1, 2].map(|pod| replica.sessions.counts().of(PodId(pod)));
    assert_eq!(counts(&Replica::on(&redis)), [100, 100, 100]);
}

/// An old stream of a session that was pinned anew has the pin of before.
#[test]
fn a_pin_is_not_refused_for_an_older_one_of_a_stream() {
    let redis = Redis::start().unwrap();
    let (a, b) = (Replica::on(&redis), Replica::on(&redis));
    assert_eq!(a.pin("one", 1), PinOutcome::Pinned);
    let older = Pin { pod: PodId(0), path: PathTag::default() };
    let _stream = a.sessions.in_use(a.key("one"), older);
    redis.command("FLUSHALL").unwrap();
    wait("the pin", || b.find("one") == on_pod(1));
    // Time for what was refused to be forgotten.
    std::thread::sleep(Duration::from_millis(200));
    assert!(a.sessions.find_cached(&a.key("one")).is_some());
}

/// It is asked no more often while it answers everything with an error, and gets all when it is mended.
#[test]
fn a_redis_that_objects_to_what_is_written_back() {
    let redis = Redis::start().unwrap();
    let a = Replica::on(&redis);
    assert_eq!(a.pin("one", 0), PinOutcome::Pinned);
    let [pins, state] = ["pins", "state"].map(|what| format!("berth:session:team/web/{{team/web}}:{what}"));
    let count = |what: &str| {
        let statistics = redis.command("INFO commandstats").unwrap();
        let calls = statistics.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{what}:calls=")));
        calls.and_then(|calls| calls.split(',').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    // Of another type than the scripts and the look at the state expect.
    redis.command(&format!("EVAL \"redis.call('FLUSHALL') return redis.call('SET', '{pins}', 'x')\" 0")).unwrap();
    wait("an attempt to write back", || redis.command(&format!("EXISTS {state}")).unwrap().starts_with(":1"));
    let failed = a.sessions.statistics().store_errors;
    wait("an objection", || a.sessions.statistics().store_errors > failed);
    redis
        .command(&format!("EVAL \"redis.call('DEL', '{state}') return redis.call('SET', '{state}', 'x')\" 0"))
        .unwrap();
    let (start, before) = (Instant::now(), count("hmget"));
    std::thread::sleep(Duration::from_secs(3));
    let looks = (count("hmget") - before) as f64 / start.elapsed().as_secs_f64();
    assert!(looks < 30.0, "{looks} looks a second");
    redis.command(&format!("DEL {pins} {state}")).unwrap();
    wait("the pin", || Replica::on(&redis).settled("one") == on_pod(0));
}

#[test]
fn who_is_not_found_may_still_be_written_back_for_five_seconds() {
    let mut redis = Redis::start().unwrap();
    let (a, b) = (Replica::on(&redis), Replica::on(&redis));
    assert_eq!(a.settled("nobody"), Found::Unknown);
    redis.kill().unwrap();
    wait("replicas that know of it", || {
        [&a, &b].iter().all(|replica| replica.sessions.readiness() == Readiness::Degraded)
    });
    redis.run().unwrap();
    // Who is back first says for all until when there is doubt.
    wait("the first that is back", || [&a, &b].iter().any(|replica| replica.sessions.readiness() == Readiness::Ready));
    let start = Instant::now();
    a.ready();
    b.ready();
    let c = Replica::on(&redis);
    while start.elapsed() < Duration::from_secs(4) {
        for replica in [&a, &b, &c] {
            assert_eq!(replica.find("nobody"), Found::Unavailable, "after {:?}", start.elapsed());
        }
    }
    for replica in [&a, &b, &c] {
        assert_eq!(replica.settled("nobody"), Found::Unknown);
    }
    assert!(start.elapsed() < Duration::from_secs(7), "{:?}", start.elapsed());
}

#[test]
fn a_deletion_that_was_lost_too_is_not_undone() {
    let mut redis = Redis::start().unwrap();
    let (a, b) = (Replica::on(&redis), Replica::on(&redis));
    for id in ["one", "two"] {
        assert_eq!(a.pin(id, 0), PinOutcome::Pinned);
        assert_eq!(b.find(id), on_pod(0));
    }
    // B has no time to hear of it.
    a.wait(a.sessions.unpin(&a.key("one"), PodId(0), UnpinReason::Deleted));
    redis.kill().unwrap();
    redis.run().unwrap();
    wait("the store", || a.find("two") == on_pod(0) && Replica::on(&redis).settled("two") == on_pod(0));
    assert_eq!(a.settled("one"), Found::Unknown);
    wait("a deletion", || b.settled("one") == Found::Unknown);
}

/// A failover to a server that lacks the last writes: same epoch, lower counters.
#[test]
fn a_redis_that_lost_the_last_writes_alone() {
    let redis = Redis::start().unwrap();
    let a = Replica::on(&redis);
    assert_eq!(a.pin("old", 0), PinOutcome::Pinned);
    assert_eq!(a.pin("new", 1), PinOutcome::Pinned);
    assert_eq!(a.settled("nobody"), Found::Unknown);
    let prefix = "berth:session:team/web/{team/web}";
    let new = a.key("new").to_hex();
    redis
        .command(&format!("MULTI\r\nHDEL {prefix}:pins {new}\r\nZREM {prefix}:pod:web-1 {new}\r\nHINCRBY {prefix}:state seq -1\r\nEXEC"))
        .unwrap();
    let b = Replica::on(&redis);
    wait("a pin that was written back", || b.find("new") == on_pod(1));
    assert_eq!(b.find("old"), on_pod(0));
}

/// As a client's own id is, after the pod that it was on has gone.
#[test]
fn a_failover_that_lost_the_new_pin_of_a_deleted_session() {
    let redis = Redis::start().unwrap();
    let (a, b) = (Replica::on(&redis), Replica::on(&redis));
    for (id, pods) in [("moved", [0, 1]), ("same", [2, 2])] {
        assert_eq!(a.pin(id, pods[0]), PinOutcome::Pinned);
        a.wait(a.sessions.unpin(&a.key(id), PodId(pods[0]), UnpinReason::PodGone));
        assert_eq!(a.pin(id, pods[1]), PinOutcome::Pinned);
    }
    assert_eq!(a.pin("deleted", 0), PinOutcome::Pinned);
    assert_eq!(b.find("deleted"), on_pod(0));
    a.wait(a.sessions.unpin(&a.key("deleted"), PodId(0), UnpinReason::Deleted));
    wait("a deletion", || b.settled("deleted") == Found::Unknown);
    let prefix = "berth:session:team/web/{team/web}";
    let [moved, same] = ["moved", "same"].map(|id| a.key(id).to_hex());
    // As it was before the new pins.
    redis
        .command(&format!(
            "MULTI\r\nHDEL {prefix}:pins {moved} {same}\r\nZREM {prefix}:pod:web-1 {moved}\r\nZREM {prefix}:pod:web-2 {same}\r\n\
             ZREM {prefix}:gone {moved}+ {same}+\r\nZADD {prefix}:gone 1 {moved} 2 {same}\r\nHINCRBY {prefix}:state seq -3\r\nEXEC"
        ))
        .unwrap();
    wait("pins that were written back", || b.find("moved") == on_pod(1) && b.find("same") == on_pod(2));
    assert_eq!(b.settled("deleted"), Found::Unknown);
}

#[test]
fn a_failover_by_sentinel() {
    let mut sentinel = berth_test_cluster::Sentinel::start().unwrap();
    let target = || crate::world::target(&format!("redis+sentinel://{}/mymaster", sentinel.address()));
    let replica = || Replica::of(crate::world::settings("web"), target());
    let (a, b) = (replica(), replica());
    a.ready();
    b.ready();
    for number in 0..50u16 {
        assert_eq!(a.pin(&number.to_string(), number % 3), PinOutcome::Pinned);
    }
    sentinel.fail_over().unwrap();
    for number in 0..50u16 {
        assert_eq!(a.find(&number.to_string()), on_pod(number % 3));
        wait("a session after the failover", || match b.find(&number.to_string()) {
            Found::Unknown => panic!("{number} is lost"),
            found => found == on_pod(number % 3),
        });
    }
    wait("a pin on the new master", || b.pin("new", 1) == PinOutcome::Pinned);
    assert_eq!(a.settled("new"), on_pod(1));
}
