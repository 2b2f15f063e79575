//! Manifests of custom resources.

use serde_json::{Value, json};

/// An MCPServer that asks for Berth's controller, with these fields of its spec too.
pub(crate) fn mcp_server(name: &str, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "toolhive.stacklok.dev/v1beta1", "kind": "MCPServer",
        "metadata": {"name": name, "annotations": {"berth.dev/class": "berth"}},
        "spec": {"image": "example:1", "transport": "streamable-http", "mcpPort": 8080},
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    object
}

/// A VirtualMCPServer that asks for Berth's controller.
pub(crate) fn virtual_mcp_server(name: &str, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "toolhive.stacklok.dev/v1beta1", "kind": "VirtualMCPServer",
        "metadata": {"name": name, "annotations": {"berth.dev/class": "berth"}},
        "spec": {"incomingAuth": {"type": "anonymous"}, "config": {"name": name, "groupRef": "g"}},
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    object
}

/// Session storage in Redis.
pub(crate) fn redis() -> Value {
    json!({"provider": "redis", "address": "redis.example:6379"})
}

/// A condition of a resource; null where it has none.
pub(crate) fn condition(cr: &Value, kind: &str) -> Value {
    let mut conditions = cr["status"]["conditions"].as_array().into_iter().flatten();
    conditions.find(|condition| condition["type"] == kind).cloned().unwrap_or_default()
}

/// What an MCPServer of this name has.
pub(crate) fn parts(name: &str) -> [String; 6] {
    [
        format!("ConfigMap/{name}-runconfig"),
        format!("Service/mcp-{name}-headless"),
        format!("Service/mcp-{name}"),
        format!("Service/mcp-{name}-proxy"),
        format!("StatefulSet/{name}"),
        format!("Deployment/{name}"),
    ]
}
