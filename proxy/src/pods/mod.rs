//! The pods that hold sessions: what they are called, where they are, and which may get new sessions.

pub mod dns;
pub mod fixed;
pub mod name;
mod watch;

pub use name::{Backend, Naming, PodId, StatefulSetNaming};
pub use watch::{Pods, Snapshot, Target};
