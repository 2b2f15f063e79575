//! The webhook as a part of the process.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{ServeError, in_use};
use crate::admission::Settings;
use crate::cluster::{Cluster, Lookup};
use crate::metrics::Metrics;
use crate::policy::RedisStorage;
use crate::webhook::{Certificates, Readiness, Reviewer, RunningServer, Server, server_config};

/// How the webhook is served.
#[derive(Clone, Debug)]
pub struct WebhookOptions {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The directory of `tls.crt` and `tls.key`.
    pub tls_dir: PathBuf,
    /// How long requests under way may take to end.
    pub drain_timeout: Duration,
}

/// The port is taken, the certificates are there.
pub(super) struct Bound {
    server: Server,
    certificates: Arc<Certificates>,
    tls: Arc<ServerConfig>,
    drain_timeout: Duration,
}

/// It serves.
pub(super) struct Webhook {
    server: RunningServer,
    drain_timeout: Duration,
}

impl Webhook {
    pub(super) fn bind(options: &WebhookOptions, metrics: &Arc<Metrics>) -> Result<Bound, ServeError> {
        let certificates = Certificates::load(&options.tls_dir, Arc::clone(metrics))
            .map(Arc::new)
            .map_err(|error| ServeError::new("no certificate to serve", error).help(CERTIFICATE_HELP))?;
        let tls = server_config(Arc::clone(&certificates) as _).map_err(|error| ServeError::new("no TLS", error))?;
        let server = Server::bind(options.listen)
            .map_err(|error| in_use(options.listen, &error, "choose another address with --listen"))?;
        Ok(Bound { server, certificates, tls, drain_timeout: options.drain_timeout })
    }

    /// The end of a webhook that may not be served at all.
    pub(super) async fn ended(webhook: &mut Option<Self>) -> io::Result<()> {
        match webhook {
            Some(webhook) => webhook.server.ended().await,
            None => std::future::pending().await,
        }
    }

    pub(super) async fn stop(&mut self) {
        tracing::info!("accepting no more connections");
        // The server bounds this itself; the rest is for its own steps.
        let _ = timeout(self.drain_timeout + Duration::from_secs(3), self.server.stop()).await;
    }
}

impl Bound {
    pub(super) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    pub(super) fn start(
        self,
        default_storage: Option<RedisStorage>,
        cluster: Cluster,
        metrics: &Arc<Metrics>,
        readiness: &Readiness,
        tasks: &mut JoinSet<&'static str>,
    ) -> Result<Webhook, ServeError> {
        let Self { server, certificates, tls, drain_timeout } = self;
        tasks.spawn(async move {
            certificates.follow().await;
            "the certificate files"
        });
        let reviewer =
            Arc::new(Reviewer::new(Settings { default_storage }, Lookup::Cluster(cluster), Arc::clone(metrics)));
        let bound = readiness.wait_for("the listener");
        let server = server
            .start(tls, reviewer, readiness.clone(), drain_timeout)
            .map_err(|error| ServeError::new("cannot serve", error))?;
        bound.done();
        Ok(Webhook { server, drain_timeout })
    }
}

const CERTIFICATE_HELP: &str =
    "make one for development with `berth certs DIR`, and name its directory with --tls-dir DIR";
