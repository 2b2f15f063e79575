//! The controller: from custom resources to the workloads that they ask for.

pub mod objects;
