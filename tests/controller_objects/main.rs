//! What the controller makes of custom resources, through the library's own door.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test asserts, in its helpers too")]

mod documentation;
mod mcp_server;
mod names;
mod plans;
mod properties;
mod refusals;
mod virtual_mcp_server;
