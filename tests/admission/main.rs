//! Berth in front of a real API server, seen through kubectl.
//!
//! One control plane and one Berth serve all trials, which run in parallel, each in a namespace of
//! its own. A subject is a file with `pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial>`,
//! named in [`SUBJECTS`].

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test asserts, in its helpers too")]

mod alone;
mod built;
mod bystanders;
mod client;
mod cluster;
mod command_line;
mod context;
mod documents;
mod fresh;
mod generation;
mod objects;
mod password;
mod refusals;
mod registration;
mod replicas;
mod rights;
mod rollover;
mod smoke;
mod wiring;
mod writes;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use crate::context::Context;

type Subject = fn(&Arc<Context>) -> Vec<Trial>;

/// The files with trials.
#[rustfmt::skip] // one a line
const SUBJECTS: &[Subject] = &[
    built::trials,
    bystanders::trials,
    cluster::trials,
    command_line::trials,
    documents::trials,
    fresh::trials,
    generation::trials,
    password::trials,
    refusals::trials,
    registration::trials,
    replicas::trials,
    rights::trials,
    rollover::trials,
    smoke::trials,
    writes::trials,
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Much of a trial is waiting, for kubectl and for one another.
    arguments.test_threads.get_or_insert(4);
    let ctx = Arc::new(Context::default());
    let trials = SUBJECTS.iter().flat_map(|trials| trials(&ctx)).collect();
    if !arguments.list
        && let Err(error) = ctx.start()
    {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(ctx);
    conclusion.exit_code()
}
