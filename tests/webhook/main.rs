//! The webhook over real TLS on loopback: transport, bounds, certificates, the end of the process, the cache.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test asserts, in its helpers too")]

mod admin;
mod cache;
mod certificates;
mod client;
mod drain;
mod fake_api;
mod fixture;
mod process;
mod slow;
mod stuck;
mod transport;
