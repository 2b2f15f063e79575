//! A small MCP server on the official Rust SDK that keeps its sessions in memory, as most MCP servers do: what Berth is
//! for. Berth's demo and its tests on a cluster run it.
//!
//! | path | what |
//! |---|---|
//! | `/mcp` | streamable HTTP, every protocol version of the SDK |
//! | `/readyz` | 200 while it serves, 503 once it is told to end |

pub mod cli;
mod server;
mod tools;

pub use server::Server;
