//! TLS, ACL users, Cluster.

use berth_proxy::session::{Found, PinOutcome, Readiness};
use berth_test_cluster::Redis;

use crate::world::{BOUND, Replica, on_pod, settings, target, wait};

fn works(replica: &Replica) {
    replica.ready();
    assert_eq!(replica.pin("one", 1), PinOutcome::Pinned);
    replica.wait(replica.sessions.unpin(
        &replica.key("one"),
        berth_proxy::pods::PodId(1),
        berth_proxy::session::UnpinReason::Deleted,
    ));
    assert_eq!(replica.pin("two", 2), PinOutcome::Pinned);
    assert_eq!(replica.settled("one"), Found::Unknown);
}

/// Waits for longer than it takes to connect, and says whether it did.
fn never_ready(replica: &Replica) -> bool {
    let start = std::time::Instant::now();
    while start.elapsed() < BOUND / 10 {
        if replica.sessions.readiness() == Readiness::Ready {
            return false;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    true
}

#[test]
fn tls_with_an_authority_of_ones_own() {
    let redis = Redis::start_tls().unwrap();
    let address = format!("rediss://localhost:{}", redis.port());
    let mut trusting = target(&address);
    trusting.ca = Some(std::fs::read(redis.ca().unwrap()).unwrap());
    let a = Replica::of(settings("web"), trusting);
    works(&a);
    assert!(never_ready(&Replica::of(settings("web"), target(&address))), "a stranger's certificate is not trusted");
}

/// What an administrator has to allow: the server's keys, and these commands.
#[test]
fn an_acl_user_with_no_more_rights_than_needed() {
    let user =
        "--user berth on >secret ~berth:session:team/web/* -@all +@hash +@sortedset +@set +@scripting +pexpire +info";
    let arguments: Vec<_> = "--user default off".split(' ').chain(user.split(' ')).collect();
    let redis = Redis::start_with(&arguments).unwrap_or_else(|error| panic!("{error}"));
    let mut user = target(&redis.address());
    user.username = Some("berth".into());
    user.password = Some("secret".into());
    works(&Replica::of(settings("web"), user.clone()));
    user.password = Some("wrong".into());
    assert!(never_ready(&Replica::of(settings("web"), user)));
}

#[test]
fn a_password_of_the_default_user_and_a_database() {
    let redis = Redis::start_with(&["--requirepass", "secret"]).unwrap();
    let with = |db: &str| {
        let mut target = target(&format!("redis://{}/{db}", redis.address()));
        target.password = Some("secret".into());
        Replica::of(settings("web"), target)
    };
    let (a, b) = (with("3"), with("4"));
    works(&a);
    b.ready();
    assert_eq!(b.settled("two"), Found::Unknown, "another database");
}

/// In words that say what to do, and never with the password.
#[test]
fn what_a_store_objects_to_is_told() {
    let open = Redis::start().unwrap();
    let locked = Redis::start_with(&["--requirepass", "secret"]).unwrap();
    let cluster = Redis::start_cluster().unwrap();
    cluster.command("CONFIG SET requirepass secret").unwrap();
    let limited = Redis::start_with(&["--user", "default", "on", "nopass", "~*", "+@all", "-hmget"]).unwrap();
    let confined = Redis::start_with(&["--user", "default", "on", "nopass", "~*", "+@all", "-select"]).unwrap();
    let to = |redis: &Redis, scheme: &str, path: &str| format!("{scheme}://{}{path}", redis.address());
    let (wrong, none) = ("it refuses the password; correct THV_SESSION_REDIS_PASSWORD", "it asks for a password; give");
    for (address, password, said) in [
        (to(&locked, "redis", ""), Some("close-sesame"), wrong),
        (to(&locked, "redis", "/3"), Some("close-sesame"), wrong),
        (to(&locked, "redis", ""), None, none),
        (to(&locked, "redis", "/3"), None, none),
        (to(&cluster, "redis+cluster", ""), Some("close-sesame"), wrong),
        (to(&cluster, "redis+cluster", ""), None, none),
        (to(&open, "redis", ""), Some("close-sesame"), wrong),
        (to(&open, "redis", "/99"), None, "it has no database of this number; name"),
        (to(&limited, "redis", ""), None, "it forbids its user what is needed; allow"),
        (to(&confined, "redis", "/3"), None, "and SELECT where a database is named"),
        ("redis://127.0.0.1:1".to_owned(), None, "refused"),
    ] {
        let mut target = target(&address);
        target.password = password.map(Into::into);
        let replica = Replica::of(settings("web"), target);
        wait("a reason", || replica.sessions.trouble().is_some());
        let trouble = replica.sessions.trouble().unwrap();
        assert!(trouble.contains(said) && !trouble.contains("close-sesame"), "{address} {password:?}: {trouble}");
        assert_eq!(replica.sessions.readiness(), Readiness::Starting);
    }
}

#[test]
fn a_cluster_takes_every_script() {
    let redis = Redis::start_cluster().unwrap();
    let replica = || Replica::of(settings("web"), target(&format!("redis+cluster://{}", redis.address())));
    let a = replica();
    works(&a);
    let b = replica();
    b.ready();
    assert_eq!(b.find("two"), on_pod(2));
}
