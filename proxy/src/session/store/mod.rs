//! Where pins are kept.

use std::future::Future;
use std::sync::Arc;

use super::id::SessionKey;
use super::pin::{Counts, Pin, PinMode, PinOutcome, UnpinReason};
use crate::pods::PodId;

pub(super) mod memory;
pub(super) mod redis;

/// The store cannot be asked now, or cannot be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session store is unavailable")]
pub(super) struct Unavailable;

/// Who may have heard of a session that is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    ToClients,
    /// No client, and so no other replica either: where there is no pin, there is nothing to tell anybody.
    ToNobody,
}

impl From<UnpinReason> for Known {
    fn from(reason: UnpinReason) -> Self {
        if reason == UnpinReason::Orphaned { Self::ToNobody } else { Self::ToClients }
    }
}

/// Keeps pins. Every answer comes within a deadline.
pub(super) trait SessionStore {
    /// The pin of a session; `None` when there is certainly none.
    fn lookup(&self, key: &SessionKey) -> impl Future<Output = Result<Option<Pin>, Unavailable>> + Send;

    /// Pins a session.
    fn pin(
        &self,
        key: &SessionKey,
        pin: Pin,
        mode: PinMode,
    ) -> impl Future<Output = Result<PinOutcome, Unavailable>> + Send;

    /// Removes a pin, if it is to this pod.
    fn unpin(&self, key: &SessionKey, pod: PodId, known: Known)
    -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Sessions of each pod, as known here.
    fn counts(&self) -> Arc<Counts>;
}
