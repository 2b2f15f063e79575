//! Every code word, at every door, and who is not locked in.

use berth::admission::{Answer, Facts, Freshness, Need, Review, Settings, Webhook, WorkloadQuery, decide};
use berth::policy::{CrKind, WorkloadKind};
use serde_json::{Value, json};

use crate::world::*;

const MEMORY: &str = "sessions are kept in memory; set the session provider to redis, or keep replicas at 1 or 0 \
                      [berth:SessionStorageMissingForReplicas]";

fn three(mut object: Value) -> Value {
    object["spec"]["replicas"] = json!(3);
    object
}

fn message(verdict: &berth::admission::Verdict) -> String {
    let refusal = verdict.refusal().expect("it went through");
    assert_eq!((refusal.code, refusal.problems.is_empty()), (422, false));
    refusal.message.clone()
}

#[test]
fn replicas_in_memory() {
    let world = World::default();
    let refused = world.create(&three(deployment(opted_in(json!({})))));
    assert_eq!(refused.refusal(), format!("spec.replicas: Invalid value: 3: {MEMORY}"));
    // From redis back to memory while several run.
    let live = world.create(&three(deployment(redis(json!({}))))).stored();
    let mut memory = live.clone();
    memory["metadata"]["annotations"]["berth.dev/session-provider"] = json!("memory");
    assert_eq!(world.update(&live, &memory).refusal(), format!("spec.replicas: Invalid value: 3: {MEMORY}"));
    // With one it may.
    let mut one = world.create(&deployment(redis(json!({})))).stored();
    let live = one.clone();
    one["metadata"]["annotations"]["berth.dev/session-provider"] = json!("memory");
    world.update(&live, &one).stored();
    // An annotation that asks for it is refused where it would take effect.
    assert_eq!(
        world.create(&deployment(opted_in(json!({"replicas": "3"})))).refusal(),
        format!("spec.replicas: Invalid value: 3: {MEMORY}")
    );
}

#[test]
fn nobody_is_locked_in_by_what_was_there_before() {
    let world = World::default();
    let before = three(deployment(opted_in(json!({}))));
    for count in [3, 2, 1, 0] {
        let mut new = before.clone();
        new["spec"]["replicas"] = json!(count);
        let written = world.update(&before, &new);
        assert_eq!(written.warnings().len(), usize::from(count > 1), "{:?}", written.warnings());
        written.stored();
    }
    let mut worse = before.clone();
    worse["spec"]["replicas"] = json!(4);
    assert_eq!(world.update(&before, &worse).refusal(), format!("spec.replicas: Invalid value: 4: {MEMORY}"));
    // Opting in is a promise to keep the rule.
    let plain = three(deployment(json!({})));
    world.update(&plain, &before).refusal();
}

#[test]
fn stdio_has_no_replicas() {
    let world = World::default();
    let refused = world.create(&three(deployment(redis(json!({"transport": "stdio"})))));
    assert!(refused.refusal().ends_with("[berth:StdioTransportCapAt1]"), "{}", refused.refusal());
    for (field, spec) in [("replicas", json!({"replicas": 2})), ("backendReplicas", json!({"backendReplicas": 2}))] {
        let refusal = world.create(&mcpserver(1, spec)).refusal();
        assert!(refusal.starts_with(&format!("spec.{field}: Invalid value: 2: ")), "{refusal}");
        assert!(refusal.ends_with("[berth:StdioTransportCapAt1]"), "{refusal}");
    }
}

#[test]
fn redis_needs_an_address() {
    let world = World::default();
    let refusal = world.create(&deployment(opted_in(json!({"session-provider": "redis"})))).refusal();
    assert!(refusal.starts_with("metadata.annotations[berth.dev/session-address]: Required value: "), "{refusal}");
    assert!(refusal.ends_with("[berth:SessionStorageAddressMissing]"), "{refusal}");
    let cr = mcpserver(1, json!({"transport": "sse", "sessionStorage": {"provider": "redis"}}));
    assert!(world.create(&cr).refusal().starts_with("spec.sessionStorage.address: Required value: "));
}

#[test]
fn a_password_in_the_clear() {
    let world = World::default();
    for annotations in [redis(json!({})), opted_in(json!({}))] {
        let mut object = deployment(annotations);
        object["spec"]["template"]["spec"]["containers"][0]["env"] =
            json!([{"name": "X"}, {"name": "THV_SESSION_REDIS_PASSWORD", "value": "hunter2"}]);
        let refusal = world.create(&object).refusal();
        assert!(refusal.starts_with("spec.template.spec.containers[0].env[1].value: "), "{refusal}");
        assert!(refusal.ends_with("[berth:PlaintextPassword]"), "{refusal}");
        assert!(!refusal.contains("hunter2"));
    }
}

#[test]
fn a_standing_password_is_the_same_wherever_its_entry_stands() {
    let world = World::default();
    let with = |env: Value| {
        let mut object = deployment(redis(json!({})));
        object["spec"]["template"]["spec"]["containers"][0]["env"] = env;
        object
    };
    let plain = json!({"name": "THV_SESSION_REDIS_PASSWORD", "value": "hunter2"});
    let before = with(json!([plain]));
    let written = world.update(&before, &with(json!([{"name": "NEW", "value": "x"}, plain])));
    assert_eq!(written.warnings().len(), 1, "{:?}", written.warnings());
    written.stored();
    world.update(&with(json!([])), &before).refusal();
}

#[test]
fn what_does_not_parse_is_refused_with_all_its_fields() {
    let world = World::default();
    let refused = world.create(&deployment(opted_in(json!({"replicas": "-1", "session-db": "x"}))));
    assert_eq!(refused.object["spec"]["replicas"], json!(1), "nothing is acted on");
    let refusal = refused.validation.refusal().unwrap();
    assert_eq!(refusal.problems.len(), 2);
    assert!(refusal.problems.iter().all(|problem| problem.message().ends_with("[berth:InvalidPolicy]")));
    // A typing error in the opt-in must not pass for an opt-out.
    assert!(world.create(&deployment(json!({"berth.dev/inject": "enabeld"}))).refusal().contains("enabeld"));
    // Which container?
    let mut two = deployment(opted_in(json!({})));
    two["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "sidecar"}));
    assert!(world.create(&two).refusal().contains("app, sidecar"));
    // It was so before: a warning.
    let written = world.update(&two, &two);
    assert!(written.warnings()[0].contains("app, sidecar"));
    written.stored();
}

#[test]
fn custom_resources_at_their_own_door() {
    let world = World::default();
    let memory = |more: Value| {
        let mut spec = json!({"transport": "streamable-http"});
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        mcpserver(1, spec)
    };
    assert_eq!(
        world.create(&memory(json!({"replicas": 3}))).refusal(),
        format!("spec.replicas: Invalid value: 3: {MEMORY}")
    );
    let warned = world.create(&memory(json!({"backendReplicas": 3})));
    assert_eq!(warned.warnings().len(), 1, "{:?}", warned.warnings());
    warned.stored();
    world.create(&memory(json!({"replicas": 1}))).stored();
    assert!(world.create(&memory(json!({"replicas": -1}))).refusal().ends_with("[berth:InvalidPolicy]"));
    // What was so before is a warning.
    let three = memory(json!({"replicas": 3}));
    assert_eq!(world.update(&three, &three).warnings().len(), 1);
    let refused = world.update(&three, &memory(json!({"replicas": 4})));
    assert_eq!(refused.refusal(), format!("spec.replicas: Invalid value: 4: {MEMORY}"));
    let virtual_one = world.create(&virtual_mcpserver(json!({"replicas": 2})));
    assert_eq!(virtual_one.refusal(), format!("spec.replicas: Invalid value: 2: {MEMORY}"));
}

#[test]
fn a_count_left_to_others_is_counted_live() {
    let redis = mcpserver(1, json!({"transport": "sse", "sessionStorage": {"provider": "redis", "address": "r:1"}}));
    let memory = mcpserver(2, json!({"transport": "sse"}));
    let live = |count: i64| {
        let mut object = owned(deployment(json!({})), "MCPServer", "toolhive");
        object["spec"]["replicas"] = json!(count);
        World::with_workload(WorkloadKind::Deployment, object)
    };
    live(1).update(&redis, &memory).stored();
    let refusal = live(3).update(&redis, &memory).refusal();
    assert!(
        refusal.starts_with("spec.sessionStorage.provider: Invalid value: \"memory\": 3 replicas run"),
        "{refusal}"
    );
    // It was so before.
    assert_eq!(live(3).update(&memory, &memory).warnings().len(), 1);
    // A Deployment of that name that belongs to somebody else does not count.
    let mut foreign = deployment(json!({}));
    foreign["metadata"]["name"] = json!("foo");
    foreign["spec"]["replicas"] = json!(3);
    World::with_workload(WorkloadKind::Deployment, foreign).update(&redis, &memory).stored();
    let unreadable = World { unreadable: true, ..World::default() };
    assert!(unreadable.update(&redis, &memory).refusal().ends_with("[berth:PolicyNotFound]"));
}

#[test]
fn scales_are_judged_by_their_parents() {
    let scale = |world: &World, plural: &str, name: &str, to, from| {
        world.decide(Webhook::Validate, &scale_review("apps", plural, name, to, from))
    };
    let memory = World::with_workload(WorkloadKind::Deployment, deployment(opted_in(json!({}))));
    let refused = scale(&memory, "deployments", "web", 3, 1);
    assert_eq!(message(&refused), format!("spec.replicas: Invalid value: 3: {MEMORY}"));
    assert_eq!(refused.refusal().unwrap().about, Some("Deployment"));
    assert!(scale(&memory, "deployments", "web", 1, 3).is_allowed());
    assert_eq!(scale(&memory, "deployments", "web", 2, 3).warnings.len(), 1);
    let redis = World::with_workload(WorkloadKind::StatefulSet, stateful_set(redis(json!({})), "x"));
    assert!(scale(&redis, "statefulsets", "web", 9, 1).is_allowed());
    let bystander = World::with_workload(WorkloadKind::Deployment, deployment(json!({})));
    assert!(scale(&bystander, "deployments", "web", 9, 1).is_allowed());
    assert!(scale(&World::default(), "deployments", "gone", 9, 1).is_allowed());
    let unreadable = World { unreadable: true, ..World::default() };
    // It may be anybody's: nothing is decided, and the registration says what happens then.
    let undecided = scale(&unreadable, "deployments", "web", 9, 1);
    assert!(undecided.refusal().is_some_and(|refusal| refusal.undecided), "{undecided:?}");
    let resource =
        unreadable.decide(Webhook::Validate, &scale_review("toolhive.stacklok.dev", "mcpservers", "foo", 3, 1));
    assert_eq!(resource.refusal().map(|refusal| (refusal.code, refusal.undecided)), Some((500, false)));
}

#[test]
fn scales_of_custom_resources_and_of_their_workloads() {
    let memory = mcpserver(1, json!({"transport": "sse"}));
    let mut world = World::with_cr(CrKind::McpServer, memory);
    let group = "toolhive.stacklok.dev";
    let refused = world.decide(Webhook::Validate, &scale_review(group, "mcpservers", "foo", 3, 1));
    assert_eq!(message(&refused), format!("spec.replicas: Invalid value: 3: {MEMORY}"));
    world.workloads = vec![
        (WorkloadKind::Deployment, owned(deployment(json!({})), "MCPServer", "toolhive")),
        (WorkloadKind::StatefulSet, owned(stateful_set(json!({}), "mcp-foo-headless"), "MCPServer", "mcp")),
    ];
    assert!(!world.decide(Webhook::Validate, &scale_review("apps", "deployments", "foo", 3, 1)).is_allowed());
    let backends = world.decide(Webhook::Validate, &scale_review("apps", "statefulsets", "foo", 3, 1));
    assert!(backends.is_allowed());
    assert_eq!(backends.warnings.len(), 1, "{:?}", backends.warnings);
}

/// A cached copy of the owner would let a scale through that came right after the change from redis to memory.
#[test]
fn counts_written_from_outside_are_judged_by_the_owner_as_it_is_now() {
    let query = WorkloadQuery { kind: WorkloadKind::Deployment, namespace: "ns".to_owned(), name: "foo".to_owned() };
    let workload = owned(deployment(json!({})), "MCPServer", "toolhive");
    let scaler = review(&hpa("apps/v1", "Deployment", "foo", 3), None);
    for question in [scale_review("apps", "deployments", "foo", 3, 1), scaler] {
        let body = question.to_string();
        let question = Review::from_slice(body.as_bytes()).unwrap();
        let mut facts = Facts::default();
        facts.add_workload(query.clone(), Answer::Found(serde_json::from_value(workload.clone()).unwrap()));
        match decide(Webhook::Validate, &question, &facts, &Settings::default()) {
            Err(Need::CustomResource(asked)) => assert_eq!(asked.freshness, Freshness::Now),
            other => panic!("{other:?}"),
        }
    }
}

fn hpa(api_version: &str, kind: &str, name: &str, max: i64) -> Value {
    json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h", "namespace": "ns"},
        "spec": {"scaleTargetRef": {"apiVersion": api_version, "kind": kind, "name": name}, "maxReplicas": max}})
}

#[test]
fn autoscalers_are_judged_by_their_targets() {
    let memory = World::with_workload(WorkloadKind::Deployment, deployment(opted_in(json!({}))));
    let refused = memory.create(&hpa("apps/v1", "Deployment", "web", 5));
    assert_eq!(refused.refusal(), format!("spec.maxReplicas: Invalid value: 5: {MEMORY}"));
    assert_eq!(refused.warnings(), [refused.refusal()], "kubectl autoscale hides the refusal");
    memory.create(&hpa("apps/v1", "Deployment", "web", 1)).stored();
    memory.create(&hpa("apps/v1", "Deployment", "other", 5)).stored();
    memory.create(&hpa("apps/v1", "ReplicaSet", "web", 5)).stored();
    memory.create(&hpa("", "Deployment", "web", 5)).stored();
    // It was so before, for this target.
    let (five, six) = (hpa("apps/v1", "Deployment", "web", 5), hpa("apps/v1", "Deployment", "web", 6));
    assert_eq!(memory.update(&five, &five).warnings().len(), 1);
    assert_eq!(memory.update(&five, &six).warnings(), Vec::<String>::new());
    memory.update(&five, &six).refusal();
    memory.update(&hpa("apps/v1", "Deployment", "other", 5), &five).refusal();
    let cr = World::with_cr(CrKind::McpServer, mcpserver(1, json!({"replicas": 1})));
    let stdio = cr.create(&hpa("toolhive.stacklok.dev/v1beta1", "MCPServer", "foo", 2)).refusal();
    assert!(stdio.ends_with("[berth:StdioTransportCapAt1]"), "{stdio}");
}
