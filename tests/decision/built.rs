//! What Berth's own controller builds is right as it is: the webhook changes nothing in it and has nothing to say.

use berth::controller::objects::{Facts, ObjectKind, Plan, Settings, plan};
use berth::policy::CrKind;
use serde_json::{Value, json};

use crate::world::World;

fn cr(kind: CrKind, spec: Value) -> Value {
    json!({
        "apiVersion": "toolhive.stacklok.dev/v1beta1", "kind": kind.as_str(), "spec": spec,
        "metadata": {"name": "web", "namespace": "ns", "uid": "cr-1", "generation": 3},
    })
}

fn workloads(kind: CrKind, cr: &Value, stamp: i64) -> Vec<Value> {
    let settings = Settings {
        proxy_image: "proxy".into(),
        vmcp_image: "vmcp".into(),
        image_pull_policy: None,
        cluster_domain: "cluster.local".into(),
        default_storage: None,
    };
    let Plan::Build(build) = plan(cr, kind, &settings, &Facts { stamp, ..Facts::default() }) else {
        panic!("refused: {cr}")
    };
    let workloads = build
        .objects
        .into_iter()
        .filter(|object| matches!(object.kind, ObjectKind::Deployment | ObjectKind::StatefulSet));
    workloads.map(|object| object.json).collect()
}

fn redis() -> Value {
    json!({"provider": "redis", "address": "redis:6379", "passwordRef": {"name": "s", "key": "k"}})
}

fn many() -> Vec<(CrKind, Value)> {
    let server = |more: Value| {
        let mut spec = json!({"image": "i", "transport": "streamable-http"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        (CrKind::McpServer, cr(CrKind::McpServer, spec))
    };
    let endpoint = |spec: Value| (CrKind::VirtualMcpServer, cr(CrKind::VirtualMcpServer, spec));
    vec![
        server(json!({})),
        server(json!({"replicas": 0, "backendReplicas": 0})),
        server(json!({"replicas": 3, "backendReplicas": 2, "sessionStorage": redis()})),
        server(
            json!({"sessionStorage": redis(), "resourceOverrides": {"proxyDeployment": {"env": [{"name": "A", "value": "b"}]}},
                      "podTemplateSpec": {"spec": {"terminationGracePeriodSeconds": 7}}}),
        ),
        // Got past the webhook: one replica is built of it.
        server(json!({"replicas": 3})),
        endpoint(json!({})),
        endpoint(json!({"replicas": 3, "sessionStorage": redis()})),
    ]
}

#[test]
fn a_new_workload_is_stored_as_it_was_built() {
    for (kind, cr) in many() {
        let world = World::with_cr(kind, cr.clone());
        for workload in workloads(kind, &cr, 3) {
            let written = world.create(&workload);
            assert_eq!(written.warnings(), Vec::<String>::new(), "{cr}");
            assert_eq!(written.stored(), workload, "{cr}");
        }
    }
}

#[test]
fn a_workload_of_an_older_generation_is_replaced() {
    for (kind, cr) in many() {
        let world = World::with_cr(kind, cr.clone());
        for (old, new) in workloads(kind, &cr, 2).into_iter().zip(workloads(kind, &cr, 3)) {
            assert_eq!(world.update(&old, &new).stored(), new);
            if kind == CrKind::McpServer {
                let refusal = world.update(&new, &old).refusal();
                assert!(refusal.contains("StaleGeneration"), "{refusal}");
            }
        }
    }
}
