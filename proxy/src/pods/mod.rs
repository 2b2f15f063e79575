//! The pods that hold sessions: what they are called, and which may get new sessions.

pub mod name;

pub use name::{Backend, Naming, PodId, StatefulSetNaming};
