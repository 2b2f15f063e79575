//! The official conformance suite, and what it found.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use berth_test_cluster::{Error, Process, Result, RunDir, wait_for};
use serde_json::Value;

use crate::Packages;
use crate::packages::at;

/// For all scenarios of a revision; an idle machine takes seven seconds.
const RUN: Duration = Duration::from_secs(180);
/// Scenarios that give a stream's events half a second each, which a busy machine may miss: they get more tries.
const HURRIED: [&str; 1] = ["server-stateless"];
const TRIES: usize = 4;
/// Of an extension that `js/server` does not have.
const EXTENSION: &str = "tasks-";
/// The suite names a scenario's directory `server-SCENARIO-TIME`.
const TIME: usize = "-2026-01-01T00-00-00-000Z".len();

/// A revision of the protocol that the suite has requirements for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revision {
    /// With sessions.
    V2025_11_25,
    /// Without.
    V2026_07_28,
}

impl Revision {
    /// As it is written in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }
}

/// How each check of each scenario came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    scenarios: BTreeMap<String, Vec<Check>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Check {
    id: String,
    status: String,
    error: String,
}

impl Check {
    fn failed(&self) -> bool {
        matches!(self.status.as_str(), "FAILURE" | "WARNING")
    }
}

impl Report {
    /// The scenarios of which no check failed or warned, and at least one succeeded.
    pub fn passed(&self) -> BTreeSet<&str> {
        let passed = |checks: &[Check]| {
            !checks.iter().any(Check::failed) && checks.iter().any(|check| check.status == "SUCCESS")
        };
        self.scenarios.iter().filter(|(_, checks)| passed(checks)).map(|(name, _)| name.as_str()).collect()
    }

    /// The scenarios that a revision requires. The suite runs what it has for extensions of the protocol, too.
    pub fn required(&self) -> BTreeSet<&str> {
        self.scenarios.keys().map(String::as_str).filter(|scenario| !scenario.starts_with(EXTENSION)).collect()
    }

    fn failed(&self, scenario: &str) -> bool {
        self.scenarios.get(scenario).is_some_and(|checks| checks.iter().any(Check::failed))
    }

    /// How many checks succeeded.
    pub fn successes(&self) -> usize {
        self.scenarios.values().flatten().filter(|check| check.status == "SUCCESS").count()
    }

    /// What failed or warned, a line each.
    pub fn failures(&self) -> String {
        let mut text = String::new();
        for (scenario, checks) in &self.scenarios {
            for check in checks.iter().filter(|check| check.failed()) {
                // Writing to a string does not fail.
                let _ = writeln!(text, "{scenario}: {} {}: {}", check.id, check.status, check.error);
            }
        }
        text
    }
}

/// Runs all scenarios for servers that a revision requires, and those that the suite runs beside them, against the
/// server at `url`. The suite looks at how a server on loopback guards itself, so that the URL has to name loopback.
///
/// # Errors
/// When the suite does not come to its end.
pub fn run_suite(packages: &Packages, url: &str, revision: Revision) -> Result<Report> {
    let scenarios = run(packages, url, &["--requirements", revision.name()])?;
    let mut report = Report { scenarios };
    for scenario in HURRIED {
        let mut tries = 1;
        while tries < TRIES && report.failed(scenario) {
            tries += 1;
            report.scenarios.extend(run(packages, url, &["--scenario", scenario, "--spec-version", revision.name()])?);
        }
    }
    Ok(report)
}

fn run(packages: &Packages, url: &str, which: &[&str]) -> Result<BTreeMap<String, Vec<Check>>> {
    let dir = RunDir::new()?;
    let results = dir.path().join("results");
    let mut arguments = vec![packages.suite().display().to_string()];
    arguments.extend(["server", "--url", url, "--output-dir", &results.display().to_string()].map(str::to_owned));
    arguments.extend(which.iter().map(|&argument| argument.to_owned()));
    let mut suite = Process::start(dir.path(), "suite", packages.node(), arguments, &[])?;
    // Its exit code says whether all passed, which is for the caller to judge.
    let ended = wait_for("the end of the conformance suite", RUN, || suite.exit_status());
    let scenarios = ended.and_then(|_| read(&results));
    let scenarios = scenarios.map_err(|error| Error::new(format!("{error}\n{}", suite.log_tail())))?;
    if scenarios.is_empty() {
        return Err(Error::new(format!("the conformance suite ran no scenario\n{}", suite.log_tail())));
    }
    Ok(scenarios)
}

fn read(results: &Path) -> Result<BTreeMap<String, Vec<Check>>> {
    let mut scenarios = BTreeMap::new();
    for entry in fs::read_dir(results).map_err(at("read", results))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let scenario = name.strip_prefix("server-").and_then(|rest| rest.get(..rest.len().checked_sub(TIME)?));
        let scenario = scenario.ok_or_else(|| Error::new(format!("{name} is not a name of the suite's results")))?;
        let path = entry.path().join("checks.json");
        let text = fs::read(&path).map_err(at("read", &path))?;
        let checks: Vec<Value> = serde_json::from_slice(&text)
            .map_err(|cause| Error::new(format!("cannot read {}: {cause}", path.display())))?;
        let text = |check: &Value, field: &str| check[field].as_str().unwrap_or_default().to_owned();
        let checks = checks.iter().map(|check| Check {
            id: text(check, "id"),
            status: text(check, "status"),
            error: text(check, "errorMessage"),
        });
        scenarios.insert(scenario.to_owned(), checks.collect());
    }
    Ok(scenarios)
}
