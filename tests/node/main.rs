//! Berth on a real node: pods, Services, DNS, Redis, and the controller that the chart installs.
//!
//! Or on a cluster that is there already, which `KUBECONFIG` names; it is left as it was (`tests/kind/run` makes one).
//!
//! One node serves all trials, which run in parallel, each in a namespace of its own. A subject is a file with
//! `pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial>`, named in [`SUBJECTS`]. What would disturb the others (the
//! controller gone, say) runs when they are through: [`LAST`].

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test asserts, in its helpers too")]

mod api;
mod client;
mod context;
mod fields;
mod generation;
mod lifecycle;
mod password;
mod protocol;
mod rights;
mod scaling;
mod scene;
mod sessions;
mod there;
mod upgrade;
mod virtual_server;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use crate::context::Context;

type Subject = fn(&Arc<Context>) -> Vec<Trial>;

/// The files with trials.
#[rustfmt::skip] // one a line
const SUBJECTS: &[Subject] = &[
    // The longest first.
    lifecycle::trials,
    there::trials,
    sessions::trials,
    scaling::trials,
    password::trials,
    generation::trials,
    fields::trials,
    virtual_server::trials,
];

/// Those that need the node for themselves, in this order.
#[rustfmt::skip]
const LAST: &[Subject] = &[
    protocol::trials,
    scaling::timed,
    lifecycle::alone,
    upgrade::trials,
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Much of a trial is waiting for pods, and the first is little else than waiting for nothing to happen.
    arguments.test_threads.get_or_insert(5);
    let ctx = Arc::new(Context::default());
    let trials = |subjects: &[Subject]| subjects.iter().flat_map(|trials| trials(&ctx)).collect::<Vec<_>>();
    let (parallel, mut last) = (trials(SUBJECTS), trials(LAST));
    if arguments.filter.is_none() && arguments.skip.is_empty() {
        // It looks at what all the others needed.
        last.extend(rights::trials(&ctx));
    }
    if arguments.list {
        return libtest_mimic::run(&arguments, parallel.into_iter().chain(last).collect()).exit_code();
    }
    if let Err(error) = ctx.start() {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    let first = libtest_mimic::run(&arguments, parallel);
    arguments.test_threads = Some(1);
    let second = libtest_mimic::run(&arguments, last);
    drop(ctx);
    if first.has_failed() || second.has_failed() { ExitCode::from(101) } else { ExitCode::SUCCESS }
}
