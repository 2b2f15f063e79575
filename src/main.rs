//! The `berth` command; everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Fails only when a provider is installed already, and then there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    berth::cli::main()
}
