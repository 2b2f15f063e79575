//! The listener of the webhook.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_server::{Server as ActixServer, ServerHandle};
use actix_service::fn_factory;
use actix_web::rt::net::TcpStream;
use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

use super::connection;
use super::readiness::Readiness;
use super::reviewer::Reviewer;
use super::routes;

/// Threads that answer reviews. A review takes tens of microseconds, so two are plenty; a second one is there so that a
/// large object does not hold up others.
const WORKERS: usize = 2;

/// Connections that each worker holds at a time, those in their handshake included.
const MAX_CONNECTIONS: usize = 8192;

/// A webhook that is bound to its address and accepts nothing yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

/// A webhook that answers.
#[derive(Debug)]
pub struct RunningServer {
    handle: ServerHandle,
    task: tokio::task::JoinHandle<io::Result<()>>,
}

impl Server {
    /// Takes the address; port 0 takes any free port.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address that was taken.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to answer, on threads of its own. Needs a tokio runtime to be called in.
    ///
    /// While `readiness` drains, clients of HTTP/1.1 are told with each answer to connect elsewhere. After
    /// [`RunningServer::stop`], requests under way get `drain` to end.
    ///
    /// # Errors
    /// When the listener cannot be used.
    pub fn start(
        self,
        tls: Arc<ServerConfig>,
        reviewer: Arc<Reviewer>,
        readiness: Readiness,
        drain: Duration,
    ) -> io::Result<RunningServer> {
        let acceptor = TlsAcceptor::from(tls);
        let routes = routes::Service { reviewer, readiness };
        let builder = ActixServer::build()
            .workers(WORKERS)
            .max_concurrent_connections(MAX_CONNECTIONS)
            .shutdown_timeout(drain.as_secs().max(1))
            .disable_signals();
        let draining = builder.graceful_shutdown_signal();
        let builder = builder.listen("webhook", self.listener, move || {
            let (acceptor, routes, draining) = (acceptor.clone(), routes.clone(), draining.clone());
            fn_factory::<_, (), _, TcpStream, _, ()>(move || {
                connection::service(acceptor.clone(), routes.clone(), draining.clone())
            })
        })?;
        let server = builder.run();
        let handle = server.handle();
        Ok(RunningServer { handle, task: tokio::spawn(server) })
    }
}

impl RunningServer {
    /// Accepts no more connections, tells clients to go, ends when the requests under way have ended.
    pub fn stop(&self) -> impl Future<Output = ()> + use<> {
        self.handle.stop(true)
    }

    /// Ends when the server does.
    ///
    /// # Errors
    /// When it did not end because of [`RunningServer::stop`].
    pub async fn ended(&mut self) -> io::Result<()> {
        (&mut self.task).await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}
