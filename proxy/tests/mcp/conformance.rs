//! The official conformance suite: what passes against one server passes through replicas, too.

use std::net::SocketAddr;
use std::thread;

use berth_test_mcp::{Packages, Report, Revision, RoundRobin, run_suite};

use crate::deployment::{Replicas, Servers, alone};

const SERVERS: usize = 3;
const REPLICAS: usize = 3;

fn run(packages: &Packages, address: SocketAddr, revision: Revision) -> Report {
    run_suite(packages, &format!("http://{address}/mcp"), revision).unwrap()
}

/// The same revision against one server, and through replicas.
fn compare(revision: Revision, checks: usize) {
    let _alone = alone();
    let packages = Packages::ensure().unwrap();
    let (alone, servers) = (Servers::start(&packages, 1), Servers::start(&packages, SERVERS));
    let replicas = Replicas::start(&servers, REPLICAS, &[]);
    let balancer = RoundRobin::start(replicas.addresses().into_iter().map(|(listen, _)| listen).collect()).unwrap();
    let (direct, through) = thread::scope(|scope| {
        let direct = scope.spawn(|| run(&packages, alone.addresses()[0], revision));
        let through = run(&packages, balancer.address(), revision);
        (direct.join().unwrap(), through)
    });

    assert_eq!(direct.passed(), direct.required(), "against one server:\n{}", direct.failures());
    assert!(direct.successes() >= checks, "only {} checks ran", direct.successes());
    assert_eq!(through.passed(), direct.passed(), "through replicas:\n{}", through.failures());
    assert_eq!(through.successes(), direct.successes(), "through replicas:\n{}", through.failures());
}

#[test]
fn all_of_2025_11_25_passes_directly_and_through_replicas() {
    compare(Revision::V2025_11_25, 84);
}

#[test]
fn all_of_2026_07_28_passes_directly_and_through_replicas() {
    compare(Revision::V2026_07_28, 130);
}

/// What the tests above are worth: without pins, nothing passes.
#[test]
fn without_pins_no_scenario_with_sessions_passes() {
    let _alone = alone();
    let packages = Packages::ensure().unwrap();
    let servers = Servers::start(&packages, SERVERS);
    let balancer = RoundRobin::start(servers.addresses()).unwrap();
    let report = run(&packages, balancer.address(), Revision::V2025_11_25);
    assert!(report.passed().is_empty(), "passed by chance: {:?}", report.passed());
}
