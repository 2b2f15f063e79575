//! The decision alone: body in, answer out, without a network. Time and allocations.

#![expect(clippy::expect_used, clippy::panic, reason = "a benchmark whose fixture is wrong has nothing to measure")]

use std::fmt;
use std::sync::{Arc, LazyLock};

use berth::admission::{Answer, Facts, Need, Review, Settings, Webhook, decide};
use berth::policy::{CrKind, CustomResource};
use berth_bench::fixtures::{self, Owner};
use divan::{AllocProfiler, Bencher};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

/// One review, ready to be sent in.
struct Case {
    name: &'static str,
    webhook: Webhook,
    body: Vec<u8>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

static OWNER: LazyLock<Arc<CustomResource>> = LazyLock::new(|| {
    let mut server = fixtures::mcp_server(1);
    server["metadata"]["uid"] = json!("5f1d8f7c-4d0c-4a53-b6a4-3c9c1e0c7a10");
    server["metadata"]["generation"] = json!(4);
    Arc::new(CustomResource::from_value(CrKind::McpServer, &server, None).expect("the fixture is a custom resource"))
});

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let owner = Owner { name: OWNER.meta.name.clone(), uid: OWNER.meta.uid.clone() };
    let case = |fixture: fixtures::Fixture| Case {
        name: fixture.name,
        webhook: if fixture.path == "/mutate" { Webhook::Mutate } else { Webhook::Validate },
        body: fixture.body(),
    };
    fixtures::by_object_size(&owner).into_iter().map(case).collect()
});

fn main() {
    divan::main();
}

#[divan::bench(args = CASES.iter())]
fn decision(bencher: Bencher<'_, '_>, case: &Case) {
    let settings = Settings::default();
    assert!(answer(case, &settings).windows(14).any(|window| window == br#""allowed":true"#), "{case} is refused");
    bencher.bench(|| answer(case, &settings));
}

/// What the webhook does with a body, with the custom resource in its cache.
fn answer(case: &Case, settings: &Settings) -> Vec<u8> {
    let review = Review::from_slice(&case.body).expect("the fixture is a review");
    let mut facts = Facts::default();
    loop {
        match decide(case.webhook, &review, &facts, settings) {
            Ok(verdict) => return verdict.to_json(&review).expect("a verdict can be written"),
            Err(Need::CustomResource(query)) => {
                facts.add_custom_resource(query, Answer::Found(Arc::clone(&OWNER)));
            }
            Err(need) => panic!("{case} needs {need:?}"),
        }
    }
}
