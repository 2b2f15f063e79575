//! Sessions and the pods that hold them: a local cache over a store that all replicas share.
//!
//! [`Sessions`] is what the rest of the proxy asks. A session id never gets past [`Sessions::key`]: cache, store and
//! logs know its [`SessionKey`] only.

mod id;
mod sessions;

pub use id::{Hasher, Identity, PathTag, SessionKey};
pub use sessions::{
    Counts, Found, InUse, Pin, PinMode, PinOutcome, Readiness, SessionSettings, Sessions, Statistics, UnpinReason,
};
