//! The objects and AdmissionReviews that are sent, as an API server would send them: defaults filled in, compact JSON.

use serde_json::{Map, Value, json};

/// The namespace of everything that the benchmark makes.
pub const NAMESPACE: &str = "bench";

const STAMP: &str = "toolhive.stacklok.dev/mcpserver-generation";

/// One kind of review that is measured.
#[derive(Debug, Clone)]
pub struct Fixture {
    /// As the table calls it.
    pub name: &'static str,
    /// `/mutate` or `/validate`.
    pub path: &'static str,
    /// The AdmissionReview.
    pub review: Value,
}

impl Fixture {
    /// The request body.
    pub fn body(&self) -> Vec<u8> {
        self.review.to_string().into_bytes()
    }
}

/// Who owns a workload that has no annotations of ours.
#[derive(Debug, Clone)]
pub struct Owner {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
}

/// All reviews of a run. The sizes are those of the whole review.
pub fn all(owner: &Owner) -> Vec<Fixture> {
    let create = |target, sidecars, managed| {
        sized(target, |env| {
            let mut object = annotated(sidecars, env);
            if managed {
                add_managed_fields(&mut object);
            }
            review("CREATE", object, None)
        })
    };
    let update = |patch: fn(&mut Value)| {
        sized(12_800, |env| {
            let mut old = annotated(0, env);
            wire(&mut old, 1);
            stored(&mut old);
            add_managed_fields(&mut old);
            let mut new = old.clone();
            new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("registry.test/team/server:2.0.1");
            patch(&mut new);
            review("UPDATE", new, Some(old))
        })
    };
    vec![
        Fixture { name: "mutate CREATE 4.6 KB", path: "/mutate", review: create(4_600, 1, false) },
        Fixture { name: "mutate CREATE 6.7 KB", path: "/mutate", review: create(6_700, 4, false) },
        Fixture { name: "mutate CREATE 8.5 KB, managedFields", path: "/mutate", review: create(8_500, 1, true) },
        Fixture {
            name: "mutate CREATE 4.6 KB, of an MCPServer",
            path: "/mutate",
            review: sized(4_600, |env| review("CREATE", owned(1, env, owner), None)),
        },
        Fixture {
            name: "validate CREATE 4.6 KB",
            path: "/validate",
            review: sized(4_600, |env| {
                let mut object = annotated(1, env);
                wire(&mut object, 1);
                review("CREATE", object, None)
            }),
        },
        Fixture { name: "mutate UPDATE 12.8 KB", path: "/mutate", review: update(|_| ()) },
        Fixture { name: "validate UPDATE 12.8 KB", path: "/validate", review: update(|new| set_stamp(new, 2)) },
    ]
}

/// Reviews of a small and of a large Deployment (the size is the object's), for measuring decisions alone.
pub fn by_object_size(owner: &Owner) -> Vec<Fixture> {
    let small = |object: fn(usize, usize) -> Value| {
        (0..100).map(|env| object(0, env)).find(|object| object.to_string().len() >= 3_000).unwrap_or_default()
    };
    let update = |mut old: Value| {
        wire(&mut old, 1);
        stored(&mut old);
        let mut new = old.clone();
        new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("registry.test/team/server:2.0.1");
        review("UPDATE", new, Some(old))
    };
    let wired = |mut object: Value| {
        wire(&mut object, 1);
        review("CREATE", object, None)
    };
    let large = || annotated(60, 3_500);
    let owned = owned(0, 12, owner);
    vec![
        Fixture { name: "mutate CREATE 3 KB", path: "/mutate", review: review("CREATE", small(annotated), None) },
        Fixture { name: "mutate CREATE 3 KB, of an MCPServer", path: "/mutate", review: review("CREATE", owned, None) },
        Fixture { name: "validate CREATE 3 KB", path: "/validate", review: wired(small(annotated)) },
        Fixture { name: "mutate UPDATE 3 KB", path: "/mutate", review: update(small(annotated)) },
        Fixture { name: "mutate CREATE 300 KB", path: "/mutate", review: review("CREATE", large(), None) },
        Fixture { name: "validate CREATE 300 KB", path: "/validate", review: wired(large()) },
        Fixture { name: "mutate UPDATE 300 KB", path: "/mutate", review: update(large()) },
    ]
}

/// An annotated Deployment as a user writes it, for creates through an API server.
pub fn user_deployment(name: &str) -> Value {
    let mut object = annotated(1, 10);
    object["metadata"]["name"] = json!(name);
    object["metadata"]["namespace"] = json!(NAMESPACE);
    object
}

/// An MCPServer of ordinary size.
pub fn mcp_server(index: usize) -> Value {
    json!({
        "apiVersion": "toolhive.stacklok.dev/v1beta1",
        "kind": "MCPServer",
        "metadata": {
            "name": format!("server-{index:04}"),
            "namespace": NAMESPACE,
            "labels": { "app.kubernetes.io/part-of": "bench", "team": format!("team-{}", index % 17) },
        },
        "spec": {
            "image": format!("registry.test/team/server-{index}:1.4.2"),
            "transport": "streamable-http",
            "proxyPort": 8080,
            "replicas": 3,
            "backendReplicas": 3,
            "sessionStorage": {
                "provider": "redis",
                "address": "redis.bench.svc.cluster.local:6379",
                "db": 0,
                "keyPrefix": format!("server-{index}:"),
                "passwordRef": { "name": "redis", "key": "password" },
            },
            "env": (0..8).map(|n| json!({ "name": format!("SETTING_{n}"), "value": format!("value number {n}") })).collect::<Vec<_>>(),
            "resources": { "limits": { "cpu": "500m", "memory": "256Mi" }, "requests": { "cpu": "100m", "memory": "64Mi" } },
        },
    })
}

/// The first review of at least `target` bytes, by adding env entries; a little above, never below.
fn sized(target: usize, build: impl Fn(usize) -> Value) -> Value {
    let mut env = 0;
    loop {
        let candidate = build(env);
        if candidate.to_string().len() >= target || env == 500 {
            return candidate;
        }
        env += 1;
    }
}

fn review(operation: &str, object: Value, old: Option<Value>) -> Value {
    let name = object["metadata"]["name"].clone();
    let options = if operation == "CREATE" { "CreateOptions" } else { "UpdateOptions" };
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "6f1c3a52-8a0e-4a53-9d0f-5d7c0b1f4e21",
            "kind": { "group": "apps", "version": "v1", "kind": "Deployment" },
            "resource": { "group": "apps", "version": "v1", "resource": "deployments" },
            "requestKind": { "group": "apps", "version": "v1", "kind": "Deployment" },
            "requestResource": { "group": "apps", "version": "v1", "resource": "deployments" },
            "name": name,
            "namespace": NAMESPACE,
            "operation": operation,
            "userInfo": {
                "username": "kubernetes-admin",
                "groups": ["system:masters", "system:authenticated"],
                "extra": { "authentication.kubernetes.io/credential-id": ["X509SHA256=8c1d0f9e6a1b4c7d"] },
            },
            "object": object,
            "oldObject": old,
            "dryRun": false,
            "options": { "kind": options, "apiVersion": "meta.k8s.io/v1", "fieldManager": "kubectl-client-side-apply" },
        },
    })
}

fn annotated(sidecars: usize, env: usize) -> Value {
    let mut object = deployment("server-a", "server", sidecars, env);
    object["metadata"]["annotations"] = json!({
        "berth.dev/inject": "enabled",
        "berth.dev/replicas": "3",
        "berth.dev/session-provider": "redis",
        "berth.dev/session-address": "redis.bench.svc.cluster.local:6379",
        "berth.dev/session-password-secret": "redis/password",
        "berth.dev/container": "server",
    });
    object
}

fn owned(sidecars: usize, env: usize, owner: &Owner) -> Value {
    let mut object = deployment(&owner.name, "toolhive", sidecars, env);
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "toolhive.stacklok.dev/v1beta1",
        "kind": "MCPServer",
        "name": owner.name,
        "uid": owner.uid,
        "controller": true,
        "blockOwnerDeletion": true,
    }]);
    object
}

/// A Deployment of a main container and sidecars, with probes and volumes, defaults filled in.
fn deployment(name: &str, container: &str, sidecars: usize, env: usize) -> Value {
    let probe = |path: &str| {
        json!({
            "httpGet": { "path": path, "port": 8080, "scheme": "HTTP" },
            "initialDelaySeconds": 5, "timeoutSeconds": 1, "periodSeconds": 10,
            "successThreshold": 1, "failureThreshold": 3,
        })
    };
    let variables: Vec<Value> = (0..env)
        .map(|n| json!({ "name": format!("APPLICATION_SETTING_{n}"), "value": format!("some value of setting {n}") }))
        .collect();
    let mut containers = vec![json!({
        "name": container,
        "image": "registry.test/team/server:2.0.0",
        "args": ["--listen", "0.0.0.0:8080", "--config", "/etc/server/config.yaml"],
        "ports": [{ "name": "http", "containerPort": 8080, "protocol": "TCP" }],
        "env": variables,
        "resources": {
            "limits": { "cpu": "1", "memory": "512Mi" },
            "requests": { "cpu": "100m", "memory": "128Mi" },
        },
        "volumeMounts": [
            { "name": "config", "mountPath": "/etc/server", "readOnly": true },
            { "name": "scratch", "mountPath": "/tmp" },
        ],
        "livenessProbe": probe("/livez"),
        "readinessProbe": probe("/readyz"),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    })];
    containers.extend((0..sidecars).map(|n| {
        json!({
            "name": format!("sidecar-{n}"),
            "image": "registry.test/team/logs:1.1.0",
            "args": ["--from", "/tmp/log"],
            "env": [{ "name": "NODE", "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": "spec.nodeName" } } }],
            "resources": { "requests": { "cpu": "10m", "memory": "32Mi" } },
            "volumeMounts": [{ "name": "scratch", "mountPath": "/tmp" }],
            "livenessProbe": probe("/livez"),
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": "IfNotPresent",
            "securityContext": { "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true },
        })
    }));
    json!({
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": { "name": name, "namespace": NAMESPACE, "labels": { "app": name, "team": "platform" } },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name, "team": "platform" } },
                "spec": {
                    "volumes": [
                        { "name": "config", "configMap": { "name": "server-config", "defaultMode": 420 } },
                        { "name": "scratch", "emptyDir": {} },
                    ],
                    "containers": containers,
                    "restartPolicy": "Always",
                    "terminationGracePeriodSeconds": 30,
                    "dnsPolicy": "ClusterFirst",
                    "securityContext": { "runAsNonRoot": true },
                    "schedulerName": "default-scheduler",
                },
            },
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": "25%", "maxSurge": "25%" } },
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
        },
        "status": {},
    })
}

/// What the mutation leaves behind, so that a validation sees what it would see.
fn wire(object: &mut Value, stamp: u64) {
    object["metadata"]["annotations"]["berth.dev/injected-env"] =
        json!("server/THV_MCPSERVER_GENERATION,server/THV_SESSION_REDIS_PASSWORD");
    object["spec"]["replicas"] = json!(3);
    set_stamp(object, stamp);
    if let Some(env) = object["spec"]["template"]["spec"]["containers"][0]["env"].as_array_mut() {
        env.push(json!({
            "name": "THV_SESSION_REDIS_PASSWORD",
            "valueFrom": { "secretKeyRef": { "name": "redis", "key": "password" } },
        }));
        env.push(json!({
            "name": "THV_MCPSERVER_GENERATION",
            "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": format!("metadata.annotations['{STAMP}']") } },
        }));
    }
}

fn set_stamp(object: &mut Value, stamp: u64) {
    object["spec"]["template"]["metadata"]["annotations"] = json!({ STAMP: stamp.to_string() });
}

/// What an object that was read back carries.
fn stored(object: &mut Value) {
    object["metadata"]["uid"] = json!("0d2f9d3e-51b7-4f0b-8a35-0f6f1f7a9c11");
    object["metadata"]["resourceVersion"] = json!("48213");
    object["metadata"]["generation"] = json!(1);
    object["metadata"]["creationTimestamp"] = json!("2026-05-04T09:30:00Z");
}

/// One manager that set every field, as after a first `kubectl apply`.
fn add_managed_fields(object: &mut Value) {
    let mut fields = Map::new();
    if let Some(metadata) = object.get("metadata") {
        let mut owned = Map::new();
        for part in ["annotations", "labels"] {
            if let Some(value) = metadata.get(part) {
                owned.insert(format!("f:{part}"), field_set(value));
            }
        }
        fields.insert("f:metadata".into(), Value::Object(owned));
    }
    if let Some(spec) = object.get("spec") {
        fields.insert("f:spec".into(), field_set(spec));
    }
    object["metadata"]["managedFields"] = json!([{
        "manager": "kubectl-client-side-apply",
        "operation": "Update",
        "apiVersion": "apps/v1",
        "time": "2026-05-04T09:30:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }]);
}

/// The FieldsV1 form: `f:` before each field, lists by their merge key where they have one.
fn field_set(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let named = members.iter().map(|(name, member)| (format!("f:{name}"), field_set(member)));
            Value::Object([(".".to_owned(), json!({}))].into_iter().chain(named).collect())
        }
        Value::Array(items) => {
            let keyed = items.iter().filter_map(|item| {
                let key = ["name", "mountPath"].into_iter().find_map(|key| Some((key, item.get(key)?)))?;
                Some((format!("k:{}", json!({ key.0: key.1 })), field_set(item)))
            });
            let members: Map<String, Value> = keyed.collect();
            if members.is_empty() { json!({}) } else { Value::Object(members) }
        }
        _ => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reviews_have_the_sizes_that_their_names_say() {
        let owner = Owner { name: "server-0001".into(), uid: "3c1b".into() };
        for fixture in all(&owner) {
            let size = fixture
                .name
                .split_once(" KB")
                .and_then(|(head, _)| head.rsplit(' ').next()?.parse::<f64>().ok())
                .unwrap();
            let real = fixture.body().len() as f64 / 1000.0;
            assert!((real - size).abs() < 0.25, "{} is of {real} KB", fixture.name);
        }
    }

    #[test]
    fn objects_have_the_sizes_that_their_names_say() {
        let owner = Owner { name: "server-0001".into(), uid: "3c1b".into() };
        for fixture in by_object_size(&owner) {
            let size: f64 = fixture.name.split(' ').nth(2).unwrap().parse().unwrap();
            let real = fixture.review["request"]["object"].to_string().len() as f64 / 1000.0;
            // What wiring adds is a fixed 0.7 KB.
            assert!((real - size).abs() < size / 20.0 + 0.7, "{} is of {real} KB", fixture.name);
        }
    }

    #[test]
    fn no_review_got_its_size_by_running_into_the_bound() {
        let owner = Owner { name: "server-0001".into(), uid: "3c1b".into() };
        for fixture in all(&owner) {
            let env = fixture.review.pointer("/request/object/spec/template/spec/containers/0/env").unwrap();
            assert!(
                (1..25).contains(&env.as_array().unwrap().len()),
                "{} has {} env",
                fixture.name,
                env.as_array().unwrap().len()
            );
        }
    }
}
