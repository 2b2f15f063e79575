//! Backends that are named one by one, outside Kubernetes.

use super::name::{Backend, PodId};
use super::snapshot::{Snapshot, Target};

/// Looks up the addresses of all backends. One whose name cannot be looked up stays where it was last. `None` when not one
/// is known.
pub(super) async fn ask(backends: &[Backend], last: &Snapshot) -> Option<Snapshot> {
    let mut pods = Vec::with_capacity(backends.len());
    for (at, backend) in backends.iter().enumerate() {
        let Ok(pod) = u16::try_from(at).map(PodId) else { break };
        let address = match tokio::net::lookup_host((backend.host.as_str(), backend.port)).await {
            // The order changes from answer to answer; the connections should not.
            Ok(addresses) => addresses.min(),
            Err(error) => {
                tracing::warn!(backend = backend.url(), %error, "the name of a backend cannot be looked up");
                last.target(pod).map(|target| target.address)
            }
        };
        pods.extend(address.map(|address| (pod, Target { address, h2c: backend.h2c })));
    }
    if pods.is_empty() {
        return None;
    }
    let ready: Vec<PodId> = pods.iter().map(|(pod, _)| *pod).collect();
    Some(Snapshot::new(pods, ready))
}
