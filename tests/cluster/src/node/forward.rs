//! A port of loopback that leads to an address of the cluster.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::{Error, Result};

const WAKE: Duration = Duration::from_secs(1);

/// Passes connections on, each in a thread of its own. Dropping it takes no more; those that are open go on.
#[derive(Debug)]
pub(crate) struct Forward {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Forward {
    /// Listens on a free port for connections that `pass` leads on.
    pub(crate) fn start(pass: impl Fn(TcpStream) + Send + Sync + 'static) -> Result<Self> {
        let failed = |cause: io::Error| Error::new(format!("cannot listen on loopback: {cause}"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let ended = Arc::new(AtomicBool::new(false));
        let (over, pass) = (Arc::clone(&ended), Arc::new(pass));
        let thread = thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let pass = Arc::clone(&pass);
                thread::spawn(move || pass(client));
            }
        });
        Ok(Self { address, ended, thread: Some(thread) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect_timeout(&self.address, WAKE);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Copies both ways until both sides have ended.
pub(super) fn join(client: TcpStream, server: TcpStream) {
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let copy = |from: &TcpStream, to: &TcpStream| {
        let (mut reader, mut writer) = (from, to);
        let copied = io::copy(&mut reader, &mut writer);
        // An end is passed on as an end, a broken connection as one that takes nothing more either.
        let _ = to.shutdown(Shutdown::Write);
        if copied.is_err() {
            let _ = from.shutdown(Shutdown::Both);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| copy(&client, &server));
        copy(&server, &client);
    });
}
