//! What is let through, with a line that kubectl shows.

use std::sync::Arc;

use libtest_mimic::{Failed, Trial};
use serde_json::json;

use super::{BACKENDS, apply, assert_passed, create};
use crate::context::{Context, Namespace, trial};
use crate::objects::{WORKLOADS, in_redis, opted_in, owned, put, redis, replicas, resource};

pub(super) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        trial(ctx, "warnings::backends_whose_pins_a_restart_loses", backends),
        trial(ctx, "warnings::a_plain_password_that_was_replaced", plain_password),
        trial(ctx, "warnings::annotations_that_a_resource_overrules", overruled),
        trial(ctx, "warnings::a_stateful_set_without_its_headless_service", service_name),
        trial(ctx, "warnings::a_count_that_was_put_back", count_put_back),
        trial(ctx, "warnings::what_an_older_toolhive_does_not_set", beside_toolhive),
    ]
}

fn backends(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    let on_resource = format!("spec.backendReplicas: Invalid value: 3: {BACKENDS}");
    for version in ["v1beta1", "v1alpha1"] {
        let three = resource("MCPServer", version, "foo", json!({"backendReplicas": 3}));
        assert_passed(&apply(kubectl, &three)?, &[&on_resource]);
        kubectl.run(&["delete", "mcpserver/foo"])?.ok()?;
    }
    assert_passed(&apply(kubectl, &resource("MCPServer", "v1beta1", "foo", json!({})))?, &[]);
    let three = kubectl.run(&["patch", "mcpserver/foo", "--type=merge", "-p", r#"{"spec":{"backendReplicas":3}}"#])?;
    assert_passed(&three, &[&on_resource]);
    let on_workload = format!("spec.replicas: Invalid value: 3: {BACKENDS}");
    assert_passed(&create(kubectl, &replicas(owned(ns, "mcpserver/foo", "StatefulSet")?, 3))?, &[&on_workload]);
    // Its scale and its autoscalers are shown where those are refused.
    let shared = resource("MCPServer", "v1beta1", "foo", json!({"backendReplicas": 3, "sessionStorage": redis()}));
    assert_passed(&kubectl.run_with_stdin(&["replace", "-f", "-"], &shared.to_string())?, &[]);
    Ok(())
}

fn plain_password(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    let warning = "container app: the plain THV_SESSION_REDIS_PASSWORD was replaced by a reference to key password of Secret \
                   redis; take it out of the manifest, and change the password, since it was readable";
    for kind in WORKLOADS {
        let mut object = in_redis(kind, "web", &[("session-password-secret", "redis/password")]);
        object["spec"]["template"]["spec"]["containers"][0]["env"] =
            json!([{"name": "THV_SESSION_REDIS_PASSWORD", "value": "hunter2"}]);
        assert_passed(&create(kubectl, &object)?, &[warning]);
        let stored = ns.stored(&format!("{kind}/web"))?;
        assert!(!stored.to_string().contains("hunter2"), "{stored}");
    }
    Ok(())
}

fn overruled(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    let spec = json!({"replicas": 2, "sessionStorage": redis()});
    put(ns, &resource("MCPServer", "v1beta1", "foo", spec))?;
    let mut object = replicas(owned(ns, "mcpserver/foo", "Deployment")?, 2);
    object["metadata"]["annotations"] = json!({
        "berth.dev/inject": "enabled", "berth.dev/replicas": "3", "berth.dev/session-provider": "memory",
        "berth.dev/transport": "streamable-http",
    });
    let line = |annotation: &str| {
        format!(
            "annotation berth.dev/{annotation} is not followed: MCPServer \"foo\" controls this workload and says otherwise; \
             change it there"
        )
    };
    let expected = [line("replicas: \"3\""), line("session-provider: \"memory\"")];
    assert_passed(&create(kubectl, &object)?, &[&expected[0], &expected[1]]);
    assert_eq!(ns.stored("deployment/foo")?["spec"]["replicas"], 2);
    Ok(())
}

fn service_name(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    let line = |name: &str| {
        format!(
            "spec.serviceName: \"{name}\" names no headless Service of the form mcp-web-headless: sessions are pinned to the \
             DNS names that such a Service gives to pods"
        )
    };
    let mut object = opted_in("StatefulSet", "web", &[]);
    object["spec"]["serviceName"] = json!("web");
    assert_passed(&create(kubectl, &object)?, &[&line("web")]);
    // Nobody can change it any more, and everybody should know.
    assert_passed(&kubectl.run(&["label", "statefulset/web", "a=b"])?, &[&line("web")]);
    // Another server's is one, but not that of this resource.
    assert_passed(&create(kubectl, &opted_in("StatefulSet", "right", &[]))?, &[]);
    put(ns, &resource("MCPServer", "v1beta1", "foo", json!({})))?;
    let mut object = owned(ns, "mcpserver/foo", "StatefulSet")?;
    object["spec"]["serviceName"] = json!("mcp-bar-headless");
    let expected = line("mcp-bar-headless").replace("mcp-web-headless", "mcp-foo-headless");
    assert_passed(&create(kubectl, &object)?, &[&expected]);
    Ok(())
}

fn count_put_back(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    for kind in WORKLOADS {
        let (what, object) = (&format!("{kind}/web"), in_redis(kind, "web", &[("replicas", "3")]));
        put(ns, &object)?;
        kubectl.run(&["scale", what, "--replicas=5"])?.ok()?;
        let line = "spec.replicas 1 was put back to the live 5: scale with kubectl scale, or change the annotation \
                    berth.dev/replicas (now 3)";
        assert_passed(&ns.kubectl_with(&["replace"], &object)?, &[line]);
        assert_eq!(ns.stored(what)?["spec"]["replicas"], 5);
    }
    Ok(())
}

fn beside_toolhive(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    let storage = json!({
        "provider": "redis", "address": "redis.example:6379", "passwordRef": {"name": "redis", "key": "password"},
    });
    put(ns, &resource("MCPServer", "v1beta1", "foo", json!({"sessionStorage": storage})))?;
    let object = owned(ns, "mcpserver/foo", "Deployment")?;
    let line = |name: &str, version: &str| {
        format!(
            "container toolhive: {name} is missing, and Berth leaves env that ToolHive's operator writes alone; ToolHive \
             {version} and later set it"
        )
    };
    let expected = [line("THV_SESSION_REDIS_PASSWORD", "0.28.0"), line("THV_MCPSERVER_GENERATION", "0.29.0")];
    let operator = ["create", "--field-manager=thv-operator", "-f", "-"];
    let created = kubectl.run_with_stdin(&operator, &object.to_string())?;
    assert_passed(&created, &[&expected[0], &expected[1]]);
    let stored = ns.stored("deployment/foo")?;
    assert!(stored["spec"]["template"]["spec"]["containers"][0]["env"].is_null(), "{stored}");
    Ok(())
}
