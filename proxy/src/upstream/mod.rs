//! Connections to pods: opened, pooled, and driven by the request that each carries.
//!
//! What goes over them is for `forward` to say; nothing here knows of sessions.

mod connection;
pub(crate) mod h2;
mod pod_io;
mod pool;
mod request_body;

pub(crate) use connection::{Failure, PodConnection};
pub(crate) use h2::SharedConnections;
pub(crate) use pool::Pool;
pub use request_body::{BodyError, RequestBody};
