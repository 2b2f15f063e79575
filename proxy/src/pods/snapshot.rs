//! The last good answer: where the pods are, and which of them may get new sessions.

use std::net::SocketAddr;

use super::name::PodId;

/// Where a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Address of its server.
    pub address: SocketAddr,
    /// Whether it is spoken to in HTTP/2 without TLS.
    pub h2c: bool,
}

/// The last good answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    targets: Vec<Option<Target>>,
    ready: Vec<PodId>,
}

impl Snapshot {
    /// From pods with their targets, and those of them that are ready.
    #[must_use]
    pub fn new(pods: impl IntoIterator<Item = (PodId, Target)>, ready: impl IntoIterator<Item = PodId>) -> Self {
        let mut targets = Vec::new();
        for (pod, target) in pods {
            let at = usize::from(pod.0);
            if targets.len() <= at {
                targets.resize(at + 1, None);
            }
            targets[at] = Some(target);
        }
        let mut ready: Vec<PodId> = ready.into_iter().collect();
        ready.sort_unstable();
        ready.dedup();
        Self { targets, ready }
    }

    /// Where a pod is, if it is there.
    #[must_use]
    pub fn target(&self, pod: PodId) -> Option<Target> {
        self.targets.get(usize::from(pod.0)).copied().flatten()
    }

    /// Every pod, ready or not.
    pub fn pods(&self) -> impl Iterator<Item = PodId> {
        let present = self.targets.iter().enumerate().filter(|(_, target)| target.is_some());
        present.filter_map(|(at, _)| u16::try_from(at).ok().map(PodId))
    }

    /// Pods that may get new sessions.
    #[must_use]
    pub fn ready(&self) -> &[PodId] {
        &self.ready
    }
}
