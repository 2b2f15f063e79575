//! Real MCP through replicas of the proxy: the official conformance suite.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests assert, too")]

mod conformance;
mod deployment;
