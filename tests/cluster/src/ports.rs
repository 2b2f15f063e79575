//! Ports of loopback for servers.

use std::net::TcpListener;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Error, Result};

/// Below what systems give to outgoing connections, so that a server which is started again finds
/// its port free.
const FIRST: u32 = 20_000;
const COUNT: u32 = 10_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Ports on which nobody listens now. Processes begin at different places in the range.
///
/// # Errors
/// When all are taken.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    for port in &mut ports {
        *port = (0..COUNT)
            .map(|_| {
                (process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed))) % COUNT + FIRST
            })
            .filter_map(|port| u16::try_from(port).ok())
            .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
            .ok_or_else(|| Error::new("no port of loopback from 20000 to 29999 is free"))?;
    }
    Ok(ports)
}
