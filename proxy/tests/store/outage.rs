//! Redis stops, hangs, or takes no writes.

use std::time::{Duration, Instant};

use berth_proxy::pods::PodId;
use berth_proxy::session::{Found, PinOutcome, Readiness, UnpinReason};
use berth_test_cluster::Redis;

use crate::world::{Replica, on_pod, wait};

/// Within which it is heard that the store cannot be asked. A second, and what a busy machine adds.
const SOON: Duration = Duration::from_secs(3);

#[test]
fn paused_writes_hold_a_pin_until_they_are_let_through_and_no_look_up() {
    let redis = Redis::start().unwrap();
    let (a, b) = (Replica::on(&redis), Replica::on(&redis));
    assert_eq!(a.pin("before", 1), PinOutcome::Pinned);
    assert_eq!(a.settled("nobody"), Found::Unknown);
    let start = Instant::now();
    redis.command("CLIENT PAUSE 1500 WRITE").unwrap();
    std::thread::scope(|scope| {
        let pinning = scope.spawn(|| a.pin("one", 0));
        while start.elapsed() < Duration::from_millis(1000) {
            let (pinned, found) = (pinning.is_finished(), b.find("one"));
            assert_eq!(b.find("before"), on_pod(1), "look-ups go on");
            // Not after the end of the pause, which a busy machine may come to in a look-up.
            if start.elapsed() < Duration::from_millis(1400) {
                assert_eq!((pinned, found), (false, Found::Unknown));
            }
        }
        assert_eq!(pinning.join().unwrap(), PinOutcome::Pinned);
        assert_eq!(b.find("one"), on_pod(0), "known the moment it is pinned");
    });
    assert!(start.elapsed() >= Duration::from_millis(1400), "{:?}", start.elapsed());
}

/// Cached sessions go on; unknown ones and new ones are refused soon; afterwards everything works.
fn outage(mut redis: Redis, stop: impl FnOnce(&mut Redis), restore: impl FnOnce(&mut Redis)) {
    let (a, b) = (Replica::on(&redis), Replica::on(&redis));
    assert_eq!(a.pin("one", 0), PinOutcome::Pinned);
    assert_eq!(a.pin("two", 1), PinOutcome::Pinned);
    stop(&mut redis);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        assert_eq!(a.find("one"), on_pod(0));
        let asked = Instant::now();
        assert_eq!(b.find("one"), Found::Unavailable);
        assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    }
    wait("a replica that knows of it", || a.sessions.readiness() == Readiness::Degraded);
    let asked = Instant::now();
    assert_eq!(a.pin("three", 0), PinOutcome::NotSent);
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    a.wait(a.sessions.unpin(&a.key("two"), PodId(1), UnpinReason::Deleted));
    assert!(a.sessions.find_cached(&a.key("two")).is_none());
    restore(&mut redis);
    wait("the store", || a.pin("four", 2) == PinOutcome::Pinned);
    assert_eq!(b.settled("four"), on_pod(2));
    wait("a pin that others know", || match b.find("one") {
        Found::Unknown => panic!("lost"),
        found => found == on_pod(0),
    });
    wait("a deletion that was made meanwhile", || {
        b.settled("two") == Found::Unknown && a.settled("two") == Found::Unknown
    });
}

#[test]
fn a_redis_that_is_gone_and_comes_back_empty() {
    outage(Redis::start().unwrap(), |redis| redis.kill().unwrap(), |redis| redis.run().unwrap());
}

#[test]
fn a_redis_that_hangs_and_goes_on() {
    outage(Redis::start().unwrap(), |redis| redis.hang().unwrap(), |redis| redis.wake().unwrap());
}

#[test]
fn a_hung_redis_does_not_hold_pins_for_long() {
    let mut redis = Redis::start().unwrap();
    let a = Replica::on(&redis);
    redis.hang().unwrap();
    let start = Instant::now();
    assert_eq!(a.pin("one", 0), PinOutcome::Unavailable);
    assert!(start.elapsed() < Duration::from_millis(4_500), "{:?}", start.elapsed());
}

#[test]
fn a_replica_that_starts_without_redis_gets_ready_when_it_comes() {
    let mut redis = Redis::start().unwrap();
    redis.kill().unwrap();
    let a = Replica::of(crate::world::settings("web"), crate::world::target(&redis.address()));
    assert_eq!(a.find("one"), Found::Unavailable);
    assert_eq!(a.sessions.readiness(), Readiness::Starting);
    redis.run().unwrap();
    a.ready();
    assert_eq!(a.pin("one", 0), PinOutcome::Pinned);
}

/// As where Redis answers before DNS does.
#[test]
fn a_replica_that_hears_of_its_pods_late_is_ready_when_it_has_counted_their_sessions() {
    let redis = Redis::start().unwrap();
    let a = Replica::on(&redis);
    assert_eq!(a.pin("one", 1), PinOutcome::Pinned);
    let b = Replica::with_pods(crate::world::settings("web"), crate::world::target(&redis.address()), &[]);
    b.ready();
    redis.command("CLIENT PAUSE 800 ALL").unwrap();
    b.sessions.set_pods(&[PodId(0), PodId(1)]);
    assert_eq!(b.sessions.readiness(), Readiness::Starting);
    b.ready();
    assert_eq!(b.sessions.counts().of(PodId(1)), 1);
}

/// A client that comes again meanwhile does not make the replica forget that the old session is to be deleted.
#[test]
fn a_deletion_is_told_although_a_new_pin_failed_meanwhile() {
    let mut redis = Redis::start().unwrap();
    let (a, b) = (Replica::on(&redis), Replica::on(&redis));
    assert_eq!(a.pin("one", 0), PinOutcome::Pinned);
    redis.hang().unwrap();
    wait("an outage", || a.sessions.readiness() == Readiness::Degraded);
    a.wait(a.sessions.unpin(&a.key("one"), PodId(0), UnpinReason::PodGone));
    assert_eq!(a.pin("one", 1), PinOutcome::NotSent);
    redis.wake().unwrap();
    wait("the deletion", || b.settled("one") == Found::Unknown);
}
