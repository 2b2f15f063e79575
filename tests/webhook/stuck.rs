//! Clients that are slow or dead must not hold up others.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{BOUND, Protocol, read_answer};
use crate::fixture::{Fixture, review_bytes};

/// More than workers, and more than handshakes that a worker would do at a time.
const STUCK: usize = 300;

#[tokio::test]
async fn stuck_connections_do_not_hold_up_others() {
    let fixture = Fixture::start().await;
    let mut stuck = Vec::new();
    for _ in 0..STUCK {
        let mut socket = TcpStream::connect(fixture.address).await.unwrap();
        // The beginning of a TLS handshake.
        socket.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await.unwrap();
        stuck.push(socket);
    }
    let mut heads = Vec::new();
    for half in ["POST /mutate HT", "POST /mutate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"] {
        for _ in 0..10 {
            let mut stream = fixture.client.tls(&[b"http/1.1"]).await.unwrap();
            stream.write_all(half.as_bytes()).await.unwrap();
            heads.push(stream);
        }
    }
    for protocol in Protocol::BOTH {
        let started = Instant::now();
        let mut connection = fixture.client.connect(protocol).await.unwrap();
        for _ in 0..100 {
            let answer = connection.request("POST", "/mutate", &review_bytes()).await.unwrap();
            assert_eq!(answer.status, 200);
        }
        // Those that are stuck are ended after 5 s, and none of this waits for that.
        assert!(started.elapsed() < Duration::from_secs(4), "{protocol:?}: {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_ended() {
    let fixture = Fixture::start().await;
    let mut socket = TcpStream::connect(fixture.address).await.unwrap();
    let end = timeout(BOUND, socket.read(&mut [0; 64])).await.expect("an end in time");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up_at_the_reviews_deadline() {
    let fixture = Fixture::start().await;
    let mut stream = BufReader::new(fixture.client.tls(&[b"http/1.1"]).await.unwrap());
    let head = "POST /mutate?timeout=500ms HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let answer = timeout(BOUND, read_answer(&mut stream)).await.expect("an end in time").unwrap();
    assert_eq!(answer.status, 408);
    assert!(answer.text().contains("400 ms"), "{}", answer.text());
}
