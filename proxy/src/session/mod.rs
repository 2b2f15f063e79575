//! Sessions and the pods that hold them: a local cache over a store that all replicas share.
//!
//! [`Sessions`] is what the rest of the proxy asks. A session id never gets past [`Sessions::key`]: cache, store and
//! logs know its [`SessionKey`] only.

mod cache;
mod clock;
mod gone;
mod id;
mod in_use;
mod keeper;
mod pin;
mod record;
mod sessions;
mod store;
mod table;

pub use id::{Hasher, Identity, PathTag, SessionKey};
pub use pin::{Counts, Found, Pin, PinMode, PinOutcome, UnpinReason};
pub use record::Shown;
pub use sessions::{InUse, Readiness, SessionSettings, Sessions, Statistics};
pub use store::redis::{DEFAULT_KEY_PREFIX, InspectError, Inspector, RedisTarget, StoredSession};
