//! Connections go to servers that are ready, and stay where they are.

#![expect(clippy::expect_used, reason = "clippy.toml lets functions marked as tests assert, not their helpers")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use berth_test_cluster::{Balancer, wait_for};

/// Echoes `NAME: line` for each line, and answers `/readyz` as `ready` says.
fn server(name: &'static str, ready: &Arc<AtomicBool>) -> (SocketAddr, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let admin = TcpListener::bind("127.0.0.1:0").expect("bind");
    let addresses = (listener.local_addr().expect("address"), admin.local_addr().expect("address"));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                for line in BufReader::new(&stream).lines().map_while(Result::ok) {
                    writeln!(&stream, "{name}: {line}").expect("answer");
                }
            });
        }
    });
    let ready = Arc::clone(ready);
    thread::spawn(move || {
        for mut stream in admin.incoming().flatten() {
            let status = if ready.load(Ordering::Relaxed) { "200 OK" } else { "503 Service Unavailable" };
            let _ = stream.read(&mut [0; 1024]);
            let _ = write!(stream, "HTTP/1.0 {status}\r\n\r\n");
        }
    });
    addresses
}

/// Who answers a line on this connection; nobody when it is closed.
fn ask(stream: &TcpStream) -> Option<String> {
    let mut stream = stream;
    writeln!(stream, "hello").ok()?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).ok()?;
    answer.split_once(':').map(|(name, _)| name.to_owned())
}

#[test]
fn new_connections_go_where_it_is_ready_and_old_ones_stay() {
    let (first_ready, second_ready) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
    let servers = [server("first", &first_ready), server("second", &second_ready)];
    let balancer = Balancer::start(&servers).expect("start");
    let connect = || TcpStream::connect(balancer.address()).expect("connect");

    let (old, other) = (connect(), connect());
    assert_eq!(ask(&old).as_deref(), Some("first"));
    assert_eq!(ask(&other).as_deref(), Some("second"));
    assert_eq!(balancer.connections(), [1, 1]);

    first_ready.store(false, Ordering::Relaxed);
    let answers_of_three = || Ok([connect(), connect(), connect()].map(|stream| ask(&stream)));
    wait_for("three connections to the server that is ready", Duration::from_secs(10), || {
        answers_of_three().map(|all| all.iter().all(|name| name.as_deref() == Some("second")).then_some(()))
    })
    .expect("balanced");
    assert_eq!(ask(&old).as_deref(), Some("first"), "a connection is not moved");

    second_ready.store(false, Ordering::Relaxed);
    wait_for("no server for a connection", Duration::from_secs(10), || {
        answers_of_three().map(|all| all.iter().all(Option::is_none).then_some(()))
    })
    .expect("closed");
    drop(balancer);
    assert_eq!(ask(&old), None);
}
