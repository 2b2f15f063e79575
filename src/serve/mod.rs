//! The life of `berth serve`: what runs, for how long, and how it ends.
//!
//! Every part is supervised: one that ends unasked ends the process, loudly, since a webhook that runs without its cache
//! or its certificates looks healthy and is not.

mod signals;

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::signals::Signals;
use crate::admission::Settings;
use crate::cluster::{Cluster, Lookup};
use crate::metrics::Metrics;
use crate::policy::{CrKind, RedisStorage};
use crate::webhook::{Admin, Certificates, Readiness, Reviewer, Server, server_config};

/// What the process is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the webhook listens.
    pub listen: SocketAddr,
    /// Where probes and metrics are.
    pub admin: SocketAddr,
    /// The directory of `tls.crt` and `tls.key`.
    pub tls_dir: PathBuf,
    /// Stands in for the session storage of custom resources that name none.
    pub default_storage: Option<RedisStorage>,
    /// How long to go on serving after a signal, so that those who send reviews notice.
    pub lame_duck: Duration,
    /// How long requests under way may take to end after that.
    pub drain_timeout: Duration,
}

/// Why the process cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ServeError {
    message: String,
    help: Option<&'static str>,
}

impl ServeError {
    fn new(what: &str, error: impl Display) -> Self {
        Self { message: format!("{what}: {error}"), help: None }
    }

    fn help(self, advice: &'static str) -> Self {
        Self { help: Some(advice), ..self }
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.help
    }
}

/// Serves until a signal ends it.
///
/// # Errors
/// When a part cannot start, or ends unasked.
pub fn run(options: &Options) -> Result<(), ServeError> {
    // One thread for the cluster, the certificates and the signals; reviews and probes have their own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ServeError::new("cannot start", error))?;
    let result = runtime.block_on(serve(options));
    // A name lookup that hangs must not hold up the end.
    runtime.shutdown_background();
    result
}

async fn serve(options: &Options) -> Result<(), ServeError> {
    let mut signals = Signals::new().map_err(|error| ServeError::new("cannot listen for signals", error))?;
    let metrics = Arc::new(Metrics::default());
    let certificates = Certificates::load(&options.tls_dir, Arc::clone(&metrics))
        .map(Arc::new)
        .map_err(|error| ServeError::new("no certificate to serve", error).help(CERTIFICATE_HELP))?;
    let tls = server_config(Arc::clone(&certificates) as _).map_err(|error| ServeError::new("no TLS", error))?;
    let cluster = Cluster::infer(options.default_storage.clone(), Arc::clone(&metrics))
        .await
        .map_err(|error| ServeError::new("no cluster", error).help(CLUSTER_HELP))?;
    let listener = Server::bind(options.listen).map_err(|error| in_use("--listen", options.listen, &error))?;
    let admin = Admin::bind(options.admin).map_err(|error| in_use("--admin", options.admin, &error))?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        webhook = %format_args!("https://{}", listener.address()),
        admin = %format_args!("http://{}", admin.address()),
        "berth serves"
    );

    let readiness = Readiness::default();
    let mut tasks = JoinSet::new();
    for (kind, what) in
        [(CrKind::McpServer, "the cache of MCPServers"), (CrKind::VirtualMcpServer, "the cache of VirtualMCPServers")]
    {
        let (watch, pending) = (cluster.watch(kind), readiness.wait_for(what));
        tasks.spawn(async move {
            watch.run(|| pending.done()).await;
            what
        });
    }
    tasks.spawn(async move {
        certificates.follow().await;
        "the certificate files"
    });
    let settings = Settings { default_storage: options.default_storage.clone() };
    let reviewer = Arc::new(Reviewer::new(settings, Lookup::Cluster(cluster), Arc::clone(&metrics)));
    let cannot_serve = |error: io::Error| ServeError::new("cannot serve", error);
    let bound = readiness.wait_for("the listener");
    let mut admin = admin.start(readiness.clone(), metrics).map_err(cannot_serve)?;
    let mut server = listener.start(tls, reviewer, readiness.clone(), options.drain_timeout).map_err(cannot_serve)?;
    bound.done();

    tokio::select! {
        signal = signals.next() => tracing::info!(signal, "ending: not ready from now on"),
        ended = server.ended() => return Err(ended_unasked("the webhook", ended)),
        ended = admin.ended() => return Err(ended_unasked("the admin port", ended)),
        Some(ended) = tasks.join_next() => return Err(ended.map_or_else(
            |error| ServeError::new("a part of the process broke", error),
            |what| ServeError::new("a part of the process ended", what),
        )),
    }
    readiness.drain();
    let drain = async {
        sleep(options.lame_duck).await;
        tracing::info!("accepting no more connections");
        // The server bounds this itself; the rest is for its own steps.
        let _ = timeout(options.drain_timeout + Duration::from_secs(3), server.stop()).await;
        admin.stop().await;
    };
    until(drain, &mut signals).await?;
    tracing::info!("ended");
    Ok(())
}

/// Goes through the end, unless a second signal cuts it short.
async fn until(drain: impl Future<Output = ()>, signals: &mut Signals) -> Result<(), ServeError> {
    tokio::select! {
        () = drain => Ok(()),
        signal = signals.next() => Err(ServeError::new("ended at once by a second signal", signal)),
    }
}

fn ended_unasked(what: &str, ended: io::Result<()>) -> ServeError {
    match ended {
        Ok(()) => ServeError::new(what, "it ended unasked"),
        Err(error) => ServeError::new(what, error),
    }
}

fn in_use(flag: &str, address: SocketAddr, error: &io::Error) -> ServeError {
    let failure = ServeError::new(&format!("cannot listen on {address}"), error);
    match flag {
        "--listen" => failure.help("choose another address with --listen"),
        _ => failure.help("choose another address with --admin"),
    }
}

const CERTIFICATE_HELP: &str =
    "make one for development with `berth certs DIR`, and name its directory with --tls-dir DIR";
const CLUSTER_HELP: &str = "set KUBECONFIG to a file that names a cluster, or run in a pod with a service account";
