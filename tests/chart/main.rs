//! The chart, through Helm: what it renders, what it refuses, and what a real API server makes of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test asserts, in its helpers too")]

mod cert_manager;
mod installed;
mod rendered;
mod rights;
mod support;
mod values;
