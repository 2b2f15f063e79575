//! Refusals of Deployments and StatefulSets.

use std::sync::Arc;

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use super::{ADDRESS, MEMORY, STDIO, apply, assert_absent, assert_passed, assert_refused, content, create, invalid};
use crate::context::{Context, Namespace, trial};
use crate::objects::{RESOURCES, WORKLOADS, in_redis, opted_in, owned, put, redis, replicas, resource, workload};

pub(super) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        trial(ctx, "refusals::workloads::more_replicas_than_memory_can_serve", in_memory),
        trial(ctx, "refusals::workloads::replicas_of_a_stdio_server", stdio),
        trial(ctx, "refusals::workloads::redis_without_an_address", redis_without_an_address),
        trial(ctx, "refusals::workloads::a_plain_password", plain_password),
        trial(ctx, "refusals::workloads::annotations_that_cannot_be_read", unreadable_annotations),
        trial(ctx, "refusals::workloads::a_container_that_is_not_clear", unclear_container),
        trial(ctx, "refusals::workloads::back_to_memory_with_replicas", back_to_memory),
        trial(ctx, "refusals::workloads::what_the_owner_does_not_allow", owned_workloads),
        trial(ctx, "refusals::workloads::an_older_writer", older_writer),
    ]
}

fn in_memory(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    for kind in WORKLOADS {
        let (one, three) = (opted_in(kind, "web", &[]), replicas(opted_in(kind, "web", &[]), 3));
        let refused = invalid(kind, "web", &format!("spec.replicas: Invalid value: 3: {MEMORY}"));
        assert_refused(&apply(kubectl, &three)?, &refused);
        assert_refused(&create(kubectl, &three)?, &refused);
        // What an annotation asks for counts as well.
        assert_refused(&apply(kubectl, &opted_in(kind, "web", &[("replicas", "3")]))?, &refused);
        let what = &format!("{kind}/web");
        assert_absent(ns, what)?;

        apply(kubectl, &one)?.ok()?;
        let before = content(ns, what)?;
        assert_refused(&apply(kubectl, &three)?, &refused);
        assert_refused(&ns.kubectl_with(&["replace"], &three)?, &refused);
        let server_side = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        assert_refused(&kubectl.run_with_stdin(&server_side, &three.to_string())?, &refused);
        for patch in [
            &["--type=merge", "-p", r#"{"spec":{"replicas":3}}"#][..],
            &["--type=strategic", "-p", r#"{"spec":{"replicas":3}}"#],
            &["--type=json", "-p", r#"[{"op":"replace","path":"/spec/replicas","value":3}]"#],
            &["--dry-run=server", "-p", r#"{"spec":{"replicas":3}}"#],
        ] {
            assert_refused(&kubectl.run(&[&["patch", what], patch].concat())?, &refused);
        }
        assert_refused(&kubectl.run(&["annotate", what, "berth.dev/replicas=3"])?, &refused);
        assert_eq!(content(ns, what)?, before);

        // Opting in is a promise to keep the rule.
        put(ns, &replicas(workload(kind, "plain"), 3))?;
        let refused = invalid(kind, "plain", &format!("spec.replicas: Invalid value: 3: {MEMORY}"));
        let what = &format!("{kind}/plain");
        assert_refused(&kubectl.run(&["annotate", what, "berth.dev/inject=enabled"])?, &refused);
        assert!(ns.stored(what)?["metadata"]["annotations"]["berth.dev/inject"].is_null());
    }
    Ok(())
}

fn stdio(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    for kind in WORKLOADS {
        let stdio = in_redis(kind, "web", &[("transport", "stdio")]);
        let refused = invalid(kind, "web", &format!("spec.replicas: Invalid value: 2: {STDIO}"));
        assert_refused(&apply(kubectl, &replicas(stdio.clone(), 2))?, &refused);
        let what = &format!("{kind}/web");
        assert_absent(ns, what)?;
        apply(kubectl, &stdio)?.ok()?;
        let before = content(ns, what)?;
        assert_refused(&apply(kubectl, &replicas(stdio, 2))?, &refused);
        assert_eq!(content(ns, what)?, before);
        // The transport is changed while two run.
        put(ns, &replicas(in_redis(kind, "two", &[]), 2))?;
        let refused = invalid(kind, "two", &format!("spec.replicas: Invalid value: 2: {STDIO}"));
        assert_refused(&kubectl.run(&["annotate", &format!("{kind}/two"), "berth.dev/transport=stdio"])?, &refused);
    }
    Ok(())
}

fn redis_without_an_address(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    for kind in WORKLOADS {
        let line = format!("metadata.annotations[berth.dev/session-address]: Required value: {ADDRESS}");
        let refused = invalid(kind, "web", &line);
        assert_refused(&apply(kubectl, &opted_in(kind, "web", &[("session-provider", "redis")]))?, &refused);
        let what = &format!("{kind}/web");
        assert_absent(ns, what)?;
        put(ns, &in_redis(kind, "web", &[]))?;
        let before = content(ns, what)?;
        assert_refused(&kubectl.run(&["annotate", what, "berth.dev/session-address-"])?, &refused);
        assert_eq!(content(ns, what)?, before);
    }
    Ok(())
}

const PLAIN: &str = "spec.template.spec.containers[0].env[1].value: Invalid value: \"(hidden)\": THV_SESSION_REDIS_PASSWORD \
                     holds the Redis password in plain text; keep it in a Secret, name that with \
                     berth.dev/session-password-secret: NAME/KEY (or passwordRef), and take the value out \
                     [berth:PlaintextPassword]";

fn plain_password(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    for kind in WORKLOADS {
        let refused = invalid(kind, "web", PLAIN);
        let mut plain = in_redis(kind, "web", &[]);
        plain["spec"]["template"]["spec"]["containers"][0]["env"] =
            json!([{"name": "A", "value": "b"}, {"name": "THV_SESSION_REDIS_PASSWORD", "value": "hunter2"}]);
        assert_refused(&apply(kubectl, &plain)?, &refused);
        let what = &format!("{kind}/web");
        assert_absent(ns, what)?;

        let mut clean = plain.clone();
        clean["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "A", "value": "b"}]);
        put(ns, &clean)?;
        let before = content(ns, what)?;
        let refused = kubectl.run(&["set", "env", what, "THV_SESSION_REDIS_PASSWORD=hunter2"])?;
        assert_eq!(refused.status, 1);
        assert!(refused.stderr.ends_with("[berth:PlaintextPassword]\n"), "{}", refused.stderr);
        assert!(!refused.stderr.contains("hunter2"), "{}", refused.stderr);
        assert_eq!(content(ns, what)?, before);
    }
    Ok(())
}

/// Each annotation with values that cannot be read, in the order of what kubectl prints, and how the line goes on.
const UNREADABLE: [(&str, &str, &str); 15] = [
    ("session-provider", "memcached", "it must be memory or redis"),
    ("session-address", "redis.example", "it has no port; write host:port, usually port 6379"),
    (
        "session-address",
        "http://redis.example:6379",
        "\"http\" is no scheme of a Redis; write host:port, redis://, rediss://, redis+sentinel:// or redis+cluster://",
    ),
    ("session-db", "-1", "it must be a whole number from 0 to 2147483647"),
    ("session-key-prefix", "a\u{7}", "it must be at most 256 bytes without control characters"),
    ("session-password-secret", "only-a-name", "it must be NAME/KEY of a Secret in this namespace"),
    ("session-password-secret", "/key", "\"\" is no name of a Secret"),
    ("session-password-secret", "name/", "\"\" is no key of a Secret"),
    ("replicas", "-1", "it must be a whole number from 0 to 2147483647"),
    ("replicas", "99999999999999999999", "it must be a whole number from 0 to 2147483647"),
    ("transport", "carrier-pigeon", "it must be stdio, streamable-http or sse"),
    ("termination-grace-period-seconds", "soon", "it must be a whole number from 0 to 2147483647"),
    ("session-cache-size", "1.5", "it must be a whole number from 0 to 2147483647"),
    ("session-ttl", "1 h", "it must be a duration such as 90s, 30m or 1h30m, at most a year"),
    ("inject", "enabeld", "it must be enabled or disabled"),
];

fn unreadable_annotations(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    let line = |key: &str, value: &str, detail: &str| {
        let shown = json!(value);
        format!("metadata.annotations[berth.dev/{key}]: Invalid value: {shown}: {detail} [berth:InvalidPolicy]")
    };
    for kind in WORKLOADS {
        // Those of one key in turn, and all keys at once: each problem has its line, in the order of this list.
        for turn in 0..3 {
            let in_turn = |(at, _): &(usize, &(&str, &str, &str))| {
                let key = UNREADABLE[*at].0;
                UNREADABLE[..*at].iter().filter(|(other, ..)| *other == key).count() == turn
            };
            let wrong: Vec<_> = UNREADABLE.iter().enumerate().filter(in_turn).map(|(_, wrong)| *wrong).collect();
            let annotations: Vec<_> = wrong.iter().map(|(key, value, _)| (*key, *value)).collect();
            let lines: Vec<_> = wrong.iter().map(|(key, value, detail)| line(key, value, detail)).collect();
            let lines = if let [one] = &lines[..] { one.clone() } else { format!("\n* {}", lines.join("\n* ")) };
            assert_refused(&apply(kubectl, &opted_in(kind, "web", &annotations))?, &invalid(kind, "web", &lines));
        }
    }
    // An address's password is not repeated.
    let secret = [("session-provider", "redis"), ("session-address", "redis://:hunter2@redis.example:6379")];
    let detail = "it carries credentials; name them in a Secret and refer to that";
    assert_refused(
        &apply(kubectl, &opted_in("Deployment", "web", &secret))?,
        &invalid("Deployment", "web", &line("session-address", "redis://…@redis.example:6379", detail)),
    );
    assert_absent(ns, "deployment/web")?;

    put(ns, &opted_in("Deployment", "web", &[]))?;
    let before = content(ns, "deployment/web")?;
    let refused = kubectl.run(&["annotate", "deployment/web", "berth.dev/session-ttl=never"])?;
    let detail = "it must be a duration such as 90s, 30m or 1h30m, at most a year";
    assert_refused(&refused, &invalid("Deployment", "web", &line("session-ttl", "never", detail)));
    assert_eq!(content(ns, "deployment/web")?, before);
    Ok(())
}

fn unclear_container(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    for kind in WORKLOADS {
        let two = |annotations: &[(&str, &str)]| {
            let mut object = opted_in(kind, "web", annotations);
            object["spec"]["template"]["spec"]["containers"] =
                json!([{"name": "app", "image": "example"}, {"name": "sidecar", "image": "example"}]);
            object
        };
        let line = "metadata.annotations[berth.dev/container]: Required value: the pod template has the containers app, \
                    sidecar; name the container that holds the sessions [berth:InvalidPolicy]";
        assert_refused(&apply(kubectl, &two(&[]))?, &invalid(kind, "web", line));
        let line = "metadata.annotations[berth.dev/container]: Invalid value: \"db\": no container of the pod template has \
                    this name; name one of the containers app, sidecar [berth:InvalidPolicy]";
        assert_refused(&apply(kubectl, &two(&[("container", "db")]))?, &invalid(kind, "web", line));
        assert_absent(ns, &format!("{kind}/web"))?;
        put(ns, &two(&[("container", "app")]))?;
    }
    Ok(())
}

fn back_to_memory(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    for kind in WORKLOADS {
        let what = &format!("{kind}/web");
        put(ns, &replicas(in_redis(kind, "web", &[]), 3))?;
        let before = content(ns, what)?;
        let refused = invalid(kind, "web", &format!("spec.replicas: Invalid value: 3: {MEMORY}"));
        let memory = ["annotate", what, "berth.dev/session-provider=memory", "--overwrite"];
        assert_refused(&kubectl.run(&memory)?, &refused);
        assert_refused(&kubectl.run(&["annotate", what, "berth.dev/session-provider-"])?, &refused);
        assert_eq!(content(ns, what)?, before);
        // An object that leaves its count to an autoscaler is stored with the count that it has now.
        let mut silent = opted_in(kind, "web", &[("session-provider", "memory")]);
        silent["spec"].as_object_mut().expect("a spec").remove("replicas");
        let server_side = ["apply", "--server-side", "--field-manager=git", "--force-conflicts", "-f", "-"];
        assert_refused(&kubectl.run_with_stdin(&server_side, &silent.to_string())?, &refused);
        // With one it may.
        ns.client.merge(&ns.name, what, &json!({"spec": {"replicas": 1}}))?;
        kubectl.run(&memory)?.ok()?;
    }
    Ok(())
}

/// Workloads of a resource that came to be before the resource said what it says now.
fn owned_workloads(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    for kind in RESOURCES {
        let (name, what) = (&kind.to_lowercase(), &format!("deployment/{}", kind.to_lowercase()));
        put(ns, &resource(kind, "v1beta1", name, json!({})))?;
        let deployment = owned(ns, &format!("{kind}/{name}"), "Deployment")?;
        let refused = invalid("Deployment", name, &format!("spec.replicas: Invalid value: 3: {MEMORY}"));
        assert_refused(&apply(kubectl, &replicas(deployment.clone(), 3))?, &refused);
        assert_absent(ns, what)?;
        apply(kubectl, &deployment)?.ok()?;
        let before = content(ns, what)?;
        assert_refused(&apply(kubectl, &replicas(deployment, 3))?, &refused);
        assert_eq!(content(ns, what)?, before);
    }
    // The resource names no Secret that the password could be taken from.
    put(ns, &resource("MCPServer", "v1beta1", "red", json!({"sessionStorage": redis()})))?;
    let mut plain = owned(ns, "mcpserver/red", "Deployment")?;
    plain["spec"]["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "A", "value": "b"}, {"name": "THV_SESSION_REDIS_PASSWORD", "value": "hunter2"}]);
    assert_refused(&apply(kubectl, &plain)?, &invalid("Deployment", "red", PLAIN));
    assert_absent(ns, "deployment/red")?;
    // Of an MCPServer, the backend as well: a stdio server has one process.
    let stdio = json!({"transport": "stdio", "sessionStorage": redis()});
    put(ns, &resource("MCPServer", "v1beta1", "std", stdio))?;
    for kind in WORKLOADS {
        let mut two = replicas(owned(ns, "mcpserver/std", kind)?, 2);
        two["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "A", "value": "b"}]);
        let refused = invalid(kind, "std", &format!("spec.replicas: Invalid value: 2: {STDIO}"));
        assert_refused(&apply(kubectl, &two)?, &refused);
        assert_absent(ns, &format!("{kind}/std"))?;
    }
    Ok(())
}

fn older_writer(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    put(ns, &resource("MCPServer", "v1beta1", "foo", json!({})))?;
    let newer = ns.client.merge(&ns.name, "mcpserver/foo", &json!({"spec": {"image": "newer"}}))?;
    assert_eq!(newer["metadata"]["generation"], 2);
    for kind in WORKLOADS {
        let written = |stamp: &str, image: &str| -> Result<Value, Failed> {
            let mut object = owned(ns, "mcpserver/foo", kind)?;
            object["spec"]["template"]["metadata"]["annotations"] =
                json!({"toolhive.stacklok.dev/mcpserver-generation": stamp});
            object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
            Ok(object)
        };
        put(ns, &written("2", "newer")?)?;
        let what = &format!("{kind}/foo");
        let before = content(ns, what)?;
        let denied = "admission webhook \"mutate.berth.dev\" denied the request: the pod template carries \
                      toolhive.stacklok.dev/mcpserver-generation 1 and the live object has 2: it was made from an older \
                      state of MCPServer \"foo\", and the newer one stays; read the MCPServer again and build the template \
                      from that [berth:StaleGeneration]";
        let replaced = ns.kubectl_with(&["replace"], &written("1", "older")?)?;
        let stderr = format!("Error from server (Forbidden): error when replacing \"STDIN\": {denied}");
        assert_refused(&replaced, &stderr);
        let patch = json!([
            {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "older"},
            {"op": "replace", "path": "/spec/template/metadata/annotations/toolhive.stacklok.dev~1mcpserver-generation", "value": "1"},
        ]);
        let patched = kubectl.run(&["patch", what, "--type=json", "-p", &patch.to_string()])?;
        assert_refused(&patched, &format!("Error from server (Forbidden): {denied}"));
        let applied = apply(kubectl, &written("1", "older")?)?;
        assert_eq!(applied.status, 1);
        assert!(applied.stderr.ends_with(&format!("{denied}\n")), "{}", applied.stderr);
        let server_side = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        let applied = kubectl.run_with_stdin(&server_side, &written("1", "older")?.to_string())?;
        assert_refused(&applied, &format!("Error from server (Forbidden): {denied}"));
        assert_eq!(content(ns, what)?, before);
        assert_passed(&kubectl.run(&["annotate", what, "a=b"])?, &[]);
    }
    Ok(())
}
