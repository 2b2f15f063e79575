//! `berth sessions evict`.

use std::io::Write;
use std::pin::pin;

use futures::StreamExt;

use super::super::{CliError, Outcome, Output};
use super::filter::Filter;
use super::pick::Name;
use super::row::{Row, read};
use super::store::Store;

/// Commands that are under way at the same time.
const CONCURRENCY: usize = 32;

/// Make proxies forget sessions; their clients start anew.
///
/// Every replica answers 404 to an evicted session within a second. Its server is not told: it forgets the session in its
/// own time.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  # one, by its hash; by its id, from standard input
  berth sessions evict 3f2a9c41
  berth sessions evict - < id.txt

  # all of a pod; all of a server
  berth sessions evict --pod web-2 --namespace shop --dry-run
  berth sessions evict --all --server shop/web")]
pub(super) struct Args {
    /// Hashes, four or more digits of their beginnings, or ids; - reads them from standard input, one a line
    #[arg(value_name = "SESSION", conflicts_with = "all")]
    sessions: Vec<Name>,

    /// All sessions, or those that --namespace, --server and --pod leave
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    store: Store,

    #[command(flatten)]
    filter: Filter,

    /// Only say what would be evicted
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    pub(super) async fn run(self, out: &mut Output) -> Result<Outcome, CliError> {
        let of_a_pod = self.filter.names_a_pod();
        if self.sessions.is_empty() && !self.all && !of_a_pod {
            return Err(CliError::new("no session was named").help("name some, or give --pod NAME, or --all"));
        }
        let wanted = self.filter.wanted()?;
        let every = self.sessions.is_empty();
        let names = Name::read(self.sessions)?;
        let mut inspector = self.store.connect().await?;
        let rows = read(&mut inspector, &wanted).await.map_err(|error| self.store.failed(&error))?;
        let (chosen, missing) = if every { (rows.iter().collect(), 0) } else { choose(&names, &rows)? };
        if of_a_pod && every && !self.all {
            one_server(&chosen)?;
        }

        let mut moved = 0;
        if self.dry_run {
            for row in &chosen {
                writeln!(out, "would evict {}", row.line())?;
            }
        } else {
            let inspector = &inspector;
            let evictions =
                chosen.iter().map(|row| async move { (row, inspector.evict(&row.server, &row.session).await) });
            let mut evicted = pin!(futures::stream::iter(evictions).buffered(CONCURRENCY));
            while let Some((row, done)) = evicted.next().await {
                let done = done.map_err(|error| self.store.failed(&error))?;
                let word = if done { "evicted" } else { "moved meanwhile, and stays:" };
                moved += usize::from(!done);
                writeln!(out, "{word} {}", row.line())?;
            }
        }
        if missing > 0 {
            writeln!(out, "no such session {} ({missing} of {})", self.store.place(), names.len())?;
        } else if chosen.is_empty() {
            writeln!(out, "no sessions {}", self.store.place())?;
        }
        Ok(if missing + moved > 0 { Outcome::Findings } else { Outcome::Fine })
    }
}

/// The sessions that are named, each once, and how many names mean none.
fn choose<'a>(names: &[Name], rows: &'a [Row]) -> Result<(Vec<&'a Row>, usize), CliError> {
    let mut chosen: Vec<&Row> = Vec::new();
    let mut missing = 0;
    for name in names {
        match name.one(rows)? {
            Some(row) if !chosen.contains(&row) => chosen.push(row),
            Some(_) => {}
            None => missing += 1,
        }
    }
    Ok((chosen, missing))
}

/// Pods of the same name may stand in several namespaces, and only one of them is about to go.
fn one_server(chosen: &[&Row]) -> Result<(), CliError> {
    let mut servers: Vec<_> = chosen.iter().map(|row| row.server.to_string()).collect();
    servers.dedup();
    match servers.as_slice() {
        [] | [_] => Ok(()),
        several => {
            let message = format!("that pod is of {} servers: {}", several.len(), several.join(", "));
            Err(CliError::new(message).help("name one with --server NAMESPACE/NAME, or give --all too"))
        }
    }
}
