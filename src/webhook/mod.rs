//! The webhook: bytes over TLS in, bytes out. What to answer is decided in [`crate::admission`].
//!
//! One review comes this way: [`Server`] accepts the connection and speaks TLS and HTTP, `routes` reads the body within
//! its bounds, [`Reviewer`] turns it into a verdict, looking up what the decision asks for.

mod admin;
mod connection;
mod deadline;
mod http2;
mod readiness;
mod reviewer;
mod routes;
mod server;
mod tls;

pub use admin::Admin;
pub use deadline::Deadline;
pub use readiness::{Pending, Readiness};
pub use reviewer::Reviewer;
pub use server::{RunningServer, Server};
pub use tls::{Certificates, TlsError, server_config};
