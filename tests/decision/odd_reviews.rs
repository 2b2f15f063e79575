//! Reviews that no API server sends: a well-formed answer, never a pass by accident.

use berth::admission::{Facts, Review, Settings, Webhook, decide};
use serde_json::{Value, json};

use crate::world::*;

fn changed(path: &str, value: Value) -> Value {
    let mut review = review(&deployment(opted_in(json!({}))), None);
    *review.pointer_mut(path).unwrap() = value;
    review
}

#[test]
fn a_guarded_kind_without_its_object_is_refused() {
    let world = World::default();
    for webhook in [Webhook::Mutate, Webhook::Validate] {
        for (path, value) in [
            ("/request/object", Value::Null),
            ("/request/operation", json!("UPDATE")),
            ("/request/operation", json!("PATCH")),
            ("/request/operation", json!("")),
        ] {
            let verdict = world.decide(webhook, &changed(path, value.clone()));
            assert_eq!(verdict.refusal().map(|refusal| refusal.code), Some(400), "{webhook:?} {path} {value}");
        }
    }
}

#[test]
fn an_object_of_the_wrong_shape_is_refused() {
    let world = World::default();
    for (path, value) in [
        ("/request/object", json!("a string")),
        ("/request/object", json!([])),
        ("/request/object/spec/replicas", json!("three")),
        ("/request/object/spec", json!("x")),
        ("/request/object/spec", json!([])),
        ("/request/object/metadata", json!([])),
        ("/request/object/metadata/annotations", json!([1])),
        ("/request/object/spec/template", json!("x")),
        ("/request/object/spec/template/spec/containers", json!({})),
        ("/request/object/metadata/annotations/berth.dev~1inject", json!(true)),
    ] {
        let review = changed(path, value);
        let body = review.to_string();
        let parsed = Review::from_slice(body.as_bytes()).unwrap();
        let verdict = world.decide(Webhook::Validate, &review);
        assert_eq!(verdict.refusal().map(|refusal| refusal.code), Some(422), "{path}");
        let answer: Value = serde_json::from_slice(&verdict.to_json(&parsed).unwrap()).unwrap();
        assert_eq!(answer["response"]["allowed"], json!(false));
    }
}

#[test]
fn what_berth_does_not_guard_passes() {
    let world = World::default();
    for (path, value) in [
        ("/request/operation", json!("DELETE")),
        ("/request/operation", json!("CONNECT")),
        ("/request/subResource", json!("status")),
    ] {
        let mut review = changed("/request/uid", json!("u"));
        review["request"]["subResource"] = json!("");
        *review.pointer_mut(path).unwrap() = value;
        assert!(world.decide(Webhook::Validate, &review).is_allowed(), "{path}");
    }
    let mut deleted = changed("/request/operation", json!("DELETE"));
    deleted["request"]["object"] = Value::Null;
    assert!(world.decide(Webhook::Validate, &deleted).is_allowed());
    let mut job = review(&deployment(opted_in(json!({"replicas": "x"}))), None);
    job["request"]["kind"] = json!({"group": "batch", "version": "v1", "kind": "Job"});
    job["request"]["resource"] = json!({"group": "batch", "version": "v1", "resource": "jobs"});
    let verdict = world.decide(Webhook::Mutate, &job);
    assert!(verdict.is_allowed() && verdict.patch().is_empty());
}

#[test]
fn the_answer_repeats_uid_and_version_and_says_why() {
    let mut question = changed("/request/object/spec/replicas", json!(3));
    question["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let body = question.to_string();
    let review = Review::from_slice(body.as_bytes()).unwrap();
    let verdict = decide(Webhook::Validate, &review, &Facts::default(), &Settings::default()).unwrap();
    let answer: Value = serde_json::from_slice(&verdict.to_json(&review).unwrap()).unwrap();
    assert_eq!(
        (&answer["apiVersion"], &answer["kind"]),
        (&json!("admission.k8s.io/v1beta1"), &json!("AdmissionReview"))
    );
    let response = &answer["response"];
    assert_eq!((&response["uid"], &response["allowed"]), (&json!("review-1"), &json!(false)));
    let status = &response["status"];
    assert_eq!(
        (&status["code"], &status["reason"], &status["status"]),
        (&json!(422), &json!("Invalid"), &json!("Failure"))
    );
    assert_eq!((&status["details"]["kind"], &status["details"]["name"]), (&json!("Deployment"), &json!("web")));
    assert_eq!(status["details"]["causes"][0]["field"], json!("spec.replicas"));
    assert_eq!(status["details"]["causes"][0]["reason"], json!("FieldValueInvalid"));
    assert!(status["details"]["causes"][0]["message"].as_str().unwrap().starts_with("Invalid value: 3: "));
}

#[test]
fn a_patch_travels_as_base64_of_a_json_patch() {
    use base64::Engine as _;
    let question = changed("/request/uid", json!("u")).to_string();
    let review = Review::from_slice(question.as_bytes()).unwrap();
    let verdict = decide(Webhook::Mutate, &review, &Facts::default(), &Settings::default()).unwrap();
    let answer: Value = serde_json::from_slice(&verdict.to_json(&review).unwrap()).unwrap();
    assert_eq!(answer["response"]["patchType"], json!("JSONPatch"));
    let patch =
        base64::engine::general_purpose::STANDARD.decode(answer["response"]["patch"].as_str().unwrap()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    assert_eq!(patch.0, verdict.patch());
    assert!(!patch.0.is_empty());
}
