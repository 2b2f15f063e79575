//! The session proxy: every session on its pod, from any replica.
//!
//! One request walks through `listener` → `route` (which row of the table) → [`session`] (the pin: cache, then store) →
//! [`pods`] and [`place`] → `forward`.

pub mod address;
pub mod config;
pub mod duration;
pub mod place;
pub mod pods;
pub mod route;
pub mod session;
