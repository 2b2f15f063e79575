//! A TCP balancer, as a Service or a load balancer stands in front of several Berths.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::{Error, Result, http_get};

const LOOK_EVERY: Duration = Duration::from_millis(100);
const CONNECT: Duration = Duration::from_secs(1);

/// Gives each new connection to the next server that is ready by its `/readyz`, looked at in the background; what is
/// connected stays connected. A connection that no server takes is closed. Dropping it closes all.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    servers: Vec<Server>,
    next: AtomicUsize,
    ended: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

#[derive(Debug)]
struct Server {
    listen: SocketAddr,
    admin: SocketAddr,
    ready: AtomicBool,
    connections: AtomicUsize,
}

impl Balancer {
    /// Balances over servers, each with the address that it serves at and the one of its `/readyz`, which is looked at
    /// ten times a second.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(servers: &[(SocketAddr, SocketAddr)]) -> Result<Self> {
        Self::looking_every(LOOK_EVERY, servers)
    }

    /// As [`Balancer::start`], with another time between two looks.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn looking_every(pause: Duration, servers: &[(SocketAddr, SocketAddr)]) -> Result<Self> {
        let failed = |cause: io::Error| Error::new(format!("cannot start a balancer: {cause}"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let servers = servers.iter().map(|&(listen, admin)| Server {
            listen,
            admin,
            ready: AtomicBool::new(is_ready(admin)),
            connections: AtomicUsize::new(0),
        });
        let shared = Arc::new(Shared {
            servers: servers.collect(),
            next: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let (watched, served) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![thread::spawn(move || watched.watch(pause)), thread::spawn(move || served.serve(&listener))];
        Ok(Self { address, shared, threads })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections each server was given, in the order of [`Balancer::start`].
    pub fn connections(&self) -> Vec<usize> {
        self.shared.servers.iter().map(|server| server.connections.load(Ordering::Relaxed)).collect()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect_timeout(&self.address, CONNECT);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        for stream in self.shared.open().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn watch(&self, pause: Duration) {
        while !self.ended.load(Ordering::Relaxed) {
            for server in &self.servers {
                server.ready.store(is_ready(server.admin), Ordering::Relaxed);
            }
            thread::sleep(pause);
        }
    }

    fn serve(&self, listener: &TcpListener) {
        for client in listener.incoming().flatten() {
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            if let Some(server) = self.connect() {
                // A connection that breaks while it is set up looks to its client like one that breaks later.
                let _ = self.join(client, server);
            }
        }
    }

    /// A connection to the next ready server that takes one.
    fn connect(&self) -> Option<TcpStream> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        (0..self.servers.len())
            .map(|offset| &self.servers[(first + offset) % self.servers.len()])
            .filter(|server| server.ready.load(Ordering::Relaxed))
            .find_map(|server| {
                let stream = TcpStream::connect_timeout(&server.listen, CONNECT).ok()?;
                server.connections.fetch_add(1, Ordering::Relaxed);
                Some(stream)
            })
    }

    fn join(&self, client: TcpStream, server: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        self.open().extend([client.try_clone()?, server.try_clone()?]);
        let (up, down) = ((client.try_clone()?, server.try_clone()?), (server, client));
        for (from, to) in [up, down] {
            thread::spawn(move || {
                let (mut reader, mut writer) = (&from, &to);
                let _ = io::copy(&mut reader, &mut writer);
                // The other direction may go on: each side ends its own.
                let _ = to.shutdown(Shutdown::Write);
            });
        }
        Ok(())
    }

    fn open(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_ready(admin: SocketAddr) -> bool {
    http_get(admin, "/readyz").is_ok_and(|answer| answer.status == 200)
}
