//! Workloads of an MCPServer or a VirtualMCPServer.

use berth::policy::CrKind;
use serde_json::{Value, json};

use crate::world::*;

fn http(more: Value) -> Value {
    let mut spec = json!({"image": "i", "transport": "streamable-http", "sessionStorage": {"provider": "redis",
        "address": "redis:6379", "passwordRef": {"name": "redis", "key": "password"}}});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

fn world(generation: i64, spec: Value) -> World {
    World::with_cr(CrKind::McpServer, mcpserver(generation, spec))
}

fn proxy() -> Value {
    owned(deployment(json!({})), "MCPServer", "toolhive")
}

fn backend() -> Value {
    owned(stateful_set(json!({}), "mcp-foo-headless"), "MCPServer", "mcp")
}

#[test]
fn the_proxy_gets_replicas_password_stamp_and_env() {
    let stored = world(4, http(json!({"replicas": 2}))).create(&proxy()).stored();
    assert_eq!(stored["spec"]["replicas"], json!(2));
    assert_eq!(stamp(&stored), Some("4"));
    assert_eq!(env_of(&stored, 0, "THV_SESSION_REDIS_PASSWORD"), [password("redis", "password")]);
    assert_eq!(env_of(&stored, 0, "THV_MCPSERVER_GENERATION"), [generation_env()]);
}

#[test]
fn the_backend_gets_the_stamp_and_the_grace_period_and_nothing_else() {
    let mut asked = backend();
    asked["spec"]["template"]["spec"].as_object_mut().unwrap().remove("terminationGracePeriodSeconds");
    let mut expected = with_stamp(asked.clone(), "4");
    expected["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(30);
    assert_eq!(world(4, http(json!({"replicas": 2, "backendReplicas": 3}))).create(&asked).stored(), expected);
}

#[test]
fn a_virtual_server_gets_no_stamp() {
    let spec = json!({"replicas": 2, "sessionStorage": {"provider": "redis", "address": "redis:6379", "passwordRef": {"name": "s", "key": "k"}}});
    let world = World::with_cr(CrKind::VirtualMcpServer, virtual_mcpserver(spec));
    let stored = world.create(&owned(deployment(json!({})), "VirtualMCPServer", "vmcp")).stored();
    assert_eq!(stored["spec"]["replicas"], json!(2));
    assert_eq!(env_of(&stored, 0, "THV_SESSION_REDIS_PASSWORD"), [password("s", "k")]);
    assert_eq!(env_of(&stored, 0, "THV_MCPSERVER_GENERATION"), Vec::<Value>::new());
    assert_eq!(stamp(&stored), None);
}

#[test]
fn the_custom_resources_annotations_count() {
    let mut cr = mcpserver(1, http(json!({})));
    cr["metadata"]["annotations"] = json!({"berth.dev/termination-grace-period-seconds": "75"});
    let stored = World::with_cr(CrKind::McpServer, cr).create(&proxy()).stored();
    assert_eq!(stored["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], json!(75));
}

#[test]
fn on_update_the_count_is_the_controllers() {
    let world = world(1, http(json!({"replicas": 2})));
    let live = world.create(&proxy()).stored();
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(6);
    let written = world.update(&live, &scaled);
    assert_eq!(written.mutation.patch(), []);
    assert_eq!(written.stored()["spec"]["replicas"], json!(6));
}

#[test]
fn the_writer_moves_the_stamp_and_nobody_else() {
    let live = world(3, http(json!({}))).create(&proxy()).stored();
    let now = world(4, http(json!({})));
    // An unrelated write after a change of the resource: an old template must not look new.
    let mut unrelated = live.clone();
    unrelated["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(now.update(&live, &unrelated).mutation.patch(), []);
    // A replace without a stamp gets the live one.
    let mut without = live.clone();
    without["spec"]["template"]["metadata"]["annotations"].take();
    assert_eq!(stamp(&now.update(&live, &without).stored()), Some("3"));
    // The writer's higher one is taken.
    let newer = with_stamp(live.clone(), "4");
    assert_eq!(now.update(&live, &newer).stored(), newer);
}

#[test]
fn a_stray_stamp_shuts_nobody_out() {
    let world = world(4, http(json!({})));
    let live = world.create(&proxy()).stored();
    let stray = world.update(&live, &with_stamp(live.clone(), "999999")).stored();
    assert_eq!(stamp(&stray), Some("4"));
    // One that got in before Berth came comes down too.
    let before = with_stamp(live.clone(), "999999");
    assert_eq!(stamp(&world.update(&before, &with_stamp(live, "4")).stored()), Some("4"));
}

#[test]
fn a_stale_writer_is_refused_by_both_webhooks() {
    let world = world(4, http(json!({})));
    let live = world.create(&proxy()).stored();
    let stale = with_stamp(live.clone(), "3");
    for webhook in [berth::admission::Webhook::Mutate, berth::admission::Webhook::Validate] {
        let verdict = world.decide(webhook, &review(&stale, Some(&live)));
        let refusal = verdict.refusal().expect("refused");
        assert_eq!(refusal.code, 403);
        assert!(refusal.message.ends_with("[berth:StaleGeneration]"), "{}", refusal.message);
    }
}

#[test]
fn a_recreated_custom_resource_starts_anew() {
    let mut live = world(9, http(json!({}))).create(&proxy()).stored();
    live["metadata"]["ownerReferences"][0]["uid"] = json!("the old one");
    let world = world(1, http(json!({})));
    let rebuilt = with_stamp(proxy(), "1");
    assert_eq!(stamp(&world.update(&live, &rebuilt).stored()), Some("1"));
    let mut adopted = proxy();
    adopted["spec"]["template"]["metadata"]["annotations"].take();
    assert_eq!(stamp(&world.update(&live, &adopted).stored()), Some("1"));
}

#[test]
fn conflicting_annotations_are_a_warning() {
    let mut object = proxy();
    object["metadata"]["annotations"] = opted_in(json!({"replicas": "7"}));
    let written = world(1, http(json!({"replicas": 2}))).create(&object);
    assert!(written.warnings().iter().any(|line| line.contains("berth.dev/replicas")), "{:?}", written.warnings());
    assert_eq!(written.stored()["spec"]["replicas"], json!(2));
}

#[test]
fn backends_without_a_shared_store_are_a_warning() {
    let spec = json!({"image": "i", "transport": "streamable-http", "backendReplicas": 3});
    let mut object = backend();
    object["spec"]["replicas"] = json!(3);
    let written = world(1, spec).create(&object);
    assert!(written.warnings()[0].contains("when it restarts"), "{:?}", written.warnings());
    written.stored();
}

#[test]
fn a_backend_must_stand_behind_its_headless_service() {
    let mut object = backend();
    object["spec"]["serviceName"] = json!("mcp-bar-headless");
    let written = world(1, http(json!({}))).create(&object);
    assert!(written.warnings()[0].contains("mcp-foo-headless"), "{:?}", written.warnings());
}

#[test]
fn an_owner_that_cannot_be_read_is_worth_retrying() {
    let world = World { unreadable: true, ..World::default() };
    let written = world.create(&proxy());
    let refusal = written.mutation.refusal().expect("refused");
    assert_eq!(refusal.code, 500);
    assert!(
        refusal.message.contains("try again") && refusal.message.ends_with("[berth:PolicyNotFound]"),
        "{}",
        refusal.message
    );
}

#[test]
fn a_workload_that_is_let_go_runs_on_as_it_is() {
    let present = world(4, http(json!({})));
    let live = present.create(&proxy()).stored();
    let mut orphan = live.clone();
    orphan["metadata"].as_object_mut().unwrap().remove("ownerReferences");
    // What the garbage collector writes when the resource is deleted with --cascade=orphan.
    assert_eq!(World::default().update(&live, &orphan).mutation.patch(), []);
    // Before that, or restored from a backup: its owner does not exist.
    let mut labelled = live.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(World::default().update(&live, &labelled).mutation.patch(), []);
    assert_eq!(World::default().create(&live).mutation.patch(), []);
}

#[test]
fn more_replicas_are_judged_by_the_owner_as_it_is_now() {
    use berth::admission::{Facts, Freshness, Need, Review, Settings, Webhook, decide};
    let live = world(1, http(json!({}))).create(&proxy()).stored();
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(3);
    let asked = |new: &Value| {
        let body = review(new, Some(&live)).to_string();
        let review = Review::from_slice(body.as_bytes()).unwrap();
        match decide(Webhook::Validate, &review, &Facts::default(), &Settings::default()) {
            Err(Need::CustomResource(query)) => query.freshness,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(asked(&scaled), Freshness::Now);
    assert_eq!(asked(&live), Freshness::Generation(1), "a copy will do");
}

#[test]
fn the_operators_default_store_counts_for_resources_that_name_none() {
    use berth::admission::{Facts, Review, Settings, Webhook, decide};
    use berth::policy::{Address, RedisStorage};
    let body = review(&mcpserver(1, json!({"transport": "sse", "replicas": 3})), None).to_string();
    let review = Review::from_slice(body.as_bytes()).unwrap();
    let allowed =
        |settings: &Settings| decide(Webhook::Validate, &review, &Facts::default(), settings).unwrap().is_allowed();
    let redis = RedisStorage { address: Address::parse("redis:6379").ok(), ..RedisStorage::default() };
    assert!(allowed(&Settings { default_storage: Some(redis) }));
    assert!(!allowed(&Settings::default()));
}
