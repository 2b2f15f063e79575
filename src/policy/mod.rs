//! Policies: what they are, and reading them from annotations and custom resources.
//!
//! Everything here is pure. [`resolve`] says which policy applies to a workload; the rest of the crate works from the
//! [`ScalingPolicy`] that comes of it, whatever it was written in.

mod annotations;
mod custom_resource;
pub mod derived;
mod fields;
mod json;
mod metadata;
mod model;
pub mod names;
mod problem;
mod resolve;

// One parser for each input, whichever program reads it.
pub use berth_proxy::address::Address;
pub use berth_proxy::duration::parse_duration;

pub use annotations::{OptIn, annotation_path, from_annotations, opt_in};
pub use custom_resource::CustomResource;
pub(crate) use fields::is_dns_label;
pub(crate) use json::{Object, object};
pub use metadata::{ControllerRef, CrKind, Metadata};
pub use model::{Parsed, RedisStorage, ScalingPolicy, SecretRef, SessionStorage, Transport};
pub use problem::{CodeWord, Fault, Problem};
pub use resolve::{Resolved, Role, WorkloadKind, resolve};
