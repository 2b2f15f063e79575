//! HTTP around the SDK.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::tools::Session;

/// Where the protocol is spoken.
const MCP: &str = "/mcp";
/// Where probes ask.
const READY: &str = "/readyz";

/// How long a session may be unused; as long as Berth keeps it.
const IDLE: Duration = Duration::from_secs(2 * 60 * 60);
/// How long requests may take to end once the server is told to.
const DRAIN: Duration = Duration::from_secs(5);
/// Before the next try to accept where one failed, usually because too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

type Sdk = StreamableHttpService<Session, LocalSessionManager>;
type Answer = Response<BoxBody<Bytes, Infallible>>;

/// A server that is bound and not yet serving.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    listener: TcpListener,
    name: Arc<str>,
}

impl Server {
    /// Binds a server that calls itself `name`.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(address: SocketAddr, name: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { address: listener.local_addr()?, listener, name: name.into() })
    }

    /// Serves until `end`, then ends all sessions with their streams and calls, and closes its connections. Dropped
    /// earlier, it is as if its process was killed.
    pub async fn serve(self, end: impl Future<Output = ()>) {
        let config = StreamableHttpServerConfig::default()
            // In a cluster it is called by names that it does not know. The check is for servers on somebody's desk.
            .disable_allowed_hosts();
        // However this ends, the sessions end with it.
        let sessions = config.cancellation_token.clone().drop_guard();
        let mut manager = LocalSessionManager::default();
        manager.session_config.keep_alive = Some(IDLE);
        let name = self.name;
        let sdk = Sdk::new(move || Ok(Session::new(Arc::clone(&name))), Arc::new(manager), config);

        let (ending, is_ending) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut end = pin!(end);
        loop {
            tokio::select! {
                () = &mut end => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(connection(stream, sdk.clone(), is_ending.clone()));
                    }
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
        drop(self.listener);
        let _ = ending.send(true);
        drop(sessions);
        let all = async { while connections.join_next().await.is_some() {} };
        // What is still there then is dropped.
        let _ = tokio::time::timeout(DRAIN, all).await;
    }
}

/// Serves one connection until it ends or the server does.
async fn connection(stream: TcpStream, sdk: Sdk, mut ending: watch::Receiver<bool>) {
    // Events are small, and each is awaited.
    let _ = stream.set_nodelay(true);
    let is_ending = ending.clone();
    let service = service_fn(move |request| {
        let (sdk, is_ending) = (sdk.clone(), *is_ending.borrow());
        async move { Ok::<_, Infallible>(answer(request, &sdk, is_ending).await) }
    });
    let mut serving =
        pin!(http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service));
    // What goes wrong on a connection is its client's to see.
    tokio::select! {
        _ = serving.as_mut() => {}
        () = ended(&mut ending) => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }
}

async fn ended(ending: &mut watch::Receiver<bool>) {
    // Without a sender the server has ended too.
    let _ = ending.wait_for(|ending| *ending).await;
}

async fn answer(request: Request<Incoming>, sdk: &Sdk, is_ending: bool) -> Answer {
    match request.uri().path() {
        MCP => sdk.handle(request).await,
        READY if is_ending => text(StatusCode::SERVICE_UNAVAILABLE, "ending\n"),
        READY => text(StatusCode::OK, "ok\n"),
        _ => text(StatusCode::NOT_FOUND, "MCP is spoken at /mcp\n"),
    }
}

fn text(status: StatusCode, body: &'static str) -> Answer {
    let mut response = Response::new(Full::from(body).boxed());
    *response.status_mut() = status;
    response
}
