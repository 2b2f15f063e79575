//! What `berth sessions` sees and does.

use std::time::Duration;

use berth_proxy::session::{DEFAULT_KEY_PREFIX, Found, Hasher, Identity, Inspector, PinOutcome};
use berth_test_cluster::Redis;

use crate::world::{Replica, settings, target, wait};

#[test]
fn sessions_are_listed_and_evicted() {
    let redis = Redis::start().unwrap();
    let a = Replica::on(&redis);
    let b = Replica::of(settings("api"), target(&redis.address()));
    b.ready();
    for number in 0..50u16 {
        assert_eq!(a.pin(&number.to_string(), number % 3), PinOutcome::Pinned);
    }
    assert_eq!(b.pin("one", 0), PinOutcome::Pinned);
    redis.command("SET berth:session:x:pins 1").unwrap();
    let web = Identity { namespace: "team".into(), name: "web".into() };
    a.wait(async {
        let mut inspector = Inspector::connect(&target(&redis.address()), DEFAULT_KEY_PREFIX).await.unwrap();
        let servers: Vec<_> = inspector.servers().await.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["team/api", "team/web"]);

        let (mut all, mut cursor) = (Vec::new(), 0);
        loop {
            let (some, next) = inspector.sessions(&web, cursor).await.unwrap();
            all.extend(some);
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(all.len(), 50);
        let key = Hasher::new(&web).session(b"7");
        let seven = all.iter().find(|session| session.key == key).unwrap();
        assert_eq!(inspector.session(&web, key).await.unwrap().unwrap().record, seven.record);
        let record = seven.record.clone().unwrap();
        assert_eq!(record.pod, "web-1");
        assert_eq!(record.backend_url, "http://web-1.mcp-web-headless.team.svc.cluster.local:8080");
        assert!(seven.expires_in.unwrap() > Duration::from_secs(7100));

        assert!(inspector.evict(&web, seven).await.unwrap());
        assert!(inspector.session(&web, key).await.unwrap().is_none());
    });
    wait("an eviction that the replica hears of", || a.sessions.find_cached(&a.key("7")).is_none());
    assert_eq!(a.settled("7"), Found::Unknown);
}

#[test]
fn an_unreadable_record_is_shown_as_such_and_can_be_evicted() {
    let redis = Redis::start().unwrap();
    let a = Replica::on(&redis);
    let key = a.key("one");
    let pins = "berth:session:team/web/{team/web}:pins";
    redis.command(&format!("HSET {pins} {} \"{{\\\"v\\\":1,\\\"pod\\\":\\\"\\x1b[31m\\\"\"", key.to_hex())).unwrap();
    let web = Identity { namespace: "team".into(), name: "web".into() };
    a.wait(async {
        let mut inspector = Inspector::connect(&target(&redis.address()), DEFAULT_KEY_PREFIX).await.unwrap();
        let session = inspector.session(&web, key).await.unwrap().unwrap();
        assert_eq!(session.record, None);
        assert!(inspector.evict(&web, &session).await.unwrap());
        assert!(inspector.session(&web, key).await.unwrap().is_none());
    });
}
