//! Sessions in a real Redis, as several replicas see them.

mod connections;
mod cost;
mod lost;
mod outage;
mod pins;
mod world;
