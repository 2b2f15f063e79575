//! Sessions in a real Redis, as several replicas see them.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "clippy.toml lets functions marked as tests assert, not their helpers"
)]

mod connections;
mod inspect;
mod lost;
mod memory;
mod outage;
mod pins;
mod spread;
mod stalls;
mod world;
