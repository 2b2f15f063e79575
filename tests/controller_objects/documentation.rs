//! docs/fields.md says what the code does.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use berth::controller::objects::{Plan, Reason};
use berth::policy::CrKind;
use serde_json::json;

use crate::plans::{planned, resource};

/// What ToolHive's definitions have, both versions together.
const OF_TOOLHIVE: [(CrKind, &[&str]); 2] = [
    (
        CrKind::McpServer,
        &[
            "image",
            "transport",
            "proxyMode",
            "proxyPort",
            "port",
            "mcpPort",
            "targetPort",
            "args",
            "env",
            "volumes",
            "resources",
            "secrets",
            "serviceAccount",
            "permissionProfile",
            "podTemplateSpec",
            "resourceOverrides",
            "oidcConfig",
            "oidcConfigRef",
            "authzConfig",
            "audit",
            "tools",
            "toolConfigRef",
            "externalAuthConfigRef",
            "webhookConfigRef",
            "authServerRef",
            "telemetry",
            "telemetryConfigRef",
            "trustProxyHeaders",
            "endpointPrefix",
            "groupRef",
            "sessionAffinity",
            "replicas",
            "backendReplicas",
            "sessionStorage",
            "rateLimiting",
            "proxyReadTimeout",
            "proxyWriteTimeout",
        ],
    ),
    (
        CrKind::VirtualMcpServer,
        &[
            "incomingAuth",
            "outgoingAuth",
            "serviceType",
            "sessionAffinity",
            "serviceAccount",
            "podTemplateSpec",
            "groupRef",
            "config",
            "telemetryConfigRef",
            "embeddingServerRef",
            "authServerConfig",
            "replicas",
            "sessionStorage",
            "imagePullSecrets",
            "rateLimiting",
        ],
    ),
];

/// The fields of a kind's table; in parentheses are older names.
fn documented(kind: CrKind) -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/fields.md")).unwrap();
    let section = text.split("\n## ").find(|section| section.starts_with(&format!("{}\n", kind.as_str()))).unwrap();
    let first_columns = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let names = first_columns.flat_map(|column| column.split('`').step_by(2).map(str::to_owned).collect::<Vec<_>>());
    names.filter(|name| !name.is_empty()).collect()
}

fn is_known(kind: CrKind, field: &str) -> bool {
    let planned = planned(&resource(kind, json!({ field: "x" })));
    !matches!(planned, Plan::Nothing { reason: Reason::UnsupportedField, message, .. } if message.contains("does not know this field"))
}

#[test]
fn every_field_of_toolhive_is_known_and_documented_and_no_other() {
    for (kind, fields) in OF_TOOLHIVE {
        let documented = documented(kind);
        for field in fields {
            assert!(documented.contains(*field), "docs/fields.md: {} lacks {field}", kind.as_str());
        }
        for field in &documented {
            assert!(is_known(kind, field), "docs/fields.md: {}.{field}", kind.as_str());
        }
        assert!(!is_known(kind, "somethingElse"));
    }
}
