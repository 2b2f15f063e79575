//! What holds whatever is written.

use berth::admission::Webhook;
use berth::policy::CrKind;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::world::*;

fn annotation_value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("enabled".to_owned()),
        Just("disabled".to_owned()),
        Just("redis".to_owned()),
        Just("memory".to_owned()),
        Just("stdio".to_owned()),
        Just("redis:6379".to_owned()),
        Just("s/k".to_owned()),
        Just("app".to_owned()),
        Just("side".to_owned()),
        Just("app/THV_SESSION_REDIS_PASSWORD,side/THV_MCPSERVER_GENERATION,x,/,a/b".to_owned()),
        "[0-9]{1,3}",
        "\\PC{0,8}",
    ]
}

fn annotations() -> impl Strategy<Value = Value> {
    let keys = prop::sample::select(vec![
        "replicas",
        "session-provider",
        "session-address",
        "session-password-secret",
        "transport",
        "container",
        "injected-env",
        "termination-grace-period-seconds",
    ]);
    (prop::collection::btree_map(keys, annotation_value(), 0..5), prop::bool::weighted(0.9)).prop_map(
        |(more, inject)| {
            let mut all: Map<String, Value> =
                more.into_iter().map(|(key, value)| (format!("berth.dev/{key}"), json!(value))).collect();
            if inject {
                all.insert("berth.dev/inject".to_owned(), json!("enabled"));
            }
            Value::Object(all)
        },
    )
}

fn env_entry() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({"name": "A", "value": "b"})),
        Just(json!({"name": "THV_SESSION_REDIS_PASSWORD", "value": "plain"})),
        Just(json!({"name": "THV_SESSION_REDIS_PASSWORD", "value": ""})),
        Just(password("s", "k")),
        Just(password("own", "k")),
        Just(generation_env()),
        Just(json!({"name": "THV_MCPSERVER_GENERATION", "value": "7"})),
        Just(json!("odd")),
        Just(json!({"name": 3})),
    ]
}

fn container(name: &'static str) -> impl Strategy<Value = Value> {
    prop::option::of(prop::collection::vec(env_entry(), 0..4)).prop_map(move |env| {
        let mut container = json!({"name": name, "image": "i"});
        if let Some(env) = env {
            container["env"] = json!(env);
        }
        container
    })
}

fn stamps() -> impl Strategy<Value = Option<String>> {
    prop::option::of(prop_oneof![
        "[0-9]{1,2}",
        Just("-1".to_owned()),
        Just("x".to_owned()),
        Just("9223372036854775807".to_owned())
    ])
}

prop_compose! {
    fn workload()(
        annotations in annotations(),
        app in container("app"),
        side in prop::option::of(container("side")),
        replicas in prop::option::of(-1..5_i64),
        grace in prop::option::of(0..60_i64),
        stamp in stamps(),
        is_stateful_set: bool,
        owned in prop::option::of(prop::sample::select(vec!["MCPServer", "VirtualMCPServer"])),
        image in "[ab]",
    ) -> Value {
        let mut object = if is_stateful_set { stateful_set(annotations, "mcp-web-headless") } else { deployment(annotations) };
        object["spec"]["replicas"] = json!(replicas);
        let mut containers = vec![app];
        containers.extend(side);
        object["spec"]["template"]["spec"]["containers"] = json!(containers);
        object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        object["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(grace);
        if let Some(stamp) = stamp {
            object = with_stamp(object, &stamp);
        }
        if let Some(kind) = owned {
            object["metadata"]["ownerReferences"] = json!([{"apiVersion": "toolhive.stacklok.dev/v1beta1", "kind": kind, "name": "foo", "uid": "cr-uid", "controller": true}]);
        }
        object
    }
}

fn world() -> World {
    let spec = json!({"transport": "sse", "replicas": 2, "sessionStorage": {"provider": "redis", "address": "r:6379", "passwordRef": {"name": "s", "key": "k"}}});
    World {
        custom_resources: vec![
            (CrKind::McpServer, mcpserver(5, spec.clone())),
            (CrKind::VirtualMcpServer, virtual_mcpserver(spec)),
        ],
        ..World::default()
    }
}

/// The paths that section 2 of the design lists.
fn may_be_touched(path: &str) -> bool {
    const EXACT: [&str; 6] = [
        "/spec/replicas",
        "/spec/template/spec/terminationGracePeriodSeconds",
        "/metadata/annotations/berth.dev~1injected-env",
        "/metadata/annotations",
        "/spec/template/metadata/annotations",
        "/spec/template/metadata/annotations/toolhive.stacklok.dev~1mcpserver-generation",
    ];
    let env = path
        .strip_prefix("/spec/template/spec/containers/")
        .and_then(|rest| rest.split_once('/'))
        .map(|(_, rest)| rest);
    EXACT.contains(&path) || env.is_some_and(|rest| rest == "env" || rest.starts_with("env/"))
}

fn number(object: &Value) -> Option<i64> {
    stamp(object)?.parse().ok().filter(|number| *number >= 0)
}

/// Any JSON, with the field names that the rules look at more likely than others.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,6}".prop_map(Value::from),
        Just(json!("redis")),
    ];
    let key = prop_oneof![
        prop::sample::select(vec![
            "metadata",
            "spec",
            "annotations",
            "replicas",
            "maxReplicas",
            "scaleTargetRef",
            "sessionStorage",
            "provider",
            "passwordRef",
            "transport",
            "ownerReferences",
            "template",
            "containers",
            "env",
            "name",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,4}",
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..5).prop_map(|all| json!(all)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn mutating_twice_is_mutating_once(new in workload(), old in prop::option::of(workload())) {
        let world = world();
        let first = world.decide(Webhook::Mutate, &review(&new, old.as_ref()));
        if !first.is_allowed() {
            return Ok(());
        }
        let once = patched(&new, &first);
        let second = world.decide(Webhook::Mutate, &review(&once, old.as_ref()));
        prop_assert_eq!(second.patch(), &[], "after {:?}", first.patch());
        // Once stored, the object written as it is changes nothing either.
        let stored = world.decide(Webhook::Mutate, &review(&once, Some(&once)));
        prop_assert_eq!(stored.patch(), &[], "stored after {:?}", first.patch());
    }

    #[test]
    fn only_what_the_design_lists_is_touched(new in workload(), old in prop::option::of(workload())) {
        for operation in world().decide(Webhook::Mutate, &review(&new, old.as_ref())).patch() {
            prop_assert!(may_be_touched(operation.path().as_str()), "{}", operation.path());
        }
    }

    #[test]
    fn what_is_patched_passes_or_is_refused_for_a_stated_reason(new in workload(), old in prop::option::of(workload())) {
        let written = world().write(&new, old.as_ref());
        if let Some(refusal) = written.validation.refusal() {
            prop_assert!(refusal.word.is_some() && refusal.message.contains("[berth:"), "{}", refusal.message);
        } else {
            let object = &written.object;
            let managed = object["metadata"]["ownerReferences"].is_array() || object["metadata"]["annotations"]["berth.dev/inject"] == "enabled";
            // Whoever went through and is new keeps no password in the clear where Berth looks.
            if managed && old.is_none() && object["kind"] == "Deployment" {
                let plain = env_of(object, 0, "THV_SESSION_REDIS_PASSWORD").iter().any(|entry| entry["value"] == "plain");
                let elsewhere = object["metadata"]["annotations"]["berth.dev/container"] == "side";
                prop_assert!(!plain || elsewhere, "{object}");
            }
        }
        for warning in written.warnings() {
            prop_assert!(!warning.contains('\n'), "{warning:?}");
        }
    }

    #[test]
    fn a_stamp_never_falls(new in workload(), old in workload()) {
        let written = world().update(&old, &new);
        if !written.validation.is_allowed() {
            return Ok(());
        }
        let same_owner = new["metadata"]["ownerReferences"] == old["metadata"]["ownerReferences"];
        if let (Some(before), Some(after), true) = (number(&old), number(&written.object), same_owner) {
            let owner = &new["metadata"]["ownerReferences"][0]["kind"];
            // A live stamp above the generation of its MCPServer is a stray, and counts as that generation.
            let live = if owner == "MCPServer" { before.min(5) } else { before };
            let annotated = owner.is_null() && new["metadata"]["annotations"]["berth.dev/inject"] == "enabled";
            if owner == "MCPServer" || annotated {
                prop_assert!(after >= live, "{before} to {after}");
            }
        }
    }

    #[test]
    fn whatever_the_object_is_there_is_an_answer(
        target in prop::sample::select(vec![
            ("apps", "Deployment", "deployments", ""),
            ("apps", "StatefulSet", "statefulsets", ""),
            ("autoscaling", "Scale", "deployments", "scale"),
            ("autoscaling", "HorizontalPodAutoscaler", "horizontalpodautoscalers", ""),
            ("toolhive.stacklok.dev", "MCPServer", "mcpservers", ""),
            ("toolhive.stacklok.dev", "VirtualMCPServer", "virtualmcpservers", ""),
        ]),
        object in any_json(),
        old in prop::option::of(any_json()),
    ) {
        let (group, kind, resource, sub) = target;
        let resource_group = if sub.is_empty() { group } else { "apps" };
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "u", "kind": {"group": group, "version": "v1", "kind": kind},
            "resource": {"group": resource_group, "version": "v1", "resource": resource}, "subResource": sub,
            "name": "x", "namespace": "ns", "operation": if old.is_some() { "UPDATE" } else { "CREATE" },
            "object": object, "oldObject": old}});
        for webhook in [Webhook::Mutate, Webhook::Validate] {
            let verdict = world().decide(webhook, &review);
            if webhook == Webhook::Validate && !object.is_object() {
                prop_assert!(!verdict.is_allowed(), "{object} passed for a {kind}");
            }
        }
    }
}
