//! Pins, and what comes of looking for them, making them and taking them away.

use super::id::PathTag;
use crate::pods::PodId;

/// Where a session lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The pod that holds it. The pod may be gone: whoever unpins it for that needs a DNS answer that was asked for
    /// after this pin was found.
    pub pod: PodId,
    /// The path of the request that made it ([`Sessions::path`](super::Sessions::path)).
    pub path: PathTag,
}

/// What is known of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It lives there.
    Pinned(Pin),
    /// No replica knows it: 404.
    Unknown,
    /// The store cannot be asked, or may have lost pins that are being written back: 503.
    Unavailable,
}

/// What happens to a pin that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinMode {
    /// The first pin wins.
    First,
    /// Replaces a pin to this pod, and no other: for a pod that is known to be gone.
    Replace(PodId),
}

/// What came of pinning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinOutcome {
    /// Stored, and known to every replica from now on (also when it was pinned to this pod before).
    Pinned,
    /// Another pod has it; nothing was changed.
    AlreadyPinned(PodId),
    /// The store did not confirm in time. The pin may still arrive there; it expires like any other.
    Unavailable,
    /// There is no connection to the store: nothing was sent.
    NotSent,
    /// `--max-sessions` live sessions are kept in memory.
    Full,
}

/// Why a session is forgotten; a closed set, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnpinReason {
    /// DELETE, answered 2xx or 404.
    Deleted,
    /// Its pod answered 404 on the path that made it.
    NotFound,
    /// Its pod is gone.
    PodGone,
    /// The stream that was the session (2024-11-05 transport) ended.
    StreamEnded,
    /// The pod that it was to be made on accepts no connection.
    Refused,
    /// No client heard of it: its client left while it was being stored, or the store did not confirm that in time.
    Orphaned,
}

impl UnpinReason {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Deleted, Self::NotFound, Self::PodGone, Self::StreamEnded, Self::Refused, Self::Orphaned];

    /// As metrics and logs name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::NotFound => "not_found",
            Self::PodGone => "pod_gone",
            Self::StreamEnded => "stream_ended",
            Self::Refused => "refused",
            Self::Orphaned => "orphaned",
        }
    }
}

/// Sessions of each pod, over all replicas, as the store said last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(Vec<(PodId, u32)>);

impl Counts {
    /// Sessions of a pod; 0 for one that nothing is known of.
    #[must_use]
    pub fn of(&self, pod: PodId) -> u32 {
        self.0.iter().find(|(known, _)| *known == pod).map_or(0, |(_, count)| *count)
    }

    /// Every pod that something is known of.
    pub fn iter(&self) -> impl Iterator<Item = (PodId, u32)> {
        self.0.iter().copied()
    }
}

impl FromIterator<(PodId, u32)> for Counts {
    fn from_iter<T: IntoIterator<Item = (PodId, u32)>>(iter: T) -> Self {
        Self(iter.into_iter().collect())
    }
}
