//! Webhook against webhook: the same reviews over TLS, in interleaved rounds.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::Result;
use crate::candidate::{Candidate, Certificates, Kind};
use crate::load::Measured;
use berth_bench::fixtures::Fixture;

/// One measurement: which fixture (index), which webhook, what it did.
pub(crate) type Row = (usize, Kind, Measured);

/// Measures every fixture on every candidate, `rounds` times.
pub(crate) fn measure(
    runtime: &Runtime,
    candidates: &[Candidate],
    certificates: &Certificates,
    fixtures: &[Fixture],
    (rounds, time): (usize, Duration),
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for round in 0..rounds {
        eprintln!("reviews: round {} of {rounds}", round + 1);
        for (index, fixture) in fixtures.iter().enumerate() {
            for candidate in candidates {
                let target = candidate.target(certificates)?;
                let measured = runtime.block_on(target.measure(fixture, candidate.pid(), time))?;
                rows.push((index, candidate.kind, measured));
            }
        }
    }
    Ok(rows)
}

/// Fails unless all candidates answer each fixture with the same verdict, and with patches that come to the same.
/// Without this the comparison would be between a webhook that works and one that only answers.
pub(crate) fn agree(
    runtime: &Runtime,
    candidates: &[Candidate],
    certificates: &Certificates,
    fixtures: &[Fixture],
) -> Result<()> {
    for fixture in fixtures {
        let mut first: Option<(Kind, Value)> = None;
        for candidate in candidates {
            let answer = runtime.block_on(candidate.target(certificates)?.ask(fixture))?;
            let outcome = outcome(fixture, &answer)?;
            match &first {
                None => first = Some((candidate.kind, outcome)),
                Some((kind, other)) if *other != outcome => {
                    return Err(format!(
                        "{}: {} gives {other}, {} gives {outcome}",
                        fixture.name,
                        kind.name(),
                        candidate.kind.name()
                    )
                    .into());
                }
                Some(_) => (),
            }
        }
    }
    Ok(())
}

/// The verdict, and of the patched object what the mutation is about.
fn outcome(fixture: &Fixture, answer: &Value) -> Result<Value> {
    let response = &answer["response"];
    if response["uid"] != fixture.review["request"]["uid"] || response["allowed"] != json!(true) {
        return Err(format!("{}: answered {answer}", fixture.name).into());
    }
    let mut object = fixture.review["request"]["object"].clone();
    if let Some(patch) = response["patch"].as_str() {
        let patch: json_patch::Patch = serde_json::from_slice(&STANDARD.decode(patch)?)?;
        json_patch::patch(&mut object, &patch)?;
    }
    let template = &object["spec"]["template"];
    let mut env = template["spec"]["containers"][0]["env"].as_array().cloned().unwrap_or_default();
    env.sort_by_key(|entry| entry["name"].to_string());
    Ok(json!({
        "replicas": object["spec"]["replicas"],
        "grace": template["spec"]["terminationGracePeriodSeconds"],
        "stamp": template["metadata"]["annotations"],
        "record": object["metadata"]["annotations"]["berth.dev/injected-env"],
        "env": env,
    }))
}
