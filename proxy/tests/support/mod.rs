//! Small servers and a plain client, for the tests of a whole replica.
#![allow(
    missing_docs,
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test file has it as a module, and uses its part"
)]

mod client;
pub mod dns;
mod pod;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use berth_proxy::drain::Pauses;
use berth_proxy::pods::{Backend, Naming, Pods};
use berth_proxy::proxy::{Proxy, ProxySettings};
use berth_proxy::route::Names;
use berth_proxy::session::{Identity, SessionSettings, Sessions};
use berth_proxy::worker::Limits;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

pub use client::{CALL, Client, INITIALIZE, Reply};
pub use pod::{Pod, PodState, Seen};

/// More than anything here takes, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a condition.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never came true: {what}"));
}

/// How a replica differs from the usual one.
pub struct Replica {
    pub settings: ProxySettings,
    pub ttl: Duration,
    pub max_sessions: usize,
}

impl Default for Replica {
    fn default() -> Self {
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        Self {
            settings: ProxySettings {
                listen: any,
                admin: Some(any),
                threads: 1,
                limits: Limits::default(),
                names: Names::default(),
                pauses: Pauses { lame_duck: Duration::ZERO, drain: Duration::from_millis(300) },
            },
            ttl: Duration::from_secs(60),
            max_sessions: 1_000,
        }
    }
}

impl Replica {
    /// Starts it before these backends, with sessions in memory.
    pub async fn start(self, backends: &[String]) -> Proxy {
        let backends = backends.iter().map(|url| Backend::parse(url).unwrap()).collect();
        let naming = Naming::Fixed(backends);
        let sessions = Sessions::in_memory(SessionSettings {
            identity: Identity { namespace: "-".into(), name: "test".into() },
            naming: naming.clone(),
            ttl: self.ttl,
            cache_size: 1_000,
            max_sessions: self.max_sessions,
        });
        self.start_with(sessions, Pods::new(naming, None).unwrap()).await
    }

    /// Starts it with these sessions and pods, and waits until it is ready.
    pub async fn start_with(self, sessions: Arc<Sessions>, pods: Pods) -> Proxy {
        let proxy = Proxy::start(self.settings, sessions, Arc::new(pods)).await.unwrap();
        let admin = proxy.admin.unwrap();
        let ready = async {
            while Client::connect(admin).await.get("/readyz", &[]).await.status != 200 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.expect("the replica never became ready");
        proxy
    }
}

/// Starts the usual replica.
pub async fn proxy(pods: &[&Pod]) -> Proxy {
    Replica::default().start(&pods.iter().map(|pod| pod.url()).collect::<Vec<_>>()).await
}

/// A server that does what it is told with each connection.
pub async fn raw_server<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Reads a request's head from a connection.
pub async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
            break;
        }
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}
