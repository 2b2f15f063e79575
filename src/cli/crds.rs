//! `berth crds`: the definitions of the custom resources.

use std::io::Write;

use super::{CliError, Outcome, Output};
use crate::registration::CRDS;

/// Print the definitions of MCPServer and VirtualMCPServer, for clusters without ToolHive.
///
/// Where ToolHive is installed, its own definitions have to stay: Berth works with those.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  berth crds | kubectl apply -f -")]
pub(super) struct Args {}

impl Args {
    pub(super) fn run(self, out: &mut Output) -> Result<Outcome, CliError> {
        for (index, definition) in CRDS.iter().enumerate() {
            if index > 0 {
                writeln!(out, "---")?;
            }
            out.write_all(definition.as_bytes())?;
        }
        Ok(Outcome::Fine)
    }
}
