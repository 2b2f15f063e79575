//! Real MCP through replicas of the proxy: the official conformance suite, and clients on official SDKs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests assert, too")]

mod clients;
mod conformance;
mod deployment;
