//! The webhook over real TLS on loopback: transport, bounds, certificates, the end of the process, the cache.

mod admin;
mod cache;
mod certificates;
mod client;
mod drain;
mod fake_api;
mod fixture;
mod stuck;
mod transport;
