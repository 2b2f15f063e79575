//! What clients, servers and the store say wrongly.

use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::support::{CALL, Client, INITIALIZE, raw_server, read_head};
use crate::trial;
use crate::world::{World, blocking};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("session_ids_of_any_bytes", any_ids),
        trial("bodies_that_are_no_json_rpc", bodies),
        trial("records_that_lead_elsewhere", hostile_records),
        trial("two_servers_that_share_a_redis", two_servers),
        trial("a_server_that_closes_in_the_middle_of_a_body", closes_early),
    ]
}

async fn any_ids() {
    let mut world = World::new("any-ids", 3).await;
    world.environment.push(("RUST_LOG".to_owned(), "berth_proxy=trace".to_owned()));
    let [one, two] = [world.replica(), world.replica()];
    let long = "x".repeat(8_000);
    // In a header. Line ends cannot stand in one.
    for id in [
        "*3\\r\\n$3\\r\\nSET",
        "FLUSHALL",
        "{team/any-ids}:pins",
        "a:b}{c",
        "..",
        "../../etc/passwd",
        "%00%0a",
        "\u{e9}\u{fffd}",
        "a b",
        "\"'`;--",
        "{}",
        "[1]",
        "null",
        "-1",
        "$(id)",
        "EVAL \"return 1\" 0",
        "a,b",
        "a\t.",
        long.as_str(),
    ] {
        let mut client = one.client().await;
        for pod in world.pods.values() {
            *pod.state.ids.lock() = vec![id.to_owned()];
            pod.state.sessions.lock().insert(id.to_owned());
        }
        let reply = client.post(None, INITIALIZE).await;
        assert_eq!(reply.status, 200, "{id:?}: {reply:?}");
        for pod in world.pods.values() {
            pod.state.ids.lock().clear();
        }
        for replica in [&one, &two] {
            let called = replica.post(Some(id), CALL).await;
            assert_eq!((called.status, &called.body), (200, &reply.body), "{id:?}");
        }
        assert_eq!(client.request("DELETE", "/mcp", &[("Mcp-Session-Id", id)], "").await.status, 200, "{id:?}");
    }
    one.settle().await;
    // In a query, where any bytes can stand.
    for id in ["%0D%0A*1%0D%0A$8%0D%0AFLUSHALL", "%00", "%FF%FE", "..%2F..", "%7B%7D", "a%0ab", "%", "%zz"] {
        let reply = one.client().await.request("POST", &format!("/messages?sessionId={id}"), &[], CALL).await;
        assert_eq!(reply.status, 404, "{id:?}: {reply:?}");
    }
    let too_long = "x".repeat(40_000);
    assert_eq!(one.post(Some(&too_long), CALL).await.status, 431);
    let mut broken = one.client().await;
    broken.write("POST /mcp HTTP/1.1\r\nHost: h\r\nMcp-Session-Id: a\0b\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(broken.reply().await.unwrap().status, 400);
    let log = std::fs::read_to_string(one.process.log()).unwrap();
    assert!(log.contains("unpinned"), "the log says a lot: {log}");
    assert!(!log.contains("FLUSHALL") && !log.contains("passwd"), "but no id: {log}");
}

async fn bodies() {
    let world = World::new("bodies", 2).await;
    let replica = world.replica();
    let session = replica.initialize().await;
    replica.settle().await;
    let deep = "[".repeat(60_000);
    let wrong = [
        "{",
        "[]",
        "\u{0}\u{1}",
        "{\"method\":7}",
        "null",
        deep.as_str(),
        "{\"id\":{},\"method\":\"initialize\"",
        "\u{feff}{}",
    ];
    for body in wrong {
        let mut client = replica.client().await;
        session.check(&client.post(Some(&session.id), body).await);
        let seen = world.pods[&session.pod.parse().unwrap()].seen().pop().unwrap();
        assert_eq!(seen.body, body.as_bytes(), "passed as it is");
        let reply = client.post(Some("nobody"), body).await;
        assert_eq!((reply.status, reply.json()["id"].is_null()), (404, true), "{body:.20}");
        assert_eq!(client.post(None, body).await.status, 200, "placed: what it means is for the server to say");
    }
}

async fn hostile_records() {
    let mut world = World::new("hostile", 2).await;
    let evil = raw_server(|_| async { panic!("a record was followed") }).await;
    let owner = world.replica();
    let session = owner.initialize().await;
    owner.settle().await;
    let service = "mcp-hostile-headless.team.svc.cluster.local";
    let pins = "berth:session:team/hostile/{team/hostile}:pins";
    let keys = blocking(|| world.redis().command(&format!("HKEYS {pins}")).unwrap());
    let key = keys.split("\r\n").find(|line| line.len() == 32).expect("a key").to_owned();
    let pod = format!("hostile-{}", session.pod);
    let record =
        |url: String| json!({"v": 1, "pod": pod, "backend_url": url, "path": "00000000", "pinned_at": 1}).to_string();
    let whole = record(format!("http://{pod}.{service}:8080"));
    let hostile = [
        record(format!("http://{evil}")),
        record(format!("http://{pod}.{service}:8080@{evil}")),
        record(format!("http://{pod}.{service}@{evil}")),
        record(format!("http://{evil}/{pod}.{service}:8080")),
        record(format!("http://{evil}#{pod}.{service}:8080")),
        record(format!("http://{pod}.{service}.evil.example:8080")),
        record(format!("http://evil{pod}.{service}:8080")),
        record(format!("http://{pod}.{service}:{}", evil.port())),
        whole.replace("\"v\":1", "\"v\":2"),
        whole[..whole.len() - 3].to_owned(),
        "\u{0}".to_owned(),
        "x".repeat(100_000),
    ];
    for (number, record) in hostile.iter().enumerate() {
        let quoted = record.replace('\\', "\\\\").replace('"', "\\\"").replace('\u{0}', "\\x00");
        if quoted.len() < 60_000 {
            blocking(|| world.redis().command(&format!("HSET {pins} {key} \"{quoted}\"")).unwrap());
        } else {
            let lua = format!("EVAL \"return redis.call('HSET', '{pins}', '{key}', string.rep('x', 100000))\" 0");
            blocking(|| world.redis().command(&lua).unwrap());
        }
        // A replica that has not cached it.
        let other = world.replica();
        other.settle().await;
        for _ in 0..2 {
            let reply = other.call(&session).await;
            assert_eq!((reply.status, reply.json()["error"]["code"].as_i64()), (404, Some(-32001)), "{record:.100}");
        }
        let metrics = other.metrics();
        assert_eq!(metrics.metric("berth_proxy_store_bad_records_total", &[]), 2.0, "{record:.100}");
        let log = std::fs::read_to_string(other.process.log()).unwrap();
        assert_eq!(log.matches("ignoring a record").count(), 1, "{log}");
        assert!(!log.contains(&session.id), "{log}");
        if number == 0 {
            session.check(&owner.call(&session).await);
        }
    }
}

async fn two_servers() {
    let first = World::new("first", 1).await;
    let mut second = World::without_store("second", 1).await;
    second.store.clone_from(&first.store);
    let [one, two] = [first.replica(), second.replica()];
    for world in [&first, &second] {
        world.pods[&0].state.ids.lock().push("the-same".to_owned());
        world.pods[&0].state.sessions.lock().insert("the-same".to_owned());
    }
    let mine = one.initialize().await;
    two.settle().await;
    assert_eq!(two.call(&mine).await.status, 404, "the other server's");
    let theirs = two.initialize().await;
    assert_eq!(mine.id, theirs.id);
    let before = [&first, &second].map(|world| world.pods[&0].seen().len());
    for _ in 0..3 {
        mine.check(&one.call(&mine).await);
        theirs.check(&two.call(&theirs).await);
    }
    assert_eq!([&first, &second].map(|world| world.pods[&0].seen().len()), before.map(|seen| seen + 3));
    let named = [("Mcp-Session-Id", "the-same")];
    assert_eq!(two.client().await.request("DELETE", "/mcp", &named, "").await.status, 200);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    mine.check(&one.call(&mine).await);
}

async fn closes_early() {
    let address = raw_server(|mut stream| async move {
        while !read_head(&mut stream).await.is_empty() {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this").await;
            let _ = stream.shutdown().await;
        }
    })
    .await;
    let mut world = World::without_store("closes-early", 0).await;
    world.arguments.push(format!("--backend=http://{address}"));
    let replica = world.replica();
    let mut client = Client::connect(replica.listen).await;
    client.ask("GET", "/x", &[], "").await;
    assert_eq!(client.head().await.unwrap().status, 200);
    client.read_to("only this").await.unwrap();
    assert!(client.is_closed().await, "the client has to see that something is missing");
    let mut again = Client::connect(replica.listen).await;
    again.ask("GET", "/x", &[], "").await;
    assert_eq!(again.head().await.unwrap().status, 200, "the replica goes on");
}
