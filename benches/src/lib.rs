//! What the benchmarks share.

pub mod fixtures;
