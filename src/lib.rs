//! Berth makes session-holding servers safe to scale on Kubernetes.

pub mod admission;
pub mod certs;
pub mod cli;
pub mod policy;
pub mod registration;
