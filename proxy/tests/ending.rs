//! The end of a replica: readiness, the drain, and what streams see of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests assert, too")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use berth_proxy::drain::Pauses;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{CALL, Client, INITIALIZE, PATIENCE, Pod, Replica};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Waits for the beginning of the pause.
async fn not_ready_any_more(admin: SocketAddr) {
    let ready = async {
        while Client::connect(admin).await.get("/readyz", &[]).await.status == 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(2), ready).await.expect("not ready any more, during the pause");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_ends_serves_on_until_balancers_know_it() {
    let pod = Pod::start("a").await;
    let mut replica = Replica::default();
    replica.settings.pauses = Pauses { lame_duck: Duration::from_secs(3), drain: Duration::from_secs(5) };
    let proxy = replica.start(&[pod.url()]).await;
    let (address, admin) = (proxy.address, proxy.admin.unwrap());
    let mut idle = Client::connect(address).await;
    let id = idle.post(None, INITIALIZE).await.session();
    let ending = tokio::spawn(proxy.drain());
    not_ready_any_more(admin).await;
    tokio::time::sleep(Duration::from_millis(250)).await;
    let reply = Client::connect(address).await.post(Some(&id), CALL).await;
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")), "new connections are served");
    let reply = idle.post(Some(&id), CALL).await;
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")), "old ones too, once");
    assert!(idle.is_closed().await);
    ending.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_never_sent_anything_is_not_waited_for() {
    let pod = Pod::start("a").await;
    let mut replica = Replica::default();
    replica.settings.pauses = Pauses { lame_duck: Duration::ZERO, drain: Duration::from_secs(60) };
    let proxy = replica.start(&[pod.url()]).await;
    let silent = TcpStream::connect(proxy.address).await.unwrap();
    // Accepted before the drain: the listener takes them in order.
    assert_eq!(Client::connect(proxy.address).await.post(None, INITIALIZE).await.status, 200);
    tokio::time::timeout(PATIENCE, proxy.drain()).await.expect("long before the time-out");
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_between_two_events_at_the_time_out() {
    let pod = Pod::start("a").await;
    let proxy = Replica::default().start(&[pod.url()]).await;
    let mut quiet = Client::connect(proxy.address).await;
    let quiet_id = quiet.post(None, INITIALIZE).await.session();
    let mut busy = Client::connect(proxy.address).await;
    let busy_id = busy.post(None, INITIALIZE).await.session();
    for (client, id) in [(&mut quiet, &quiet_id), (&mut busy, &busy_id)] {
        client.ask("GET", "/mcp", &[("Mcp-Session-Id", id)], "").await;
        client.head().await.unwrap();
        pod.send(id, "id: 1\ndata: 1\n\n");
        assert!(client.chunk().await.unwrap().is_some());
    }
    pod.send(&busy_id, "id: 2\ndata: ");
    assert_eq!(busy.chunk().await.unwrap().unwrap(), "id: 2\ndata: ");
    let ending = tokio::spawn(proxy.drain());
    assert_eq!(quiet.chunk().await.unwrap(), None, "the quiet stream ends as a whole one");
    let reply = quiet.post(Some(&quiet_id), CALL).await;
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")), "its head did not say that it closes");
    assert!(!ending.is_finished(), "the busy one is in the middle of an event");
    pod.send(&busy_id, "2\n\nid: 3\ndata: 3");
    assert_eq!(busy.chunk().await.unwrap().unwrap(), "2\n\n");
    assert_eq!(busy.chunk().await.unwrap(), None);
    tokio::time::timeout(PATIENCE, ending).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_in_events_ends_once_it_can_be_resumed() {
    let pod = Pod::start("a").await;
    let proxy = Replica::default().start(&[pod.url()]).await;
    let mut client = Client::connect(proxy.address).await;
    client.ask("POST", "/stream", &[], "{}").await;
    client.head().await.unwrap();
    let ending = tokio::spawn(proxy.drain());
    tokio::time::sleep(Duration::from_millis(800)).await;
    for event in ["data: not yet\n\n", "id: 7\ndata: now\n\n"] {
        pod.send("stream", event);
        assert_eq!(client.chunk().await.unwrap().as_deref(), Some(event));
    }
    assert_eq!(client.chunk().await.unwrap(), None);
    tokio::time::timeout(PATIENCE, ending).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_finishes() {
    let pod = Pod::start("a").await;
    let mut replica = Replica::default();
    replica.settings.pauses = Pauses { lame_duck: Duration::ZERO, drain: Duration::from_secs(60) };
    let proxy = replica.start(&[pod.url()]).await;
    let mut client = Client::connect(proxy.address).await;
    client.write("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n01234").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let ending = tokio::spawn(proxy.drain());
    tokio::time::sleep(Duration::from_millis(500)).await;
    client.write("56789").await;
    assert_eq!(client.reply().await.unwrap().status, 200);
    tokio::time::timeout(PATIENCE, ending).await.expect("nothing is left to wait for").unwrap();
    assert_eq!(pod.seen()[0].body, "0123456789");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_protocols_go_on_until_the_time_out() {
    let pod = Pod::start("a").await;
    let mut replica = Replica::default();
    replica.settings.pauses = Pauses { lame_duck: Duration::ZERO, drain: Duration::from_secs(60) };
    let proxy = replica.start(&[pod.url()]).await;
    let mut client = Client::connect(proxy.address).await;
    client.ask("GET", "/upgrade", &[("Connection", "Upgrade"), ("Upgrade", "mirror")], "").await;
    assert_eq!(client.head().await.unwrap().status, 101);
    let ending = tokio::spawn(proxy.drain());
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(!ending.is_finished(), "cut off");
    client.write("hello").await;
    assert_eq!(client.read_to("olleh").await.unwrap(), "olleh");
    drop(client);
    tokio::time::timeout(PATIENCE, ending).await.expect("nothing is left to wait for").unwrap();
}

/// A frame of HTTP/2: its type, its flags, and what it carries.
async fn frame(stream: &mut TcpStream) -> std::io::Result<(u8, u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let [a, b, c, kind, flags, ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).await?;
    Ok((kind, flags, payload))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_clients_are_told_to_go_away() {
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    const ACK: u8 = 1;
    let pod = Pod::start("a").await;
    let mut replica = Replica::default();
    replica.settings.pauses = Pauses { lame_duck: Duration::ZERO, drain: Duration::from_secs(60) };
    let proxy = replica.start(&[pod.url()]).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    // The server's settings: it is there.
    frame(&mut stream).await.unwrap();
    let ending = tokio::spawn(proxy.drain());
    let mut codes = Vec::new();
    let told = async {
        while let Ok((kind, flags, payload)) = frame(&mut stream).await {
            match kind {
                GOAWAY => codes.push(payload[4..8].to_vec()),
                PING if flags & ACK == 0 => {
                    stream.write_all(&[0, 0, 8, PING, ACK, 0, 0, 0, 0]).await.unwrap();
                    stream.write_all(&payload).await.unwrap();
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("the connection ends");
    assert!(!codes.is_empty() && codes.iter().all(|code| *code == [0; 4]), "gone without an error: {codes:?}");
    tokio::time::timeout(PATIENCE, ending).await.expect("nothing is left to wait for").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_stream_ends_between_two_events_and_its_connection_after_it() {
    let pod = Pod::start("a").await;
    let mut replica = Replica::default();
    replica.settings.pauses = Pauses { lame_duck: Duration::from_secs(3), drain: Duration::from_secs(1) };
    let proxy = replica.start(&[pod.url()]).await;
    let admin = proxy.admin.unwrap();
    let id = Client::connect(proxy.address).await.post(None, INITIALIZE).await.session();
    let stream = TcpStream::connect(proxy.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, Empty<bytes::Bytes>>(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let get = |path: &str| {
        let request = http::Request::get(format!("http://example.test{path}")).header("mcp-session-id", &id);
        request.body(Empty::new()).unwrap()
    };
    let mut body = sender.send_request(get("/ticks")).await.unwrap().into_body();
    let ending = tokio::spawn(proxy.drain());
    not_ready_any_more(admin).await;
    assert_eq!(sender.send_request(get("/x")).await.unwrap().status(), 200, "served during the pause");
    let mut text = String::new();
    while let Some(frame) = body.frame().await {
        let data = frame.expect("a stream that ends as a whole one").into_data().unwrap();
        text.push_str(std::str::from_utf8(&data).unwrap());
    }
    assert!(text.starts_with("id: 1\ndata: 1\n\n") && text.ends_with("\n\n"), "{text}");
    drop(sender);
    tokio::time::timeout(PATIENCE, connection).await.unwrap().unwrap().expect("no error at its end");
    tokio::time::timeout(PATIENCE, ending).await.unwrap().unwrap();
}
