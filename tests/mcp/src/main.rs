//! `berth-test-mcp install`: what the tests with MCP SDKs need, unless it is there.

use std::env;
use std::process::ExitCode;

use berth_test_mcp::Packages;

fn main() -> ExitCode {
    if env::args().skip(1).collect::<Vec<_>>() != ["install"] {
        eprintln!("Usage: berth-test-mcp install");
        return ExitCode::from(2);
    }
    match Packages::ensure() {
        Ok(packages) => {
            eprintln!("{}\n{}", packages.node().display(), packages.server().display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
