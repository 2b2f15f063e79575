//! Berth makes session-holding servers safe to scale on Kubernetes.

pub mod admission;
pub mod cli;
pub mod policy;
