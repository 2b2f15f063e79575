//! Somebody switches a field to another member of its kind, of which an object may have one: a value for a reference to
//! one, one kind of probe, or of volume, for another.

use std::sync::Arc;

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::objects::{condition, mcp_server, redis};
use crate::world::{Namespace, World, trial};

pub(crate) fn trials(world: &Arc<World>) -> Vec<Trial> {
    vec![
        trial(world, "switched::what_somebody_switches_by_hand_is_set_back_once_and_what_is_beside_it_stays", by_hand),
        trial(world, "switched::what_the_resource_switches_is_switched", by_the_resource),
        trial(world, "switched::what_is_beside_a_field_and_contradicts_it_goes_with_it", contradicted),
        trial(world, "switched::a_mistake_of_the_resource_takes_nothing_from_others", mistaken),
    ]
}

fn spec(more: Value) -> Value {
    let mut spec = json!({
        "replicas": 1, "backendReplicas": 1,
        "sessionStorage": {"provider": "redis", "address": "redis.example:6379", "passwordRef": {"name": "s", "key": "p"}},
        "secrets": [{"name": "s", "key": "k", "targetEnvName": "API_KEY"}, {"name": "s2", "key": "l", "targetEnvName": "OTHER"}],
        "podTemplateSpec": {"spec": {
            "containers": [{
                "name": "mcp",
                "livenessProbe": {"httpGet": {"path": "/live", "port": 8080}},
                "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
                "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}, {"name": "token", "mountPath": "/token"}],
            }],
            "volumes": [{"name": "scratch", "emptyDir": {}}, {"name": "token", "secret": {"secretName": "t"}}],
        }},
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    spec
}

/// A workload's pod template. The order of named items is nobody's field.
fn template(live: &Value) -> Value {
    let mut template = live["spec"]["template"].clone();
    sort(&mut template);
    template
}

fn sort(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(sort),
        Value::Array(items) => {
            items.iter_mut().for_each(sort);
            if items.iter().all(|item| item["name"].is_string()) {
                items.sort_by_key(|item| item["name"].to_string());
            }
        }
        _ => {}
    }
}

/// The item of a list of this name.
fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let found = list.as_array().into_iter().flatten().find(|item| item["name"] == name);
    found.unwrap_or(&Value::Null)
}

/// Edits a workload, and waits until its pod template is what it was but for what is to stay; by one write.
fn set_back(ns: &Namespace, what: &str, edit: &Value) -> Result<(), Failed> {
    let before = ns.get(what)?;
    ns.client.strategic_merge(&ns.name, what, edit)?;
    let after = ns.wait(what, &format!("is set back after {edit}"), |live| template(live) == template(&before))?;
    let generation = |live: &Value| live["metadata"]["generation"].as_i64().unwrap_or_default();
    // The edit, and one more: no template in between, of which pods would be made.
    assert_eq!(generation(&after), generation(&before) + 2, "{edit}");
    Ok(())
}

fn by_hand(ns: &Namespace) -> Result<(), Failed> {
    let resource = mcp_server("foo", spec(json!({})));
    ns.build(&resource)?;
    // What others have beside it, in the very containers and lists.
    let theirs = json!({
        "metadata": {"annotations": {"example.com/note": "mine"}},
        "spec": {"template": {"metadata": {"labels": {"team": "a"}}, "spec": {
            "containers": [
                {"name": "mcp", "env": [{"name": "THEIRS", "value": "1"}], "livenessProbe": {"failureThreshold": 7}},
                {"name": "beside", "image": "beside:1"},
            ],
            "volumes": [{"name": "theirs", "emptyDir": {}}, {"name": "token", "secret": {"defaultMode": 256}}],
        }}},
    });
    ns.client.merge(&ns.name, "StatefulSet/foo", "autoscaler", &json!({"spec": {"minReadySeconds": 3}}))?;
    ns.client.strategic_merge(&ns.name, "StatefulSet/foo", &theirs)?;
    ns.settled("foo")?;
    let before = ns.get("StatefulSet/foo")?;
    let audit = ns.audit();

    ns.kubectl.run(&["set", "env", "statefulset/foo", "--containers=mcp", "API_KEY=x"])?.ok()?;
    ns.wait("StatefulSet/foo", "has its key again", |live| template(live) == template(&before))?;
    let container = |edit: Value| {
        let mut container = edit;
        container["name"] = json!("mcp");
        json!({"spec": {"template": {"spec": {"containers": [container]}}}})
    };
    let field = json!({"fieldRef": {"fieldPath": "metadata.name"}, "secretKeyRef": null});
    let edits = [
        container(json!({"env": [{"name": "OTHER", "valueFrom": field}]})),
        container(
            json!({"env": [{"name": "MCP_HOST", "value": null, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
        ),
        container(json!({"readinessProbe": {"tcpSocket": null, "exec": {"command": ["true"]}}})),
        container(json!({"lifecycle": {"preStop": {"sleep": null, "exec": {"command": ["true"]}}}})),
        json!({"spec": {"template": {"spec": {"volumes": [{"name": "scratch", "emptyDir": null, "hostPath": {"path": "/tmp"}}]}}}}),
    ];
    for edit in &edits {
        set_back(ns, "StatefulSet/foo", edit)?;
    }
    // Of a probe, what another had set before stays where it is not what excludes ours.
    let probe = container(json!({"livenessProbe": {"httpGet": null, "exec": {"command": ["true"]}}}));
    set_back(ns, "StatefulSet/foo", &probe)?;
    let config = json!({"spec": {"template": {"spec": {"volumes": [{"name": "runconfig", "configMap": null, "emptyDir": {}}]}}}});
    set_back(ns, "Deployment/foo", &config)?;
    let port =
        json!([{"op": "replace", "path": "/spec/template/spec/containers/0/ports/0/containerPort", "value": 1234}]);
    let proxy = template(&ns.get("Deployment/foo")?);
    ns.kubectl.run(&["patch", "deployment/foo", "--type=json", "--patch", &port.to_string()])?.ok()?;
    ns.wait("Deployment/foo", "has its port again", |live| template(live) == proxy)?;

    ns.settled("foo")?;
    let writes = audit.object_writes_in(&ns.name);
    // Of those that changed something: one that makes way, one that sets it back.
    let done = writes.iter().filter(|write| write.ends_with(" 200")).count();
    assert_eq!(done, 2 * (edits.len() + 4), "{writes:?}");
    let after = ns.get("StatefulSet/foo")?;
    assert_eq!(
        (&after["spec"], &after["metadata"]["annotations"]),
        (&before["spec"], &before["metadata"]["annotations"])
    );

    // What was set back is no more than Berth's: it goes when the resource asks for it no more.
    ns.edit("MCPServer/foo", &json!({"spec": {"secrets": null, "image": "example:2"}}))?;
    let changed = ns.wait("StatefulSet/foo", "has the change", |live| {
        named(&live["spec"]["template"]["spec"]["containers"], "mcp")["image"] == "example:2"
    })?;
    let env = &named(&changed["spec"]["template"]["spec"]["containers"], "mcp")["env"];
    assert_eq!((named(env, "API_KEY"), named(env, "OTHER")), (&Value::Null, &Value::Null), "{env}");
    assert_eq!(named(env, "THEIRS")["value"], "1", "{env}");
    ns.settled("foo")?;
    let cr = ns.get("MCPServer/foo")?;
    assert_eq!(condition(&cr, "Ready")["reason"], "NotReady", "{cr}");
    Ok(())
}

/// The same without another: what the API server had filled in must not stay behind.
fn by_the_resource(ns: &Namespace) -> Result<(), Failed> {
    ns.build(&mcp_server("foo", spec(json!({}))))?;
    let switched = json!({
        "containers": [{
            "name": "mcp", "livenessProbe": {"exec": {"command": ["true"]}}, "readinessProbe": {"grpc": {"port": 8080}},
            "lifecycle": {"preStop": {"exec": {"command": ["true"]}}},
            "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}, {"name": "token", "mountPath": "/token"}],
        }],
        "volumes": [{"name": "scratch", "secret": {"secretName": "t"}}, {"name": "token", "configMap": {"name": "t"}}],
    });
    let env = json!([{"name": "API_KEY", "value": "x"}]);
    ns.edit("MCPServer/foo", &json!({"spec": {"podTemplateSpec": {"spec": switched}, "secrets": null, "env": env}}))?;
    ns.wait("StatefulSet/foo", "is switched", |live| {
        let pod = &live["spec"]["template"]["spec"];
        let container = named(&pod["containers"], "mcp");
        *named(&container["env"], "API_KEY") == json!({"name": "API_KEY", "value": "x"})
            && container["livenessProbe"]["httpGet"].is_null()
            && container["readinessProbe"]["tcpSocket"].is_null()
            && container["lifecycle"] == json!({"preStop": {"exec": {"command": ["true"]}}})
            && named(&pod["volumes"], "scratch")["emptyDir"].is_null()
            && named(&pod["volumes"], "token")["secret"].is_null()
    })?;
    ns.settled("foo")?;
    Ok(())
}

/// Two fields that may both be there, but not with these values.
fn contradicted(ns: &Namespace) -> Result<(), Failed> {
    ns.build(&mcp_server("foo", json!({"sessionStorage": redis()})))?;
    let container = |edit: Value| {
        let mut container = edit;
        container["name"] = json!("toolhive");
        json!({"spec": {"template": {"spec": {"containers": [container]}}}})
    };
    for edit in [
        container(json!({"resources": {"requests": {"cpu": "5m"}, "limits": {"cpu": "10m"}}})),
        container(json!({"securityContext": {"allowPrivilegeEscalation": true, "privileged": true}})),
    ] {
        set_back(ns, "Deployment/foo", &edit)?;
    }
    ns.settled("foo")?;
    Ok(())
}

/// The API server refuses this as it refuses two where there may be one.
fn mistaken(ns: &Namespace) -> Result<(), Failed> {
    ns.build(&mcp_server("foo", spec(json!({}))))?;
    let theirs = json!({
        "name": "mcp", "livenessProbe": {"failureThreshold": 7},
        "volumeMounts": [{"mountPath": "/scratch", "readOnly": true}],
    });
    let theirs = json!({"spec": {"template": {"spec": {"containers": [theirs]}}}});
    ns.client.strategic_merge(&ns.name, "StatefulSet/foo", &theirs)?;
    ns.settled("foo")?;
    let before = template(&ns.get("StatefulSet/foo")?);
    let right = spec(json!({}))["podTemplateSpec"].clone();
    let mut wrong = right.clone();
    let container = &mut wrong["spec"]["containers"][0];
    container["livenessProbe"]["httpGet"]["port"] = json!(99999);
    container["volumeMounts"] = json!([
        {"name": "scratch", "mountPath": "/scratch", "subPath": "../x"}, {"name": "token", "mountPath": "/token"},
        {"name": "gone", "mountPath": "/gone"},
    ]);
    ns.edit("MCPServer/foo", &json!({"spec": {"podTemplateSpec": wrong}}))?;
    ns.wait("MCPServer/foo", "says what is refused", |cr| condition(cr, "Ready")["reason"] == "ApplyFailed")?;
    ns.edit("MCPServer/foo", &json!({"spec": {"podTemplateSpec": right, "image": "example:2"}}))?;
    let after = ns.wait("StatefulSet/foo", "has the change", |live| {
        named(&live["spec"]["template"]["spec"]["containers"], "mcp")["image"] == "example:2"
    })?;
    let (before, after) = (before["spec"]["containers"].clone(), template(&after)["spec"]["containers"].clone());
    for part in ["livenessProbe", "volumeMounts"] {
        assert_eq!(named(&after, "mcp")[part], named(&before, "mcp")[part]);
    }
    assert_eq!(named(&after, "mcp")["livenessProbe"]["failureThreshold"], 7);
    Ok(())
}
