//! An MCPServer's objects.

use berth::controller::objects::{Facts, ObjectKind, Settings, spec_hash};
use berth::policy::{Address, RedisStorage};
use berth_proxy::config::RunConfig;
use serde_json::{Value, json};

use crate::plans::{
    built, built_with, container, deployment, env, facts, find, mcp_server, settings, stateful_set, virtual_mcp_server,
    warnings,
};

const STAMP: &str = "toolhive.stacklok.dev/mcpserver-generation";

fn redis() -> Value {
    json!({"provider": "redis", "address": "redis:6379", "db": 3, "keyPrefix": "p:", "passwordRef": {"name": "s", "key": "k"}})
}

/// Everything that a plain MCPServer gives, letter for letter. **A change of a template here restarts every server of
/// every user at their next upgrade of Berth.**
#[test]
fn a_plain_server() {
    let build = built(&mcp_server(json!({"replicas": 2, "backendReplicas": 3, "sessionStorage": redis()})));
    let objects: Vec<&Value> = build.objects.iter().map(|object| &object.json).collect();
    let text = serde_json::to_string_pretty(&objects).unwrap() + "\n";
    assert!(text == include_str!("mcp_server.json"), "the objects are now\n{text}");
    assert_eq!(build.url, "http://mcp-foo-proxy.team.svc.cluster.local:8080/mcp");
    assert_eq!(build.warnings, []);
}

#[test]
fn the_configuration_is_what_the_proxy_reads() {
    let build = built(&mcp_server(json!({
        "transport": "sse", "proxyPort": 9000, "mcpPort": 3000, "backendReplicas": 0, "sessionStorage": redis(),
    })));
    let map = find(&build, ObjectKind::ConfigMap, "foo-runconfig");
    let config = RunConfig::parse(map["data"]["runconfig.json"].as_str().unwrap()).unwrap();
    assert_eq!(config.mcpserver_generation, Some(7));
    assert_eq!((config.port, config.target_port, config.transport.as_str()), (Some(9000), Some(3000), "sse"));
    assert_eq!(config.backend_replicas(), Some(0));
    let scaling = config.scaling_config.unwrap();
    let redis = scaling.session_redis.unwrap();
    assert_eq!((redis.address.as_str(), redis.db, redis.key_prefix.as_str()), ("redis:6379", Some(3), "p:"));
    let routing = scaling.headless_service.unwrap().routing().unwrap();
    assert_eq!((routing.statefulset.as_str(), routing.service.as_str()), ("foo", "mcp-foo-headless"));
    assert_eq!((routing.namespace.as_str(), routing.ready_service.as_deref()), ("team", Some("mcp-foo")));
    assert_eq!(build.url, "http://mcp-foo-proxy.team.svc.cluster.local:9000/sse");
}

#[test]
fn ports_of_both_versions_are_read() {
    for (fields, proxy, server) in [
        (json!({}), 8080, 8080),
        (json!({"port": 81, "targetPort": 82}), 81, 82),
        (json!({"port": 81, "targetPort": 82, "proxyPort": 91, "mcpPort": 92}), 91, 92),
        (json!({"port": 0, "proxyPort": null, "mcpPort": 0}), 8080, 8080),
    ] {
        let build = built(&mcp_server(fields.clone()));
        assert_eq!(find(&build, ObjectKind::Service, "mcp-foo-proxy")["spec"]["ports"][0]["port"], proxy, "{fields}");
        assert_eq!(find(&build, ObjectKind::Service, "mcp-foo")["spec"]["ports"][0]["port"], server, "{fields}");
        let server_container =
            &find(&build, ObjectKind::StatefulSet, "foo")["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(server_container["ports"][0]["containerPort"], server);
        assert_eq!(env(server_container, "MCP_PORT").unwrap()["value"], server.to_string());
    }
}

#[test]
fn an_absent_count_is_left_to_others_and_zero_is_a_count() {
    for (fields, proxy, server) in [
        (json!({}), Value::Null, Value::Null),
        (json!({"replicas": 0, "backendReplicas": 0}), json!(0), json!(0)),
        (json!({"replicas": 4, "backendReplicas": 5, "sessionStorage": redis()}), json!(4), json!(5)),
        // In memory, other replicas would not find a session.
        (json!({"replicas": 4, "backendReplicas": 5}), json!(1), json!(5)),
    ] {
        let cr = mcp_server(fields.clone());
        assert_eq!(deployment(&cr)["spec"].get("replicas").cloned().unwrap_or_default(), proxy, "{fields}");
        assert_eq!(stateful_set(&cr)["spec"].get("replicas").cloned().unwrap_or_default(), server, "{fields}");
    }
}

#[test]
fn a_count_changes_no_template_and_no_hash() {
    let of = |replicas: u32, backends: u32| {
        mcp_server(json!({"replicas": replicas, "backendReplicas": backends, "sessionStorage": redis()}))
    };
    let (one, other) = (of(1, 1), of(9, 8));
    assert_eq!(deployment(&one)["spec"]["template"], deployment(&other)["spec"]["template"]);
    assert_eq!(stateful_set(&one)["spec"]["template"], stateful_set(&other)["spec"]["template"]);
    assert_eq!(spec_hash(&one), spec_hash(&other));
    assert_eq!(spec_hash(&one), spec_hash(&mcp_server(json!({"sessionStorage": redis()}))));
    assert_ne!(spec_hash(&one), spec_hash(&mcp_server(json!({"sessionStorage": redis(), "image": "server:2"}))));
    assert_eq!(spec_hash(&one).len(), 32);
}

#[test]
fn conditions_tell_of_counts_that_got_past_the_webhook() {
    let active = |fields: Value| -> Vec<(&str, &str)> {
        let conditions = built(&mcp_server(fields)).conditions;
        assert_eq!(
            conditions.iter().map(|c| c.kind).collect::<Vec<_>>(),
            ["SessionStorageWarning", "StdioReplicaCapped"]
        );
        conditions.into_iter().filter(|c| c.active).map(|c| (c.kind, c.reason)).collect()
    };
    assert_eq!(active(json!({"replicas": 2})), [("SessionStorageWarning", "SessionStorageMissingForReplicas")]);
    assert_eq!(active(json!({"replicas": 1})), []);
    assert_eq!(active(json!({})), []);
    assert_eq!(active(json!({"replicas": 2, "sessionStorage": redis()})), []);
}

#[test]
fn a_count_that_nobody_asked_for_is_told_of_and_left_alone() {
    let told = |cr: &Value, replicas: i64| {
        let build = built_with(cr, &settings(), &Facts { replicas, ..facts() });
        let deployment = find(&build, ObjectKind::Deployment, "foo");
        assert_eq!(deployment["spec"].get("replicas"), cr["spec"].get("replicas"), "{replicas} run");
        let storage = build.conditions.into_iter().find(|condition| condition.kind == "SessionStorageWarning").unwrap();
        storage.active.then_some((storage.reason, storage.message))
    };
    let vmcp = virtual_mcp_server(json!({"config": {"name": "x"}}));
    for cr in [mcp_server(json!({})), vmcp] {
        for few in [0, 1] {
            assert_eq!(told(&cr, few), None);
        }
        let (reason, message) = told(&cr, 2).expect("another replica knows nothing of a session");
        assert_eq!(reason, "SessionStorageMissingForReplicas");
        assert!(message.contains("scale") && message.contains("spec.sessionStorage.provider"), "{message}");
        assert_eq!(told(&cr, 3), Some((reason, message)), "not told anew for each step of an autoscaler");
    }
    assert_eq!(told(&mcp_server(json!({"sessionStorage": redis()})), 3), None);
    assert_eq!(told(&mcp_server(json!({"replicas": 1})), 3), None, "it is about to be set back");

    // Several pods of the server, whose sessions the proxy alone knows.
    let warned = |fields: Value, backends: i64| {
        let build = built_with(&mcp_server(fields), &settings(), &Facts { backends, ..facts() });
        build.conditions.into_iter().find(|condition| condition.active).map(|condition| condition.message)
    };
    assert_eq!(warned(json!({}), 1), None);
    let message = warned(json!({}), 2).expect("its pins are lost with the proxy");
    assert!(
        message.contains("scaled to more than 1 pod") && message.contains("spec.sessionStorage.provider"),
        "{message}"
    );
    assert_eq!(warned(json!({}), 3), Some(message), "not told anew for each step of an autoscaler");
    assert!(warned(json!({"backendReplicas": 2}), 1).is_some_and(|message| message.contains("spec.backendReplicas")));
    assert_eq!(warned(json!({"sessionStorage": redis()}), 2), None);
    assert_eq!(warned(json!({"backendReplicas": 1}), 2), None, "it is about to be set back");
}

#[test]
fn another_default_store_reaches_the_proxies_that_use_it() {
    let with = |cr: &Value, address: Option<&str>| {
        let address =
            address.map(|address| RedisStorage { address: Address::parse(address).ok(), ..RedisStorage::default() });
        let build = built_with(cr, &Settings { default_storage: address, ..settings() }, &facts());
        let workloads = build.objects.iter().filter(|object| object.json["spec"]["template"].is_object());
        workloads.map(|object| object.json["spec"]["template"].clone()).collect::<Vec<_>>()
    };
    // A proxy reads of its store once, when it starts.
    let plain = mcp_server(json!({}));
    let (none, first, second) = (with(&plain, None), with(&plain, Some("a:6379")), with(&plain, Some("b:6379")));
    let [server, proxy] = [0, 1];
    assert!(none[proxy] != first[proxy] && first[proxy] != second[proxy], "{first:?}");
    assert_eq!(first, with(&plain, Some("a:6379")));
    assert!(none[server] == first[server] && first[server] == second[server], "it has no part in it: {first:?}");
    let vmcp = virtual_mcp_server(json!({"config": {"name": "x"}}));
    assert_ne!(with(&vmcp, Some("a:6379")), with(&vmcp, Some("b:6379")));
    for own in [json!({"provider": "memory"}), redis()] {
        let own = mcp_server(json!({ "sessionStorage": own }));
        assert_eq!(with(&own, None), with(&own, Some("a:6379")), "{own}");
    }
}

#[test]
fn the_proxy_ends_itself_within_its_grace_period() {
    let flag = |workload: &Value, name: &str| -> i64 {
        let args = container(workload, "toolhive")["args"].as_array().unwrap();
        let text = args.iter().find_map(|arg| arg.as_str().unwrap().strip_prefix(name)).unwrap();
        text.trim_end_matches('s').parse().unwrap()
    };
    for (grace, pause, drain) in
        [(None, 5, 20), (Some(30), 5, 20), (Some(300), 5, 290), (Some(10), 1, 8), (Some(1), 0, 0)]
    {
        let mut cr = mcp_server(json!({}));
        if let Some(grace) = grace {
            let grace: i64 = grace;
            cr["metadata"]["annotations"] = json!({"berth.dev/termination-grace-period-seconds": grace.to_string()});
        }
        let workload = deployment(&cr);
        assert_eq!((flag(&workload, "--lame-duck="), flag(&workload, "--drain-timeout=")), (pause, drain), "{grace:?}");
        let period = workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap();
        assert_eq!(period, grace.unwrap_or(30));
        assert!(pause + drain < period);
        assert_eq!(stateful_set(&cr)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], period);
    }
}

#[test]
fn the_servers_container_is_as_the_resource_says() {
    let cr = mcp_server(json!({
        "args": ["--a", "b"],
        "env": [{"name": "A", "value": "1"}, {"name": "MCP_HOST", "value": "127.0.0.1"}],
        "secrets": [{"name": "s", "key": "TOKEN"}, {"name": "s", "key": "k", "targetEnvName": "OTHER"}],
        "resources": {"limits": {"cpu": 1, "memory": "64Mi"}, "requests": {"cpu": "100m"}},
        "volumes": [{"name": "data", "hostPath": "/srv", "mountPath": "/data", "readOnly": true}],
        "serviceAccount": "sa",
    }));
    let workload = stateful_set(&cr);
    let server = container(&workload, "mcp");
    assert_eq!(server["args"], json!(["--a", "b"]));
    assert_eq!(env(server, "A").unwrap()["value"], "1");
    assert_eq!(env(server, "MCP_HOST").unwrap()["value"], "127.0.0.1", "the user knows best");
    assert_eq!(env(server, "TOKEN").unwrap()["valueFrom"], json!({"secretKeyRef": {"name": "s", "key": "TOKEN"}}));
    assert_eq!(env(server, "OTHER").unwrap()["valueFrom"], json!({"secretKeyRef": {"name": "s", "key": "k"}}));
    assert_eq!(server["resources"], json!({"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "100m"}}));
    assert_eq!(server["volumeMounts"], json!([{"name": "data", "mountPath": "/data", "readOnly": true}]));
    let pod = &workload["spec"]["template"]["spec"];
    assert_eq!(pod["volumes"], json!([{"name": "data", "hostPath": {"path": "/srv"}}]));
    assert_eq!(pod["serviceAccountName"], "sa");
}

#[test]
fn a_pod_template_is_laid_over_the_servers() {
    let cr = mcp_server(json!({
        "env": [{"name": "A", "value": "1"}],
        "podTemplateSpec": {
            "metadata": {"labels": {"team": "x"}, "annotations": {"note": "y"}, "creationTimestamp": null},
            "spec": {
                "nodeSelector": {"disk": "ssd"},
                "terminationGracePeriodSeconds": 60,
                "securityContext": {"runAsUser": 5},
                "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
                "containers": [
                    {"name": "mcp", "env": [{"name": "A", "value": "2"}, {"name": "B", "value": "3"}],
                     "readinessProbe": {"httpGet": {"path": "/ok", "port": 1}},
                     "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}], "resources": {"limits": {"cpu": 2}}},
                    {"name": "helper", "image": "helper:1", "ports": [{"containerPort": 5}, {"containerPort": 5}]},
                ],
            },
        },
    }));
    let workload = stateful_set(&cr);
    let template = &workload["spec"]["template"];
    assert_eq!(template["metadata"]["labels"]["team"], "x");
    assert_eq!(template["metadata"]["annotations"], json!({"note": "y", STAMP: "7"}));
    let pod = &template["spec"];
    assert_eq!((&pod["nodeSelector"]["disk"], &pod["terminationGracePeriodSeconds"]), (&json!("ssd"), &json!(60)));
    assert_eq!(
        (&pod["securityContext"]["runAsUser"], &pod["securityContext"]["runAsNonRoot"]),
        (&json!(5), &json!(true))
    );
    let server = container(&workload, "mcp");
    assert_eq!(server["image"], "server:1");
    assert_eq!((&env(server, "A").unwrap()["value"], &env(server, "B").unwrap()["value"]), (&json!("2"), &json!("3")));
    assert_eq!(
        server["readinessProbe"],
        json!({"httpGet": {"path": "/ok", "port": 1}}),
        "not two ways of asking in one"
    );
    assert_eq!(server["resources"]["limits"]["cpu"], "2");
    let helper = container(&workload, "helper");
    assert_eq!(helper["ports"], json!([{"containerPort": 5, "protocol": "TCP"}]), "an apply with doubles is refused");
    assert_eq!(warnings(&cr), Vec::<String>::new());
}

#[test]
fn overrides_of_the_proxy_are_laid_under_berths_own() {
    let cr = mcp_server(json!({
        "sessionStorage": redis(),
        "resourceOverrides": {
            "proxyDeployment": {
                "annotations": {"a": "1", "berth.dev/stamped-spec": "x"},
                "labels": {"b": "2", "app": "other"},
                "podTemplateMetadataOverrides": {"annotations": {"c": "3", STAMP: "99"}, "labels": {"toolhive-name": "x", "d": "4"}},
                "env": [{"name": "RUST_LOG", "value": "debug"}, {"name": "THV_SESSION_REDIS_PASSWORD", "value": "hunter2"},
                        {"name": "THV_MCPSERVER_GENERATION", "value": "1"}],
                "imagePullSecrets": [{"name": "pull"}],
            },
            "proxyService": {"annotations": {"e": "5"}, "labels": {"f": "6", "app.kubernetes.io/managed-by": "me"}},
        },
    }));
    let build = built(&cr);
    let workload = find(&build, ObjectKind::Deployment, "foo");
    assert_eq!(workload["metadata"]["annotations"], json!({"a": "1"}));
    assert_eq!(
        (&workload["metadata"]["labels"]["b"], &workload["metadata"]["labels"]["app"]),
        (&json!("2"), &json!("mcpserver"))
    );
    let template = &workload["spec"]["template"];
    assert_eq!(template["metadata"]["annotations"], json!({"c": "3", STAMP: "7"}));
    assert_eq!(
        (&template["metadata"]["labels"]["d"], &template["metadata"]["labels"]["toolhive-name"]),
        (&json!("4"), &json!("foo"))
    );
    let proxy = container(workload, "toolhive");
    let names: Vec<_> = proxy["env"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["RUST_LOG", "THV_SESSION_REDIS_PASSWORD", "THV_MCPSERVER_GENERATION"]);
    assert_eq!(env(proxy, names[1]).unwrap()["valueFrom"], json!({"secretKeyRef": {"name": "s", "key": "k"}}));
    assert_eq!(template["spec"]["imagePullSecrets"], json!([{"name": "pull"}]));
    let service = find(&build, ObjectKind::Service, "mcp-foo-proxy");
    assert_eq!(
        (&service["metadata"]["annotations"]["e"], &service["metadata"]["labels"]["f"]),
        (&json!("5"), &json!("6"))
    );
    assert_eq!(service["metadata"]["labels"]["app.kubernetes.io/managed-by"], "berth");

    let warnings = warnings(&cr).join("\n");
    for field in [
        "proxyDeployment.annotations[berth.dev/stamped-spec]",
        "proxyDeployment.labels[app]",
        "proxyDeployment.podTemplateMetadataOverrides.annotations[toolhive.stacklok.dev/mcpserver-generation]",
        "proxyDeployment.podTemplateMetadataOverrides.labels[toolhive-name]",
        "proxyDeployment.env[THV_SESSION_REDIS_PASSWORD]",
        "proxyDeployment.env[THV_MCPSERVER_GENERATION]",
        "proxyService.labels[app.kubernetes.io/managed-by]",
    ] {
        assert!(
            warnings.contains(&format!("OverrideIgnored: spec.resourceOverrides.{field} is not followed")),
            "{field}\n{warnings}"
        );
    }
    assert!(!warnings.contains("hunter2"));
    assert!(
        !serde_json::to_string(&built(&cr).objects.iter().map(|o| &o.json).collect::<Vec<_>>())
            .unwrap()
            .contains("hunter2")
    );
}

#[test]
fn a_pod_template_displaces_neither_stamp_nor_selector_nor_grace_period() {
    let mut cr = mcp_server(json!({"podTemplateSpec": {
        "metadata": {"annotations": {STAMP: "99", "berth.dev/inject": "disabled"}, "labels": {"app": "evil"}},
        "spec": {"terminationGracePeriodSeconds": 1},
    }}));
    cr["metadata"]["annotations"] = json!({"berth.dev/termination-grace-period-seconds": "45"});
    let workload = stateful_set(&cr);
    let template = &workload["spec"]["template"];
    assert_eq!(template["metadata"]["annotations"], json!({STAMP: "7"}));
    assert_eq!(template["metadata"]["labels"], workload["spec"]["selector"]["matchLabels"]);
    assert_eq!(template["spec"]["terminationGracePeriodSeconds"], 45);
    assert_eq!(warnings(&cr).len(), 4, "{:?}", warnings(&cr));
}

/// The labels are ToolHive's, where `app` is the name for one workload and the kind for the other.
#[test]
fn a_server_called_as_its_kind_does_not_select_its_proxies() {
    for name in ["mcpserver", "virtualmcpserver"] {
        let mut cr = mcp_server(json!({}));
        cr["metadata"]["name"] = json!(name);
        let build = built(&cr);
        let selector = &find(&build, ObjectKind::StatefulSet, name)["spec"]["selector"]["matchLabels"];
        let proxies = &find(&build, ObjectKind::Deployment, name)["spec"]["template"]["metadata"]["labels"];
        let selects = selector.as_object().unwrap().iter().all(|(key, value)| proxies.get(key) == Some(value));
        assert!(!selects, "{selector} {proxies}");
        assert_eq!(&find(&build, ObjectKind::Service, &format!("mcp-{name}"))["spec"]["selector"], selector);
    }
}

#[test]
fn without_a_reference_no_password_is_given() {
    let cr = mcp_server(json!({"sessionStorage": {"provider": "redis", "address": "redis:6379"}}));
    assert_eq!(env(container(&deployment(&cr), "toolhive"), "THV_SESSION_REDIS_PASSWORD"), None);
    // A reference beside memory is of no use.
    let cr = mcp_server(json!({"sessionStorage": {"provider": "memory", "passwordRef": {"name": "s", "key": "k"}}}));
    assert_eq!(env(container(&deployment(&cr), "toolhive"), "THV_SESSION_REDIS_PASSWORD"), None);
}

#[test]
fn the_admin_port_gives_way_and_low_ports_can_be_bound() {
    let workload = deployment(&mcp_server(json!({"proxyPort": 9090})));
    let ports = &container(&workload, "toolhive")["ports"];
    assert_eq!((&ports[0]["containerPort"], &ports[1]["containerPort"]), (&json!(9090), &json!(9091)));
    let security = |port: u16| {
        deployment(&mcp_server(json!({"proxyPort": port})))["spec"]["template"]["spec"]["securityContext"].clone()
    };
    assert_eq!(security(80)["sysctls"][0]["value"], "0");
    assert_eq!(security(8080).get("sysctls"), None);
}

#[test]
fn what_has_no_effect_is_told_and_what_is_off_is_not() {
    let cr = mcp_server(json!({
        "trustProxyHeaders": true, "endpointPrefix": "/x", "telemetryConfigRef": {"name": "t"}, "proxyReadTimeout": "1m",
        "proxyMode": "sse", "groupRef": {"name": "g"}, "audit": {"enabled": false}, "tools": [],
        "permissionProfile": {"type": "builtin", "name": "network"}, "telemetry": null,
    }));
    let warnings = warnings(&cr);
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    assert!(warnings.iter().all(|warning| warning.starts_with("FieldHasNoEffect: spec.")));
    assert_eq!(built(&mcp_server(json!({"trustProxyHeaders": false, "endpointPrefix": ""}))).warnings, []);
}
