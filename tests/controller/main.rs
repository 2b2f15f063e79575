//! The controller in front of a real API server.
//!
//! One control plane and one Berth, webhook and controller, serve the trials in [`world`], which run in parallel, each in
//! a namespace of its own. Those that use [`alone`] have a control plane for themselves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test asserts, in its helpers too")]

mod alone;
mod answers;
mod audit;
mod beside;
mod building;
mod client;
mod cost;
mod definitions;
mod drift;
mod generation;
mod injector;
mod moving;
mod names;
mod objects;
mod outage;
mod replicas;
mod switched;
mod trouble;
mod unchecked;
mod world;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use crate::world::World;

type Subject = fn(&Arc<World>) -> Vec<Trial>;

/// The files with trials.
#[rustfmt::skip] // one a line
const SUBJECTS: &[Subject] = &[
    alone::trials,
    answers::trials,
    beside::trials,
    building::trials,
    cost::trials,
    definitions::trials,
    drift::trials,
    generation::trials,
    moving::trials,
    names::trials,
    outage::trials,
    replicas::trials,
    switched::trials,
    trouble::trials,
    unchecked::trials,
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Much of a trial is waiting.
    arguments.test_threads.get_or_insert(5);
    let world = Arc::new(World::default());
    let trials = SUBJECTS.iter().flat_map(|trials| trials(&world)).collect();
    if !arguments.list
        && let Err(error) = world.start()
    {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(world);
    conclusion.exit_code()
}
