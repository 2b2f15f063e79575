//! The routing table, row by row, as a client sees it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests assert, too")]

mod support;

use std::time::Duration;

use berth_proxy::proxy::Proxy;
use berth_proxy::route::Names;
use http::{HeaderName, Method, StatusCode};
use support::{CALL, Client, INITIALIZE, PATIENCE, Pod, Replica, proxy, until};

/// A session, and the pods with the one that has it first.
async fn session<'a>(client: &mut Client, pods: &'a [Pod; 2]) -> (String, &'a Pod, &'a Pod) {
    let reply = client.post(None, INITIALIZE).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let [a, b] = pods;
    if reply.body == "a" { (reply.session(), a, b) } else { (reply.session(), b, a) }
}

/// How many sessions were unpinned because their streams ended.
async fn streams_ended(proxy: &Proxy) -> u64 {
    let metrics = Client::connect(proxy.admin.unwrap()).await.get("/metrics", &[]).await.body;
    let line = metrics.lines().find_map(|line| line.strip_prefix("berth_proxy_unpins_total{reason=\"stream_ended\"} "));
    line.and_then(|count| count.parse().ok()).expect("a count")
}

async fn pods() -> [Pod; 2] {
    [Pod::start("a").await, Pod::start("b").await]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_session_stays_on_its_pod() {
    let pods = pods().await;
    let proxy = proxy(&[&pods[0], &pods[1]]).await;
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..4 {
        let (id, holder, other) = session(&mut client, &pods).await;
        let before = other.seen().len();
        for _ in 0..5 {
            let reply = client.post(Some(&id), CALL).await;
            assert_eq!((reply.status, reply.session()), (200, id.clone()));
        }
        assert!(holder.seen().len() >= 6);
        assert_eq!(other.seen().len(), before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_session_is_told_to_start_anew_and_the_connection_goes_on() {
    let pods = pods().await;
    let proxy = proxy(&[&pods[0], &pods[1]]).await;
    let mut client = Client::connect(proxy.address).await;
    let reply =
        client.request("POST", "/mcp", &[("Mcp-Session-Id", "nobody"), ("Origin", "https://app.test")], CALL).await;
    assert_eq!(reply.status, 404);
    assert_eq!(reply.json()["error"]["code"], -32001);
    assert_eq!(reply.json()["id"], 2);
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://app.test"));
    let reply = client.get("/mcp", &[("Mcp-Session-Id", "nobody")]).await;
    assert_eq!((reply.status, reply.json()["id"].is_null()), (404, true));
    let reply = client.request("POST", "/messages?sessionId=nobody", &[], CALL).await;
    assert_eq!(reply.status, 404);
    assert_eq!(client.post(None, INITIALIZE).await.status, 200);
    assert_eq!(pods.iter().map(|pod| pod.seen().len()).sum::<usize>(), 1, "only the last went to a server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_initialize_with_an_ended_session_is_placed_afresh() {
    let pods = pods().await;
    let proxy = proxy(&[&pods[0], &pods[1]]).await;
    let mut client = Client::connect(proxy.address).await;
    let reply = client.post(Some("long-gone"), INITIALIZE).await;
    assert_eq!(reply.status, 200);
    let seen = pods.iter().flat_map(Pod::seen).next().unwrap();
    assert!(!seen.headers.contains_key("mcp-session-id"));
    assert_eq!(seen.body, INITIALIZE);
    assert_eq!(client.post(Some(&reply.session()), CALL).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_or_large_body_of_an_unknown_session_is_no_initialize() {
    let pods = pods().await;
    let proxy = proxy(&[&pods[0], &pods[1]]).await;
    let mut client = Client::connect(proxy.address).await;
    client.write("POST /mcp HTTP/1.1\r\nHost: h\r\nMcp-Session-Id: x\r\nContent-Length: 60\r\n\r\n{\"method\":").await;
    let reply = client.reply().await.unwrap();
    assert_eq!(reply.status, 404);
    let mut client = Client::connect(proxy.address).await;
    let large = format!(r#"{{"id":7,"pad":"{}","method":"initialize"}}"#, "x".repeat(100_000));
    let reply = client.post(Some("x"), &large).await;
    assert_eq!((reply.status, reply.json()["id"].is_null()), (404, true));
    assert_eq!(client.post(None, INITIALIZE).await.status, 200, "the connection goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_response_may_give_out_a_new_session_of_the_same_pod() {
    let pods = pods().await;
    let proxy = proxy(&[&pods[0], &pods[1]]).await;
    let mut client = Client::connect(proxy.address).await;
    let (id, holder, _) = session(&mut client, &pods).await;
    assert_eq!(client.post(Some("second"), CALL).await.status, 404, "not pinned yet");
    *holder.state.another.lock() = Some("second".into());
    let reply = client.post(Some(&id), CALL).await;
    assert_eq!((reply.status, reply.session()), (200, "second".to_owned()));
    for known in [id.as_str(), "second"] {
        let again = client.post(Some(known), CALL).await;
        assert_eq!((again.status, again.body), (200, reply.body.clone()), "{known}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sessions_in_one_response_and_a_session_of_another_pod_are_refused() {
    let pods = pods().await;
    let proxy = proxy(&[&pods[0], &pods[1]]).await;
    let mut client = Client::connect(proxy.address).await;
    let (id, holder, other) = session(&mut client, &pods).await;
    for pod in &pods {
        *pod.state.ids.lock() = vec!["one".into(), "two".into()];
    }
    assert_eq!(client.post(None, INITIALIZE).await.status, 502);
    for pod in &pods {
        pod.state.ids.lock().clear();
    }
    // Whichever is chosen gives out the first one's session; only the holder may.
    *holder.state.ids.lock() = vec![id.clone()];
    *other.state.ids.lock() = vec![id.clone()];
    let first = client.post(None, INITIALIZE).await;
    let second = client.post(None, INITIALIZE).await;
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    assert!(statuses.contains(&502), "{statuses:?}");
    assert_eq!(client.post(Some(&id), CALL).await.body, if std::ptr::eq(holder, &pods[0]) { "a" } else { "b" });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_without_sessions_is_placed_freely_and_untouched() {
    let pods = pods().await;
    let proxy = proxy(&[&pods[0], &pods[1]]).await;
    let mut client = Client::connect(proxy.address).await;
    let headers = [("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Session-Id", "ignored"), ("Mcp-Name", "tool")];
    let reply = client.request("POST", "/free", &headers, CALL).await;
    assert_eq!(reply.status, 200);
    let seen = pods.iter().flat_map(Pod::seen).next().unwrap();
    assert_eq!(seen.headers["mcp-name"], "tool");
    assert_eq!(seen.headers["mcp-session-id"], "ignored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delete_unpins_and_so_does_a_404_on_the_path_that_made_the_session() {
    let pods = pods().await;
    let proxy = proxy(&[&pods[0], &pods[1]]).await;
    let mut client = Client::connect(proxy.address).await;
    let (id, holder, _) = session(&mut client, &pods).await;
    let named = [("Mcp-Session-Id", id.as_str())];
    assert_eq!(client.get("/missing", &named).await.status, 404, "another path");
    assert_eq!(client.post(Some(&id), CALL).await.status, 200, "still pinned");
    assert_eq!(client.request("DELETE", "/mcp", &named, "").await.status, 200);
    let asked = holder.seen().len();
    assert_eq!(client.post(Some(&id), CALL).await.json()["error"]["code"], -32001);
    assert_eq!(holder.seen().len(), asked, "the server was not asked again");

    let (id, holder, _) = session(&mut client, &pods).await;
    holder.state.sessions.lock().clear();
    assert_eq!(client.post(Some(&id), CALL).await.body, "no such session", "passed on as it is");
    assert_eq!(client.post(Some(&id), CALL).await.json()["error"]["code"], -32001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_transport_is_pinned_before_its_endpoint_is_shown_and_unpinned_at_its_end() {
    let pods = pods().await;
    let proxy = proxy(&[&pods[0], &pods[1]]).await;
    for _ in 0..4 {
        let mut stream = Client::connect(proxy.address).await;
        stream.ask("GET", "/sse", &[], "").await;
        assert_eq!(stream.head().await.unwrap().status, 200);
        let endpoint = stream.chunk().await.unwrap().unwrap();
        let target = endpoint.split("data: ").nth(1).unwrap().trim().to_owned();
        let mut client = Client::connect(proxy.address).await;
        assert_eq!(client.request("POST", &target, &[], CALL).await.status, 202);
        let id = target.split('=').nth(1).unwrap();
        let holder = pods.iter().find(|pod| pod.state.streams.lock().contains_key(id)).unwrap();
        holder.send(id, "data: hello\n\n");
        assert_eq!(stream.chunk().await.unwrap().unwrap(), "data: hello\n\n");
        let left = holder.state.left.load(std::sync::atomic::Ordering::Relaxed);
        let ended = streams_ended(&proxy).await;
        drop(stream);
        until("the server feels that its client left", || {
            holder.state.left.load(std::sync::atomic::Ordering::Relaxed) > left
        })
        .await;
        // The store is told after the server.
        let unpinned = async {
            while streams_ended(&proxy).await <= ended {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, unpinned).await.expect("the session is unpinned");
        let asked = holder.seen().len();
        let reply = client.request("POST", &target, &[], CALL).await;
        assert_eq!((reply.status, reply.json()["error"]["code"].as_i64()), (404, Some(-32001)));
        assert_eq!(holder.seen().len(), asked);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_pass_one_by_one() {
    let pods = pods().await;
    let proxy = proxy(&[&pods[0], &pods[1]]).await;
    let mut client = Client::connect(proxy.address).await;
    let (id, holder, _) = session(&mut client, &pods).await;
    client.ask("GET", "/mcp", &[("Mcp-Session-Id", &id), ("Last-Event-ID", "7")], "").await;
    assert_eq!(client.head().await.unwrap().header("content-type"), Some("text/event-stream"));
    for event in ["data: 1\n\n", "id: 2\n", "data: 2\n\n"] {
        holder.send(&id, event);
        assert_eq!(client.chunk().await.unwrap().unwrap(), event);
    }
    assert_eq!(holder.seen().last().unwrap().headers["last-event-id"], "7");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_does_not_accept_costs_its_sessions_a_503_and_nobody_else() {
    let pods = pods().await;
    let proxy = proxy(&[&pods[0], &pods[1]]).await;
    let mut client = Client::connect(proxy.address).await;
    let (id, holder, _) = session(&mut client, &pods).await;
    holder.stop();
    let listening = || std::net::TcpStream::connect(holder.address).is_ok();
    until("the pod is down", || !listening()).await;
    let reply = client.post(Some(&id), CALL).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    for _ in 0..4 {
        assert_eq!(client.post(None, INITIALIZE).await.status, 200, "placed on the other");
    }
    let listener = tokio::net::TcpListener::bind(holder.address).await.unwrap();
    let again = Pod::start_on("again", listener).await;
    again.state.sessions.lock().insert(id.clone());
    assert_eq!(client.post(Some(&id), CALL).await.body, "again", "the pin was kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_pod_new_sessions_get_a_503() {
    let pod = Pod::start("a").await;
    let proxy = proxy(&[&pod]).await;
    pod.stop();
    until("the pod is down", || std::net::TcpStream::connect(pod.address).is_err()).await;
    let reply = Client::connect(proxy.address).await.post(None, INITIALIZE).await;
    assert_eq!((reply.status, reply.json()["id"].as_i64()), (503, Some(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_sessions_than_allowed_are_refused_and_taken_back_from_the_server() {
    let pods = pods().await;
    let urls = pods.iter().map(Pod::url).collect::<Vec<_>>();
    let proxy = Replica { max_sessions: 1, ..Replica::default() }.start(&urls).await;
    let mut client = Client::connect(proxy.address).await;
    let (id, ..) = session(&mut client, &pods).await;
    let headers = [("Authorization", "Bearer t"), ("Cookie", "c=1"), ("MCP-Protocol-Version", "2025-06-18")];
    let reply = client.request("POST", "/mcp?x=1", &headers, INITIALIZE).await;
    assert_eq!(reply.status, 503);
    let deletion = || pods.iter().flat_map(Pod::seen).find(|seen| seen.method == Method::DELETE);
    until("the orphan is deleted", || deletion().is_some()).await;
    let deletion = deletion().unwrap();
    assert_eq!(deletion.target, "/mcp?x=1");
    for (name, value) in headers {
        assert_eq!(deletion.headers[name], value);
    }
    assert_eq!(deletion.headers["host"], "example.test");
    assert_eq!(client.post(Some(&id), CALL).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_named_header_or_cookie_pins_the_clients_own_id() {
    let pods = pods().await;
    let urls = pods.iter().map(Pod::url).collect::<Vec<_>>();
    let mut replica = Replica::default();
    replica.settings.names =
        Names { header: Some(HeaderName::from_static("x-session")), cookie: Some("SID".to_owned()) };
    let proxy = replica.start(&urls).await;
    let mut client = Client::connect(proxy.address).await;
    for (name, value) in [("X-Session", "mine"), ("Cookie", "a=b; SID=mine-too")] {
        let first = client.request("POST", "/app", &[(name, value)], "x").await;
        assert_eq!(first.status, 200);
        for _ in 0..6 {
            assert_eq!(client.request("GET", "/app", &[(name, value)], "").await.body, first.body);
        }
        let reply = client.request("GET", "/missing", &[(name, value)], "").await;
        assert_eq!(reply.status, 404);
        assert_eq!(client.request("GET", "/app", &[(name, value)], "").await.body, first.body, "nothing unpinned");
    }
    let passed = |seen: support::Seen| seen.headers.get("x-session").is_some_and(|value| value == "mine");
    assert!(pods.iter().flat_map(Pod::seen).any(passed), "nothing stripped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_error_for_initialize_is_passed_on() {
    let pods = pods().await;
    let proxy = proxy(&[&pods[0], &pods[1]]).await;
    for pod in &pods {
        *pod.state.status.lock() = Some(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let reply = Client::connect(proxy.address).await.post(None, INITIALIZE).await;
    assert_eq!((reply.status, reply.body.as_str()), (500, "as told"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_the_old_transport_lives_for_as_long_as_its_stream() {
    let pods = pods().await;
    let urls = pods.iter().map(Pod::url).collect::<Vec<_>>();
    let proxy = Replica { ttl: Duration::from_secs(3), ..Replica::default() }.start(&urls).await;
    let mut stream = Client::connect(proxy.address).await;
    stream.ask("GET", "/sse", &[("Accept-Encoding", "gzip")], "").await;
    stream.head().await.unwrap();
    let endpoint = stream.chunk().await.unwrap().unwrap();
    let target = endpoint.split("data: ").nth(1).unwrap().trim().to_owned();
    let seen = pods.iter().flat_map(Pod::seen).find(|seen| seen.target == "/sse").unwrap();
    assert!(!seen.headers.contains_key("accept-encoding"), "what names the session is to be read on the way");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(Client::connect(proxy.address).await.request("POST", &target, &[], CALL).await.status, 202);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_lasts_longer_than_the_ttl_keeps_its_session() {
    let pods = pods().await;
    let urls = pods.iter().map(Pod::url).collect::<Vec<_>>();
    let proxy = Replica { ttl: Duration::from_secs(3), ..Replica::default() }.start(&urls).await;
    let mut stream = Client::connect(proxy.address).await;
    let (id, holder, _) = session(&mut stream, &pods).await;
    stream.ask("GET", "/mcp", &[("Mcp-Session-Id", &id)], "").await;
    stream.head().await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    holder.send(&id, "data: 1\n\n");
    assert!(stream.chunk().await.unwrap().is_some());
    assert_eq!(Client::connect(proxy.address).await.post(Some(&id), CALL).await.status, 200);
}
