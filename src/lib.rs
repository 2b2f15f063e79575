//! Berth makes session-holding servers safe to scale on Kubernetes.

pub mod admission;
mod backoff;
pub mod certs;
pub mod cli;
pub mod cluster;
pub mod controller;
#[cfg(feature = "demo")]
pub mod demo;
pub mod manifest;
pub mod metrics;
pub mod policy;
pub mod preview;
pub mod registration;
pub mod serve;
pub mod webhook;
