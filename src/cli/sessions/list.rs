//! `berth sessions list`.

use std::io::Write;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::super::{CliError, Format, Outcome, Output};
use super::filter::Filter;
use super::row::{Count, Row, counts, read};
use super::store::Store;
use super::{table, watch};
use crate::policy::parse_duration;

/// List sessions, and how many each pod has.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  berth sessions list --redis localhost:6379
  berth sessions list --server shop/web --per-pod

  # a screen that follows; into a file, a line for each session that comes or goes
  berth sessions list --watch

  # for a script
  berth sessions list -o json | jq '.pods[] | {pod, sessions}'")]
pub(super) struct Args {
    #[command(flatten)]
    store: Store,

    #[command(flatten)]
    filter: Filter,

    /// Only how many sessions each pod has
    #[arg(long)]
    per_pod: bool,

    /// Go on until Ctrl-C: the table again and again on a terminal, else a line for each session that comes or goes
    #[arg(short, long, conflicts_with = "output")]
    watch: bool,

    /// How long to wait between two looks
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_duration)]
    interval: Duration,

    /// Print an object of this form, rather than a table
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

impl Args {
    pub(super) async fn run(self, out: &mut Output) -> Result<Outcome, CliError> {
        let wanted = self.filter.wanted()?;
        let mut inspector = self.store.connect().await?;
        let rows = read(&mut inspector, &wanted).await.map_err(|error| self.store.failed(&error))?;
        if self.watch {
            let watch = watch::Watch { store: &self.store, wanted, per_pod: self.per_pod, interval: self.interval };
            return watch.run(inspector, rows, out).await.map(|()| Outcome::Fine);
        }
        match self.output {
            Some(format) => format.print(out, &[to_value(&rows, self.per_pod)])?,
            None if rows.is_empty() => writeln!(out, "no sessions {}", self.store.place())?,
            None => {
                for line in text(&rows, self.per_pod, SystemTime::now()) {
                    writeln!(out, "{line}")?;
                }
            }
        }
        Ok(Outcome::Fine)
    }
}

/// The tables: all sessions, then how many each pod has.
pub(super) fn text(rows: &[Row], per_pod: bool, now: SystemTime) -> Vec<String> {
    let mut lines = Vec::new();
    if !per_pod {
        lines.extend(table::sessions(rows, now));
        lines.push(String::new());
    }
    lines.extend(table::pods(&counts(rows)));
    lines
}

fn to_value(rows: &[Row], per_pod: bool) -> Value {
    let pods: Vec<_> = counts(rows).iter().map(Count::to_value).collect();
    if per_pod {
        return json!({"pods": pods});
    }
    let sessions: Vec<_> = rows.iter().map(Row::to_value).collect();
    json!({"sessions": sessions, "pods": pods})
}
