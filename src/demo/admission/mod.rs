//! The first part of the demo: what the webhook answers to an API server.

mod client;
mod review;
mod server;
mod tour;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustls::pki_types::CertificateDer;
use serde_json::Value;

use super::DemoError;
use super::screen::Screen;
use client::Client;
pub(super) use server::Webhook;
use tour::Tour;

/// Reviews of the measurement at the end, and the longest that it may take.
const BURST: usize = 2000;
const BURST_TIME: Duration = Duration::from_secs(2);
/// Questions under way at the same time.
const CONCURRENCY: usize = 4;

/// What the webhook is asked, and where it is.
pub(super) struct Admission {
    tour: Tour,
    address: SocketAddr,
    ca: CertificateDer<'static>,
}

impl Admission {
    /// Starts the webhook.
    pub(super) fn start(listen: SocketAddr) -> io::Result<(Self, Webhook)> {
        let tour = Tour::load()?;
        let webhook = Webhook::start(listen, tour.cluster())?;
        Ok((Self { tour, address: webhook.address, ca: webhook.ca.clone() }, webhook))
    }

    /// Shows every step. The number of the last one.
    pub(super) async fn tell(&self, screen: &mut Screen<'_>) -> Result<usize, DemoError> {
        screen.admission_opening(self.address)?;
        let client = Client::connect(self.address, self.ca.clone()).await.map_err(DemoError::Webhook)?;
        let steps = self.tour.steps();
        let mut reviews = 0;
        for (number, step) in steps.iter().enumerate() {
            reviews += step.take(number + 1, &client, screen).await?;
        }
        let latencies = burst(&client, self.tour.burst_body()).await.map_err(DemoError::Webhook)?;
        screen.figures(reviews, &latencies)?;
        Ok(steps.len())
    }

    /// Where the webhook listens, and a review for a reader to send.
    pub(super) fn invitation(&self) -> (SocketAddr, Value) {
        (self.address, self.tour.invitation())
    }
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
