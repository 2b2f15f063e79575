//! What one replica pins, all know; what one deletes, none uses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_proxy::pods::PodId;
use berth_proxy::session::{Found, PathTag, PinMode, PinOutcome, UnpinReason};
use berth_test_cluster::Redis;

use crate::world::{Replica, on_pod, settings, target, wait};

#[test]
fn a_pin_is_known_to_every_replica_and_survives_them_all() {
    let redis = Redis::start().unwrap();
    let (a, b) = (Replica::on(&redis), Replica::on(&redis));
    assert_eq!(a.pin("one", 2), PinOutcome::Pinned);
    assert_eq!(b.find("one"), on_pod(2));
    assert_eq!(a.settled("two"), Found::Unknown);
    drop((a, b));
    let c = Replica::on(&redis);
    assert_eq!(c.find("one"), on_pod(2));
}

#[test]
fn the_first_pin_wins_and_only_a_gone_pod_is_replaced() {
    let redis = Redis::start().unwrap();
    let (a, b) = (Replica::on(&redis), Replica::on(&redis));
    assert_eq!(a.pin("one", 0), PinOutcome::Pinned);
    assert_eq!(b.pin("one", 1), PinOutcome::AlreadyPinned(PodId(0)));
    assert_eq!(b.pin("one", 0), PinOutcome::Pinned, "the same pod again");
    let replace =
        |pod| b.wait(b.sessions.pin(&b.key("one"), PodId(1), PathTag::default(), PinMode::Replace(PodId(pod))));
    assert_eq!(replace(2), PinOutcome::AlreadyPinned(PodId(0)), "another pod is gone");
    assert_eq!(replace(0), PinOutcome::Pinned);
    assert_eq!(Replica::on(&redis).find("one"), on_pod(1));
}

#[test]
fn a_pin_that_moves_is_heard_of_by_all() {
    let redis = Redis::start().unwrap();
    let (a, b) = (Replica::on(&redis), Replica::on(&redis));
    assert_eq!(a.pin("one", 0), PinOutcome::Pinned);
    assert_eq!(a.pin("other", 0), PinOutcome::Pinned);
    assert_eq!(b.find("one"), on_pod(0));
    assert_eq!(b.find("other"), on_pod(0));
    let replaced = a.wait(a.sessions.pin(&a.key("one"), PodId(1), PathTag::default(), PinMode::Replace(PodId(0))));
    assert_eq!(replaced, PinOutcome::Pinned);
    wait("the move", || b.find("one") == on_pod(1));
    assert!(b.sessions.find_cached(&b.key("other")).is_some(), "others stay");
    assert_eq!(a.find("one"), on_pod(1));
}

#[test]
fn a_deletion_on_its_way_is_not_undone_by_a_look_up() {
    let redis = Redis::start().unwrap();
    let a = Replica::on(&redis);
    assert_eq!(a.pin("one", 0), PinOutcome::Pinned);
    redis.command("CLIENT PAUSE 60000 WRITE").unwrap();
    let (sessions, key) = (Arc::clone(&a.sessions), a.key("one"));
    let telling = a.spawn(async move { sessions.unpin(&key, PodId(0), UnpinReason::Deleted).await });
    wait("the deletion", || a.sessions.find_cached(&key).is_none());
    assert_eq!(a.find("one"), Found::Unknown, "the store has it still");
    redis.command("CLIENT UNPAUSE").unwrap();
    a.wait(telling).unwrap();
    assert_eq!(Replica::on(&redis).settled("one"), Found::Unknown);
}

#[test]
fn counts_are_of_all_replicas() {
    let redis = Redis::start().unwrap();
    let (a, b) = (Replica::on(&redis), Replica::on(&redis));
    for (id, pod) in [("a", 0), ("b", 0), ("c", 1)] {
        assert_eq!(a.pin(id, pod), PinOutcome::Pinned);
    }
    assert_eq!(b.pin("d", 1), PinOutcome::Pinned);
    let counts = |replica: &Replica| [0, 1, 2].map(|pod| replica.sessions.counts().of(PodId(pod)));
    assert_eq!(counts(&b), [2, 2, 0], "with the pin");
    b.wait(b.sessions.unpin(&b.key("a"), PodId(0), UnpinReason::Deleted));
    assert_eq!(counts(&Replica::on(&redis)), [1, 2, 0], "at the start");
}

#[test]
fn a_deletion_is_heard_of_within_a_second() {
    let redis = Redis::start().unwrap();
    let (a, b) = (Replica::on(&redis), Replica::on(&redis));
    assert_eq!(a.pin("other", 0), PinOutcome::Pinned);
    assert_eq!(b.find("other"), on_pod(0));
    let in_time = |heard: &[Duration]| heard.iter().filter(|heard| **heard < Duration::from_secs(1)).count();
    let mut heard = Vec::new();
    // Each deletion comes soon after the look that heard of the last one, and a round of looks is not much less than a
    // second: a longer one would be seen nearly every time. A busy machine may be late now and then.
    for id in 0..20 {
        let id = &format!("deleted-{id}");
        assert_eq!(a.pin(id, 0), PinOutcome::Pinned);
        assert_eq!(b.find(id), on_pod(0));
        a.wait(a.sessions.unpin(&a.key(id), PodId(0), UnpinReason::Deleted));
        let start = Instant::now();
        assert_eq!(a.sessions.find_cached(&a.key(id)), None);
        wait("a deletion", || b.sessions.find_cached(&b.key(id)).is_none());
        heard.push(start.elapsed());
        assert_eq!(b.settled(id), Found::Unknown);
        if in_time(&heard) == 4 {
            break;
        }
    }
    assert_eq!(in_time(&heard), 4, "{heard:?}");
    assert!(b.sessions.find_cached(&b.key("other")).is_some(), "others stay");
}

#[test]
fn unpinning_from_a_pod_leaves_the_pin_to_another() {
    let redis = Redis::start().unwrap();
    let (a, b) = (Replica::on(&redis), Replica::on(&redis));
    assert_eq!(a.pin("one", 0), PinOutcome::Pinned);
    b.wait(b.sessions.unpin(&b.key("one"), PodId(1), UnpinReason::PodGone));
    assert_eq!(b.find("one"), on_pod(0));
}

#[test]
fn servers_that_share_a_redis_do_not_see_each_other() {
    let redis = Redis::start().unwrap();
    let a = Replica::on(&redis);
    let b = Replica::of(settings("api"), target(&redis.address()));
    b.ready();
    assert_eq!(a.pin("one", 0), PinOutcome::Pinned);
    assert_eq!(b.settled("one"), Found::Unknown);
    assert_eq!(b.pin("one", 1), PinOutcome::Pinned);
    assert_eq!(a.find("one"), on_pod(0));
}

#[test]
fn evicting_costs_a_look_up_and_loses_nothing() {
    let redis = Redis::start().unwrap();
    let mut small = settings("web");
    small.cache_size = 10;
    let a = Replica::of(small, target(&redis.address()));
    a.ready();
    for number in 0..100u16 {
        assert_eq!(a.pin(&number.to_string(), number % 3), PinOutcome::Pinned);
    }
    for number in 0..100u16 {
        assert_eq!(a.find(&number.to_string()), on_pod(number % 3));
    }
    assert_eq!(a.sessions.statistics().cached, 10);
    assert!(a.sessions.statistics().misses >= 90);
    let mut changed = settings("web");
    changed.cache_size = 4;
    a.sessions.reconfigure(&changed);
    assert_eq!(a.sessions.statistics().cached, 4);
    assert!(a.sessions.find_cached(&a.key("99")).is_some(), "the most recently used stay");
    assert_eq!(a.find("0"), on_pod(0));
    changed.cache_size = 50;
    a.sessions.reconfigure(&changed);
    for number in 0..100u16 {
        assert_eq!(a.find(&number.to_string()), on_pod(number % 3));
    }
    assert_eq!(a.sessions.statistics().cached, 50);
}

#[test]
fn a_session_that_nobody_uses_ends_and_one_in_use_does_not() {
    let redis = Redis::start().unwrap();
    let short = || {
        let mut short = settings("web");
        short.ttl = Duration::from_secs(2);
        let replica = Replica::of(short, target(&redis.address()));
        replica.ready();
        replica
    };
    let (a, b) = (short(), short());
    for id in ["idle", "used", "stream"] {
        assert_eq!(a.pin(id, 0), PinOutcome::Pinned);
    }
    let berth_proxy::session::Found::Pinned(pin) = a.find("stream") else { panic!("not pinned") };
    let stream = a.sessions.in_use(a.key("stream"), pin);
    // Used through A alone; B has to learn of that from the store.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(6) {
        assert_eq!(a.find("used"), on_pod(0));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(b.settled("idle"), Found::Unknown);
    assert_eq!(a.settled("idle"), Found::Unknown, "it was in A's cache");
    assert_eq!(b.find("used"), on_pod(0));
    assert_eq!(b.find("stream"), on_pod(0));
    drop(stream);
    // Expired pins are removed from the store, not just ignored.
    wait("an empty store", || redis.command("KEYS *:pins").unwrap().starts_with("*0"));
}

#[test]
fn a_hostile_record_is_ignored_and_counted() {
    let redis = Redis::start().unwrap();
    let a = Replica::on(&redis);
    assert_eq!(a.settled("nobody"), Found::Unknown);
    let field = a.key("one").to_hex();
    for record in [
        r#"{"v":1,"pod":"web-0","backend_url":"http://web-0.mcp-web-headless.team.svc.cluster.local:8080@evil.example","path":"00000000","pinned_at":1}"#,
        r#"{"v":1,"pod":"web-0","backend_url":"http://web-0.mcp-web-headless.team.svc.cluster.local.evil.example:8080","path":"00000000","pinned_at":1}"#,
        r#"{"v":2}"#,
        "{",
    ] {
        let b = Replica::on(&redis);
        let quoted = record.replace('"', "\\\"");
        redis.command(&format!("HSET berth:session:team/web/{{team/web}}:pins {field} \"{quoted}\"")).unwrap();
        redis.command(&format!("ZADD berth:session:team/web/{{team/web}}:pod:web-0 99999999999999 {field}")).unwrap();
        assert_eq!(b.find("one"), Found::Unknown, "{record}");
        assert_eq!(b.sessions.statistics().bad_records, 1, "{record}");
        assert_eq!(b.pin("one", 1), PinOutcome::Pinned, "a pin replaces {record}");
        assert_eq!(Replica::on(&redis).find("one"), on_pod(1));
    }
}
