//! Counts that are written while the API server takes its time to answer.

use berth::admission::{Facts, Freshness, Need, Refusal, Review, Settings, Verdict, Webhook, decide};
use berth::policy::{CrKind, WorkloadKind};
use serde_json::{Value, json};

use crate::world::*;

const GROUP: &str = "toolhive.stacklok.dev";

/// An MCPServer with its workloads.
fn world(provider: &str) -> World {
    let storage = json!({"provider": provider, "address": (provider == "redis").then_some("redis:6379")});
    let server = mcpserver(1, json!({"transport": "sse", "sessionStorage": storage}));
    let workloads = vec![
        (WorkloadKind::Deployment, owned(deployment(json!({})), "MCPServer", "toolhive")),
        (WorkloadKind::StatefulSet, owned(stateful_set(json!({}), "mcp-foo-headless"), "MCPServer", "mcp")),
    ];
    World { workloads, ..World::with_cr(CrKind::McpServer, server) }
}

fn scaler(max: i64) -> Value {
    json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h", "namespace": "ns"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "foo"}, "maxReplicas": max}})
}

/// One write for each place where a count is written from outside of its object, of more replicas than before.
fn raises() -> Vec<Value> {
    vec![
        scale_review("apps", "deployments", "foo", 3, 1),
        scale_review(GROUP, "mcpservers", "foo", 3, 1),
        review(&scaler(3), None),
        review(&scaler(4), Some(&scaler(3))),
    ]
}

fn refusal(verdict: &Verdict) -> &Refusal {
    verdict.refusal().expect("it went through")
}

#[test]
fn what_a_followed_copy_allows_is_not_held_up() {
    let redis = World { slow: true, ..world("redis") };
    for write in raises() {
        let verdict = redis.decide(Webhook::Validate, &write);
        assert!(verdict.is_allowed() && verdict.warnings.is_empty(), "{write}: {verdict:?}");
    }
    let backends = redis.decide(Webhook::Validate, &scale_review("apps", "statefulsets", "foo", 5, 3));
    assert!(backends.is_allowed(), "{backends:?}");
}

#[test]
fn what_a_followed_copy_refuses_may_be_mended_already() {
    let memory = World { slow: true, ..world("memory") };
    for write in raises() {
        let verdict = memory.decide(Webhook::Validate, &write);
        let refusal = refusal(&verdict);
        assert_eq!((refusal.code, refusal.undecided), (500, false), "{write}: {refusal:?}");
        for part in ["MCPServer \"foo\" could not be read (no answer within 1600 ms)", "sessions are kept in memory"] {
            assert!(refusal.message.contains(part), "{write}: {}", refusal.message);
        }
        assert!(refusal.message.ends_with("; try again [berth:PolicyNotFound]"), "{}", refusal.message);
        assert_eq!(refusal.message.matches("[berth:").count(), 1, "{}", refusal.message);
    }
    let created = memory.decide(Webhook::Validate, &review(&scaler(3), None));
    assert_eq!(created.warnings, [refusal(&created).message.clone()], "kubectl autoscale hides the refusal");
}

#[test]
fn a_workload_is_not_let_through_by_a_copy_that_may_be_outdated() {
    let proxy = |count: i64| {
        let mut object = owned(deployment(json!({})), "MCPServer", "toolhive");
        object["spec"]["replicas"] = json!(count);
        object
    };
    let redis = World { slow: true, ..world("redis") };
    for write in [review(&proxy(3), Some(&proxy(1))), review(&proxy(3), None)] {
        let verdict = redis.decide(Webhook::Validate, &write);
        let refusal = refusal(&verdict);
        assert!(refusal.code == 500 && refusal.message.contains("so nothing is known of its policy"), "{refusal:?}");
    }
    assert!(redis.decide(Webhook::Validate, &review(&proxy(1), Some(&proxy(3)))).is_allowed());
}

#[test]
fn a_copy_that_is_known_to_be_outdated_allows_and_refuses_nothing() {
    let mut write = scale_review(GROUP, "mcpservers", "foo", 3, 1);
    write["request"]["oldObject"]["metadata"]["resourceVersion"] = json!("10");
    for provider in ["redis", "memory"] {
        let before = World { slow: true, cached: 9, ..world(provider) };
        let verdict = before.decide(Webhook::Validate, &write);
        let refusal = refusal(&verdict);
        assert!(refusal.code == 500 && refusal.message.contains("so nothing is known of its policy"), "{refusal:?}");
    }
    // One that has come by the watch while the read took too long.
    let current = |provider| World { slow: true, cached: 10, ..world(provider) }.decide(Webhook::Validate, &write);
    assert!(current("redis").is_allowed());
    assert_eq!(current("memory").refusal().map(|refusal| refusal.code), Some(422), "of what is stored, that is said");
}

#[test]
fn without_a_copy_nothing_is_known_of_the_policy() {
    let mut gone = World { slow: true, ..world("redis") };
    gone.custom_resources.clear();
    for write in raises() {
        let verdict = gone.decide(Webhook::Validate, &write);
        let refusal = refusal(&verdict);
        assert!(refusal.code == 500 && refusal.message.contains("so nothing is known of its policy"), "{refusal:?}");
    }
}

#[test]
fn a_workload_that_is_not_read_in_time_may_be_anybodys() {
    let world = World { very_slow: true, ..world("redis") };
    let verdict = world.decide(Webhook::Validate, &scale_review("apps", "deployments", "foo", 3, 1));
    let refusal = refusal(&verdict);
    assert!(refusal.undecided && refusal.message.contains("no answer within 1600 ms"), "{refusal:?}");
}

#[test]
fn fewer_replicas_wait_for_nobody() {
    for world in [World { very_slow: true, ..world("memory") }, World { unreadable: true, ..World::default() }] {
        for write in [
            scale_review("apps", "deployments", "foo", 2, 3),
            scale_review("apps", "statefulsets", "foo", 3, 3),
            scale_review(GROUP, "mcpservers", "foo", 2, 3),
            review(&scaler(2), Some(&scaler(3))),
        ] {
            let verdict = world.decide(Webhook::Validate, &write);
            assert!(verdict.is_allowed(), "{write}: {verdict:?}");
        }
    }
    // The copy still tells of what is wrong.
    let slow = World { slow: true, ..world("memory") };
    let verdict = slow.decide(Webhook::Validate, &scale_review("apps", "deployments", "foo", 2, 3));
    assert_eq!((verdict.is_allowed(), verdict.warnings.len()), (true, 1), "{verdict:?}");
}

/// What is asked for first; nothing where it can be decided.
fn need(write: &Value) -> Option<Need> {
    let body = write.to_string();
    let review = Review::from_slice(body.as_bytes()).unwrap();
    match decide(Webhook::Validate, &review, &Facts::default(), &Settings::default()) {
        Ok(verdict) => {
            assert!(verdict.is_allowed(), "{verdict:?}");
            None
        }
        Err(need) => Some(need),
    }
}

#[test]
fn one_replica_is_right_for_everybody() {
    for (to, from) in [(0, 5), (1, 5), (1, 0)] {
        for (group, plural) in [("apps", "deployments"), ("apps", "statefulsets"), (GROUP, "mcpservers")] {
            assert_eq!(need(&scale_review(group, plural, "foo", to, from)), None);
        }
        assert_eq!(need(&review(&scaler(1), None)), None);
    }
}

#[test]
fn a_scale_of_a_resource_names_the_copy_that_is_as_new_as_it() {
    let mut write = scale_review(GROUP, "mcpservers", "foo", 3, 1);
    let freshness = |write: &Value| match need(write) {
        Some(Need::CustomResource(query)) => query.freshness,
        other => panic!("{other:?}"),
    };
    assert_eq!(freshness(&write), Freshness::Now);
    write["request"]["oldObject"]["metadata"]["resourceVersion"] = json!("4711");
    // What the writer says of itself counts for nothing.
    write["request"]["object"]["metadata"]["resourceVersion"] = json!("1");
    assert_eq!(freshness(&write), Freshness::Version(4711));
    write["request"]["oldObject"]["metadata"]["resourceVersion"] = json!("not a number");
    assert_eq!(freshness(&write), Freshness::Now);
}

#[test]
fn a_workload_names_the_generation_that_it_or_its_stored_state_was_made_from() {
    let stamped = |stamp: &str| with_stamp(owned(deployment(json!({})), "MCPServer", "toolhive"), stamp);
    for (new, old) in [("7", "5"), ("5", "7")] {
        match need(&review(&stamped(new), Some(&stamped(old)))) {
            Some(Need::CustomResource(query)) => assert_eq!(query.freshness, Freshness::Generation(7), "{new} {old}"),
            other => panic!("{other:?}"),
        }
    }
}
