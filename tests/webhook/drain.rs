//! The end of the process loses no review.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::client::{BOUND, Client, Connection, Protocol, read_answer};
use crate::fake_api::FakeApi;
use crate::fixture::{ANY_PORT, Tls, review_bytes};
use crate::process::{Berth, is_ready};

/// A TCP balancer that sends new connections to ready backends, and looks at each every 200 ms.
async fn balancer(backends: Vec<(SocketAddr, SocketAddr)>) -> SocketAddr {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let address = listener.local_addr().unwrap();
    let ready: Arc<Vec<AtomicBool>> = Arc::new(backends.iter().map(|_| AtomicBool::new(true)).collect());
    for (number, (_, admin)) in backends.iter().copied().enumerate() {
        let ready = Arc::clone(&ready);
        tokio::spawn(async move {
            loop {
                ready[number].store(is_ready(admin).await, Ordering::Relaxed);
                sleep(Duration::from_millis(200)).await;
            }
        });
    }
    tokio::spawn(async move {
        for turn in 0.. {
            let (mut client, _) = listener.accept().await.unwrap();
            let order = (0..backends.len()).map(|offset| (turn + offset) % backends.len());
            let Some(number) = order.into_iter().find(|number| ready[*number].load(Ordering::Relaxed)) else {
                continue;
            };
            let backend = backends[number].0;
            tokio::spawn(async move {
                let mut server = TcpStream::connect(backend).await?;
                client.set_nodelay(true)?;
                server.set_nodelay(true)?;
                copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    address
}

/// A client as the API server is one: keeps its connection, and opens another where it was told to.
async fn reviews(client: Client, protocol: Protocol, stop: Arc<AtomicBool>, answered: Arc<AtomicUsize>) {
    let mut open: Option<Connection> = None;
    while !stop.load(Ordering::Relaxed) {
        let mut connection = match open.take() {
            Some(connection) => connection,
            None => client.connect(protocol).await.unwrap(),
        };
        if let Connection::Http2 { sender, .. } = &connection
            && sender.clone().ready().await.is_err()
        {
            // Told to go away before anything was asked.
            continue;
        }
        let answer = connection.request("POST", "/mutate?timeout=5s", &review_bytes()).await.unwrap();
        assert_eq!(answer.status, 200);
        answered.fetch_add(1, Ordering::Relaxed);
        if answer.header("connection") != Some("close") {
            open = Some(connection);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_one_of_two_ends() {
    let (tls, api) = (Tls::new(), FakeApi::start().await);
    let mut one = Berth::start(&tls, &api, &["--lame-duck", "3s"]).await;
    let other = Berth::start(&tls, &api, &[]).await;
    let address = balancer(vec![(one.webhook, one.admin), (other.webhook, other.admin)]).await;
    let client = Client::new(tls.authority.pem(), address);
    let (stop, answered, mut clients) = (Arc::default(), Arc::default(), JoinSet::new());
    for protocol in [Protocol::Http1, Protocol::Http1, Protocol::Http2, Protocol::Http2] {
        clients.spawn(reviews(client.clone(), protocol, Arc::clone(&stop), Arc::clone(&answered)));
    }
    let until = async |count: usize| {
        let start = Instant::now();
        while answered.load(Ordering::Relaxed) < count {
            assert!(start.elapsed() < Duration::from_secs(20), "{} of {count}", answered.load(Ordering::Relaxed));
            sleep(Duration::from_millis(10)).await;
        }
    };
    until(200).await;
    one.process.signal("TERM").unwrap();
    let start = Instant::now();
    let status = one.end().await;
    assert!(status.success(), "{status}: {}", one.process.log_tail());
    assert!(start.elapsed() >= Duration::from_secs(3), "no lame-duck pause");
    let all = answered.load(Ordering::Relaxed);
    until(all + 100).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.expect("no request failed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_under_way_is_answered_before_the_end() {
    let (tls, api) = (Tls::new(), FakeApi::start().await);
    let mut berth = Berth::start(&tls, &api, &["--lame-duck", "0s"]).await;
    let body = review_bytes();
    let mut stream = BufReader::new(berth.client(&tls).tls(&[b"http/1.1"]).await.unwrap());
    let head =
        format!("POST /mutate?timeout=20s HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body[..10]).await.unwrap();
    stream.flush().await.unwrap();
    let mut other = berth.client(&tls).connect(Protocol::Http2).await.unwrap();
    assert_eq!(other.request("POST", "/mutate", &body).await.unwrap().status, 200);
    berth.process.signal("TERM").unwrap();
    // Nobody is accepted any more; the request that has begun goes on.
    let start = Instant::now();
    while TcpStream::connect(berth.webhook).await.is_ok() {
        assert!(start.elapsed() < BOUND, "{}", berth.process.log_tail());
        sleep(Duration::from_millis(20)).await;
    }
    stream.write_all(&body[10..]).await.unwrap();
    stream.flush().await.unwrap();
    let answer = timeout(BOUND, read_answer(&mut stream)).await.expect("an answer in time").unwrap();
    assert_eq!(answer.status, 200);
    // The other connection was told to go, and closed.
    let Connection::Http2 { sender, .. } = other else { unreachable!() };
    assert!(timeout(BOUND, sender.ready()).await.unwrap().is_err());
    assert!(berth.end().await.success(), "{}", berth.process.log_tail());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (tls, api) = (Tls::new(), FakeApi::start().await);
    let mut berth = Berth::start(&tls, &api, &["--lame-duck", "1h"]).await;
    berth.process.signal("TERM").unwrap();
    let start = Instant::now();
    while is_ready(berth.admin).await {
        assert!(start.elapsed() < BOUND, "{}", berth.process.log_tail());
        sleep(Duration::from_millis(20)).await;
    }
    let status = berth.process.stop(BOUND).unwrap();
    assert!(!status.success(), "{status}");
}
