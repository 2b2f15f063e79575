//! Which row of the routing table a request is.
//!
//! [`request`] says what a request head asks for, [`decide`] where that goes, [`response`] what an answer means for
//! the session. All of it is pure: `serve` asks the store and the pods, and obeys.

pub mod decide;
pub mod request;
pub mod response;

pub use decide::{Action, Facts, Known, Peek, Standing, Why, decide};
pub use request::{Class, Kind, Names, Refusal, SessionId, Source, classify};
