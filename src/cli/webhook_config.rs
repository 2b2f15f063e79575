//! `berth webhook-config`: the registration for a Berth that is reached in a particular way.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use super::{CliError, Format, Outcome, Output};
use crate::certs::Bundle;
use crate::registration::{Endpoint, FailurePolicy, Registration};

/// Print the webhook configurations, with the address and the CA of this Berth filled in.
///
/// They are the ones of webhook-config/ in every other respect.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  # Berth in the cluster, with the certificate that `berth certs dev` made
  berth webhook-config --ca-file dev/ca.crt | kubectl apply -f -

  # Berth on this machine
  berth webhook-config --url https://192.0.2.7:9443 --ca-file dev/ca.crt |
    kubectl apply -f -")]
pub(super) struct Args {
    /// The Service that leads to Berth [default: berth-system/berth-webhook]
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = Endpoint::service, conflicts_with = "url")]
    service: Option<Endpoint>,

    /// Where the API server reaches Berth, when that is not a Service; /mutate and /validate are appended
    #[arg(long, value_name = "URL", value_parser = Endpoint::url)]
    url: Option<Endpoint>,

    /// The certificates (PEM) that vouch for Berth's
    #[arg(long, value_name = "FILE")]
    ca_file: PathBuf,

    /// What becomes of scales, and of autoscalers' definitions, when Berth does not answer: ignore lets everybody's
    /// through unseen, fail refuses everybody's in the cluster
    #[arg(long, value_name = "fail|ignore", default_value = "ignore")]
    scale_failure_policy: FailurePolicy,

    /// The form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Args {
    pub(super) fn run(self, out: &mut Output) -> Result<Outcome, CliError> {
        let pem = fs::read(&self.ca_file).map_err(|error| CliError::unreadable(&self.ca_file, error).help(CA_HELP))?;
        let ca = Bundle::parse(&pem)
            .map_err(|error| CliError::new(format!("{}: {error}", self.ca_file.display())).help(CA_HELP))?;
        let endpoint = self.url.or(self.service).unwrap_or_default();
        let registration =
            Registration::new(&endpoint, ca.pem().as_bytes(), self.scale_failure_policy).map_err(CliError::new)?;
        self.output.print(
            out,
            &[
                serde_json::to_value(&registration.mutating).map_err(CliError::new)?,
                serde_json::to_value(&registration.validating).map_err(CliError::new)?,
            ],
        )?;
        out.flush()?;
        Ok(Outcome::Fine)
    }
}

const CA_HELP: &str = "give the CA's certificate (PEM), for example the ca.crt that `berth certs DIR` makes";
