//! The second part of the demo: sessions, kept on their servers through two replicas of the proxy.

mod client;
mod stage;
mod tour;

use std::io;
use std::net::SocketAddr;

use super::DemoError;
use super::screen::Screen;
use stage::Stage;
use tour::Tour;

pub(super) use client::{Answer, Leg, Seen};

/// Everything of the second part, still running.
pub(super) struct Sessions {
    stage: Stage,
}

impl Sessions {
    /// Starts servers and replicas, and takes a client through what may happen to them. `number` is that of the last
    /// step before.
    pub(super) async fn tell(screen: &mut Screen<'_>, number: usize) -> Result<Self, DemoError> {
        let mut stage = Stage::start().await.map_err(DemoError::Sessions)?;
        screen.sessions_opening(&stage.server_names().join(", "))?;
        Tour::new(&mut stage, screen, number).tell().await?;
        Ok(Self { stage })
    }

    /// Where clients reach the proxy.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.stage.addresses()
    }
}

/// What an SDK or a socket says, as an error of this part.
fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> DemoError {
    DemoError::Sessions(io::Error::other(error))
}
