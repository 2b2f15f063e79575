//! The Redis password: by reference, in the policy's container, and nowhere else; never in the clear.

use std::sync::Arc;
use std::time::Duration;

use berth_test_cluster::{Output, Result, wait_for};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::context::{Context, Namespace, trial};
use crate::objects::{WORKLOADS, in_redis, opted_in, owned, redis, resource};
use crate::wiring::{GENERATION, PASSWORD, RECORD, assert_same, env_of, generation_env, password_env, without_status};

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        trial(ctx, "password::only_for_redis_with_a_reference", only_for_redis_with_a_reference),
        trial(ctx, "password::goes_when_sessions_are_kept_in_memory", goes_with_redis),
        trial(ctx, "password::goes_when_the_workload_opts_out", goes_with_the_opt_in),
        trial(ctx, "password::in_plain_text_is_replaced", plain_text_is_replaced),
        trial(ctx, "password::in_plain_text_without_a_reference_is_refused", plain_text_is_refused),
        trial(ctx, "password::in_the_policys_container_only", in_the_policys_container_only),
        trial(ctx, "password::of_a_name_that_stands_twice_is_there_once", named_twice),
        trial(ctx, "password::of_the_user_is_left", users_own_is_left),
        trial(ctx, "password::of_a_server_is_its_proxys", of_a_server),
    ]
}

const BOUND: Duration = Duration::from_secs(20);

/// A password that must not be found anywhere.
const PLAIN: &str = "hunter2";

/// A container's env, stored or to be.
fn env(workload: &mut Value, container: usize) -> &mut Value {
    &mut workload["spec"]["template"]["spec"]["containers"][container]["env"]
}

fn plain() -> Value {
    json!({"name": PASSWORD, "value": PLAIN})
}

fn with_reference(kind: &str, name: &str, more: &[(&str, &str)]) -> Value {
    in_redis(kind, name, &[&[("session-password-secret", "redis/password")], more].concat())
}

fn only_for_redis_with_a_reference(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let secret = ("session-password-secret", "redis/password");
    for kind in WORKLOADS {
        let none: &[Value] = &[];
        for (name, manifest, expected) in [
            ("reference", in_redis(kind, "reference", &[secret]), &[password_env("redis", "password")][..]),
            ("no-reference", in_redis(kind, "no-reference", &[]), none),
            ("memory", opted_in(kind, "memory", &[("session-provider", "memory"), secret]), none),
            ("default", opted_in(kind, "default", &[secret]), none),
        ] {
            ns.kubectl_with(&["apply"], &manifest)?.ok()?;
            let stored = ns.stored(&format!("{kind}/{name}"))?;
            assert_eq!(env_of(&stored, 0, PASSWORD), expected, "{kind} {name}");
            assert_eq!(env_of(&stored, 0, GENERATION), [generation_env()], "{kind} {name}");
        }
    }
    // Another reference takes the place of the first.
    let other = in_redis("Deployment", "reference", &[("session-password-secret", "other/key")]);
    ns.kubectl_with(&["apply"], &other)?.ok()?;
    assert_eq!(env_of(&ns.stored("deployment/reference")?, 0, PASSWORD), [password_env("other", "key")]);
    Ok(())
}

fn goes_with_redis(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    for kind in WORKLOADS {
        let mut manifest = with_reference(kind, "web", &[("replicas", "1")]);
        *env(&mut manifest, 0) = json!([{"name": "A", "value": "b"}]);
        ns.client.create(&ns.name, &manifest)?;
        let what = format!("{kind}/web");
        ns.kubectl.run(&["annotate", &what, "berth.dev/session-provider=memory", "--overwrite"])?.ok()?;
        let mut stored = ns.stored(&what)?;
        assert_eq!(*env(&mut stored, 0), json!([{"name": "A", "value": "b"}, generation_env()]));
        assert_eq!(stored["metadata"]["annotations"][RECORD], "app/THV_MCPSERVER_GENERATION");
    }
    Ok(())
}

fn goes_with_the_opt_in(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    for (kind, own) in [("Deployment", json!([{"name": "A", "value": "b"}])), ("StatefulSet", Value::Null)] {
        for (name, opt_out) in [("disabled", "berth.dev/inject=disabled"), ("removed", "berth.dev/inject-")] {
            let mut manifest = with_reference(kind, name, &[]);
            if !own.is_null() {
                *env(&mut manifest, 0) = own.clone();
            }
            let mut before = ns.client.create(&ns.name, &manifest)?;
            assert_ne!(*env(&mut before, 0), own);
            let what = format!("{kind}/{name}");
            ns.kubectl.run(&["annotate", &what, opt_out, "--overwrite"])?.ok()?;
            let mut stored = ns.stored(&what)?;
            assert_eq!(*env(&mut stored, 0), own, "{what}");
            assert_eq!(stored["metadata"]["annotations"].get(RECORD), None);
        }
    }
    Ok(())
}

fn plain_text_is_replaced(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    for (kind, name, form) in [
        ("Deployment", "applied", &["apply"][..]),
        ("StatefulSet", "applied", &["apply", "--server-side"]),
        ("Deployment", "created", &["create"]),
    ] {
        let mut manifest = with_reference(kind, name, &[]);
        *env(&mut manifest, 0) = json!([{"name": "A", "value": "b"}, plain(), {"name": "C", "value": "d"}]);
        let what = format!("{kind}/{name}");

        let output = ns.kubectl_with(form, &manifest)?;
        let expected = format!(
            "Warning: container app: the plain {PASSWORD} was replaced by a reference to key password of Secret redis; take \
             it out of the manifest, and change the password, since it was readable\n"
        );
        assert_eq!(output.stderr, expected, "{kind} {form:?}");
        output.ok()?;
        let mut stored = ns.stored(&what)?;
        assert_eq!(env(&mut stored, 0)[1], password_env("redis", "password"), "where the plain one stood");
        assert_eq!(env_of(&stored, 0, PASSWORD).len(), 1);
        // What kubectl remembers of the manifest is kubectl's.
        assert!(!without_status(&stored).to_string().contains(PLAIN), "{stored}");

        // The same manifest again is told the same, and changes nothing.
        let form = if form == ["create"] { &["replace"] } else { form };
        let again = ns.kubectl_with(form, &manifest)?;
        assert!(again.stderr.contains("was replaced by a reference"), "{}", again.stderr);
        again.ok()?;
        assert_same(&ns.stored(&what)?["spec"], &stored["spec"]);

        // Nor does it come in later, through another door.
        let set = ns.kubectl.run(&["set", "env", &what, &format!("{PASSWORD}={PLAIN}")])?;
        assert!(set.stderr.contains("was replaced by a reference"), "{}", set.stderr);
        set.ok()?;
        assert_same(&ns.stored(&what)?["spec"], &stored["spec"]);
    }
    Ok(())
}

fn plain_text_is_refused(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let secret = ("session-password-secret", "redis/password");
    for kind in WORKLOADS {
        // In memory there is nothing to log in to, so the reference does not count.
        let in_memory = opted_in(kind, "memory", &[secret]);
        for (name, manifest, form) in [
            ("redis", in_redis(kind, "redis", &[]), &["create"][..]),
            ("memory", in_memory, &["apply", "--server-side"]),
        ] {
            let what = format!("{kind}/{name}");
            let mut with_plain = manifest.clone();
            *env(&mut with_plain, 0) = json!([plain()]);
            assert_refused(&ns.kubectl_with(form, &with_plain)?, kind, name);
            assert!(ns.stored(&what).is_err(), "nothing is stored");

            let before = ns.client.create(&ns.name, &manifest)?;
            let refused = ns.kubectl.run(&["set", "env", &what, &format!("{PASSWORD}={PLAIN}")])?;
            assert!(refused.status == 1 && refused.stderr.contains("[berth:PlaintextPassword]"), "{}", refused.stderr);
            assert!(!refused.stderr.contains(PLAIN), "{}", refused.stderr);
            assert_same(&without_status(&ns.stored(&what)?), &without_status(&before));
        }
    }
    Ok(())
}

fn assert_refused(output: &Output, kind: &str, name: &str) {
    let expected = format!(
        "The {kind} \"{name}\" is invalid: spec.template.spec.containers[0].env[0].value: Invalid value: \"(hidden)\": {PASSWORD} \
         holds the Redis password in plain text; keep it in a Secret, name that with \
         berth.dev/session-password-secret: NAME/KEY (or passwordRef), and take the value out [berth:PlaintextPassword]\n"
    );
    assert_eq!((output.stderr.as_str(), output.status), (expected.as_str(), 1));
}

/// Adds a container beside `app`, and one that runs before it.
fn with_others(mut manifest: Value, env: &Value) -> Value {
    let pod = &mut manifest["spec"]["template"]["spec"];
    pod["initContainers"] = json!([{"name": "init", "image": "example"}]);
    let containers = pod["containers"].as_array_mut().expect("it has containers");
    containers.insert(0, json!({"name": "sidecar", "image": "example"}));
    if !env.is_null() {
        containers[0]["env"] = env.clone();
    }
    manifest
}

fn init_container(workload: &Value) -> &Value {
    &workload["spec"]["template"]["spec"]["initContainers"][0]
}

fn in_the_policys_container_only(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    for kind in WORKLOADS {
        // Named by Berth's annotation, or by kubectl's own.
        let by_annotation = with_others(with_reference(kind, "annotated", &[("container", "app")]), &Value::Null);
        let mut by_default = with_others(with_reference(kind, "default", &[]), &Value::Null);
        by_default["spec"]["template"]["metadata"]["annotations"] =
            json!({"kubectl.kubernetes.io/default-container": "app"});
        for manifest in [by_default, by_annotation] {
            ns.kubectl_with(&["apply"], &manifest)?.ok()?;
            let name = manifest["metadata"]["name"].as_str().unwrap_or_default();
            let mut stored = ns.stored(&format!("{kind}/{name}"))?;
            assert_eq!(*env(&mut stored, 1), json!([password_env("redis", "password"), generation_env()]));
            assert_eq!(*env(&mut stored, 0), Value::Null);
            assert_eq!(init_container(&stored)["env"], Value::Null);
        }
        // The sessions move to the other container, and the password with them.
        let what = format!("{kind}/annotated");
        ns.kubectl.run(&["annotate", &what, "berth.dev/container=sidecar", "--overwrite"])?.ok()?;
        let mut stored = ns.stored(&what)?;
        assert_eq!(*env(&mut stored, 0), json!([password_env("redis", "password"), generation_env()]));
        assert_eq!(*env(&mut stored, 1), Value::Null);
        assert_eq!(init_container(&stored)["env"], Value::Null);
    }
    Ok(())
}

fn named_twice(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    for kind in WORKLOADS {
        let mut manifest = with_reference(kind, "web", &[]);
        let other = json!({"name": "A", "value": "b"});
        *env(&mut manifest, 0) = json!([password_env("old", "key"), other, plain(), password_env("older", "key")]);
        ns.kubectl_with(&["create"], &manifest)?.ok()?;
        let mut stored = ns.stored(&format!("{kind}/web"))?;
        assert_eq!(*env(&mut stored, 0), json!([password_env("redis", "password"), other, generation_env()]));
    }
    Ok(())
}

fn users_own_is_left(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    for kind in WORKLOADS {
        let own = json!([password_env("mine", "key")]);
        let manifest = with_others(with_reference(kind, "other", &[("container", "app")]), &own);
        let mut stored = ns.client.create(&ns.name, &manifest)?;
        assert_eq!(*env(&mut stored, 0), own, "in a container that is not the policy's");
        let what = format!("{kind}/other");
        ns.kubectl.run(&["annotate", &what, "berth.dev/inject=disabled", "--overwrite"])?.ok()?;
        let mut stored = ns.stored(&what)?;
        assert_eq!(*env(&mut stored, 0), own, "after the opt-out too");
        assert_eq!(*env(&mut stored, 1), Value::Null);

        // The user wrote just what Berth would have added: that is not Berth's to remove.
        let mut manifest = with_reference(kind, "same", &[]);
        *env(&mut manifest, 0) = json!([password_env("redis", "password")]);
        ns.client.create(&ns.name, &manifest)?;
        let what = format!("{kind}/same");
        ns.kubectl.run(&["annotate", &what, "berth.dev/session-provider=memory", "--overwrite"])?.ok()?;
        assert_eq!(env_of(&ns.stored(&what)?, 0, PASSWORD), [password_env("redis", "password")]);
    }
    Ok(())
}

fn of_a_server(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let mut storage = redis();
    storage["passwordRef"] = json!({"name": "redis", "key": "password"});
    for (kind, container) in [("MCPServer", "toolhive"), ("VirtualMCPServer", "vmcp")] {
        let server = format!("{kind}/web");
        ns.client.create(&ns.name, &resource(kind, "v1beta1", "web", json!({"sessionStorage": storage})))?;
        let manifest = with_others(owned(ns, &server, "Deployment")?, &Value::Null);
        let stored = ns.client.create(&ns.name, &manifest)?;
        assert_eq!(stored["spec"]["template"]["spec"]["containers"][1]["name"], container);
        assert_eq!(env_of(&stored, 1, PASSWORD), [password_env("redis", "password")]);
        assert_eq!(env_of(&stored, 0, PASSWORD), [Value::Null; 0]);

        // Once the server keeps its sessions in memory, the next write takes the password away. Berth learns of it a
        // moment later.
        ns.client.merge(&ns.name, &server, &json!({"spec": {"sessionStorage": {"provider": "memory"}}}))?;
        let mut writes = 0;
        wait_for("a write that takes the password away", BOUND, || {
            writes += 1;
            ns.kubectl.run(&["label", "deployment/web", "--overwrite", &format!("write={writes}")])?.ok()?;
            Ok(env_of(&ns.stored("deployment/web")?, 1, PASSWORD).is_empty().then_some(()))
        })?;
        ns.kubectl.run(&["delete", "deployment/web"])?.ok()?;
    }
    // The backend's containers are the user's, whatever they are called.
    ns.client.merge(&ns.name, "mcpserver/web", &json!({"spec": {"sessionStorage": storage}}))?;
    let mut stored = ns.client.create(&ns.name, &owned(ns, "mcpserver/web", "StatefulSet")?)?;
    assert_eq!(*env(&mut stored, 0), Value::Null);
    Ok(())
}
