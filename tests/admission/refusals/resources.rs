//! Refusals of MCPServers and VirtualMCPServers, in both versions.

use std::sync::Arc;

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use super::{ADDRESS, MEMORY, STDIO, apply, assert_absent, assert_passed, assert_refused, content, create, invalid};
use crate::context::{Context, Namespace, trial};
use crate::objects::{RESOURCES, VERSIONS, owned, put, redis, replicas, resource, resource_path, workload};

pub(super) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        trial(ctx, "refusals::resources::what_a_spec_cannot_say", specs),
        trial(ctx, "refusals::resources::back_to_memory_with_replicas", back_to_memory),
        trial(ctx, "refusals::resources::a_count_that_is_left_to_others_is_counted_live", counted_live),
    ]
}

fn three() -> String {
    format!("spec.replicas: Invalid value: 3: {MEMORY}")
}

/// Specs of any resource, and the line that refuses each.
fn refused_specs() -> Vec<(Value, String)> {
    let number = "it must be a whole number from 0 to 2147483647 [berth:InvalidPolicy]";
    let part = "a reference to a Secret needs both name and key [berth:InvalidPolicy]";
    let storage = |mut more: Value| {
        for (field, value) in redis().as_object().into_iter().flatten() {
            if more[field].is_null() {
                more[field] = value.clone();
            }
        }
        json!({"sessionStorage": more})
    };
    vec![
        (json!({"replicas": 3}), three()),
        (json!({"replicas": 3, "sessionStorage": {"provider": "memory"}}), three()),
        (
            json!({"sessionStorage": {"provider": "redis"}}),
            format!("spec.sessionStorage.address: Required value: {ADDRESS}"),
        ),
        (
            json!({"sessionStorage": {"provider": "memcached"}}),
            "spec.sessionStorage.provider: Invalid value: \"memcached\": it must be memory or redis [berth:InvalidPolicy]"
                .to_owned(),
        ),
        (
            json!({"sessionStorage": {}}),
            "spec.sessionStorage.provider: Required value: it must be memory or redis [berth:InvalidPolicy]".to_owned(),
        ),
        (storage(json!({"db": -1})), format!("spec.sessionStorage.db: Invalid value: -1: {number}")),
        (
            storage(json!({"address": "redis.example"})),
            "spec.sessionStorage.address: Invalid value: \"redis.example\": it has no port; write host:port, usually port \
             6379 [berth:InvalidPolicy]"
                .to_owned(),
        ),
        (
            storage(json!({"address": "redis://:hunter2@redis.example:6379"})),
            "spec.sessionStorage.address: Invalid value: \"redis://…@redis.example:6379\": it carries credentials; name them \
             in a Secret and refer to that [berth:InvalidPolicy]"
                .to_owned(),
        ),
        (
            storage(json!({"passwordRef": {"name": "redis"}})),
            format!("spec.sessionStorage.passwordRef.key: Required value: {part}"),
        ),
        (
            storage(json!({"passwordRef": {"key": "password"}})),
            format!("spec.sessionStorage.passwordRef.name: Required value: {part}"),
        ),
    ]
}

fn specs(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    for (at, kind) in RESOURCES.into_iter().enumerate() {
        let plain = resource(kind, "v1beta1", "foo", json!({"replicas": 1}));
        let path = &resource_path(kind, "v1beta1", "foo");
        for (nth, (spec, line)) in refused_specs().into_iter().enumerate().skip(at).step_by(RESOURCES.len()) {
            let object = resource(kind, VERSIONS[nth / RESOURCES.len() % VERSIONS.len()], "foo", spec);
            assert_refused(&apply(kubectl, &object)?, &invalid(kind, "foo", &line));
        }
        for version in VERSIONS {
            let refused = create(kubectl, &resource(kind, version, "foo", json!({"replicas": 3})))?;
            assert_refused(&refused, &invalid(kind, "foo", &three()));
        }
        assert_absent(ns, path)?;

        put(ns, &plain)?;
        let before = content(ns, path)?;
        for (spec, line) in refused_specs().into_iter().skip(1 - at).step_by(RESOURCES.len()) {
            let patch = json!({ "spec": spec }).to_string();
            let refused = kubectl.run(&["patch", path, "--type=merge", "-p", &patch])?;
            assert_refused(&refused, &invalid(kind, "foo", &line));
        }
        assert_refused(
            &kubectl.run(&["annotate", path, "berth.dev/session-ttl=never"])?,
            &invalid(
                kind,
                "foo",
                "metadata.annotations[berth.dev/session-ttl]: Invalid value: \"never\": it must be a duration such as 90s, \
                 30m or 1h30m, at most a year [berth:InvalidPolicy]",
            ),
        );
        assert_eq!(content(ns, path)?, before);
    }
    // One process each: the proxy cannot hand it out, nor tell two of them apart.
    for version in VERSIONS {
        for field in ["replicas", "backendReplicas"] {
            let spec = json!({"transport": "stdio", "sessionStorage": redis(), field: 2});
            let refused = apply(kubectl, &resource("MCPServer", version, "std", spec))?;
            assert_refused(&refused, &invalid("MCPServer", "std", &format!("spec.{field}: Invalid value: 2: {STDIO}")));
        }
    }
    assert_absent(ns, "mcpserver/std")?;
    Ok(())
}

fn back_to_memory(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    for (kind, api_version) in RESOURCES.into_iter().zip(["v1alpha1", "v1beta1"]) {
        let path = &resource_path(kind, api_version, "foo");
        let shared = resource(kind, "v1beta1", "foo", json!({"replicas": 3, "sessionStorage": redis()}));
        put(ns, &shared)?;
        let before = content(ns, path)?;
        let memory = ["patch", path, "--type=merge", "-p", r#"{"spec":{"sessionStorage":{"provider":"memory"}}}"#];
        assert_refused(&kubectl.run(&memory)?, &invalid(kind, "foo", &three()));
        let none = ["patch", path, "--type=json", "-p", r#"[{"op":"remove","path":"/spec/sessionStorage"}]"#];
        assert_refused(&kubectl.run(&none)?, &invalid(kind, "foo", &three()));
        assert_eq!(content(ns, path)?, before);
        ns.client.merge(&ns.name, &format!("{kind}/foo"), &json!({"spec": {"replicas": 1}}))?;
        assert_passed(&kubectl.run(&memory)?, &[]);
    }
    Ok(())
}

fn counted_live(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    for kind in RESOURCES {
        let (name, path) = (&kind.to_lowercase(), &resource_path(kind, "v1beta1", &kind.to_lowercase()));
        put(ns, &resource(kind, "v1beta1", name, json!({"sessionStorage": redis()})))?;
        put(ns, &replicas(owned(ns, path, "Deployment")?, 3))?;
        let before = content(ns, path)?;
        let memory = ["patch", path, "--type=merge", "-p", r#"{"spec":{"sessionStorage":{"provider":"memory"}}}"#];
        let line = format!("spec.sessionStorage.provider: Invalid value: \"memory\": 3 replicas run, and {MEMORY}");
        assert_refused(&kubectl.run(&memory)?, &invalid(kind, name, &line));
        assert_eq!(content(ns, path)?, before);
        ns.client.merge(&ns.name, &format!("deployment/{name}"), &json!({"spec": {"replicas": 1}}))?;
        assert_passed(&kubectl.run(&memory)?, &[]);
    }
    put(ns, &resource("MCPServer", "v1beta1", "two", json!({"sessionStorage": redis()})))?;
    put(ns, &replicas(owned(ns, "mcpserver/two", "StatefulSet")?, 2))?;
    let stdio = kubectl.run(&["patch", "mcpserver/two", "--type=merge", "-p", r#"{"spec":{"transport":"stdio"}}"#])?;
    let line = format!("spec.transport: Invalid value: \"stdio\": 2 replicas run, and {STDIO}");
    assert_refused(&stdio, &invalid("MCPServer", "two", &line));
    // A workload of that name that belongs to somebody else does not count.
    put(ns, &resource("MCPServer", "v1beta1", "other", json!({"sessionStorage": redis()})))?;
    put(ns, &replicas(workload("Deployment", "other"), 3))?;
    let memory = r#"{"spec":{"sessionStorage":{"provider":"memory"}}}"#;
    assert_passed(&kubectl.run(&["patch", "mcpserver/other", "--type=merge", "-p", memory])?, &[]);
    Ok(())
}
