//! The session proxy: every session on its pod, from any replica.
//!
//! One request walks through `listener` → `route` (which row of the table) → [`session`] (the pin: cache, then store) →
//! [`pods`] and [`place`] → `forward`, over connections of `upstream`.

pub mod address;
pub mod admin;
pub mod cli;
pub mod config;
mod connection_state;
pub mod drain;
pub mod duration;
pub mod errors;
pub mod forward;
pub mod listener;
pub mod metrics;
pub mod place;
pub mod pods;
pub mod proxy;
pub mod route;
pub mod run;
pub mod session;
pub mod upstream;
pub mod worker;
