//! What is built, what is not, and that it goes.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use berth_test_cluster::{Error, wait_for};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::objects::{condition, mcp_server, parts, redis, virtual_mcp_server};
use crate::world::{BOUND, Namespace, World, trial};

pub(crate) fn trials(world: &Arc<World>) -> Vec<Trial> {
    vec![
        trial(world, "building::an_mcpserver_is_built_and_goes_with_its_resource", built_and_gone),
        trial(world, "building::a_server_on_sse_is_built", on_sse),
        trial(world, "building::a_variable_that_is_not_the_users_to_set_is_told_of", ignored),
        trial(world, "building::a_virtual_server_is_built", virtual_server),
        trial(world, "building::what_is_not_asked_for_is_not_built", not_asked_for),
        trial(world, "building::what_berth_does_not_do_is_not_built", refused),
        trial(world, "building::what_is_somebody_elses_is_not_touched", somebody_elses),
        trial(world, "building::what_is_toolhives_is_not_touched", toolhives),
        trial(world, "building::what_another_leader_made_meanwhile_is_not_overwritten", made_meanwhile),
        trial(world, "building::what_asks_no_more_stays_as_it_is_and_goes_as_documented", asks_no_more),
    ]
}

fn built_and_gone(ns: &Namespace) -> Result<(), Failed> {
    let audit = ns.audit();
    let created =
        ns.build(&mcp_server("foo", json!({"replicas": 2, "backendReplicas": 3, "sessionStorage": redis()})))?;
    for part in parts("foo") {
        let object = ns.get(&part)?;
        let owner = &object["metadata"]["ownerReferences"];
        assert_eq!(owner[0]["uid"], created["metadata"]["uid"], "{part}: {owner}");
        assert_eq!((&owner[0]["controller"], owner.as_array().map(Vec::len)), (&json!(true), Some(1)), "{part}");
    }
    let (deployment, stateful_set) = (ns.get("Deployment/foo")?, ns.get("StatefulSet/foo")?);
    assert_eq!((&deployment["spec"]["replicas"], &stateful_set["spec"]["replicas"]), (&json!(2), &json!(3)));
    assert_eq!(stateful_set["spec"]["serviceName"], "mcp-foo-headless");
    assert_eq!(ns.client.list(&ns.name, "Service")?.len(), 3);

    let cr = ns.get("MCPServer/foo")?;
    let status = &cr["status"];
    assert_eq!(status["phase"], "Pending", "{status}");
    assert_eq!(condition(&cr, "Ready")["reason"], "NotReady", "{status}");
    assert_eq!(condition(&cr, "SessionStorageWarning")["status"], "False", "{status}");
    assert_eq!(status["observedGeneration"], 1, "{status}");
    assert!(status["url"].as_str().is_some_and(|url| url.contains("mcp-foo-proxy")), "{status}");
    // An autoscaler of the resource finds the pods by it.
    let selector = status["selector"].as_str().unwrap_or_default();
    for (key, value) in deployment["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten() {
        assert!(selector.contains(&format!("{key}={}", value.as_str().unwrap())), "{selector}");
    }
    let scale = ns.kubectl.run(&[
        "get",
        "mcpserver/foo",
        "--subresource=scale",
        "-o",
        "jsonpath={.spec.replicas} {.status.selector}",
    ])?;
    assert_eq!(scale.ok()?, format!("2 {selector}"));
    let events = ns.client.list(&ns.name, "Event")?;
    let told =
        events.iter().filter(|event| event["regarding"]["name"] == "foo" && event["reason"] == "Created").count();
    assert_eq!(told, 1, "{:?}", audit.requests());

    // Pods become ready, as a kubelet would report them.
    let pods = wait_for("every pod", BOUND, || {
        let pods = ns.client.list(&ns.name, "Pod")?;
        Ok((pods.len() == 5).then_some(pods))
    })?;
    for pod in &pods {
        report(ns, pod, "True")?;
    }
    let cr = ns.wait("MCPServer/foo", "is ready", |cr| {
        condition(cr, "Ready")["status"] == "True" && cr["status"]["readyReplicas"] == 2
    })?;
    assert_eq!((&cr["status"]["phase"], &cr["status"]["replicas"]), (&json!("Ready"), &json!(2)), "{cr}");
    // Without a pod of the server, all the proxies are of no use.
    for pod in pods.iter().filter(|pod| pod["metadata"]["ownerReferences"][0]["kind"] == "StatefulSet") {
        report(ns, pod, "False")?;
    }
    let cr = ns.wait("MCPServer/foo", "is ready no more", |cr| condition(cr, "Ready")["status"] == "False")?;
    assert_eq!((&cr["status"]["phase"], &cr["status"]["readyReplicas"]), (&json!("Pending"), &json!(2)), "{cr}");
    let message = condition(&cr, "Ready")["message"].clone();
    assert!(message.as_str().is_some_and(|message| message.contains("no pod of the server")), "{message}");

    ns.client.delete(&ns.name, "MCPServer/foo")?;
    for part in parts("foo") {
        wait_for(&format!("the end of {part}"), BOUND, || Ok(ns.find(&part)?.is_none().then_some(())))?;
    }
    Ok(())
}

/// A kubelet's word about a pod.
fn report(ns: &Namespace, pod: &Value, ready: &str) -> Result<(), Failed> {
    let pod = format!("Pod/{}", pod["metadata"]["name"].as_str().unwrap_or_default());
    let conditions = json!([{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    ns.client.merge_status(&ns.name, &pod, &json!({"status": {"phase": "Running", "conditions": conditions}}))?;
    Ok(())
}

fn on_sse(ns: &Namespace) -> Result<(), Failed> {
    ns.build(&mcp_server("foo", json!({"transport": "sse", "replicas": 2, "sessionStorage": redis()})))?;
    let cr = ns.get("MCPServer/foo")?;
    assert!(cr["status"]["url"].as_str().is_some_and(|url| url.ends_with(":8080/sse")), "{cr}");
    let config = ns.get("ConfigMap/foo-runconfig")?;
    let config: Value = serde_json::from_str(config["data"]["runconfig.json"].as_str().unwrap_or_default())?;
    assert_eq!(config["transport"], "sse", "{config}");
    let server = ns.get("StatefulSet/foo")?["spec"]["template"]["spec"]["containers"][0].clone();
    let variables = server["env"].as_array().cloned().unwrap_or_default();
    assert!(variables.contains(&json!({"name": "MCP_TRANSPORT", "value": "sse"})), "{server}");
    assert_eq!(ns.get("Deployment/foo")?["spec"]["replicas"], 2);
    Ok(())
}

fn ignored(ns: &Namespace) -> Result<(), Failed> {
    const GENERATION: &str = "THV_MCPSERVER_GENERATION";
    let env = json!([{"name": GENERATION, "value": "99"}, {"name": "MINE", "value": "1"}]);
    ns.build(&mcp_server("foo", json!({"resourceOverrides": {"proxyDeployment": {"env": env}}})))?;
    let proxy = ns.get("Deployment/foo")?["spec"]["template"]["spec"]["containers"][0].clone();
    let variables = proxy["env"].as_array().cloned().unwrap_or_default();
    let of = |name: &str| variables.iter().filter(|entry| entry["name"] == name).collect::<Vec<_>>();
    assert_eq!((of(GENERATION).len(), of("MINE").len()), (1, 1), "{proxy}");
    assert!(of(GENERATION)[0]["valueFrom"]["fieldRef"].is_object(), "{proxy}");
    let told = || -> Result<Vec<Value>, Error> {
        let mut events = ns.client.list(&ns.name, "Event")?;
        events.retain(|event| event["reason"] == "OverrideIgnored");
        Ok(events)
    };
    let events = told()?;
    assert_eq!((events.len(), &events[0]["type"]), (1, &json!("Warning")), "{events:?}");
    let note = events[0]["note"].as_str().unwrap_or_default();
    assert!(note.contains("spec.resourceOverrides.proxyDeployment.env") && note.contains(GENERATION), "{note}");
    // A write of another day repeats nothing.
    let headless = "Service/mcp-foo-headless";
    ns.edit(headless, &json!({"spec": {"publishNotReadyAddresses": false}}))?;
    ns.wait(headless, "is set back", |live| live["spec"]["publishNotReadyAddresses"] == true)?;
    ns.settled("foo")?;
    assert_eq!(told()?.len(), 1);
    // Nor does a status that has to be written anew.
    ns.client.merge_status(&ns.name, "MCPServer/foo", &json!({"status": {"conditions": []}}))?;
    ns.wait("MCPServer/foo", "says how it stands", |cr| !condition(cr, "Ready").is_null())?;
    ns.settled("foo")?;
    assert_eq!(told()?.len(), 1);
    // Another generation of it asks for that again.
    let template = json!({"spec": {"terminationGracePeriodSeconds": 60}});
    ns.edit("MCPServer/foo", &json!({"spec": {"podTemplateSpec": template}}))?;
    ns.settled("foo")?;
    assert_eq!(told()?.len(), 2);
    // An annotation makes none, and takes the place of what was followed.
    let annotations = json!({"berth.dev/termination-grace-period-seconds": "10"});
    ns.edit("MCPServer/foo", &json!({"metadata": {"annotations": annotations}}))?;
    let events = wait_for("an Event", BOUND, || Ok(Some(told()?).filter(|events| events.len() > 2)))?;
    let of_period = |event: &Value| {
        let note = event["note"].as_str().unwrap_or_default();
        note.contains("terminationGracePeriodSeconds") && note.contains("annotation says 10 seconds")
    };
    assert!(events.iter().any(of_period), "{events:?}");
    ns.settled("foo")?;
    assert_eq!(told()?.len(), 3);
    Ok(())
}

fn virtual_server(ns: &Namespace) -> Result<(), Failed> {
    ns.create(&virtual_mcp_server("agg", json!({"replicas": 2, "sessionStorage": redis()})))?;
    for part in ["ConfigMap/agg-vmcp-config", "Service/vmcp-agg", "Deployment/agg"] {
        ns.wait(part, "is there", |_| true)?;
    }
    ns.wait("VirtualMCPServer/agg", "has a status", |cr| cr["status"]["observedGeneration"] == 1)?;
    assert!(ns.find("StatefulSet/agg")?.is_none());
    Ok(())
}

fn not_asked_for(ns: &Namespace) -> Result<(), Failed> {
    let mut other = mcp_server("other", json!({}));
    other["metadata"]["annotations"] = json!({"berth.dev/class": "somebody"});
    ns.create(&other)?;
    other["metadata"] = json!({"name": "nobody"});
    ns.create(&other)?;
    ns.build(&mcp_server("asks", json!({})))?;
    let names: Vec<_> =
        ns.client.list(&ns.name, "Deployment")?.iter().map(|object| object["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["asks"]);
    assert_eq!(ns.get("MCPServer/nobody")?["status"], Value::Null);
    // It asks later.
    ns.edit("MCPServer/nobody", &json!({"metadata": {"annotations": {"berth.dev/class": "berth"}}}))?;
    ns.wait("Deployment/nobody", "is there", |_| true)?;
    Ok(())
}

fn refused(ns: &Namespace) -> Result<(), Failed> {
    let cases = [
        ("stdio", json!({"transport": "stdio"}), "TransportUnsupported", "transport"),
        ("oidc", json!({"oidcConfig": {"type": "kubernetes"}}), "UnsupportedField", "oidcConfig"),
        ("authz", json!({"authzConfig": {"type": "inline"}}), "UnsupportedField", "authzConfig"),
        ("template", json!({"podTemplateSpec": {"spec": {"containers": "many"}}}), "InvalidSpec", "podTemplateSpec"),
    ];
    for (name, spec, reason, field) in cases {
        ns.create(&mcp_server(name, spec))?;
        let cr =
            ns.wait(&format!("MCPServer/{name}"), "says why not", |cr| condition(cr, "Ready")["status"] == "False")?;
        let ready = condition(&cr, "Ready");
        assert_eq!(ready["reason"], reason, "{ready}");
        assert!(ready["message"].as_str().is_some_and(|message| message.contains(field)), "{ready}");
        assert_eq!(cr["status"]["phase"], "Failed");
        wait_for("an Event", BOUND, || {
            let events = ns.client.list(&ns.name, "Event")?;
            Ok(events.into_iter().find(|event| event["regarding"]["name"] == name && event["reason"] == reason))
        })?;
    }
    for kind in ["Deployment", "StatefulSet", "Service"] {
        assert_eq!(ns.client.list(&ns.name, kind)?.len(), 0, "{kind}");
    }
    // What runs without a guard goes when one is asked for.
    ns.build(&mcp_server("open", json!({})))?;
    ns.edit("MCPServer/open", &json!({"spec": {"oidcConfig": {"type": "kubernetes"}}}))?;
    for part in parts("open") {
        wait_for(&format!("the end of {part}"), BOUND, || Ok(ns.find(&part)?.is_none().then_some(())))?;
    }
    // What cannot be read may be a slip, and stops nothing that runs.
    ns.build(&mcp_server("slip", json!({})))?;
    ns.edit("MCPServer/slip", &json!({"spec": {"podTemplateSpec": {"spec": {"containers": "many"}}}}))?;
    ns.wait("MCPServer/slip", "says what is wrong", |cr| condition(cr, "Ready")["reason"] == "InvalidSpec")?;
    for part in parts("slip") {
        ns.get(&part)?;
    }
    Ok(())
}

fn somebody_elses(ns: &Namespace) -> Result<(), Failed> {
    let service = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": "another"}, "ports": [{"port": 1}]}})
    };
    let mine = ns.create(&service("mcp-taken-proxy"))?;
    ns.create(&mcp_server("taken", json!({})))?;
    let cr = ns
        .wait("MCPServer/taken", "says that it is taken", |cr| condition(cr, "ManagedElsewhere")["status"] == "True")?;
    let message = condition(&cr, "ManagedElsewhere")["message"].clone();
    assert!(message.as_str().is_some_and(|message| message.contains("Service mcp-taken-proxy")), "{message}");
    assert!(ns.find("Deployment/taken")?.is_none() && ns.find("Service/mcp-taken")?.is_none());

    assert_eq!(ns.get("Service/mcp-taken-proxy")?["metadata"]["resourceVersion"], mine["metadata"]["resourceVersion"]);
    // A ConfigMap, which nothing of Berth's would collide with but its name.
    let config =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept-runconfig"}, "data": {"mine": "1"}});
    let mine = ns.create(&config)?;
    ns.create(&mcp_server("kept", json!({})))?;
    let cr =
        ns.wait("MCPServer/kept", "says that it is taken", |cr| condition(cr, "ManagedElsewhere")["status"] == "True")?;
    let message = condition(&cr, "Ready")["message"].clone();
    assert!(message.as_str().is_some_and(|message| message.contains("ConfigMap kept-runconfig")), "{message}");
    ns.settled_anyhow()?;
    assert_eq!(ns.get("ConfigMap/kept-runconfig")?, mine);
    assert!(ns.find("Deployment/kept")?.is_none() && ns.find("Service/mcp-kept")?.is_none());
    // It goes on once the name is free.
    ns.client.delete(&ns.name, "Service/mcp-taken-proxy")?;
    ns.wait("Deployment/taken", "is there", |_| true)?;
    ns.wait("MCPServer/taken", "says that all is its own", |cr| {
        condition(cr, "ManagedElsewhere")["status"] == "False"
    })?;
    Ok(())
}

fn toolhives(ns: &Namespace) -> Result<(), Failed> {
    let mut cr = mcp_server("foo", json!({}));
    cr["metadata"]["annotations"] = json!({});
    let cr = ns.create(&cr)?;
    let config = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "foo-runconfig", "ownerReferences": [{"apiVersion": cr["apiVersion"], "kind": "MCPServer",
            "name": "foo", "uid": cr["metadata"]["uid"], "controller": true}]},
        "data": {"runconfig.json": "{}"},
    });
    let theirs = ns.client.create(&ns.name, "thv-operator", &config)?;
    ns.client.merge_status(
        &ns.name,
        "MCPServer/foo",
        &json!({"status": {"phase": "Ready", "url": "http://toolhive"}}),
    )?;
    ns.edit("MCPServer/foo", &json!({"metadata": {"annotations": {"berth.dev/class": "berth"}}}))?;
    let cr = ns.wait("MCPServer/foo", "says that it is ToolHive's", |cr| {
        condition(cr, "ManagedElsewhere")["status"] == "True"
    })?;
    assert_eq!((&cr["status"]["phase"], &cr["status"]["url"]), (&json!("Ready"), &json!("http://toolhive")), "{cr}");
    ns.settled_anyhow()?;
    assert_eq!(
        ns.get("ConfigMap/foo-runconfig")?["metadata"]["resourceVersion"],
        theirs["metadata"]["resourceVersion"]
    );
    assert!(ns.find("Deployment/foo")?.is_none() && ns.find("Service/mcp-foo")?.is_none());
    Ok(())
}

/// A leader that is held up between not finding an object and making it, by a webhook that never answers; who made one
/// meanwhile is the same field manager.
fn made_meanwhile(ns: &Namespace) -> Result<(), Failed> {
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let hook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": format!("silent-{}", ns.name)},
        "webhooks": [{
            "name": "silent.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "timeoutSeconds": 5, "failurePolicy": "Ignore",
            "clientConfig": {"url": format!("https://{}/", silent.local_addr()?)},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns.name}},
            "matchConditions": [{"name": "of-berth", "expression": "request.userInfo.username.endsWith(':berth')"}],
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}],
        }],
    });
    ns.kubectl.run_with_stdin(&["create", "-f", "-"], &hook.to_string())?.ok()?;
    // The API server learns of it in its own time.
    silent.set_nonblocking(true)?;
    wait_for("the webhook being asked about Berth's writes", BOUND, || {
        let write = ["create", "configmap", "x", "--dry-run=server", "--as=system:serviceaccount:berth-system:berth"];
        let _ = ns.kubectl.run(&[&write[..], &["--request-timeout=1s"]].concat())?;
        // Whoever asked has left; the next one who asks is Berth.
        Ok((std::iter::from_fn(|| silent.accept().ok()).count() > 0).then_some(()))
    })?;
    let audit = ns.audit();
    ns.create(&mcp_server("foo", json!({})))?;
    let asked = wait_for("the webhook being asked", BOUND, || Ok(silent.accept().ok()))?;
    let made = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "foo-runconfig"},
        "data": {"runconfig.json": "of the new leader"}});
    // Before the webhook is given up; kubectl takes too long on a busy machine.
    ns.client.apply(&ns.name, "berth", &made)?;
    let refused = format!("patch configmaps {}/foo-runconfig 409", ns.name);
    wait_for("the old leader's write", BOUND, || {
        let writes = audit.writes_in(&ns.name);
        Ok(writes.iter().any(|write| write.contains("patch configmaps")).then_some(writes))
    })
    .map(|writes| assert!(writes.contains(&refused), "{writes:?}"))?;
    ns.wait("MCPServer/foo", "says that it is taken", |cr| condition(cr, "ManagedElsewhere")["status"] == "True")?;
    assert_eq!(ns.get("ConfigMap/foo-runconfig")?["data"], made["data"]);
    drop(asked);
    ns.kubectl.run(&["delete", "mutatingwebhookconfiguration", &format!("silent-{}", ns.name)])?.ok()?;
    Ok(())
}

fn asks_no_more(ns: &Namespace) -> Result<(), Failed> {
    ns.build(&mcp_server("sample", json!({})))?;
    ns.build(&mcp_server("other", json!({})))?;
    let status = ns.get("MCPServer/sample")?["status"].clone();
    ns.kubectl.run(&["annotate", "mcpserver", "sample", "berth.dev/class-"])?.ok()?;
    ns.settled_anyhow()?;
    let audit = ns.audit();
    ns.edit("MCPServer/sample", &json!({"spec": {"image": "example:2", "oidcConfig": {"type": "kubernetes"}}}))?;
    ns.edit("ConfigMap/sample-runconfig", &json!({"data": {"runconfig.json": "{}"}}))?;
    // Everything is looked at each second.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(audit.writes_in(&ns.name), Vec::<String>::new());
    for part in parts("sample") {
        ns.get(&part)?;
    }
    assert_eq!(ns.get("MCPServer/sample")?["status"], status);

    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/without-toolhive.md"))?;
    let section = page.split("\n## ").find(|section| section.starts_with("Taking Berth away")).expect("a section");
    let commands: Vec<_> = section.lines().filter_map(|line| line.strip_prefix("    kubectl ")).collect();
    assert_eq!(commands.len(), 1, "is the way to find it still right?");
    ns.kubectl.run(&commands[0].split_whitespace().collect::<Vec<_>>())?.ok()?;
    for part in parts("sample") {
        wait_for(&format!("the end of {part}"), BOUND, || Ok(ns.find(&part)?.is_none().then_some(())))?;
    }
    for part in parts("other") {
        ns.get(&part)?;
    }
    Ok(())
}
