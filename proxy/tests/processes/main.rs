//! Real `berth-proxy` processes around real Redis servers, as their clients see them through all that may befall them.
//!
//! All trials run in a network namespace of their own, in parallel: DNS and unreachable addresses are made there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test asserts, in its helpers too")]

mod bad_input;
mod bounds;
mod claims;
mod configuration;
mod cost;
mod load;
mod namespace;
mod outage;
mod pods;
mod restarts;
mod reveal;
mod rolling;
mod spread;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// A trial with a runtime of its own.
pub(crate) fn trial<F>(name: &str, run: impl FnOnce() -> F + Send + 'static) -> Trial
where
    F: Future<Output = ()> + Send,
{
    Trial::test(name, move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(run());
        Ok(())
    })
}

fn main() -> ExitCode {
    if let Err(why) = namespace::enter() {
        eprintln!("{why}");
        return ExitCode::FAILURE;
    }
    let mut arguments = Arguments::from_args();
    // Most of a trial is waiting.
    arguments.test_threads.get_or_insert(8);
    let subjects = [
        rolling::trials,
        pods::trials,
        outage::trials,
        cost::trials,
        spread::trials,
        bounds::trials,
        restarts::trials,
        reveal::trials,
        bad_input::trials,
        claims::trials,
        configuration::trials,
    ];
    libtest_mimic::run(&arguments, subjects.iter().flat_map(|trials| trials()).collect()).exit_code()
}
