//! `berth sessions show`.

use std::io::Write;
use std::time::SystemTime;

use super::super::{CliError, Format, Outcome, Output};
use super::filter::Filter;
use super::pick::Name;
use super::row::{Row, UNKNOWN, read, short_duration, timestamp};
use super::store::Store;

/// Show all that is known of one session.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  # by the hash that `list` and the proxies' logs show
  berth sessions show 3f2a9c41

  # by its id, which others on this machine shall not see
  berth sessions show - < id.txt")]
pub(super) struct Args {
    /// The session's hash, four or more digits of its beginning, or its id; - reads it from standard input
    #[arg(value_name = "SESSION")]
    session: Name,

    #[command(flatten)]
    store: Store,

    #[command(flatten)]
    filter: Filter,

    /// Print an object of this form, rather than text
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

impl Args {
    pub(super) async fn run(self, out: &mut Output) -> Result<Outcome, CliError> {
        let wanted = self.filter.wanted()?;
        let names = Name::read(vec![self.session])?;
        let [name] = names.as_slice() else {
            return Err(CliError::new(format!("standard input has {} lines", names.len())).help("give it one session"));
        };
        let mut inspector = self.store.connect().await?;
        let rows = read(&mut inspector, &wanted).await.map_err(|error| self.store.failed(&error))?;
        let Some(row) = name.one(&rows)? else {
            writeln!(out, "no such session {}", self.store.place())?;
            return Ok(Outcome::Findings);
        };
        match self.output {
            Some(format) => format.print(out, &[row.to_value()])?,
            None => print(out, row, SystemTime::now())?,
        }
        Ok(Outcome::Fine)
    }
}

fn print(out: &mut Output, row: &Row, now: SystemTime) -> Result<(), CliError> {
    writeln!(out, "session      {}", row.session.key.to_hex())?;
    writeln!(out, "server       {}", row.server)?;
    match &row.session.record {
        Some(record) => {
            let pinned = timestamp(record.pinned_at).unwrap_or_else(|| UNKNOWN.to_owned());
            let age = row.age(now).map_or_else(|| UNKNOWN.to_owned(), short_duration);
            writeln!(out, "pod          {}", record.pod)?;
            writeln!(out, "address      {}", record.backend_url)?;
            writeln!(out, "pinned       {pinned}, {age} ago")?;
        }
        None => writeln!(out, "pod          {UNKNOWN}; its record cannot be read, so no proxy follows it")?,
    }
    if let Some(left) = row.session.expires_in {
        writeln!(out, "expires in   {}, if nobody uses it", short_duration(left))?;
    }
    Ok(())
}
