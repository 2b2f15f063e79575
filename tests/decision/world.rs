//! A small world to decide in: objects by builder, facts by list, verdicts by name.

use std::sync::Arc;
use std::time::Duration;

use berth::admission::{
    Answer, CrQuery, Facts, Freshness, LiveWorkload, Need, Review, Settings, Unread, Verdict, Webhook, WorkloadQuery,
    decide,
};
use berth::policy::{CrKind, CustomResource, WorkloadKind};
use serde_json::{Value, json};

pub(crate) const STAMP: &str = "toolhive.stacklok.dev/mcpserver-generation";

/// What exists in the cluster besides the object under review.
#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) custom_resources: Vec<(CrKind, Value)>,
    pub(crate) workloads: Vec<(WorkloadKind, Value)>,
    pub(crate) unreadable: bool,
    /// No custom resource is read in time, and the cache has none that is newer than what is asked for.
    pub(crate) slow: bool,
    /// Nor is a workload.
    pub(crate) very_slow: bool,
    /// The `resourceVersion` of the copies in the cache.
    pub(crate) cached: u128,
}

const LATE: Unread = Unread::Late(Duration::from_millis(1600));

impl World {
    pub(crate) fn with_cr(kind: CrKind, cr: Value) -> Self {
        Self { custom_resources: vec![(kind, cr)], ..Self::default() }
    }

    pub(crate) fn with_workload(kind: WorkloadKind, workload: Value) -> Self {
        Self { workloads: vec![(kind, workload)], ..Self::default() }
    }

    fn find_cr(&self, query: &CrQuery) -> Answer<Arc<CustomResource>> {
        if self.unreadable {
            return Answer::Unreadable(Unread::Failed("the API server answered 500: etcd is away".to_owned()));
        }
        let live = matches!(query.freshness, Freshness::Now | Freshness::Version(_));
        if self.slow && live {
            return Answer::Unreadable(LATE);
        }
        if matches!(query.freshness, Freshness::Cached(version) if version > self.cached) {
            return Answer::Unreadable(Unread::Failed("there is no such copy".to_owned()));
        }
        let found = self.custom_resources.iter().find_map(|(kind, value)| {
            let cr = CustomResource::from_value(*kind, value, None).unwrap();
            let same = *kind == query.kind && cr.meta.name == query.name;
            (same && query.uid.as_ref().is_none_or(|uid| *uid == cr.meta.uid)).then_some(cr)
        });
        found.map_or(Answer::Absent, |cr| Answer::Found(Arc::new(cr)))
    }

    fn find_workload(&self, query: &WorkloadQuery) -> Answer<LiveWorkload> {
        if self.unreadable {
            return Answer::Unreadable(Unread::Failed("the API server answered 500: etcd is away".to_owned()));
        }
        if self.very_slow {
            return Answer::Unreadable(LATE);
        }
        let named = |value: &Value| value["metadata"]["name"] == query.name.as_str();
        let found = self.workloads.iter().find(|(kind, value)| *kind == query.kind && named(value));
        found.map_or(Answer::Absent, |(_, value)| Answer::Found(serde_json::from_value(value.clone()).unwrap()))
    }

    /// Decides as the webhook does: finds what the decision needs, and asks again.
    pub(crate) fn decide(&self, webhook: Webhook, review: &Value) -> Verdict {
        let body = review.to_string();
        let review = Review::from_slice(body.as_bytes()).unwrap();
        let mut facts = Facts::default();
        for _ in 0..8 {
            match decide(webhook, &review, &facts, &Settings::default()) {
                Ok(verdict) => return verdict,
                Err(Need::CustomResource(query)) => {
                    let answer = self.find_cr(&query);
                    facts.add_custom_resource(query, answer);
                }
                Err(Need::Workload(query)) => {
                    let answer = self.find_workload(&query);
                    facts.add_workload(query, answer);
                }
            }
        }
        panic!("the decision asks without end");
    }

    /// What the API server does with a write: mutates, then validates what came of it.
    pub(crate) fn write(&self, new: &Value, old: Option<&Value>) -> Written {
        let mutation = self.decide(Webhook::Mutate, &review(new, old));
        if !mutation.is_allowed() {
            return Written { object: new.clone(), mutation: mutation.clone(), validation: mutation };
        }
        let object = patched(new, &mutation);
        let validation = self.decide(Webhook::Validate, &review(&object, old));
        Written { object, mutation, validation }
    }

    pub(crate) fn create(&self, new: &Value) -> Written {
        self.write(new, None)
    }

    pub(crate) fn update(&self, old: &Value, new: &Value) -> Written {
        self.write(new, Some(old))
    }
}

/// What came of a write.
pub(crate) struct Written {
    pub(crate) object: Value,
    pub(crate) mutation: Verdict,
    pub(crate) validation: Verdict,
}

impl Written {
    /// The stored object; fails when the write was refused.
    pub(crate) fn stored(self) -> Value {
        assert!(self.validation.is_allowed(), "refused: {:?}", self.validation.refusal());
        self.object
    }

    /// The refusal's message; fails when the write went through.
    pub(crate) fn refusal(&self) -> String {
        self.validation.refusal().expect("it went through").message.clone()
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        [self.mutation.warnings.clone(), self.validation.warnings.clone()].concat()
    }
}

pub(crate) fn patched(object: &Value, verdict: &Verdict) -> Value {
    let mut object = object.clone();
    json_patch::patch(&mut object, verdict.patch()).unwrap();
    object
}

pub(crate) fn review(object: &Value, old: Option<&Value>) -> Value {
    let (group, version) = object["apiVersion"].as_str().unwrap().split_once('/').unwrap();
    let kind = object["kind"].as_str().unwrap();
    let plural = format!("{}s", kind.to_lowercase());
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "review-1", "kind": {"group": group, "version": version, "kind": kind},
        "resource": {"group": group, "version": version, "resource": plural},
        "name": object["metadata"]["name"], "namespace": "ns", "operation": if old.is_some() { "UPDATE" } else { "CREATE" },
        "object": object, "oldObject": old}})
}

/// A review of the scale subresource of `plural`.
pub(crate) fn scale_review(group: &str, plural: &str, name: &str, to: i64, from: i64) -> Value {
    let scale = |n: i64| json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": name, "namespace": "ns"}, "spec": {"replicas": n}});
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "review-1", "kind": {"group": "autoscaling", "version": "v1", "kind": "Scale"},
        "resource": {"group": group, "version": "v1", "resource": plural}, "subResource": "scale",
        "name": name, "namespace": "ns", "operation": "UPDATE", "object": scale(to), "oldObject": scale(from)}})
}

/// A Deployment as the API server hands it over, with defaults filled in.
pub(crate) fn deployment(annotations: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "ns", "annotations": annotations},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "app", "image": "app:1", "env": [{"name": "A", "value": "b"}]}],
                "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst"}}}})
}

pub(crate) fn stateful_set(annotations: Value, service_name: &str) -> Value {
    let mut object = deployment(annotations);
    object["kind"] = json!("StatefulSet");
    object["spec"]["serviceName"] = json!(service_name);
    object
}

/// Annotations that opt in, and these.
pub(crate) fn opted_in(more: Value) -> Value {
    let mut all = json!({"berth.dev/inject": "enabled"});
    for (key, value) in more.as_object().unwrap() {
        all[format!("berth.dev/{key}")] = value.clone();
    }
    all
}

pub(crate) fn redis(more: Value) -> Value {
    let mut all = opted_in(more);
    all["berth.dev/session-provider"] = json!("redis");
    all["berth.dev/session-address"] = json!("redis:6379");
    all
}

pub(crate) fn mcpserver(generation: i64, spec: Value) -> Value {
    json!({"apiVersion": "toolhive.stacklok.dev/v1beta1", "kind": "MCPServer",
        "metadata": {"name": "foo", "namespace": "ns", "uid": "cr-uid", "generation": generation}, "spec": spec})
}

pub(crate) fn virtual_mcpserver(spec: Value) -> Value {
    let mut cr = mcpserver(1, spec);
    cr["kind"] = json!("VirtualMCPServer");
    cr
}

/// Makes the object one that the custom resource `foo` controls, with its container.
pub(crate) fn owned(mut object: Value, kind: &str, container: &str) -> Value {
    object["metadata"]["name"] = json!("foo");
    object["metadata"]["annotations"].take();
    object["metadata"]["ownerReferences"] = json!([{"apiVersion": "toolhive.stacklok.dev/v1beta1", "kind": kind, "name": "foo", "uid": "cr-uid", "controller": true}]);
    object["spec"]["template"]["spec"]["containers"][0]["name"] = json!(container);
    object
}

pub(crate) fn with_stamp(mut object: Value, stamp: &str) -> Value {
    object["spec"]["template"]["metadata"]["annotations"] = json!({STAMP: stamp});
    object
}

pub(crate) fn stamp(object: &Value) -> Option<&str> {
    object["spec"]["template"]["metadata"]["annotations"][STAMP].as_str()
}

/// The env entries of a name in a container.
pub(crate) fn env_of(object: &Value, container: usize, name: &str) -> Vec<Value> {
    let env = object["spec"]["template"]["spec"]["containers"][container]["env"].as_array();
    env.into_iter().flatten().filter(|entry| entry["name"] == name).cloned().collect()
}

pub(crate) fn password(name: &str, key: &str) -> Value {
    json!({"name": "THV_SESSION_REDIS_PASSWORD", "valueFrom": {"secretKeyRef": {"name": name, "key": key}}})
}

pub(crate) fn generation_env() -> Value {
    json!({"name": "THV_MCPSERVER_GENERATION", "valueFrom": {"fieldRef": {"apiVersion": "v1",
        "fieldPath": "metadata.annotations['toolhive.stacklok.dev/mcpserver-generation']"}}})
}
