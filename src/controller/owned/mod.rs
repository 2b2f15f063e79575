//! What is known of the objects that custom resources own: a cache that follows the cluster.

mod coverage;
mod live;
mod rivals;
mod store;
mod watch;

pub(super) use coverage::covers;
pub(super) use live::{Arriving, Live, Workload};
pub(super) use rivals::claim;
pub(super) use store::{Owned, Snapshot};
pub(super) use watch::watch;

/// The field manager of everything that the controller applies.
pub(super) const FIELD_MANAGER: &str = "berth";
/// The field manager that holds a count for as long as nobody else does; see [`super::decide::Step::Apply`].
pub(super) const COUNT_KEEPER: &str = "berth-count-keeper";
/// What the watches select by, so that their cost is that of Berth's own objects; every object that is built has it.
pub(super) const SELECTOR: &str = "app.kubernetes.io/managed-by=berth";
