//! What passes between client and server, and what does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests assert, too")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use berth_proxy::worker::Limits;
use support::{CALL, Client, INITIALIZE, Pod, Replica, proxy, raw_server, read_head, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_is_kept_hop_by_hop_headers_go_and_forwarding_headers_come() {
    let pod = Pod::start("a").await;
    let proxy = proxy(&[&pod]).await;
    let mut client = Client::connect(proxy.address).await;
    let headers = [
        ("Connection", "keep-alive, X-Hop"),
        ("X-Hop", "1"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("Accept", "application/json, text/event-stream"),
    ];
    assert_eq!(client.request("POST", "/x?y=%2F&z", &headers, "body").await.status, 200);
    let seen = pod.seen().remove(0);
    assert_eq!(seen.target, "/x?y=%2F&z");
    assert_eq!(seen.headers["host"], "example.test");
    assert_eq!(seen.headers["x-forwarded-for"], "192.0.2.1, 127.0.0.1");
    assert_eq!(seen.headers["forwarded"], "for=127.0.0.1;proto=http");
    assert_eq!(seen.headers["x-forwarded-host"], "example.test");
    assert_eq!(seen.headers["accept"], headers[3].1);
    assert!(!seen.headers.contains_key("x-hop") && !seen.headers.contains_key("connection"));
    assert_eq!(seen.body, "body");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_are_limited_in_size_lines_and_time() {
    let pod = Pod::start("a").await;
    let mut replica = Replica::default();
    replica.settings.limits = Limits { head_timeout: Duration::from_secs(2), ..Limits::default() };
    let proxy = replica.start(&[pod.url()]).await;
    let id = "x".repeat(Limits::default().head);
    for headers in [&[("Mcp-Session-Id", id.as_str())][..], &[("X", "1"); 120]] {
        let mut client = Client::connect(proxy.address).await;
        assert_eq!(client.request("GET", "/mcp", headers, "").await.status, 431);
    }
    let mut client = Client::connect(proxy.address).await;
    client.write("GET / HTTP/1.1\r\nHost:").await;
    assert!(client.is_closed().await);
    let metrics = Client::connect(proxy.admin.unwrap()).await.get("/metrics", &[]).await.body;
    for counted in ["events_total{event=\"head_timeout\"} 1\n", "events_total{event=\"head_limit\"} 2\n"] {
        assert!(metrics.contains(counted), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_and_bodies_are_limited() {
    let pod = Pod::start("a").await;
    let mut replica = Replica::default();
    replica.settings.limits = Limits { connections: 2, body: Some(10), ..Limits::default() };
    let proxy = replica.start(&[pod.url()]).await;
    let mut first = Client::connect(proxy.address).await;
    assert_eq!(first.request("POST", "/x", &[], "0123456789").await.status, 200);
    assert_eq!(first.request("POST", "/x", &[], "0123456789a").await.status, 413);
    assert_eq!(first.request("POST", "/x", &[], "0123456789").await.status, 200, "the connection goes on");
    let mut second = Client::connect(proxy.address).await;
    second
        .write("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n")
        .await;
    assert_eq!(second.reply().await.unwrap().status, 413);
    let mut second = Client::connect(proxy.address).await;
    let mut third = Client::connect(proxy.address).await;
    let mut statuses = Vec::new();
    for client in [&mut second, &mut third] {
        client.ask("POST", "/x", &[], "x").await;
        statuses.push(client.reply().await.unwrap().status);
    }
    assert!(statuses.contains(&503), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_stream_both_ways() {
    let address = raw_server(|mut stream| async move {
        read_head(&mut stream).await;
        let mut bytes = [0; 64];
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
        // An echo, before the request's body has ended.
        while let Ok(n @ 1..) = stream.read(&mut bytes).await {
            stream.write_all(format!("{n:x}\r\n").as_bytes()).await.unwrap();
            stream.write_all(&bytes[..n]).await.unwrap();
            stream.write_all(b"\r\n").await.unwrap();
        }
    })
    .await;
    let proxy = Replica::default().start(&[format!("http://{address}")]).await;
    let mut client = Client::connect(proxy.address).await;
    client.write("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n").await;
    assert_eq!(client.head().await.unwrap().status, 200);
    for text in ["one", "two", "three"] {
        client.write(text).await;
        assert_eq!(client.chunk().await.unwrap().unwrap(), text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expect_continue_and_trailers_pass() {
    let address = raw_server(|mut stream| async move {
        let head = read_head(&mut stream).await;
        assert!(head.to_ascii_lowercase().contains("te: trailers"), "{head}");
        let mut body = [0; 5];
        stream.read_exact(&mut body).await.unwrap();
        let response =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n";
        stream.write_all(response).await.unwrap();
        read_head(&mut stream).await;
    })
    .await;
    let proxy = Replica::default().start(&[format!("http://{address}")]).await;
    let mut client = Client::connect(proxy.address).await;
    let head = "POST /x HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    client.write(head).await;
    assert!(client.read_to("\r\n\r\n").await.unwrap().starts_with("HTTP/1.1 100 "));
    client.write("hello").await;
    assert_eq!(client.head().await.unwrap().status, 200);
    assert_eq!(client.chunk().await.unwrap().as_deref(), Some("ok"));
    assert_eq!(client.read_to("\r\n\r\n").await.unwrap(), "0\r\nx-sum: 7\r\n\r\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_upgrades_pass_both_ways() {
    let pod = Pod::start("a").await;
    let proxy = proxy(&[&pod]).await;
    let mut client = Client::connect(proxy.address).await;
    client.ask("GET", "/upgrade", &[("Connection", "Upgrade"), ("Upgrade", "mirror")], "").await;
    let reply = client.head().await.unwrap();
    assert_eq!((reply.status, reply.header("upgrade")), (101, Some("mirror")));
    client.write("hello").await;
    assert_eq!(client.read_to("olleh").await.unwrap(), "olleh");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_answer_reaches_the_client_that_still_sends() {
    let pod = Pod::start("a").await;
    let proxy = proxy(&[&pod]).await;
    let mut client = Client::connect(proxy.address).await;
    client.write("POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 3000000\r\n\r\n").await;
    let part = "x".repeat(10_000);
    for _ in 0..300 {
        if client.stream.write_all(part.as_bytes()).await.is_err() {
            break;
        }
    }
    assert_eq!(client.reply().await.unwrap().status, 413);
}

/// A server whose connections end after one response each, without a word; it counts those that have ended, or requests
/// where it is to end before its second response.
async fn server_that_hangs_up(before_the_response: bool) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let address = raw_server(move |mut stream| {
        let counter = Arc::clone(&counter);
        async move {
            let head = read_head(&mut stream).await;
            if head.is_empty() {
                return;
            }
            if before_the_response && counter.fetch_add(1, Relaxed) == 1 {
                return;
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            if before_the_response {
                read_head(&mut stream).await;
            }
            drop(stream);
            counter.fetch_add(1, Relaxed);
        }
    })
    .await;
    (address, count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooled_connection_that_died_costs_nothing() {
    let (address, ended) = server_that_hangs_up(false).await;
    let proxy = Replica::default().start(&[format!("http://{address}")]).await;
    let mut client = Client::connect(proxy.address).await;
    for number in 1..=10 {
        assert_eq!(client.request("POST", "/x", &[], "body").await.status, 200);
        until("the server has hung up", || ended.load(Relaxed) == number).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn get_is_repeated_once_and_post_is_not() {
    for (method, body, status) in [("GET", "", 200), ("POST", "x", 502)] {
        let (address, _) = server_that_hangs_up(true).await;
        let proxy = Replica::default().start(&[format!("http://{address}")]).await;
        let mut client = Client::connect(proxy.address).await;
        assert_eq!(client.request(method, "/x", &[], body).await.status, 200);
        // The server reads this one, and hangs up.
        assert_eq!(client.request(method, "/x", &[], body).await.status, status, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_speak_no_http_are_a_502() {
    let endless = "x-a: b\r\n".repeat(20_000);
    for answer in ["garbage\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "", endless.as_str()] {
        let text = if answer.starts_with("x-a") { format!("HTTP/1.1 200 OK\r\n{answer}") } else { answer.to_owned() };
        let address = raw_server(move |mut stream| {
            let text = text.clone();
            async move {
                read_head(&mut stream).await;
                let _ = stream.write_all(text.as_bytes()).await;
            }
        })
        .await;
        let proxy = Replica::default().start(&[format!("http://{address}")]).await;
        let mut client = Client::connect(proxy.address).await;
        assert_eq!(client.post(None, INITIALIZE).await.status, 502, "{answer:.40}");
        assert_eq!(client.post(None, INITIALIZE).await.status, 502, "the connection goes on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_is_felt_at_once() {
    let left = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&left);
    let address = raw_server(move |mut stream| {
        let counter = Arc::clone(&counter);
        async move {
            read_head(&mut stream).await;
            let mut rest = [0; 64];
            while let Ok(1..) = stream.read(&mut rest).await {}
            counter.fetch_add(1, Relaxed);
        }
    })
    .await;
    let proxy = Replica::default().start(&[format!("http://{address}")]).await;
    let mut client = Client::connect(proxy.address).await;
    client.ask("POST", "/mcp", &[], CALL).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(left.load(Relaxed), 0);
    drop(client);
    until("the server feels it", || left.load(Relaxed) == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_after_a_byte_too_many_is_felt_too() {
    let pod = Pod::start("a").await;
    let proxy = proxy(&[&pod]).await;
    for (left, surplus) in ["\r\n", "G"].into_iter().enumerate() {
        let mut client = Client::connect(proxy.address).await;
        let session = client.post(None, INITIALIZE).await.session();
        client.ask("GET", "/mcp", &[("Mcp-Session-Id", &session)], "").await;
        client.write(surplus).await;
        assert_eq!(client.head().await.unwrap().status, 200);
        // Long enough to be looked at, and to be left alone.
        tokio::time::sleep(Duration::from_millis(600)).await;
        pod.send(&session, "data: still here\n\n");
        assert_eq!(client.chunk().await.unwrap().as_deref(), Some("data: still here\n\n"));
        assert_eq!(pod.state.left.load(Relaxed), left);
        // The first byte is in the proxy; this one nobody reads.
        client.write("x").await;
        drop(client);
        until("the server feels it", || pod.state.left.load(Relaxed) == left + 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_ends_its_bytes_after_two_requests_gets_both_responses() {
    let address = raw_server(|mut stream| async move {
        loop {
            if read_head(&mut stream).await.is_empty() {
                return;
            }
            // Longer than the proxy takes between two looks at its clients.
            tokio::time::sleep(Duration::from_millis(500)).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        }
    })
    .await;
    let proxy = Replica::default().start(&[format!("http://{address}")]).await;
    let mut client = Client::connect(proxy.address).await;
    let request = "GET /x HTTP/1.1\r\nHost: example.test\r\n\r\n";
    client.write(&format!("{request}{request}\r\n")).await;
    client.stream.shutdown().await.unwrap();
    for _ in 0..2 {
        let reply = client.reply().await.unwrap();
        assert_eq!((reply.status, reply.body.as_str()), (200, "ok"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_is_spoken_to_clients_and_to_servers() {
    use http_body_util::{BodyExt, Full};
    use hyper::client::conn::http2;
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
                let text = format!("{host} {:?}", request.version());
                Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(bytes::Bytes::from(text))))
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    let proxy = Replica::default().start(&[format!("h2c://{address}")]).await;
    let stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let (mut sender, connection) =
        http2::handshake::<_, _, Full<bytes::Bytes>>(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..3 {
        let request = http::Request::post("http://example.test/mcp").body(Full::from("{}")).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "example.test HTTP/2.0");
    }
    let mut client = Client::connect(proxy.address).await;
    assert_eq!(client.post(None, "{}").await.body, "example.test HTTP/2.0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_idle_from_its_own_beginning_on() {
    let pod = Pod::start("a").await;
    let mut replica = Replica::default();
    replica.settings.limits = Limits { idle_timeout: Duration::from_secs(2), ..Limits::default() };
    let proxy = replica.start(&[pod.url()]).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let mut client = Client::connect(proxy.address).await;
    // A look at all connections comes before its first byte.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(client.post(None, INITIALIZE).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_of_http2_are_limited_too() {
    use http_body_util::Empty;
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let pod = Pod::start("a").await;
    let proxy = proxy(&[&pod]).await;
    let stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, Empty<bytes::Bytes>>(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    for (length, status) in [(Limits::default().head, 431), (10, 404)] {
        let request = http::Request::get("http://example.test/mcp").header("mcp-session-id", "x".repeat(length));
        let response = sender.send_request(request.body(Empty::new()).unwrap()).await.unwrap();
        assert_eq!(response.status(), status);
    }
    assert_eq!(pod.seen().len(), 0);
}
