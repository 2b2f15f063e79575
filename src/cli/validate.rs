//! `berth validate`: what a cluster with Berth would refuse, before it is asked.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde_json::json;

use super::files::Inputs;
use super::findings::Finding;
use super::{CliError, Outcome, Output};

/// Check manifests: one line for each problem, and exit code 1 when there is one.
///
/// Custom resources, workloads and autoscalers in the same input are judged together; what is not in the input does not
/// exist. Of a resource that asks for Berth's controller (berth.dev/class: berth), what that would not build is a problem
/// too. Warnings do not change the exit code.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  # in CI: everything that is deployed together
  berth validate -f deploy/

  # what a chart makes
  helm template web ./chart | berth validate -f -

  # for machines
  berth validate -f deploy/ -o json")]
pub(super) struct Args {
    #[command(flatten)]
    inputs: Inputs,

    /// Form of the report.
    #[arg(short, long, value_enum, default_value_t)]
    output: Report,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Report {
    /// `FILE:LINE kind/name code-word message`.
    #[default]
    Text,
    /// One JSON object with every finding.
    Json,
}

impl Args {
    pub(super) fn run(self, out: &mut Output) -> Result<Outcome, CliError> {
        let sources = self.inputs.read()?;
        let judged = self.inputs.preview(&sources)?.judged;
        let findings: Vec<_> = judged.iter().flat_map(Finding::of).collect();
        let problems = findings.iter().filter(|finding| finding.is_error()).count();
        let warnings = findings.len() - problems;
        match self.output {
            Report::Text => {
                for finding in &findings {
                    writeln!(out, "{}", finding.line(out.colour()))?;
                }
                out.flush()?;
                let stderr = io::stderr();
                if stderr.is_terminal() {
                    let count =
                        |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
                    // Nobody can be told that standard error is closed.
                    let _ = writeln!(
                        stderr.lock(),
                        "{} in {}: {}, {}",
                        count(judged.len(), "guarded object"),
                        count(sources.len(), "file"),
                        count(problems, "problem"),
                        count(warnings, "warning")
                    );
                }
            }
            Report::Json => {
                let summary = json!({"files": sources.len(), "objects": judged.len(), "problems": problems, "warnings": warnings});
                writeln!(out, "{:#}", json!({"findings": findings, "summary": summary}))?;
            }
        }
        Ok(if problems == 0 { Outcome::Fine } else { Outcome::Findings })
    }
}
