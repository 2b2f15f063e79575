//! The `berth-example-mcp-server` command; everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    berth_example_mcp_server::cli::main()
}
