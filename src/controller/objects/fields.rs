//! Which fields of a custom resource's spec Berth does, which it can leave out, and which it must not.
//!
//! Every field that is not named here is refused: a newer ToolHive may have fields that guard access, and an open proxy in
//! place of a guarded one is worse than none.

use serde_json::Value;

use super::Warning;
use super::refusal::Refusal;
use super::resource::{Fields, Resource};
use crate::policy::CrKind;

/// What becomes of a field.
enum Treatment {
    /// It is honoured, or means nothing to what Berth builds.
    Done,
    /// Leaving it out takes no guard away, and is told.
    NoEffect(&'static str),
    /// Leaving it out would take something away that guards, or that clients rely on.
    Refused(&'static str),
    /// Its content decides.
    Judged(fn(&Value) -> Option<&'static str>),
}
use Treatment::{Done, Judged, NoEffect, Refused};

const LEAVE: &str = "leave this server to ToolHive, or guard it outside and take the field away";

/// Checks every field of the spec, and of the objects in it that overrides are made of.
pub(super) fn check(resource: &Resource<'_>) -> Result<Vec<Warning>, Refusal> {
    let mut warnings = Vec::new();
    let treat = match resource.kind {
        CrKind::McpServer => mcp_server,
        CrKind::VirtualMcpServer => virtual_mcp_server,
    };
    check_all(&resource.spec, treat, &mut warnings)?;
    check_within(&resource.spec, &mut warnings)?;
    if resource.kind == CrKind::VirtualMcpServer {
        warnings.extend(group(resource));
    }
    Ok(warnings)
}

/// The same for the objects in it that are read field by field. What is no object is refused later, by who reads it.
fn check_within(spec: &Fields<'_>, warnings: &mut Vec<Warning>) -> Result<(), Refusal> {
    let mut check = |fields: Result<Fields<'_>, Refusal>, treat| match fields {
        Ok(fields) => check_all(&fields, treat, warnings),
        Err(_) => Ok(()),
    };
    check(spec.object("sessionStorage"), session_storage)?;
    for (list, treat) in [("secrets", secret as fn(&str) -> Option<Treatment>), ("volumes", volume)] {
        for entry in spec.objects(list).into_iter().flatten() {
            check(Ok(entry), treat)?;
        }
    }
    check(spec.object("resourceOverrides"), overrides_of)?;
    let Ok(overrides) = spec.object("resourceOverrides") else { return Ok(()) };
    check(overrides.object("proxyService"), metadata_overrides)?;
    check(overrides.object("proxyDeployment"), deployment_overrides)?;
    let Ok(deployment) = overrides.object("proxyDeployment") else { return Ok(()) };
    check(deployment.object("podTemplateMetadataOverrides"), metadata_overrides)
}

fn check_all(
    fields: &Fields<'_>,
    treat: fn(&str) -> Option<Treatment>,
    warnings: &mut Vec<Warning>,
) -> Result<(), Refusal> {
    for (field, value) in fields.iter() {
        let path = fields.path(field);
        match treat(field) {
            Some(Done) => {}
            Some(NoEffect(why)) => {
                // Defaults that a schema fills in ask for nothing.
                if !is_off(value) {
                    warnings
                        .push(Warning { reason: "FieldHasNoEffect", message: format!("{path} has no effect: {why}") });
                }
            }
            Some(Refused(what)) => {
                return Err(Refusal::unsupported(&path, format!("Berth does not do {what}; {LEAVE}")));
            }
            Some(Judged(judge)) => {
                if let Some(what) = judge(value) {
                    return Err(Refusal::unsupported(&path, format!("Berth does not do {what}; {LEAVE}")));
                }
            }
            None => {
                return Err(Refusal::unsupported(
                    &path,
                    "Berth does not know this field, and it may be one that guards access; leave this server to ToolHive, \
                     or take the field away",
                ));
            }
        }
    }
    Ok(())
}

/// The values that Go clients write for fields that are not set, and that switch a feature off.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty() || (map.len() == 1 && map.get("enabled") == Some(&Value::Bool(false))),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// Both versions of `MCPServer`, as ToolHive has them.
fn mcp_server(field: &str) -> Option<Treatment> {
    Some(match field {
        "image" | "transport" | "proxyPort" | "port" | "mcpPort" | "targetPort" | "args" | "env" | "volumes"
        | "resources" | "secrets" | "serviceAccount" | "podTemplateSpec" | "resourceOverrides" | "sessionAffinity"
        | "replicas" | "backendReplicas" | "sessionStorage" => Done,
        // Means nothing to servers that are not on stdio, and whom a group concerns reads it from here.
        "proxyMode" | "groupRef" => Done,
        "trustProxyHeaders" | "endpointPrefix" => {
            NoEffect("the proxy passes requests and URLs as they are; tell the server where it is reached")
        }
        "telemetry" | "telemetryConfigRef" => {
            NoEffect("the proxy has metrics of its own, at /metrics of its admin port")
        }
        "proxyReadTimeout" | "proxyWriteTimeout" => NoEffect("the proxy's bounds are fixed, and streams may stay open"),
        "oidcConfig" | "oidcConfigRef" => Refused("authentication by OIDC"),
        "authServerRef" => Refused("authorization servers"),
        "authzConfig" | "authzConfigRef" => Refused("authorization"),
        "externalAuthConfigRef" => Refused("external authentication"),
        "toolConfigRef" => Refused("filters of tools"),
        "tools" => Judged(|value| (!is_off(value)).then_some("filters of tools")),
        "rateLimiting" => Refused("rate limits"),
        "webhookConfigRef" => Refused("webhooks"),
        "audit" => Judged(|value| (!is_off(value)).then_some("audit logs")),
        "permissionProfile" => Judged(permission_profile),
        _ => return None,
    })
}

/// `VirtualMCPServer`, as ToolHive has it.
fn virtual_mcp_server(field: &str) -> Option<Treatment> {
    Some(match field {
        "config" | "replicas" | "sessionStorage" | "serviceType" | "sessionAffinity" | "serviceAccount"
        | "podTemplateSpec" | "imagePullSecrets" | "groupRef" => Done,
        "telemetryConfigRef" => NoEffect("write it in spec.config"),
        "incomingAuth" => {
            Judged(|value| (!is_anonymous(value)).then_some("authentication for it; write it in spec.config"))
        }
        "outgoingAuth" => {
            Judged(|value| (!is_discovered(value)).then_some("authentication to its servers; write it in spec.config"))
        }
        "authServerConfig" => Refused("authorization servers"),
        "embeddingServerRef" => Refused("embedding servers; write its address in spec.config"),
        "rateLimiting" => Refused("rate limits"),
        _ => return None,
    })
}

/// A newer field may ask for TLS, or for another user: to connect without is no better than not at all.
fn session_storage(field: &str) -> Option<Treatment> {
    match field {
        "provider" | "address" | "db" | "keyPrefix" | "passwordRef" => Some(Done),
        "tls" => Some(Refused("this way of asking for TLS; write the address as a rediss:// URL")),
        _ => None,
    }
}

fn secret(field: &str) -> Option<Treatment> {
    matches!(field, "name" | "key" | "targetEnvName").then_some(Done)
}

fn volume(field: &str) -> Option<Treatment> {
    matches!(field, "name" | "hostPath" | "mountPath" | "readOnly").then_some(Done)
}

fn overrides_of(field: &str) -> Option<Treatment> {
    matches!(field, "proxyDeployment" | "proxyService").then_some(Done)
}

fn deployment_overrides(field: &str) -> Option<Treatment> {
    matches!(field, "annotations" | "labels" | "podTemplateMetadataOverrides" | "env" | "imagePullSecrets")
        .then_some(Done)
}

fn metadata_overrides(field: &str) -> Option<Treatment> {
    matches!(field, "annotations" | "labels").then_some(Done)
}

/// The built-in profile that lets everything through restricts nothing.
fn permission_profile(value: &Value) -> Option<&'static str> {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let open = text("type").unwrap_or("builtin") == "builtin" && text("name") == Some("network");
    (!open).then_some("permission profiles but the built-in network")
}

fn is_anonymous(value: &Value) -> bool {
    let type_alone = value.as_object().is_some_and(|map| map.keys().all(|key| key == "type"));
    type_alone && value.get("type").and_then(Value::as_str) == Some("anonymous")
}

fn is_discovered(value: &Value) -> bool {
    let Some(map) = value.as_object() else { return false };
    map.iter().all(|(key, value)| key == "source" && value == "discovered")
}

/// The aggregator learns of its group from its configuration alone.
fn group(resource: &Resource<'_>) -> Option<Warning> {
    let group = resource.spec.get("groupRef")?;
    let name = group.get("name").unwrap_or(group);
    let configured =
        resource.spec.get("config").and_then(|config| config.get("groupRef").or_else(|| config.get("group")));
    (configured != Some(name)).then(|| Warning {
        reason: "FieldHasNoEffect",
        message:
            "spec.groupRef has no effect: the aggregator reads its group from spec.config.groupRef; write it there"
                .into(),
    })
}
