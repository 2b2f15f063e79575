//! What the controller counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;
use crate::policy::CrKind;

#[derive(Debug, Default)]
pub(super) struct Controller {
    reconciles: Family<ReconcileLabels, Counter>,
    writes: Family<WriteLabels, Counter>,
    outdated: Counter,
    queue: Gauge,
    leads: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    kind: &'static str,
    write: &'static str,
}

/// What the controller did to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControllerWrite {
    /// It was not there.
    Create,
    /// It was not as it should be.
    Update,
    /// It is not wanted any more.
    Delete,
    /// Its count was handed over.
    HandOver,
    /// What stood in the way of it was made Berth's.
    Claim,
    /// A resource's status.
    Status,
}

impl Controller {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let own = Self::default();
        let registry = registry.sub_registry_with_prefix("controller");
        registry.register("reconciles", "Custom resources looked at", own.reconciles.clone());
        registry.register("writes", "Writes to the API server, without Events and the Lease", own.writes.clone());
        registry.register("outdated", "Looks that met a newer state than they knew", own.outdated.clone());
        registry.register("queue", "Custom resources that wait to be looked at", own.queue.clone());
        registry.register("leads", "1 while this replica holds the Lease", own.leads.clone());
        own
    }
}

impl Metrics {
    /// The controller looked at a custom resource.
    pub fn reconciled(&self, kind: CrKind, worked: bool) {
        let result = if worked { "done" } else { "failed" };
        self.controller.reconciles.get_or_create(&ReconcileLabels { kind: kind.as_str(), result }).inc();
    }

    /// The controller wrote an object of this kind.
    pub fn controller_write(&self, kind: &'static str, write: ControllerWrite) {
        let write = match write {
            ControllerWrite::Create => "create",
            ControllerWrite::Update => "update",
            ControllerWrite::Delete => "delete",
            ControllerWrite::HandOver => "hand-over",
            ControllerWrite::Claim => "claim",
            ControllerWrite::Status => "status",
        };
        self.controller.writes.get_or_create(&WriteLabels { kind, write }).inc();
    }

    /// A write was decided on a state that had changed since.
    pub fn controller_outdated(&self) {
        self.controller.outdated.inc();
    }

    /// How many custom resources wait to be looked at.
    pub fn queue(&self, waiting: usize) {
        self.controller.queue.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Whether this replica holds the Lease.
    pub fn leads(&self, leads: bool) {
        self.controller.leads.set(i64::from(leads));
    }
}
