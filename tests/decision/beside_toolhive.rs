//! Beside ToolHive's operator: what it built right is left untouched, and its env is never written.

use berth::policy::CrKind;
use serde_json::json;

use crate::world::*;

fn world() -> World {
    let spec = json!({"image": "i", "transport": "streamable-http", "replicas": 2, "sessionStorage": {"provider": "redis",
        "address": "redis:6379", "passwordRef": {"name": "redis", "key": "password"}}});
    World::with_cr(CrKind::McpServer, mcpserver(2, spec))
}

fn operators(env: serde_json::Value) -> serde_json::Value {
    let mut object = with_stamp(owned(deployment(json!({})), "MCPServer", "toolhive"), "2");
    object["metadata"]["managedFields"] = json!([{"manager": "thv-operator", "operation": "Update"}]);
    object["spec"]["replicas"] = json!(2);
    object["spec"]["template"]["spec"]["containers"][0]["env"] = env;
    object
}

#[test]
fn what_is_already_right_gets_no_patch_at_all() {
    let object = operators(json!([generation_env(), {"name": "X", "value": "y"}, password("redis", "password")]));
    let written = world().create(&object);
    assert_eq!(written.mutation.patch(), []);
    assert_eq!(written.warnings(), Vec::<String>::new());
}

#[test]
fn missing_env_is_a_warning_that_names_a_version() {
    let written = world().create(&operators(json!([])));
    assert_eq!(written.mutation.patch(), []);
    let warnings = written.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("THV_SESSION_REDIS_PASSWORD") && warnings[0].contains("0.28.0"));
    assert!(warnings[1].contains("THV_MCPSERVER_GENERATION") && warnings[1].contains("0.29.0"));
}
