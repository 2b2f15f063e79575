//! Where a message ends: what the two sides must not read differently.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests assert, too")]

mod support;

use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::Duration;
use support::{Client, Pod, Replica, proxy, raw_server, read_head};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_of_two_meanings_are_refused() {
    let pod = Pod::start("a").await;
    let proxy = proxy(&[&pod]).await;
    for (text, status) in [
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: h\r\nMcp-Session-Id: a\r\nMcp-Session-Id: b\r\nContent-Length: 0\r\n\r\n", 400),
        ("GET http://a:1@b/ HTTP/1.1\r\nHost: b\r\n\r\n", 400),
        ("CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n", 405),
    ] {
        let mut client = Client::connect(proxy.address).await;
        client.write(text).await;
        assert_eq!(client.reply().await.unwrap().status, status, "{text:?}");
    }
    assert_eq!(pod.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_chunking_in_the_middle_of_a_body_is_a_400() {
    let pod = Pod::start("a").await;
    let proxy = proxy(&[&pod]).await;
    let mut client = Client::connect(proxy.address).await;
    client.write("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n").await;
    assert_eq!(client.reply().await.unwrap().status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_length_beside_chunking_is_refused_in_pipelined_requests_too() {
    let clean = "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    let unclear =
        "POST /y HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n1\r\ny\r\n0\r\n\r\n";
    let (told, tell) = tokio::sync::watch::channel(false);
    let address = raw_server(move |mut stream| {
        let mut tell = tell.clone();
        async move {
            let mut body = [0; 11];
            while !read_head(&mut stream).await.is_empty() {
                stream.read_exact(&mut body).await.unwrap();
                tell.wait_for(|told| *told).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            }
        }
    })
    .await;
    let proxy = Replica::default().start(&[format!("http://{address}")]).await;
    // In one piece with the first; and after it, while it is under way.
    for apart in [false, true] {
        told.send_replace(!apart);
        let mut client = Client::connect(proxy.address).await;
        client.write(&if apart { clean.to_owned() } else { format!("{clean}{unclear}") }).await;
        if apart {
            tokio::time::sleep(Duration::from_millis(100)).await;
            client.write(unclear).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            told.send_replace(true);
        }
        assert_eq!(client.reply().await.unwrap().status, 200, "apart: {apart}");
        assert_eq!(client.reply().await.unwrap().status, 400, "apart: {apart}");
    }
    // Pipelining itself is fine, also where the second head comes in two pieces, one of them while the first is served.
    let (start, rest) = clean.split_at(30);
    for (first, second) in [(format!("{clean}{clean}"), ""), (format!("{clean}{start}"), rest)] {
        let mut client = Client::connect(proxy.address).await;
        client.write(&first).await;
        assert_eq!(client.reply().await.unwrap().status, 200);
        client.write(second).await;
        assert_eq!(client.reply().await.unwrap().status, 200, "{second:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunking_is_fine_whatever_form_the_target_has() {
    let pod = Pod::start("a").await;
    let proxy = proxy(&[&pod]).await;
    for target in ["/x", "/x#part", "http://example.test", "http://example.test/x"] {
        let mut client = Client::connect(proxy.address).await;
        let head = format!("POST {target} HTTP/1.1\r\nHost: example.test\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.write(&format!("{head}1\r\nx\r\n0\r\n\r\n")).await;
        assert_eq!(client.reply().await.unwrap().status, 200, "{target}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_body_of_a_get_passes_whether_or_not_its_length_is_known() {
    let pod = Pod::start("a").await;
    let proxy = proxy(&[&pod]).await;
    let mut client = Client::connect(proxy.address).await;
    assert_eq!(client.request("GET", "/x", &[], "hello").await.status, 200);
    client.write("GET /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    // In pieces, so that not all of it is there when the head is passed on.
    for piece in ["3\r\nhel\r\n", "2\r\nlo\r\n", "0\r\n\r\n"] {
        tokio::time::sleep(Duration::from_millis(20)).await;
        client.write(piece).await;
    }
    assert_eq!(client.reply().await.unwrap().status, 200);
    let stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (send, receive) = tokio::sync::mpsc::channel(1);
    send.send("hello").await.unwrap();
    drop(send);
    let request = http::Request::get("http://example.test/x").body(StreamBody::new(Pieces(receive))).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body().collect().await.unwrap();
    let bodies: Vec<_> = pod.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, ["hello"; 3]);
}

/// A body of unknown length.
struct Pieces(tokio::sync::mpsc::Receiver<&'static str>);

impl futures_core::Stream for Pieces {
    type Item = Result<hyper::body::Frame<bytes::Bytes>, std::convert::Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(hyper::body::Frame::data(piece.into()))))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunking_wins_over_a_length_beside_it_in_a_response() {
    for length in [1, 50] {
        let address = raw_server(move |mut stream| async move {
            while !read_head(&mut stream).await.is_empty() {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(b"5\r\nhello\r\n0\r\n\r\n").await.unwrap();
            }
        })
        .await;
        let proxy = Replica::default().start(&[format!("http://{address}")]).await;
        let mut client = Client::connect(proxy.address).await;
        for _ in 0..2 {
            let reply = client.get("/x", &[]).await;
            assert_eq!((reply.status, reply.body.as_str()), (200, "hello"), "length: {length}");
            assert_eq!(reply.header("content-length"), None);
        }
    }
}
