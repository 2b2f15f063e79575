//! Scales while the API server answers slowly, or not at all.

use serde_json::{Value, json};

use crate::cache::Cache;
use crate::client::Protocol;
use crate::fake_api::{FakeApi, Reply, server};
use crate::fixture::{Fixture, Tls};

const WORKLOAD: &str = "/apis/apps/v1/namespaces/default/deployments/web";
const OWNER: &str = "/apis/toolhive.stacklok.dev/v1beta1/namespaces/default/mcpservers/web";

/// An MCPServer that keeps sessions there.
fn owner(provider: &str) -> Value {
    let mut owner = server("web", "u", 3);
    owner["spec"]["sessionStorage"] = json!({"provider": provider, "address": "redis:6379"});
    owner
}

fn workload() -> Value {
    json!({"metadata": {"name": "web", "namespace": "default", "uid": "w", "ownerReferences": [{
        "apiVersion": "toolhive.stacklok.dev/v1beta1", "kind": "MCPServer", "name": "web", "uid": "u", "controller": true}]},
        "spec": {"replicas": 1}})
}

/// `kubectl scale`, of an object that is stored at this version.
fn scale(group: &str, plural: &str, to: i64, from: i64) -> Value {
    let scale = |count: i64| {
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": count},
            "metadata": {"name": "web", "namespace": "default", "uid": "u", "resourceVersion": "7"}})
    };
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "0815", "operation": "UPDATE", "namespace": "default", "name": "web",
        "kind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}, "subResource": "scale",
        "resource": {"group": group, "version": "v1", "resource": plural},
        "object": scale(to), "oldObject": scale(from)}})
}

async fn api(provider: &str) -> (FakeApi, Fixture) {
    let api = FakeApi::start().await;
    api.serve_servers("v1beta1", "1", &[owner(provider)]);
    let cache = Cache::synced(&api).await;
    let fixture = Fixture::start_in(Tls::new(), cache.lookup).await;
    (api, fixture)
}

/// The HTTP status, and the response of the review where there is one.
async fn ask(fixture: &Fixture, review: &Value) -> (u16, Value) {
    // The API server waits for twice as long for a real one; the shares of it are the same.
    let path = "/validate?timeout=1s";
    let answer = fixture.client.once(Protocol::Http2, "POST", path, review.to_string().as_bytes()).await;
    let review: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    (answer.status, review["response"].clone())
}

#[tokio::test]
async fn an_owner_that_is_read_too_slowly_is_judged_by_the_copy_that_is_followed() {
    let (api, fixture) = api("redis").await;
    api.reply(WORKLOAD, Reply::Json(200, workload()));
    api.reply(OWNER, Reply::Hang);
    let (status, response) = ask(&fixture, &scale("apps", "deployments", 3, 1)).await;
    assert_eq!((status, &response["allowed"]), (200, &json!(true)), "{response}");
    assert_eq!((api.asked(WORKLOAD), api.asked(OWNER)), (1, 1));
    // One who breaks off says no more than one who is silent.
    api.reply(OWNER, Reply::Close);
    let (_, response) = ask(&fixture, &scale("apps", "deployments", 3, 1)).await;
    assert_eq!(response["allowed"], json!(true), "{response}");
    // How it is now comes first, where it comes.
    api.reply(OWNER, Reply::Json(200, owner("memory")));
    let (_, response) = ask(&fixture, &scale("apps", "deployments", 3, 1)).await;
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.ends_with("[berth:SessionStorageMissingForReplicas]"), "{message}");
}

#[tokio::test]
async fn a_copy_that_refuses_is_worth_another_try() {
    let (api, fixture) = api("memory").await;
    api.reply(WORKLOAD, Reply::Json(200, workload()));
    api.reply(OWNER, Reply::Hang);
    let (status, response) = ask(&fixture, &scale("apps", "deployments", 3, 1)).await;
    assert_eq!((status, &response["status"]["code"]), (200, &json!(500)), "{response}");
    let message = response["status"]["message"].as_str().unwrap();
    for part in ["no answer within 800 ms", "kept in memory", "try again [berth:PolicyNotFound]"] {
        assert!(message.contains(part), "{message}");
    }
    // An answer that is none is one of the API server: what it would not give is not made up for.
    api.reply(OWNER, Reply::Json(403, json!({"kind": "Status", "code": 403, "message": "forbidden"})));
    let (_, response) = ask(&fixture, &scale("apps", "deployments", 3, 1)).await;
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("403") && message.contains("nothing is known of its policy"), "{message}");
}

#[tokio::test]
async fn a_workload_that_is_read_too_slowly_is_left_to_the_registration_unless_nothing_would_refuse() {
    let (api, fixture) = api("redis").await;
    api.reply(WORKLOAD, Reply::Hang);
    assert_eq!(ask(&fixture, &scale("apps", "deployments", 3, 1)).await.0, 503);
    assert_eq!(ask(&fixture, &scale("apps", "deployments", 3, 5)).await.1["allowed"], json!(true));
    let asked = api.asked(WORKLOAD);
    assert_eq!(ask(&fixture, &scale("apps", "deployments", 1, 5)).await.1["allowed"], json!(true));
    assert_eq!(api.asked(WORKLOAD), asked, "one replica is right for everybody");
}

#[tokio::test]
async fn a_scale_of_a_resource_that_the_cache_has_asks_nobody() {
    let (api, fixture) = api("memory").await;
    let (_, response) = ask(&fixture, &scale("toolhive.stacklok.dev", "mcpservers", 3, 1)).await;
    assert_eq!(response["status"]["code"], json!(422), "{response}");
    assert_eq!(api.asked(OWNER), 0);
}
