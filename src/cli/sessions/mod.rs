//! `berth sessions`: what the session proxies keep in their Redis.
//!
//! No session id is in the store, and none is printed: a session is shown by its hash.

use std::future::Future;

use super::{CliError, Outcome, Output};

mod evict;
mod filter;
mod list;
mod pick;
mod row;
mod show;
mod store;
mod table;
mod watch;

/// List, show and evict the sessions that proxies share in a Redis.
///
/// A session is shown by its hash; nobody can tell its id from that. Which Redis is said by --redis or BERTH_REDIS, its
/// password by THV_SESSION_REDIS_PASSWORD.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  # a Redis inside the cluster
  kubectl port-forward service/redis 6379 &
  export BERTH_REDIS=localhost:6379

  # what is pinned where, and how it changes
  berth sessions list
  berth sessions list --namespace shop --watch

  # one session, by some digits of its hash
  berth sessions show 3f2a9c

  # before a pod goes: its clients start anew elsewhere
  berth sessions evict --pod web-2 --dry-run
  berth sessions evict --pod web-2

Exit codes: 0 fine, 1 no such session, 2 usage, or a Redis that cannot be asked.")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    List(list::Args),
    Show(show::Args),
    Evict(evict::Args),
}

impl Args {
    pub(super) fn run(self, out: &mut Output) -> Result<Outcome, CliError> {
        match self.action {
            Action::List(args) => block_on(args.run(out)),
            Action::Show(args) => block_on(args.run(out)),
            Action::Evict(args) => block_on(args.run(out)),
        }
    }
}

fn block_on(work: impl Future<Output = Result<Outcome, CliError>>) -> Result<Outcome, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| CliError::new(format!("the process cannot start: {error}")))?.block_on(work)
}
