//! A balancer that sends each request to the next server, whatever connection it came by: the hardest one for sessions.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use berth_test_cluster::{Error, Result};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, client};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// A running balancer. Dropping it closes all connections.
#[derive(Debug)]
pub struct RoundRobin {
    address: SocketAddr,
    // Its tasks end with it.
    _runtime: Runtime,
}

struct Servers {
    addresses: Vec<SocketAddr>,
    next: AtomicUsize,
}

impl RoundRobin {
    /// Starts one on a port of loopback, before these servers.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(addresses: Vec<SocketAddr>) -> Result<Self> {
        let failed = |cause: io::Error| Error::new(format!("cannot start a balancer: {cause}"));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        runtime.spawn(serve(listener, Arc::new(Servers { addresses, next: AtomicUsize::new(0) })));
        Ok(Self { address, _runtime: runtime })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn serve(listener: TcpListener, servers: Arc<Servers>) {
    while let Ok((stream, _)) = listener.accept().await {
        let servers = Arc::clone(&servers);
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let service = service_fn(move |request| answer(Arc::clone(&servers), request));
            let _ = Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type Body = BoxBody<Bytes, hyper::Error>;

async fn answer(servers: Arc<Servers>, request: Request<Incoming>) -> std::result::Result<Response<Body>, Infallible> {
    let next = servers.next.fetch_add(1, Ordering::Relaxed) % servers.addresses.len();
    let response = match forward(servers.addresses[next], request).await {
        Ok(response) => response.map(BodyExt::boxed),
        Err(_) => {
            let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    };
    Ok(response)
}

/// Passes the request on as it is, on a connection of its own.
async fn forward(
    server: SocketAddr,
    request: Request<Incoming>,
) -> std::result::Result<Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the response's body, or when the client has left and the body is dropped.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}
