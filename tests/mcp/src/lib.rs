//! Real MCP around Berth's session proxy: servers and clients on the official SDKs, and the official conformance suite.
//!
//! Everything takes addresses and URLs, so that the same can be run against processes on loopback and against Services.
//! The scripts are in `js/` and `python/`; [`Packages::ensure`] installs what they need into the user's cache, once.

mod client;
mod conformance;
mod packages;
mod round_robin;
mod server;

pub use client::{Sdk, Transport, run_client};
pub use conformance::{Report, Revision, run_suite};
pub use packages::Packages;
pub use round_robin::RoundRobin;
pub use server::{Server, ServerOptions};
