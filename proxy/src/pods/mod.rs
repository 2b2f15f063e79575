//! The pods that hold sessions: what they are called, where they are, and which may get new sessions.

pub mod dns;
pub mod fixed;
mod lifetime;
pub mod name;
mod snapshot;
mod watch;

pub use name::{Backend, Naming, PodId, StatefulSetNaming};
pub use snapshot::{Snapshot, Target};
pub use watch::Pods;
