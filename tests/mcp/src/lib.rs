//! Real MCP around Berth's session proxy: servers and clients on the official SDKs, and the official conformance suite.
//!
//! Everything takes addresses and URLs, so that the same can be run against processes on loopback and against Services.
//! The servers answer to names of loopback only, which the suite insists on: what is elsewhere is reached through a
//! [`RoundRobin`] on loopback, of one address or several.
//!
//! The scripts are in `js/` and `python/`; [`Packages::ensure`] installs what they need into the user's cache, once.

mod client;
mod conformance;
mod packages;
mod round_robin;
mod server;

pub use client::{Client, Sdk, Sequence};
pub use conformance::{Report, Revision, run_suite};
pub use packages::Packages;
pub use round_robin::RoundRobin;
pub use server::{Server, ServerOptions};
