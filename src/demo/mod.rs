//! `berth demo`: webhook and session proxy at work, without a cluster.
//!
//! Both are the real ones. The cluster behind the webhook is made of the manifests in `examples/`, the servers behind the
//! proxy are those of `examples/mcp-server`.

mod admission;
mod screen;
mod sessions;

use std::io::{self, Write};
use std::net::SocketAddr;

use tokio::signal::unix::{SignalKind, signal};

use admission::Admission;
use screen::Screen;
use sessions::Sessions;

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
    /// The servers, the proxy or its clients cannot start, or do not answer.
    #[error("the demo's session proxy failed: {0}")]
    Sessions(io::Error),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Runs the demo.
///
/// # Errors
/// When something cannot start, does not answer, or the output cannot be written.
pub fn run(options: Options, out: &mut dyn Write) -> Result<(), DemoError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DemoError::Webhook)?;
    runtime.block_on(show(options, out))
}

async fn show(options: Options, out: &mut dyn Write) -> Result<(), DemoError> {
    // From here on a signal ends the demo in order, whenever it comes.
    let listen = |kind| signal(kind).map_err(DemoError::Webhook);
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let (admission, mut webhook) = Admission::start(options.listen).map_err(DemoError::Webhook)?;
    let mut screen = Screen::new(out, options.colour);
    let ended = tokio::select! {
        told = tell(&mut screen, &admission, options.once) => told,
        ended = webhook.ended() => {
            Err(DemoError::Webhook(ended.err().unwrap_or_else(|| io::Error::other("it ended unasked"))))
        }
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    webhook.stop().await;
    ended
}

async fn tell(screen: &mut Screen<'_>, admission: &Admission, once: bool) -> Result<(), DemoError> {
    screen.opening()?;
    let last_step = admission.tell(screen).await?;
    let sessions = Sessions::tell(screen, last_step).await?;
    if once {
        return Ok(());
    }
    let (address, review) = admission.invitation();
    screen.invitation(&sessions.addresses(), address, &review)?;
    std::future::pending().await
}
