//! The admin port: plain HTTP for probes and metrics, on a thread of its own, so that no load of reviews delays them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use actix_web::dev::ServerHandle;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::{App, HttpResponse, HttpServer, web};

use super::readiness::Readiness;
use crate::metrics::Metrics;

/// The text form that prometheus-client writes.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// An admin port that is bound to its address and answers nothing yet.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

/// An admin port that answers.
#[derive(Debug)]
pub struct RunningAdmin {
    handle: ServerHandle,
    task: tokio::task::JoinHandle<io::Result<()>>,
}

impl Admin {
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

    /// Begins to answer. Needs a tokio runtime to be called in.
    ///
    /// # Errors
    /// When the listener cannot be used.
    pub fn start(self, readiness: Readiness, metrics: Arc<Metrics>) -> io::Result<RunningAdmin> {
        let app = move || {
            App::new()
                .app_data(web::Data::new(readiness.clone()))
                .app_data(web::Data::from(Arc::clone(&metrics)))
                .route("/livez", web::get().to(livez))
                .route("/readyz", web::get().to(readyz))
                .route("/metrics", web::get().to(scrape))
        };
        let server = HttpServer::new(app).workers(1).shutdown_timeout(1).disable_signals().listen(self.listener)?.run();
        let handle = server.handle();
        Ok(RunningAdmin { handle, task: tokio::spawn(server) })
    }
}

impl RunningAdmin {
    /// Ends the port.
    pub async fn stop(&self) {
        self.handle.stop(false).await;
    }

    /// Ends when the port does.
    ///
    /// # Errors
    /// When it did not end because of [`RunningAdmin::stop`].
    pub async fn ended(&mut self) -> io::Result<()> {
        (&mut self.task).await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(readiness: web::Data<Readiness>) -> HttpResponse {
    match readiness.check() {
        Ok(()) => HttpResponse::Ok().body("ok\n"),
        Err(missing) => HttpResponse::ServiceUnavailable().body(missing + "\n"),
    }
}

async fn scrape(metrics: web::Data<Metrics>) -> HttpResponse {
    match metrics.text() {
        Ok(text) => HttpResponse::Ok().insert_header((CONTENT_TYPE, HeaderValue::from_static(OPENMETRICS))).body(text),
        Err(error) => HttpResponse::InternalServerError().body(format!("{error}\n")),
    }
}
