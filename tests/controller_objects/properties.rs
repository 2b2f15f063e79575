//! What holds for any resource.

use berth::controller::objects::{Facts, ObjectKind, Plan, plan, spec_hash};
use berth::policy::CrKind;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::plans::settings;

const STAMP: &str = "toolhive.stacklok.dev/mcpserver-generation";
const FIELDS: [&str; 33] = [
    "image",
    "transport",
    "proxyPort",
    "port",
    "mcpPort",
    "targetPort",
    "args",
    "env",
    "volumes",
    "resources",
    "secrets",
    "serviceAccount",
    "podTemplateSpec",
    "resourceOverrides",
    "sessionAffinity",
    "replicas",
    "backendReplicas",
    "sessionStorage",
    "proxyMode",
    "groupRef",
    "audit",
    "tools",
    "permissionProfile",
    "config",
    "serviceType",
    "imagePullSecrets",
    "incomingAuth",
    "outgoingAuth",
    "metadata",
    "spec",
    "containers",
    "proxyDeployment",
    "env",
];

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..9000_i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z]{0,6}|\\PC{0,9}|redis|memory|sse|anonymous|redis:6379".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        let key = prop_oneof![
            prop::sample::select(FIELDS.to_vec()).prop_map(str::to_owned),
            "name|key|value|provider|address|passwordRef|labels|annotations|valueFrom|\\PC{0,6}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..5).prop_map(|fields| Value::Object(Map::from_iter(fields))),
        ]
    })
}

fn any_resource() -> impl Strategy<Value = (CrKind, Value)> {
    let field = prop_oneof![3 => prop::sample::select(FIELDS.to_vec()).prop_map(str::to_owned), 1 => "\\PC{0,6}"];
    let fields = prop::collection::vec((field, any_json()), 0..6);
    (any::<bool>(), any::<bool>(), fields, any_json()).prop_map(|(vmcp, valid, fields, metadata)| {
        let kind = if vmcp { CrKind::VirtualMcpServer } else { CrKind::McpServer };
        let mut spec = Map::from_iter(fields);
        if valid && !vmcp {
            spec.insert("image".to_owned(), json!("i"));
            spec.insert("transport".to_owned(), json!("sse"));
        }
        let metadata = if valid { json!({"name": "foo", "namespace": "n", "uid": "u"}) } else { metadata };
        (kind, json!({"metadata": metadata, "spec": spec}))
    })
}

/// Settings of a user that may be built, each there or not.
fn usable_resource() -> impl Strategy<Value = Value> {
    let options = json!({
        "replicas": 3, "backendReplicas": 2, "proxyPort": 80, "mcpPort": 3000, "args": ["x"], "serviceAccount": "sa",
        "env": [{"name": "A", "value": "b"}], "secrets": [{"name": "s", "key": "k"}], "resources": {"limits": {"cpu": 1}},
        "sessionStorage": {"provider": "redis", "address": "r:1", "passwordRef": {"name": "secret-name", "key": "secret-key"}},
        "volumes": [{"name": "v", "hostPath": "/h", "mountPath": "/m"}],
        "podTemplateSpec": {"metadata": {"annotations": {STAMP: "0"}, "labels": {"app": "x", "toolhive": "false"}},
                            "spec": {"containers": [{"name": "mcp", "env": []}], "terminationGracePeriodSeconds": 5}},
        "resourceOverrides": {"proxyDeployment": {
            "podTemplateMetadataOverrides": {"annotations": {STAMP: "0"}, "labels": {"app": "x"}},
            "env": [{"name": "THV_MCPSERVER_GENERATION", "value": "0"}, {"name": "THV_SESSION_REDIS_PASSWORD", "value": "plain"}]}},
    });
    let options: Vec<(String, Value)> = options.as_object().unwrap().clone().into_iter().collect();
    prop::sample::subsequence(options, 0..=13).prop_map(|fields| {
        let mut spec = Map::from_iter(fields);
        spec.insert("image".to_owned(), json!("i"));
        spec.insert("transport".to_owned(), json!("streamable-http"));
        json!({"metadata": {"name": "foo", "namespace": "n", "uid": "u"}, "spec": spec})
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn no_resource_panics_and_the_same_one_gives_the_same((kind, cr) in any_resource(), stamp: i64) {
        let facts = Facts { stamp, ..Facts::default() };
        let first = plan(&cr, kind, &settings(), &facts);
        prop_assert_eq!(&first, &plan(&cr, kind, &settings(), &facts));
        prop_assert_eq!(spec_hash(&cr).len(), 32);
        if let Plan::Nothing { message, .. } = first {
            prop_assert!(!message.is_empty());
        }
    }
}

proptest! {
    #[test]
    fn nothing_displaces_what_is_berths(cr in usable_resource(), stamp in 0..99_i64) {
        let Plan::Build(build) = plan(&cr, CrKind::McpServer, &settings(), &Facts { stamp, ..Facts::default() }) else { panic!("refused: {cr}") };
        prop_assert_eq!(build.objects.len(), 6);
        for object in &build.objects {
            let metadata = &object.json["metadata"];
            prop_assert_eq!(&metadata["labels"]["app.kubernetes.io/managed-by"], "berth");
            let owner = &metadata["ownerReferences"][0];
            prop_assert_eq!((&owner["uid"], &owner["controller"]), (&json!("u"), &json!(true)));
            prop_assert_eq!(&metadata["namespace"], "n");
            let text = object.json.to_string();
            prop_assert!(!text.contains("plain"));
            prop_assert!(!text.contains(":null"), "an apply says nothing by null");
            match object.kind {
                ObjectKind::ConfigMap => prop_assert!(!text.contains("secret-name") && !text.contains("secret-key")),
                ObjectKind::Service => {}
                ObjectKind::StatefulSet | ObjectKind::Deployment => {
                    let template = &object.json["spec"]["template"];
                    prop_assert_eq!(&template["metadata"]["annotations"][STAMP], &json!(stamp.to_string()));
                    let selector = object.json["spec"]["selector"]["matchLabels"].as_object().unwrap();
                    for (key, value) in selector {
                        prop_assert_eq!(&template["metadata"]["labels"][key], value);
                    }
                }
            }
        }
        let proxy = &build.objects[5].json["spec"]["template"]["spec"]["containers"][0];
        let entries = proxy["env"].as_array().unwrap();
        let named = |name: &str| entries.iter().filter(|entry| entry["name"] == name).collect::<Vec<_>>();
        prop_assert_eq!(named("THV_MCPSERVER_GENERATION").len(), 1);
        let redis = cr["spec"]["sessionStorage"].is_object();
        prop_assert_eq!(named("THV_SESSION_REDIS_PASSWORD").len(), usize::from(redis));
        prop_assert!(entries.iter().all(|entry| entry["name"] == "A" || entry.get("valueFrom").is_some()));
    }
}
