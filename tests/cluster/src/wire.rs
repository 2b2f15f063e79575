//! A way to a server that can fall silent, as a machine does that is gone: no answer, and no end of the connection either.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::{Error, Result};

const CONNECT: Duration = Duration::from_secs(1);

/// Passes connections on to one server. Dropping it closes all.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ended: bool,
    silent: bool,
    /// Connections that are open; silent ones stay so, also when others pass again.
    open: Vec<(Arc<AtomicBool>, TcpStream)>,
}

impl Wire {
    /// A way to `server`.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn to(server: SocketAddr) -> Result<Self> {
        let failed = |cause: io::Error| Error::new(format!("cannot listen on loopback: {cause}"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared { server, state: Mutex::default() });
        let serving = Arc::clone(&shared);
        let accepting = Some(thread::spawn(move || serving.serve(&listener)));
        Ok(Self { address, shared, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing passes: what is open stays open, what comes is accepted, and nobody gets a byte.
    pub fn silence(&self) {
        let mut state = self.shared.state();
        state.silent = true;
        for (silent, _) in &state.open {
            silent.store(true, Ordering::Relaxed);
        }
    }

    /// New connections pass again. Those that fell silent stay so for good.
    pub fn pass(&self) {
        self.shared.state().silent = false;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.state().ended = true;
        // Wakes the thread that accepts.
        let _ = TcpStream::connect_timeout(&self.address, CONNECT);
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
        for (_, stream) in self.shared.state().open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn serve(&self, listener: &TcpListener) {
        for client in listener.incoming().flatten() {
            let mut state = self.state();
            if state.ended {
                return;
            }
            let silent = Arc::new(AtomicBool::new(state.silent));
            if state.silent {
                state.open.push((silent, client));
                continue;
            }
            // A server that takes none is seen by the client as a connection that ends.
            let Ok(server) = TcpStream::connect_timeout(&self.server, CONNECT) else { continue };
            let _ = join(&mut state, &silent, &client, &server);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn join(state: &mut State, silent: &Arc<AtomicBool>, client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    for (from, to) in [(client, server), (server, client)] {
        from.set_nodelay(true)?;
        state.open.push((Arc::clone(silent), from.try_clone()?));
        let (from, to, silent) = (from.try_clone()?, to.try_clone()?, Arc::clone(silent));
        thread::spawn(move || {
            let _ = pump(&from, &to, &silent);
        });
    }
    Ok(())
}

fn pump(mut from: &TcpStream, mut to: &TcpStream, silent: &AtomicBool) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).unwrap_or(0);
        match (silent.load(Ordering::Relaxed), length) {
            // Who is gone does not say so either.
            (true, 0) => return Ok(()),
            (true, _) => {}
            (false, 0) => return to.shutdown(Shutdown::Write),
            (false, length) => to.write_all(&buffer[..length])?,
        }
    }
}
