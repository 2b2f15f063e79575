//! The life of `berth serve`: what runs, for how long, and how it ends.
//!
//! Every part is supervised: one that ends unasked ends the process, loudly, since a webhook that runs without its cache
//! or its certificates looks healthy and is not.

mod signals;
mod webhook;

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

pub use self::webhook::WebhookOptions;

use self::signals::Signals;
use self::webhook::Webhook;
use crate::cluster::Cluster;
use crate::controller::{self, Controller};
use crate::metrics::Metrics;
use crate::policy::{CrKind, RedisStorage};
use crate::webhook::{Admin, Readiness};

/// What the process is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Serve the webhook.
    pub webhook: Option<WebhookOptions>,
    /// Run the controller.
    pub controller: Option<controller::Options>,
    /// Where probes and metrics are.
    pub admin: SocketAddr,
    /// Stands in for the session storage of custom resources that name none.
    pub default_storage: Option<RedisStorage>,
    /// How long to go on serving after a signal, so that those who send reviews notice.
    pub lame_duck: Duration,
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
    // One thread for the cluster, the controller, the certificates and the signals; reviews and probes have their own.
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
    let bound = options.webhook.as_ref().map(|webhook| Webhook::bind(webhook, &metrics)).transpose()?;
    let cluster = Cluster::infer(options.default_storage.clone(), Arc::clone(&metrics))
        .await
        .map_err(|error| no_cluster(&error))?;
    let admin = Admin::bind(options.admin)
        .map_err(|error| in_use(options.admin, &error, "choose another address with --admin"))?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        webhook = %bound.as_ref().map_or_else(|| "off".to_owned(), |bound| format!("https://{}", bound.address())),
        controller = if options.controller.is_some() { "on" } else { "off" },
        admin = %format_args!("http://{}", admin.address()),
        "berth serves"
    );

    let readiness = Readiness::default();
    let mut tasks = JoinSet::new();
    let ending = watch::Sender::new(false);
    // Before the watches, which keep only what somebody needs.
    let mut controller = options
        .controller
        .as_ref()
        .map(|options| Controller::new(cluster.clone(), options.clone(), Arc::clone(&metrics)))
        .transpose()
        .map_err(|error| no_cluster(&error))?;
    let synced = watch_resources(&cluster, &readiness, &mut tasks);
    let mut controller = controller.take().map(|controller| run_controller(controller, &readiness, synced, &ending));
    let mut webhook = match bound {
        Some(bound) => Some(bound.start(options.default_storage.clone(), cluster, &metrics, &readiness, &mut tasks)?),
        None => None,
    };
    let mut admin = admin.start(readiness.clone(), metrics).map_err(|error| ServeError::new("cannot serve", error))?;

    tokio::select! {
        signal = signals.next() => tracing::info!(signal, "ending: not ready from now on"),
        ended = Webhook::ended(&mut webhook) => return Err(ended_unasked("the webhook", ended)),
        ended = admin.ended() => return Err(ended_unasked("the admin port", ended)),
        ended = ended(&mut controller) => return Err(broken("the controller", ended.map(|()| "unasked"))),
        Some(ended) = tasks.join_next() => return Err(broken("a part of the process", ended)),
    }
    readiness.drain();
    // Another replica may lead from now on.
    ending.send_replace(true);
    let drain = async {
        let webhook = async {
            if let Some(webhook) = &mut webhook {
                sleep(options.lame_duck).await;
                webhook.stop().await;
            }
        };
        let controller = async {
            if let Some(controller) = controller {
                // It bounds its end itself.
                let _ = controller.await;
            }
        };
        tokio::join!(webhook, controller);
        admin.stop().await;
    };
    until(drain, &mut signals).await?;
    tracing::info!("ended");
    Ok(())
}

/// Keeps the cache of custom resources. Gives what is told when it is complete.
fn watch_resources(
    cluster: &Cluster,
    readiness: &Readiness,
    tasks: &mut JoinSet<&'static str>,
) -> watch::Receiver<usize> {
    let synced = watch::Sender::new(0);
    for (kind, what) in
        [(CrKind::McpServer, "the cache of MCPServers"), (CrKind::VirtualMcpServer, "the cache of VirtualMCPServers")]
    {
        let (watch, pending, synced) = (cluster.watch(kind), readiness.wait_for(what), synced.clone());
        tasks.spawn(async move {
            watch
                .run(|| {
                    pending.done();
                    synced.send_modify(|kinds| *kinds += 1);
                })
                .await;
            what
        });
    }
    synced.subscribe()
}

fn run_controller(
    controller: Controller,
    readiness: &Readiness,
    mut resources: watch::Receiver<usize>,
    ending: &watch::Sender<bool>,
) -> JoinHandle<()> {
    let pending = readiness.wait_for("the caches of what the controller builds");
    let mut ending = ending.subscribe();
    tokio::spawn(async move {
        let resources_synced = async {
            // Its sender lives as long as the watches, which run for ever.
            let _ = resources.wait_for(|kinds| *kinds == CrKind::ALL.len()).await;
        };
        let end = async {
            let _ = ending.wait_for(|ending| *ending).await;
        };
        controller.run(resources_synced, || pending.done(), end).await;
    })
}

/// The end of a part that may not run.
async fn ended(part: &mut Option<JoinHandle<()>>) -> Result<(), tokio::task::JoinError> {
    match part {
        Some(part) => part.await,
        None => std::future::pending().await,
    }
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

fn broken(part: &str, ended: Result<&'static str, tokio::task::JoinError>) -> ServeError {
    match ended {
        Ok(what) => ServeError::new(&format!("{part} ended"), what),
        Err(error) => ServeError::new(&format!("{part} broke"), error),
    }
}

fn in_use(address: SocketAddr, error: &io::Error, advice: &'static str) -> ServeError {
    ServeError::new(&format!("cannot listen on {address}"), error).help(advice)
}

fn no_cluster(error: &impl Display) -> ServeError {
    ServeError::new("no cluster", error).help(CLUSTER_HELP)
}

const CLUSTER_HELP: &str = "set KUBECONFIG to a file that names a cluster, or run in a pod with a service account";
