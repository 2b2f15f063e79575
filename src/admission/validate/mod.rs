//! Validation: what would break sessions is refused, at every door.

mod autoscaler;
mod custom_resource;
mod findings;
mod scale;
mod workload;

pub(super) use autoscaler::autoscaler;
pub(super) use custom_resource::custom_resource;
pub(super) use scale::scale;
pub(super) use workload::workload;
