//! Plans by builder, objects by kind and name.

use berth::controller::objects::{Build, Facts, Object, ObjectKind, Plan, Reason, Settings, plan};
use berth::policy::CrKind;
use serde_json::{Value, json};

pub(crate) fn settings() -> Settings {
    Settings {
        proxy_image: "berth-proxy:test".into(),
        vmcp_image: "vmcp:test".into(),
        image_pull_policy: None,
        cluster_domain: "cluster.local".into(),
        default_storage: None,
    }
}

/// A resource called `foo` in `team`.
pub(crate) fn resource(kind: CrKind, spec: Value) -> Value {
    json!({
        "apiVersion": "toolhive.stacklok.dev/v1beta1", "kind": kind.as_str(),
        "metadata": {"name": "foo", "namespace": "team", "uid": "u-1", "generation": 7}, "spec": spec,
    })
}

/// An MCPServer that can be built, with these fields over it.
pub(crate) fn mcp_server(fields: Value) -> Value {
    let mut spec = json!({"image": "server:1", "transport": "streamable-http"});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    resource(CrKind::McpServer, spec)
}

pub(crate) fn virtual_mcp_server(spec: Value) -> Value {
    resource(CrKind::VirtualMcpServer, spec)
}

pub(crate) fn kind_of(cr: &Value) -> CrKind {
    CrKind::from_kind(cr["kind"].as_str().unwrap()).unwrap()
}

pub(crate) fn facts() -> Facts {
    Facts { stamp: 7, ..Facts::default() }
}

pub(crate) fn planned(cr: &Value) -> Plan {
    plan(cr, kind_of(cr), &settings(), &facts())
}

pub(crate) fn built(cr: &Value) -> Build {
    built_with(cr, &settings(), &facts())
}

pub(crate) fn built_with(cr: &Value, settings: &Settings, facts: &Facts) -> Build {
    match plan(cr, kind_of(cr), settings, facts) {
        Plan::Build(build) => build,
        Plan::Nothing { reason, message, .. } => panic!("{reason}: {message}"),
    }
}

pub(crate) fn refused(cr: &Value) -> (Reason, String) {
    match planned(cr) {
        Plan::Nothing { reason, message, .. } => (reason, message),
        Plan::Build(_) => panic!("built: {cr}"),
    }
}

/// The one object of this kind and name.
pub(crate) fn find<'b>(build: &'b Build, kind: ObjectKind, name: &str) -> &'b Value {
    let found: Vec<&Object> =
        build.objects.iter().filter(|object| object.kind == kind && object.name() == name).collect();
    match found.as_slice() {
        [one] => &one.json,
        _ => panic!("{} of {} {name}", found.len(), kind.as_str()),
    }
}

pub(crate) fn deployment(cr: &Value) -> Value {
    find(&built(cr), ObjectKind::Deployment, "foo").clone()
}

pub(crate) fn stateful_set(cr: &Value) -> Value {
    find(&built(cr), ObjectKind::StatefulSet, "foo").clone()
}

pub(crate) fn container<'t>(workload: &'t Value, name: &str) -> &'t Value {
    let containers = workload["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    containers.iter().find(|container| container["name"] == name).unwrap()
}

pub(crate) fn env<'c>(container: &'c Value, name: &str) -> Option<&'c Value> {
    container["env"].as_array().unwrap().iter().find(|entry| entry["name"] == name)
}

pub(crate) fn warnings(cr: &Value) -> Vec<String> {
    built(cr).warnings.into_iter().map(|warning| format!("{}: {}", warning.reason, warning.message)).collect()
}
