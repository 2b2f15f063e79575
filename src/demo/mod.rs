//! `berth demo`: the webhook at work, without a cluster.
//!
//! The webhook is the real one, TLS and HTTP/2 included. The cluster behind it is made of the manifests in `examples/`.

mod client;
mod review;
mod screen;
mod server;
mod tour;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustls::pki_types::CertificateDer;
use tokio::signal::unix::{SignalKind, signal};

use client::Client;
use screen::Screen;
use server::Webhook;
use tour::Tour;

/// How the demo goes.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where the webhook listens.
    pub listen: SocketAddr,
    /// End after the tour.
    pub once: bool,
    /// Whether the output may carry colours.
    pub colour: bool,
}

/// Why a demo ended early.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The webhook cannot start, or does not answer.
    #[error("the demo's webhook failed: {0}")]
    Webhook(io::Error),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Reviews of the measurement at the end, and the longest that it may take.
const BURST: usize = 2000;
const BURST_TIME: Duration = Duration::from_secs(2);
/// Questions under way at the same time.
const CONCURRENCY: usize = 4;

/// Runs the demo.
///
/// # Errors
/// When the webhook cannot start, does not answer, or the output cannot be written.
pub fn run(options: Options, out: &mut dyn Write) -> Result<(), DemoError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DemoError::Webhook)?;
    runtime.block_on(show(options, out))
}

async fn show(options: Options, out: &mut dyn Write) -> Result<(), DemoError> {
    // From here on a signal ends the demo in order, whenever it comes.
    let listen = |kind| signal(kind).map_err(DemoError::Webhook);
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let tour = Tour::load().map_err(DemoError::Webhook)?;
    let mut webhook = Webhook::start(options.listen, tour.cluster()).map_err(DemoError::Webhook)?;
    let mut screen = Screen::new(out, options.colour);
    let told = tell(&mut screen, &tour, webhook.address, webhook.ca.clone(), options.once);
    let ended = tokio::select! {
        told = told => told,
        ended = webhook.ended() => {
            Err(DemoError::Webhook(ended.err().unwrap_or_else(|| io::Error::other("it ended unasked"))))
        }
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    webhook.stop().await;
    ended
}

async fn tell(
    screen: &mut Screen<'_>,
    tour: &Tour,
    address: SocketAddr,
    ca: CertificateDer<'static>,
    once: bool,
) -> Result<(), DemoError> {
    screen.opening(address)?;
    let client = Client::connect(address, ca).await.map_err(DemoError::Webhook)?;
    let mut reviews = 0;
    for (number, step) in tour.steps().iter().enumerate() {
        reviews += step.take(number + 1, &client, screen).await?;
    }
    let latencies = burst(&client, tour.burst_body()).await.map_err(DemoError::Webhook)?;
    screen.figures(reviews, &latencies)?;
    if once {
        return Ok(());
    }
    screen.invitation(address, &tour.invitation())?;
    std::future::pending().await
}

/// Sends the same review many times over; how long each took, sorted.
async fn burst(client: &Client, body: Bytes) -> io::Result<Vec<Duration>> {
    let started = Instant::now();
    let one = |client: Client, body: Bytes| async move {
        let mut latencies = Vec::new();
        while latencies.len() < BURST / CONCURRENCY && started.elapsed() < BURST_TIME {
            latencies.push(client.post("/mutate", body.clone()).await?.1);
        }
        io::Result::Ok(latencies)
    };
    let all = futures::future::try_join_all((0..CONCURRENCY).map(|_| one(client.clone(), body.clone()))).await?;
    let mut latencies: Vec<_> = all.into_iter().flatten().collect();
    latencies.sort();
    Ok(latencies)
}
