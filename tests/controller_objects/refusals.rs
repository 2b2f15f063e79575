//! Resources of which nothing may be built.

use berth::controller::objects::{Plan, Reason};
use berth::policy::CrKind;
use serde_json::{Value, json};

use crate::plans::{mcp_server, planned, refused, resource, virtual_mcp_server};

fn check(cr: &Value, reason: Reason, part: &str) {
    let (found, message) = refused(cr);
    assert_eq!(found, reason, "{message}");
    assert!(message.contains(part), "{part}: {message}");
    assert!(!message.contains('\n'), "{message}");
}

#[test]
fn stdio_is_not_proxied() {
    check(&mcp_server(json!({"transport": "stdio"})), Reason::TransportUnsupported, "spec.transport");
    check(&mcp_server(json!({"transport": null})), Reason::TransportUnsupported, "spec.transport");
    let Plan::Nothing { conditions, .. } = planned(&mcp_server(json!({"transport": "stdio", "replicas": 3}))) else {
        panic!("built")
    };
    let capped = conditions.iter().find(|condition| condition.kind == "StdioReplicaCapped").unwrap();
    assert_eq!((capped.active, capped.reason), (true, "StdioTransportCapAt1"));
}

#[test]
fn guards_of_access_and_content_are_not_left_out() {
    for (field, value) in [
        ("oidcConfig", json!({})),
        ("oidcConfig", json!({"type": "kubernetes"})),
        ("oidcConfigRef", json!({"name": "x"})),
        ("authServerRef", json!({"name": "x"})),
        ("authzConfig", json!({"type": "inline"})),
        ("externalAuthConfigRef", json!({"name": "x"})),
        ("toolConfigRef", json!({"name": "x"})),
        ("tools", json!(["a"])),
        ("rateLimiting", json!({})),
        ("webhookConfigRef", json!({"name": "x"})),
        ("audit", json!({"enabled": true})),
        ("permissionProfile", json!({"type": "builtin", "name": "none"})),
        ("permissionProfile", json!({"type": "configmap", "name": "network"})),
        ("permissionProfile", json!("network")),
        // What a later ToolHive may bring.
        ("allowedClients", json!([])),
        ("anonymousAccess", json!(false)),
    ] {
        check(&mcp_server(json!({ field: value })), Reason::UnsupportedField, &format!("spec.{field}: "));
    }
    for (field, value) in [
        ("incomingAuth", json!({"type": "oidc"})),
        ("incomingAuth", json!({"type": "anonymous", "authzConfig": {}})),
        ("incomingAuth", json!({})),
        ("outgoingAuth", json!({"source": "inline"})),
        ("outgoingAuth", json!({"source": "discovered", "backends": {}})),
        ("authServerConfig", json!({})),
        ("rateLimiting", json!({})),
        ("embeddingServerRef", json!({"name": "x"})),
        ("compositeToolRefs", json!([])),
    ] {
        check(&virtual_mcp_server(json!({ field: value })), Reason::UnsupportedField, &format!("spec.{field}: "));
    }
}

/// What runs without a guard that is asked for now has to go, whatever else is wrong.
#[test]
fn a_guard_comes_before_everything_else() {
    let cr = mcp_server(
        json!({"oidcConfig": {}, "transport": "stdio", "replicas": -1, "podTemplateSpec": 5, "image": null}),
    );
    check(&cr, Reason::UnsupportedField, "spec.oidcConfig");
    check(&mcp_server(json!({"transport": "stdio", "replicas": -1})), Reason::TransportUnsupported, "stdio");
}

/// To connect without TLS where TLS is asked for would send the password in the clear.
#[test]
fn unknown_fields_further_down_are_named() {
    let storage = |more: Value| {
        let mut all = json!({"provider": "redis", "address": "redis:6379"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"sessionStorage": all})
    };
    for (fields, field) in [
        (storage(json!({"tls": {"enabled": true}})), "spec.sessionStorage.tls: "),
        (storage(json!({"usernameRef": {"name": "s", "key": "k"}})), "spec.sessionStorage.usernameRef: "),
        (json!({"secrets": [{"name": "s", "key": "k", "optional": true}]}), "spec.secrets[0].optional: "),
        (
            json!({"volumes": [{"name": "v", "hostPath": "/h", "mountPath": "/m", "subPath": "x"}]}),
            "spec.volumes[0].subPath: ",
        ),
    ] {
        check(&mcp_server(fields), Reason::UnsupportedField, field);
    }
    let endpoint = virtual_mcp_server(storage(json!({"tls": {}})));
    check(&endpoint, Reason::UnsupportedField, "spec.sessionStorage.tls: ");
}

#[test]
fn unknown_overrides_are_named() {
    for (overrides, field) in [
        (json!({"server": {}}), "spec.resourceOverrides.server: "),
        (json!({"proxyDeployment": {"replicas": 1}}), "spec.resourceOverrides.proxyDeployment.replicas: "),
        (json!({"proxyService": {"type": "NodePort"}}), "spec.resourceOverrides.proxyService.type: "),
        (
            json!({"proxyDeployment": {"podTemplateMetadataOverrides": {"name": "x"}}}),
            "spec.resourceOverrides.proxyDeployment.podTemplateMetadataOverrides.name: ",
        ),
    ] {
        check(&mcp_server(json!({"resourceOverrides": overrides})), Reason::UnsupportedField, field);
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    for (fields, part) in [
        (json!({"image": null}), "spec.image: it is missing"),
        (json!({"image": ""}), "spec.image: it is missing"),
        (json!({"image": 5}), "spec.image: it must be a string"),
        (json!({"proxyPort": 65536}), "spec.proxyPort: it must be a whole number from 1 to 65535"),
        (json!({"mcpPort": -1}), "spec.mcpPort"),
        (json!({"port": "8080"}), "spec.port"),
        (json!({"transport": "carrier-pigeon"}), "spec.transport: Invalid value"),
        (json!({"replicas": -1}), "spec.replicas: Invalid value: -1"),
        (json!({"sessionStorage": {"provider": "redis"}}), "spec.sessionStorage.address: Required value"),
        (json!({"sessionStorage": {"provider": "redis", "address": "redis://:hunter2@r:1"}}), "credentials"),
        (json!({"args": "x"}), "spec.args: it must be a list"),
        (json!({"args": ["a", 1]}), "spec.args[1]: it must be a string"),
        (json!({"env": [{"value": "x"}]}), "spec.env[0].name: it is missing"),
        (json!({"env": [{"name": "X", "value": 5}]}), "spec.env[0]: "),
        (json!({"env": [{"name": "X", "vlaue": "5"}]}), "spec.env[0].vlaue: there is no such field"),
        (json!({"secrets": [{"name": "x"}]}), "spec.secrets[0].key: it is missing"),
        (json!({"volumes": [{"name": "x", "hostPath": "/x"}]}), "spec.volumes[0].mountPath: it is missing"),
        (json!({"volumes": ["x"]}), "spec.volumes[0]: it must be an object"),
        (json!({"resources": {"limit": {}}}), "spec.resources.limit: there is no such field"),
        (json!({"resources": {"requests": {"cpu": "abc"}}}), "spec.resources.requests.cpu: \"abc\" is no quantity"),
        (json!({"sessionAffinity": "Sometimes"}), "spec.sessionAffinity: it must be one of ClientIP, None"),
        (json!({"serviceAccount": {}}), "spec.serviceAccount: it must be a string"),
        (json!({"resourceOverrides": []}), "spec.resourceOverrides: it must be an object"),
        (
            json!({"resourceOverrides": {"proxyService": {"labels": {"a": 1}}}}),
            "proxyService.labels.a: it must be a string",
        ),
    ] {
        check(&mcp_server(fields), Reason::InvalidSpec, part);
    }
    let hidden =
        refused(&mcp_server(json!({"sessionStorage": {"provider": "redis", "address": "redis://:hunter2@r:1"}})));
    assert!(!hidden.1.contains("hunter2"), "{}", hidden.1);
}

#[test]
fn what_is_no_pod_template_is_named() {
    for (template, part) in [
        (json!("x"), "spec.podTemplateSpec: it must be an object"),
        (json!({"containers": []}), "spec.podTemplateSpec.containers: a pod template has metadata and spec"),
        (json!({"spec": []}), "spec.podTemplateSpec.spec: it must be an object"),
        (json!({"spec": {"tolerations": {}}}), "spec.podTemplateSpec.spec.tolerations: "),
        (json!({"spec": {"hostNetwork": "yes"}}), "spec.podTemplateSpec.spec.hostNetwork: "),
        (json!({"spec": {"nodeSelectro": {}}}), "spec.podTemplateSpec.spec.nodeSelectro: there is no such field"),
        (
            json!({"spec": {"volumes": [{"name": "x", "emtpyDir": {}}]}}),
            "spec.volumes[0].emtpyDir: there is no such field",
        ),
        (json!({"spec": {"containers": {}}}), "spec.podTemplateSpec.spec.containers: it must be a list"),
        (
            json!({"spec": {"containers": [{}]}}),
            "spec.podTemplateSpec.spec.containers[0].name: a container needs a name",
        ),
        (json!({"spec": {"containers": ["mcp"]}}), "containers[0].name: a container needs a name"),
        (json!({"spec": {"containers": [{"name": "mcp", "image": 5}]}}), "spec.podTemplateSpec.spec.containers[0]: "),
        (
            json!({"spec": {"containers": [{"name": "mcp", "imgae": "x"}]}}),
            "containers[0].imgae: there is no such field",
        ),
        (json!({"metadata": {"labels": {"a": 5}}}), "spec.podTemplateSpec.metadata.labels.a: it must be a string"),
        (json!({"metadata": []}), "spec.podTemplateSpec.metadata: it must be an object"),
        (
            json!({"spec": {"containers": [{"name": "mcp", "resources": {"limits": {"cpu": "much"}}}]}}),
            "spec.podTemplateSpec.spec.containers[0].resources.limits.cpu: \"much\" is no quantity; write one as in 500m",
        ),
        (
            json!({"spec": {"volumes": [{"name": "a", "emptyDir": {"sizeLimit": "1GB"}}]}}),
            "spec.podTemplateSpec.spec.volumes[0].emptyDir.sizeLimit: \"1GB\" is no quantity",
        ),
        (
            json!({"spec": {"overhead": {"cpu": "much"}}}),
            "spec.podTemplateSpec.spec.overhead.cpu: \"much\" is no quantity",
        ),
    ] {
        check(&mcp_server(json!({"podTemplateSpec": template.clone()})), Reason::InvalidSpec, part);
        check(&virtual_mcp_server(json!({"podTemplateSpec": template})), Reason::InvalidSpec, part);
    }
}

#[test]
fn what_is_no_resource_is_told() {
    for cr in
        [json!(null), json!([]), json!({"metadata": {"name": "x"}, "spec": 5}), json!({"metadata": [], "spec": {}})]
    {
        let plan =
            berth::controller::objects::plan(&cr, CrKind::McpServer, &crate::plans::settings(), &crate::plans::facts());
        assert!(matches!(plan, Plan::Nothing { reason: Reason::InvalidSpec, .. }), "{cr}");
    }
    let mut nameless = resource(CrKind::McpServer, json!({"image": "x", "transport": "sse"}));
    nameless["metadata"]["name"] = json!("");
    check(&nameless, Reason::InvalidSpec, "metadata.name");
}
