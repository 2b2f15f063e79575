//! What is as it should be is left alone, what is not is set right, and what is others' stays theirs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::injector::{ANNOTATION, Injector, MIRROR, SIDECAR};
use crate::objects::{condition, mcp_server, parts, redis, virtual_mcp_server};
use crate::world::{Namespace, World, trial};

pub(crate) fn trials(world: &Arc<World>) -> Vec<Trial> {
    vec![
        trial(world, "drift::an_edit_by_hand_is_set_back_once_and_others_fields_stay", edited),
        trial(world, "drift::a_port_changed_by_hand_is_set_back", renumbered),
        trial(world, "drift::what_another_webhook_injects_stays_without_a_fight", injected),
        trial(world, "drift::another_writer_is_not_fought_without_end", fought),
        trial(world, "drift::what_is_settled_costs_not_one_write", settled),
    ]
}

/// Those that met a newer state changed nothing.
fn done(writes: &[String]) -> Vec<&String> {
    writes.iter().filter(|write| write.ends_with(" 200") || write.ends_with(" 201")).collect()
}

fn edited(ns: &Namespace) -> Result<(), Failed> {
    ns.build(&mcp_server("foo", json!({"replicas": 2, "sessionStorage": redis()})))?;
    let before: Vec<_> = parts("foo").iter().map(|part| ns.get(part)).collect::<Result<_, _>>()?;
    // Somebody else's annotations, and a label.
    let theirs = json!({
        "metadata": {"annotations": {"example.com/note": "mine"}, "labels": {"team": "a"}},
        "spec": {"template": {"metadata": {"annotations": {"sidecar": "yes"}}}},
    });
    ns.edit("Deployment/foo", &theirs)?;
    let audit = ns.audit();
    ns.settled("foo")?;
    assert_eq!(audit.object_writes_in(&ns.name), Vec::<String>::new(), "fields of others are no drift");

    let proxy = before[5]["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    ns.kubectl.run(&["set", "image", "deployment/foo", "toolhive=example.com/another:2"])?.ok()?;
    ns.wait("Deployment/foo", "has its image again", |live| {
        live["spec"]["template"]["spec"]["containers"][0]["image"] == proxy
    })?;
    ns.edit("Service/mcp-foo-proxy", &json!({"spec": {"selector": {"app": "x"}}}))?;
    ns.wait("Service/mcp-foo-proxy", "has its selector again", |live| live["spec"] == before[3]["spec"])?;
    ns.edit("ConfigMap/foo-runconfig", &json!({"data": {"runconfig.json": "{}"}}))?;
    ns.wait("ConfigMap/foo-runconfig", "has its content again", |live| live["data"] == before[0]["data"])?;
    ns.client.delete(&ns.name, "Service/mcp-foo")?;
    ns.wait("Service/mcp-foo", "is there again", |live| live["metadata"]["uid"] != before[2]["metadata"]["uid"])?;
    ns.settled("foo")?;
    let writes = audit.object_writes_in(&ns.name);
    let done = done(&writes);
    let of = |what: &str| done.iter().filter(|write| write.contains(what)).count();
    assert_eq!((of("patch deployments"), of("patch configmaps")), (1, 1), "{writes:?}");
    assert_eq!((of("patch services"), of("patch statefulsets")), (2, 0), "{writes:?}");
    let live = ns.get("Deployment/foo")?;
    assert_eq!(live["metadata"]["annotations"]["example.com/note"], "mine", "{live}");
    assert_eq!(live["metadata"]["labels"]["team"], "a", "{live}");
    assert_eq!(live["spec"]["template"]["metadata"]["annotations"]["sidecar"], "yes", "{live}");
    Ok(())
}

fn renumbered(ns: &Namespace) -> Result<(), Failed> {
    ns.build(&mcp_server("foo", json!({"sessionStorage": redis()})))?;
    let before = ns.get("Service/mcp-foo-proxy")?["spec"]["ports"].clone();
    for number in [1234, 1235] {
        let port = json!([{"op": "replace", "path": "/spec/ports/0/port", "value": number}]).to_string();
        ns.kubectl.run(&["patch", "service/mcp-foo-proxy", "--type=json", "--patch", &port])?.ok()?;
        ns.wait("Service/mcp-foo-proxy", "has its ports again", |live| live["spec"]["ports"] == before)?;
    }
    ns.settled("foo")?;
    // A change that is wanted leaves nothing of it behind.
    ns.edit("MCPServer/foo", &json!({"spec": {"proxyPort": 9000}}))?;
    ns.wait("Service/mcp-foo-proxy", "has the new port, and no other of its name", |live| {
        let ports = live["spec"]["ports"].as_array().cloned().unwrap_or_default();
        ports.iter().filter(|port| port["name"] == before[0]["name"]).map(|port| &port["port"]).eq([&json!(9000)])
    })?;
    Ok(())
}

/// The injected container, which all of a workload's templates have besides Berth's own with its mirrored image.
fn assert_injected(ns: &Namespace, what: &str, own: &str) -> Result<(), Failed> {
    let template = ns.get(what)?["spec"]["template"].clone();
    assert_eq!(template["metadata"]["annotations"][ANNOTATION], "yes", "{what}: {template}");
    let containers = template["spec"]["containers"].as_array().cloned().unwrap_or_default();
    assert_eq!(containers.len(), 2, "{what}: {template}");
    assert_eq!(containers[0]["image"], format!("{MIRROR}{own}"), "{what}: {template}");
    assert_eq!(containers[1]["name"], SIDECAR, "{what}: {template}");
    assert_eq!(containers[1]["env"], json!([{"name": "OF", "value": "mesh"}]), "{what}: {template}");
    Ok(())
}

fn injected(ns: &Namespace) -> Result<(), Failed> {
    let injector = Injector::start(&ns.kubectl, &ns.name)?;
    ns.build(&mcp_server("foo", json!({"replicas": 2, "sessionStorage": redis()})))?;
    let image = ns.get("Deployment/foo")?["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    let proxy = image.as_str().and_then(|image| image.strip_prefix(MIRROR)).ok_or("the injector was not called")?;
    assert_injected(ns, "Deployment/foo", proxy)?;
    assert_injected(ns, "StatefulSet/foo", "example:1")?;

    // A busy machine is still at its status.
    ns.settled("foo")?;
    // Everything is looked at each second.
    let audit = ns.audit();
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(audit.writes_in(&ns.name), Vec::<String>::new(), "what was injected is no drift");

    // A change of the resource is carried out once, and leaves it.
    ns.edit("MCPServer/foo", &json!({"spec": {"image": "example:2"}}))?;
    ns.settled("foo")?;
    let writes = audit.object_writes_in(&ns.name);
    let done = done(&writes);
    let of = |what: &str| done.iter().filter(|write| write.starts_with(what)).count();
    assert_eq!((of("patch deployments"), of("patch statefulsets"), done.len()), (1, 1, 3), "{writes:?}");
    assert_injected(ns, "Deployment/foo", proxy)?;
    assert_injected(ns, "StatefulSet/foo", "example:2")?;

    // So does one that the other webhook does not see any more: it is not Berth's to take away.
    drop(injector);
    ns.edit("MCPServer/foo", &json!({"spec": {"env": [{"name": "A", "value": "1"}]}}))?;
    let changed = ns.wait("StatefulSet/foo", "has the variable", |live| {
        live["spec"]["template"]["spec"]["containers"][0]["env"].to_string().contains("\"A\"")
    })?;
    let containers = &changed["spec"]["template"]["spec"]["containers"];
    assert_eq!((&containers[0]["image"], &containers[1]["name"]), (&json!("example:2"), &json!(SIDECAR)), "{changed}");
    assert_eq!(changed["spec"]["template"]["metadata"]["annotations"][ANNOTATION], "yes", "{changed}");
    ns.settled("foo")?;
    Ok(())
}

/// Another controller, that changes an object and a status as soon as they are set back.
fn fought(ns: &Namespace) -> Result<(), Failed> {
    const AT_ONCE: usize = 3;
    ns.build(&mcp_server("foo", json!({})))?;
    let image = |live: &Value| live["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    let ours = image(&ns.get("Deployment/foo")?);
    let theirs = json!({"spec": {"template": {"spec": {"containers": [{"name": "toolhive", "image": "theirs:1"}]}}}});
    let audit = ns.audit();
    let end = Instant::now() + Duration::from_secs(20);
    let mut rounds = 0_usize;
    while Instant::now() < end {
        if image(&ns.get("Deployment/foo")?) == ours {
            ns.client.strategic_merge(&ns.name, "Deployment/foo", &theirs)?;
            rounds += 1;
        }
        // Answers to this count as well; on a busy machine they would be all that are given at once.
        if rounds >= AT_ONCE {
            ns.client.merge_status(&ns.name, "MCPServer/foo", &json!({"status": {"phase": "Terminating"}}))?;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let writes = audit.writes_in(&ns.name);
    let of = |what: &str| writes.iter().filter(|write| write.contains(what)).count();
    assert!((AT_ONCE..=16).contains(&rounds), "the first are set back at once, the others not: {rounds} in 20 s");
    assert!(of("patch deployments") <= 20 && of("patch mcpservers/status") <= 30, "{writes:?}");
    // It ends well for the one that stays.
    ns.wait("Deployment/foo", "has its image again", |live| image(live) == ours)?;
    ns.wait("MCPServer/foo", "has its phase again", |cr| cr["status"]["phase"] == "Pending")?;
    Ok(())
}

fn settled(ns: &Namespace) -> Result<(), Failed> {
    const EACH: usize = 7;
    let (servers, aggregators) = (servers(), aggregators());
    let mut all = Vec::new();
    for number in 0..EACH {
        // Of one name, they would be each other's.
        let server = |(index, spec): (usize, &Value)| mcp_server(&format!("s{number}-{index}"), spec.clone());
        let aggregator =
            |(index, spec): (usize, &Value)| virtual_mcp_server(&format!("v{number}-{index}"), spec.clone());
        all.extend(servers.iter().enumerate().map(server));
        all.extend(aggregators.iter().enumerate().map(aggregator));
    }
    for manifest in &all {
        ns.create(manifest)?;
    }
    for manifest in &all {
        let what = format!("{}/{}", text(&manifest["kind"]), text(&manifest["metadata"]["name"]));
        let cr = ns.wait(&what, "has a status", |cr| cr["status"]["observedGeneration"] == 1)?;
        let ready = condition(&cr, "Ready");
        assert!(ready["reason"] == "NotReady" || ready["reason"] == "TransportUnsupported", "{what}: {ready}");
    }
    ns.settled_anyhow()?;
    // Others write beside it, which makes the API server look at whose each field is.
    for kind in ["Deployment", "StatefulSet"] {
        for live in ns.client.list(&ns.name, kind)?.iter().filter(|live| text(&live["metadata"]["name"]).contains("0-"))
        {
            let note = json!({"metadata": {"annotations": {"example.com/note": "mine"}},
                "spec": {"template": {"metadata": {"annotations": {"example.com/note": "mine"}}}}});
            ns.edit(&format!("{kind}/{}", text(&live["metadata"]["name"])), &note)?;
        }
    }
    // A busy machine is still at it when the last has its status.
    ns.unwritten_for(Duration::from_secs(5))?;
    // Everything is looked at each second.
    let audit = ns.audit();
    std::thread::sleep(Duration::from_secs(20));
    assert_eq!(audit.writes_in(&ns.name), Vec::<String>::new());
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Specs of MCPServers, with what an API server writes in a form of its own, or not at all.
fn servers() -> Vec<Value> {
    let mount = json!([{"name": "scratch", "mountPath": "/scratch"}]);
    vec![
        json!({"replicas": 2, "backendReplicas": 3, "sessionStorage": redis()}),
        json!({"sessionStorage": {"provider": "memory"}}),
        json!({"transport": "stdio"}),
        // Quantities, durations and probes.
        json!({"resources": {"limits": {"cpu": "0.50", "memory": "1024Mi"}, "requests": {"cpu": "0.1"}},
            "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}],
            "podTemplateSpec": {"spec": {"tolerations": [{"key": "x", "operator": "Exists"}],
                "containers": [{"name": "mcp", "livenessProbe": {"tcpSocket": {"port": 8080}}, "volumeMounts": mount}],
                "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "0.5Gi"}}]}}}),
        // Containers beside it, and what others than the pod template bring.
        json!({
            "sessionStorage": {"provider": "redis", "address": "redis.example:6379", "passwordRef": {"name": "s", "key": "p"}},
            "secrets": [{"name": "s", "key": "k", "targetEnvName": "KEY"}, {"name": "t", "key": "KEY2"}],
            "volumes": [{"name": "data", "hostPath": "/data", "mountPath": "/data", "readOnly": true},
                {"name": "more", "hostPath": "/more", "mountPath": "/more"}],
            "serviceAccount": "default",
            "resourceOverrides": {
                "proxyDeployment": {
                    "labels": {"team": "a"}, "annotations": {"example.com/a": "b"},
                    "env": [{"name": "LEVEL", "value": ""}, {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                    "imagePullSecrets": [{"name": "pull"}],
                    "podTemplateMetadataOverrides": {"labels": {"team": "a"}, "annotations": {}},
                },
                "proxyService": {"labels": {}, "annotations": {"example.com/a": ""}},
            },
            "podTemplateSpec": {"metadata": {"labels": {"team": "a"}}, "spec": {
                "initContainers": [
                    {"name": "first", "image": "first:1", "restartPolicy": "Always", "env": [{"name": "A"}],
                        "startupProbe": {"exec": {"command": ["true"]}}},
                    {"name": "second", "image": "second:1", "resources": {"requests": {"cpu": "1000m", "memory": 1024}}},
                ],
                "containers": [
                    {"name": "mcp", "command": ["run"], "envFrom": [{"configMapRef": {"name": "c"}}], "volumeMounts": mount},
                    {"name": "beside", "image": "beside:1", "ports": [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53}],
                        "lifecycle": {"preStop": {"exec": {"command": ["true"]}}}, "volumeMounts": mount},
                ],
                "volumes": [
                    {"name": "scratch", "projected": {"sources": [
                        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
                        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}},
                    {"name": "claim", "ephemeral": {"volumeClaimTemplate": {"spec": {
                        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "0.5Gi"}}}}}},
                ],
                "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a", "b"]}],
                "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": {"team": "a"}}}],
                "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1,
                    "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {}}}]}},
                "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
                "terminationGracePeriodSeconds": 0,
            }},
        }),
        json!({"args": [], "env": [], "secrets": [], "volumes": [], "resources": {"limits": {}, "requests": {}, "claims": []},
            "resourceOverrides": {"proxyDeployment": {"labels": {}, "annotations": {}, "env": [], "imagePullSecrets": [],
                "podTemplateMetadataOverrides": {}}, "proxyService": {}},
            "podTemplateSpec": {"metadata": {"labels": {}, "annotations": {}}, "spec": empty_pod("mcp")}}),
    ]
}

fn aggregators() -> Vec<Value> {
    vec![
        json!({"replicas": 2, "sessionStorage": redis(), "serviceType": "NodePort", "sessionAffinity": "ClientIP"}),
        json!({"serviceAccount": "default", "imagePullSecrets": [{"name": "pull"}], "podTemplateSpec": {"spec": {
            "containers": [{"name": "vmcp", "resources": {"limits": {"cpu": "0.50"}}, "env": [{"name": "A", "value": "1"}],
                "readinessProbe": {"grpc": {"port": 4483}}},
                {"name": "beside", "image": "beside:1"}],
            "volumes": [{"name": "cache", "emptyDir": {}}]}}}),
        json!({"imagePullSecrets": [], "podTemplateSpec": {"spec": empty_pod("vmcp")}}),
    ]
}

/// A pod with everything in it that can be empty.
fn empty_pod(container: &str) -> Value {
    let empty = |name: &str| {
        json!({
            "name": name, "args": [], "command": [], "env": [], "envFrom": [], "lifecycle": {}, "ports": [],
            "resizePolicy": [], "resources": {"limits": {}, "requests": {}, "claims": []}, "volumeDevices": [],
            "volumeMounts": [], "workingDir": "", "imagePullPolicy": "", "terminationMessagePath": "", "stdin": false,
            "securityContext": {"capabilities": {"add": [], "drop": []}, "seLinuxOptions": {}, "windowsOptions": {}},
        })
    };
    let (mut beside, mut first) = (empty("beside"), empty("first"));
    beside["image"] = json!("beside:1");
    (first["image"], first["restartPolicy"]) = (json!("first:1"), json!("Always"));
    beside["env"] = json!([{"name": "NOTHING"}, {"name": "EMPTY", "value": ""}]);
    beside["securityContext"] = json!({});
    beside["resources"] = json!({});
    json!({
        "containers": [empty(container), beside], "initContainers": [first],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}, "podAffinity": {},
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}},
        "dnsConfig": {"nameservers": [], "searches": [], "options": []},
        "hostAliases": [], "imagePullSecrets": [], "nodeSelector": {}, "overhead": {}, "readinessGates": [],
        "resourceClaims": [], "schedulingGates": [], "tolerations": [], "topologySpreadConstraints": [],
        "securityContext": {"sysctls": [], "supplementalGroups": [], "seLinuxOptions": {}},
        "priorityClassName": "", "hostname": "", "subdomain": "", "nodeName": "", "schedulerName": "", "hostNetwork": false,
        "volumes": [
            {"name": "a", "emptyDir": {}}, {"name": "b", "configMap": {"name": "c", "items": []}},
            {"name": "c", "projected": {"sources": []}}, {"name": "d", "downwardAPI": {"items": []}},
            {"name": "e", "emptyDir": {"medium": ""}}, {"name": "f", "secret": {"secretName": "s", "items": []}},
        ],
    })
}
