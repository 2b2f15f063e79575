//! The registration, the definitions and the installation as the API server takes them. What Berth is asked, and what
//! not, shows best where nobody answers, so most of these register a Berth of their own that never does.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use berth::registration::{Endpoint, FailurePolicy, Registration};
use berth_test_cluster::{Error, Kubectl, Output, Result, wait_for};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::context::{Context, Namespace, trial};

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        trial(ctx, "registration::bystanders_do_not_depend_on_mutation", bystanders_of_mutation),
        trial(ctx, "registration::bystanders_do_not_depend_on_validation", bystanders_of_validation),
        trial(ctx, "registration::managed_writes_fail_closed_in_mutation", managed_writes_fail_in_mutation),
        trial(ctx, "registration::managed_writes_fail_closed_in_validation", managed_writes_fail_in_validation),
        trial(ctx, "registration::deletions_complete_while_nobody_answers", deletions_complete),
        trial(ctx, "registration::scales_pass_or_fail_as_registered", scales_pass_or_fail),
        trial(ctx, "registration::resources_are_scaled_by_kubectl", resources_are_scaled),
        trial(ctx, "registration::toolhive_resources_are_stored_as_written", toolhive_resources),
        trial(ctx, "registration::the_schema_lets_berth_refuse", the_schema_lets_berth_refuse),
        trial(ctx, "registration::kustomize_installs_it", kustomize_installs_it),
        trial(ctx, "registration::the_service_account_may_do_what_berth_does_and_no_more", least_privilege),
    ]
}

/// Port 1 of loopback: nobody listens.
const NOBODY: &str = "https://127.0.0.1:1";
const BOUND: Duration = Duration::from_secs(20);

/// A registration of a Berth that never answers, in one namespace only. Dropping it takes it back.
struct Unanswered {
    kubectl: Kubectl,
    names: Vec<String>,
}

#[derive(Clone, Copy)]
struct Parts {
    mutating: bool,
    validating: bool,
    on_scale_failure: FailurePolicy,
}

const MUTATION: Parts = Parts { mutating: true, validating: false, on_scale_failure: FailurePolicy::Ignore };
const VALIDATION: Parts = Parts { mutating: false, validating: true, on_scale_failure: FailurePolicy::Ignore };

impl Unanswered {
    /// Registers, and waits until the API server minds it.
    fn register(ctx: &Context, ns: &Namespace, parts: Parts) -> Result<Self> {
        let endpoint = Endpoint::url(NOBODY).map_err(|error| Error::new(error.to_string()))?;
        let ca =
            berth::certs::Authority::new(Duration::from_secs(3600)).map_err(|error| Error::new(error.to_string()))?;
        let shipped = Registration::new(&endpoint, ca.pem().as_bytes(), parts.on_scale_failure)
            .map_err(|error| Error::new(error.to_string()))?;
        let mut registered = Self { kubectl: ctx.cluster().kubectl().clone(), names: Vec::new() };
        for (wanted, configuration) in
            [(parts.mutating, json!(shipped.mutating)), (parts.validating, json!(shipped.validating))]
        {
            if wanted {
                registered.apply(configuration, &ns.name)?;
            }
        }
        let expected = if parts.mutating { "mutate.berth.dev" } else { "validate.berth.dev" };
        wait_for("the registration to take effect", BOUND, || {
            let output =
                dry_run(&ns.kubectl, &deployment("probe", &json!({"annotations": {"berth.dev/inject": "enabled"}})))?;
            Ok(is_unanswered(&output, expected).then_some(()))
        })?;
        Ok(registered)
    }

    fn apply(&mut self, mut configuration: Value, namespace: &str) -> Result<()> {
        // In front of Berth's own registration in the order of the API server, which goes by name.
        let name = format!("a-{namespace}");
        configuration["metadata"]["name"] = json!(name);
        for webhook in configuration["webhooks"].as_array_mut().into_iter().flatten() {
            let only = json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": [namespace]});
            if let Some(expressions) = webhook["namespaceSelector"]["matchExpressions"].as_array_mut() {
                expressions.push(only);
            }
        }
        self.names.push(format!("{}/{name}", configuration["kind"].as_str().unwrap_or_default()));
        self.kubectl.apply_yaml(&configuration.to_string())?.ok().map(drop)
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = self.kubectl.run(&["delete", name, "--ignore-not-found"]);
        }
    }
}

fn berth(arguments: &[&str]) -> Result<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_berth"))
        .args(arguments)
        .output()
        .map_err(|error| Error::new(error.to_string()))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(Error::new(String::from_utf8_lossy(&output.stderr)))
    }
}

fn workload(kind: &str, name: &str, metadata: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind,
        "metadata": metadata,
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "web", "image": "example"}]},
            },
        },
    });
    object["metadata"]["name"] = json!(name);
    if kind == "StatefulSet" {
        object["spec"]["serviceName"] = json!(name);
    }
    object
}

fn deployment(name: &str, metadata: &Value) -> Value {
    workload("Deployment", name, metadata)
}

fn owner(api_version: &str, kind: &str, controller: Value) -> Value {
    let mut reference = json!({
        "apiVersion": api_version, "kind": kind, "name": "owner", "uid": "7d9f4c3e-0000-4000-8000-000000000000",
    });
    if !controller.is_null() {
        reference["controller"] = controller;
    }
    json!({"ownerReferences": [reference]})
}

fn dry_run(kubectl: &Kubectl, object: &Value) -> Result<Output> {
    kubectl.run_with_stdin(&["create", "--dry-run=server", "-f", "-"], &object.to_string())
}

fn is_unanswered(output: &Output, webhook: &str) -> bool {
    output.status == 1 && output.stderr.contains(&format!("failed calling webhook \"{webhook}\""))
}

fn assert_unanswered(output: &Output, webhook: &str) {
    assert!(is_unanswered(output, webhook), "{}: {}{}", output.command, output.stdout, output.stderr);
}

fn assert_refused(output: &Output, field: &str) {
    let said = &output.stderr;
    assert!(output.status == 1 && said.contains(&format!(" {field}: ")) && said.contains("[berth:"), "{field}: {said}");
}

/// Metadata of workloads that are none of Berth's business.
fn bystanders() -> Vec<Value> {
    let toolhive = "toolhive.stacklok.dev/v1beta1";
    vec![
        json!({}),
        json!({"labels": {"berth.dev/inject": "enabled"}}),
        json!({"annotations": {}}),
        json!({"annotations": {"example.com/a": "b", "berth.dev/replicas": "3"}}),
        json!({"annotations": {"berth.dev/inject": "disabled"}}),
        json!({"ownerReferences": []}),
        owner(toolhive, "MCPServer", Value::Null),
        owner(toolhive, "MCPServer", json!(false)),
        owner(toolhive, "MCPGroup", json!(true)),
        owner("toolhive.stacklok.development/v1", "MCPServer", json!(true)),
        owner("example.com/v1", "MCPServer", json!(true)),
        owner("apps/v1", "Deployment", json!(true)),
    ]
}

/// Metadata of workloads that Berth has to see, a mistyped value among them.
fn managed() -> Vec<Value> {
    let toolhive = "toolhive.stacklok.dev/v1beta1";
    vec![
        json!({"annotations": {"berth.dev/inject": "enabled"}}),
        owner(toolhive, "MCPServer", json!(true)),
        owner("toolhive.stacklok.dev/v1alpha1", "MCPServer", json!(true)),
        owner(toolhive, "VirtualMCPServer", json!(true)),
        // A client may write any deletionTimestamp into what it creates.
        json!({"annotations": {"berth.dev/inject": "enabled"}, "deletionTimestamp": "2020-01-01T00:00:00Z"}),
    ]
}

fn bystanders_of_mutation(ctx: &Context, ns: &Namespace) -> Result<(), Failed> {
    let _registered = Unanswered::register(ctx, ns, MUTATION)?;
    bystanders_pass(&ns.kubectl)
}

fn bystanders_of_validation(ctx: &Context, ns: &Namespace) -> Result<(), Failed> {
    let _registered = Unanswered::register(ctx, ns, VALIDATION)?;
    bystanders_pass(&ns.kubectl)
}

/// An expression of matchConditions that cannot be evaluated for one of these would forbid its writes.
fn bystanders_pass(kubectl: &Kubectl) -> Result<(), Failed> {
    for kind in ["Deployment", "StatefulSet"] {
        for metadata in bystanders() {
            dry_run(kubectl, &workload(kind, "bystander", &metadata))?.ok()?;
        }
        // What the API server refuses by itself is refused by itself, in its own words.
        let broken = dry_run(kubectl, &workload(kind, "broken", &json!({"ownerReferences": [{}]})))?;
        assert!(broken.stderr.contains("metadata.ownerReferences.name: Invalid value"), "{}", broken.stderr);

        let object = workload(kind, "web", &json!({}));
        kubectl.apply_yaml(&object.to_string())?.ok()?;
        let what = &format!("{kind}/web");
        for arguments in [
            &["label", what, "a=b"][..],
            &["annotate", what, "a=b"],
            &["annotate", what, "a-"],
            &["patch", what, "-p", r#"{"spec":{"template":{"metadata":{"labels":{"a":"b"}}}}}"#],
            &["patch", what, "--type=json", "-p", r#"[{"op":"add","path":"/spec/minReadySeconds","value":1}]"#],
            &["scale", what, "--replicas=2"],
            &["scale", what, "--replicas=0"],
            &["delete", what, "--cascade=foreground"],
        ] {
            kubectl.run(arguments)?.ok()?;
        }
    }
    kubectl.run_with_stdin(&["apply", "--server-side", "-f", "-"], &deployment("ssa", &json!({})).to_string())?.ok()?;
    kubectl.run(&["autoscale", "deployment/ssa", "--max=3"])?.ok()?;
    kubectl.run(&["label", "hpa/ssa", "a=b"])?.ok()?;
    Ok(())
}

fn managed_writes_fail_in_mutation(ctx: &Context, ns: &Namespace) -> Result<(), Failed> {
    // Opted in before the registration was there.
    let opted_in = json!({"annotations": {"berth.dev/inject": "enabled"}});
    for kind in ["Deployment", "StatefulSet"] {
        ns.kubectl.apply_yaml(&workload(kind, "web", &opted_in).to_string())?.ok()?;
    }
    let _registered = Unanswered::register(ctx, ns, MUTATION)?;
    let typos = ["Enabled", "true", ""].map(|value| json!({"annotations": {"berth.dev/inject": value}}));
    for kind in ["Deployment", "StatefulSet"] {
        for metadata in managed().iter().chain(&typos) {
            assert_unanswered(&dry_run(&ns.kubectl, &workload(kind, "managed", metadata))?, "mutate.berth.dev");
        }
        let what = &format!("{kind}/web");
        // The last two take the annotation away, and what it led to: only the old object has it then.
        for arguments in [
            &["label", what, "a=b"][..],
            &["annotate", what, "berth.dev/inject=disabled", "--overwrite"],
            &["annotate", what, "berth.dev/inject-"],
        ] {
            assert_unanswered(&ns.kubectl.run(arguments)?, "mutate.berth.dev");
        }
        let stored = ns.kubectl.get_json(what)?;
        assert_eq!(stored["metadata"]["annotations"]["berth.dev/inject"], "enabled");
        assert!(stored["metadata"]["labels"].is_null(), "{stored}");
    }
    Ok(())
}

fn managed_writes_fail_in_validation(ctx: &Context, ns: &Namespace) -> Result<(), Failed> {
    let _registered = Unanswered::register(ctx, ns, VALIDATION)?;
    for kind in ["Deployment", "StatefulSet"] {
        for metadata in managed() {
            assert_unanswered(&dry_run(&ns.kubectl, &workload(kind, "managed", &metadata))?, "validate.berth.dev");
        }
    }
    for version in ["v1beta1", "v1alpha1"] {
        for kind in ["MCPServer", "VirtualMCPServer"] {
            let object = json!({
                "apiVersion": format!("toolhive.stacklok.dev/{version}"), "kind": kind,
                "metadata": {"name": "x"}, "spec": {"image": "example"},
            });
            assert_unanswered(&dry_run(&ns.kubectl, &object)?, "resources.berth.dev");
        }
    }
    Ok(())
}

fn deletions_complete(ctx: &Context, ns: &Namespace) -> Result<(), Failed> {
    let held = json!({"annotations": {"berth.dev/inject": "enabled"}, "finalizers": ["example.com/held"]});
    ns.kubectl.apply_yaml(&deployment("held", &held).to_string())?.ok()?;
    ns.kubectl.apply_yaml(&mcpserver("held", json!({"image": "example"})).to_string())?.ok()?;
    ns.kubectl
        .run(&["patch", "mcpserver/held", "--type=merge", "-p", r#"{"metadata":{"finalizers":["example.com/held"]}}"#])?
        .ok()?;
    let parts = Parts { mutating: true, ..VALIDATION };
    let _registered = Unanswered::register(ctx, ns, parts)?;

    for what in ["deployment/held", "mcpserver/held"] {
        let release = ["patch", what, "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#];
        let refused = ns.kubectl.run(&release)?;
        assert!(refused.stderr.contains("failed calling webhook"), "{}", refused.stderr);
        ns.kubectl.run(&["delete", what, "--wait=false"])?.ok()?;
        ns.kubectl.run(&release)?.ok()?;
        let gone = ns.kubectl.run(&["get", what])?;
        assert!(gone.stderr.contains("NotFound"), "{}{}", gone.stdout, gone.stderr);
    }
    Ok(())
}

fn mcpserver(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "toolhive.stacklok.dev/v1beta1", "kind": "MCPServer",
        "metadata": {"name": name}, "spec": spec,
    })
}

fn scales_pass_or_fail(ctx: &Context, ns: &Namespace) -> Result<(), Failed> {
    ns.kubectl.apply_yaml(&deployment("web", &json!({})).to_string())?.ok()?;
    {
        let _registered = Unanswered::register(ctx, ns, VALIDATION)?;
        ns.kubectl.run(&["scale", "deployment/web", "--replicas=2"])?.ok()?;
    }
    let fail = Parts { on_scale_failure: FailurePolicy::Fail, ..VALIDATION };
    let _registered = Unanswered::register(ctx, ns, fail)?;
    assert_unanswered(&ns.kubectl.run(&["scale", "deployment/web", "--replicas=3"])?, "scale.berth.dev");
    for version in ["v1", "v2"] {
        let autoscaler = json!({
            "apiVersion": format!("autoscaling/{version}"), "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "web"},
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
        });
        assert_unanswered(&dry_run(&ns.kubectl, &autoscaler)?, "scale.berth.dev");
    }
    assert_eq!(ns.kubectl.get_json("deployment/web")?["spec"]["replicas"], 2);
    Ok(())
}

fn resources_are_scaled(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let redis = json!({"provider": "redis", "address": "redis.example:6379"});
    for (kind, version) in [
        ("MCPServer", "v1beta1"),
        ("MCPServer", "v1alpha1"),
        ("VirtualMCPServer", "v1beta1"),
        ("VirtualMCPServer", "v1alpha1"),
    ] {
        let object = json!({
            "apiVersion": format!("toolhive.stacklok.dev/{version}"), "kind": kind,
            "metadata": {"name": version},
            "spec": {"image": "example", "transport": "streamable-http", "sessionStorage": redis},
        });
        ns.kubectl.apply_yaml(&object.to_string())?.ok()?;
        let what = format!("{kind}.{version}.toolhive.stacklok.dev/{version}");
        for count in [3, 1, 0] {
            ns.kubectl.run(&["scale", &what, &format!("--replicas={count}")])?.ok()?;
            assert_eq!(ns.kubectl.get_json(&what)?["spec"]["replicas"], count);
        }
        let status = r#"{"status":{"replicas":2,"selector":"app=x","phase":"Ready"}}"#;
        ns.kubectl.run(&["patch", &what, "--subresource=status", "--type=merge", "-p", status])?.ok()?;
        // What a HorizontalPodAutoscaler reads.
        let scale = ns.kubectl.run(&["get", &what, "--subresource=scale", "-o", "json"])?.ok()?;
        let scale: Value = serde_json::from_str(&scale).map_err(|error| Error::new(error.to_string()))?;
        assert_eq!(scale["status"], json!({"replicas": 2, "selector": "app=x"}));
        let table = ns.kubectl.run(&["get", &what])?.ok()?;
        assert!(table.contains("Ready"), "{table}");
    }
    Ok(())
}

/// Fields of every kind that ToolHive's own definitions have, whether Berth reads them or not.
fn toolhive_resources(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let spec = json!({
        "image": "example/server:1", "transport": "streamable-http", "proxyMode": "streamable-http",
        "proxyPort": 8080, "mcpPort": 8081, "args": ["--verbose"],
        "env": [{"name": "A", "value": "b"}],
        "volumes": [{"name": "data", "hostPath": "/data", "mountPath": "/data", "readOnly": true}],
        "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "1"}},
        "secrets": [{"name": "api", "key": "token", "targetEnvName": "TOKEN"}],
        "serviceAccount": "server",
        "permissionProfile": {"type": "builtin", "name": "network"},
        "podTemplateSpec": {"spec": {"containers": [{"name": "mcp", "resources": {"limits": {"memory": "1Gi"}}}]}},
        "resourceOverrides": {"proxyDeployment": {"labels": {"a": "b"}, "env": [{"name": "TOOLHIVE_DEBUG", "value": "true"}], "imagePullSecrets": [{"name": "pull"}]}, "proxyService": {"annotations": {"a": "b"}}},
        "audit": {"enabled": true}, "toolConfigRef": {"name": "tools"}, "groupRef": {"name": "group"},
        "sessionAffinity": "None", "trustProxyHeaders": true, "proxyReadTimeout": "1m",
        "replicas": 2, "backendReplicas": 2,
        "sessionStorage": {"provider": "redis", "address": "redis.example:6379", "db": 0, "keyPrefix": "mcp:", "passwordRef": {"name": "redis", "key": "password"}},
        "rateLimiting": {"shared": {"maxTokens": 5, "refillPeriod": "1s"}},
    });
    ns.kubectl.apply_yaml(&mcpserver("full", spec.clone()).to_string())?.ok()?;
    assert_eq!(ns.kubectl.get_json("mcpserver/full")?["spec"], spec);
    // Read in the other version, it is the same.
    assert_eq!(ns.kubectl.get_json("mcpservers.v1alpha1.toolhive.stacklok.dev/full")?["spec"], spec);

    ns.kubectl.apply_yaml(&mcpserver("least", json!({"image": "example"})).to_string())?.ok()?;
    let defaults = json!({"image": "example", "transport": "stdio"});
    assert_eq!(ns.kubectl.get_json("mcpserver/least")?["spec"], defaults);

    let spec = json!({
        "incomingAuth": {"type": "anonymous"}, "groupRef": {"name": "group"}, "serviceType": "ClusterIP",
        "config": {"name": "v", "aggregation": {"conflictResolution": "prefix", "conflictResolutionConfig": {"prefixFormat": "{workload}_"}}, "operational": {"timeouts": {"default": "30s"}}},
        "podTemplateSpec": {"spec": {"nodeSelector": {"a": "b"}}},
        "imagePullSecrets": [{"name": "pull"}], "replicas": 1,
    });
    let object = json!({"apiVersion": "toolhive.stacklok.dev/v1alpha1", "kind": "VirtualMCPServer", "metadata": {"name": "full"}, "spec": spec});
    ns.kubectl.apply_yaml(&object.to_string())?.ok()?;
    assert_eq!(ns.kubectl.get_json("vmcp/full")?["spec"], spec);
    Ok(())
}

/// The API server checks the schema before it asks a validating webhook: what Berth has words for passed it.
fn the_schema_lets_berth_refuse(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    for (spec, field) in [
        (json!({"sessionStorage": {}}), "spec.sessionStorage.provider"),
        (json!({"sessionStorage": {"provider": "memcached"}}), "spec.sessionStorage.provider"),
        (json!({"sessionStorage": {"provider": "redis"}}), "spec.sessionStorage.address"),
        (json!({"sessionStorage": {"provider": "redis", "address": "", "db": -1}}), "spec.sessionStorage.db"),
        (
            json!({"sessionStorage": {"provider": "redis", "passwordRef": {"name": "only"}}}),
            "spec.sessionStorage.passwordRef.key",
        ),
    ] {
        for kind in ["MCPServer", "VirtualMCPServer"] {
            let mut object = mcpserver("x", spec.clone());
            object["kind"] = json!(kind);
            object["spec"]["image"] = json!("example");
            assert_refused(&dry_run(&ns.kubectl, &object)?, field);
        }
    }
    let backends = json!({"image": "example", "backendReplicas": -1});
    assert_refused(&dry_run(&ns.kubectl, &mcpserver("x", backends))?, "spec.backendReplicas");
    // What Berth does not look at is refused by the schema; and a count that is scaled must not be negative wherever
    // there is a scale subresource.
    for (spec, field) in [
        (json!({}), "spec.image"),
        (json!({"image": "example", "transport": "carrier-pigeon"}), "spec.transport"),
        (json!({"image": "example", "replicas": "three"}), "spec.replicas"),
        (json!({"image": "example", "replicas": -1}), "spec.replicas"),
    ] {
        let refused = dry_run(&ns.kubectl, &mcpserver("x", spec))?;
        assert!(refused.stderr.contains(field) && refused.stderr.contains("is invalid"), "{}", refused.stderr);
    }
    Ok(())
}

fn kustomize_installs_it(ctx: &Context, _: &Namespace) -> Result<(), Failed> {
    let (kubectl, root) = (ctx.cluster().kubectl(), Path::new(env!("CARGO_MANIFEST_DIR")));
    let file = |path: &str| root.join(path).display().to_string();
    let expected = [
        "namespace/berth-system",
        "serviceaccount/berth",
        "clusterrole.rbac.authorization.k8s.io/berth-webhook",
        "clusterrolebinding.rbac.authorization.k8s.io/berth-webhook",
        "clusterrole.rbac.authorization.k8s.io/berth-controller",
        "clusterrolebinding.rbac.authorization.k8s.io/berth-controller",
        "role.rbac.authorization.k8s.io/berth-controller",
        "rolebinding.rbac.authorization.k8s.io/berth-controller",
        "service/berth-webhook",
        "deployment.apps/berth",
        "poddisruptionbudget.policy/berth",
        "mutatingwebhookconfiguration.admissionregistration.k8s.io/berth",
        "validatingwebhookconfiguration.admissionregistration.k8s.io/berth",
    ];
    let applied = kubectl.run(&["apply", "--dry-run=server", "-k", &file("webhook-config")])?;
    assert!(!applied.stderr.contains("Warning"), "{}", applied.stderr);
    assert_all(&applied.ok()?, &expected);
    let defined = kubectl.run(&["apply", "--dry-run=server", "-k", &file("webhook-config/crds")])?.ok()?;
    assert_all(&defined, &["/mcpservers.toolhive.stacklok.dev", "/virtualmcpservers.toolhive.stacklok.dev"]);

    // With certificate files, in a copy: they are not to be left in the tree.
    let copy = ctx.cluster().dir().join("kustomize");
    copy_directory(&root.join("webhook-config"), &copy.join("webhook-config"))?;
    let files = copy.join("certs/files");
    fs::create_dir_all(&files)?;
    fs::copy(root.join("certs/files/kustomization.yaml"), files.join("kustomization.yaml"))?;
    let files = files.display().to_string();
    berth(&["certs", &files])?;
    let applied = kubectl.run(&["apply", "--dry-run=server", "-o", "json", "-k", &files])?.ok()?;
    let list: Value = serde_json::from_str(&applied).map_err(|error| Error::new(error.to_string()))?;
    let items = list["items"].as_array().ok_or("no items")?;
    let secret = items.iter().find(|item| item["kind"] == "Secret").ok_or("no Secret")?;
    assert_eq!(secret["metadata"]["name"], "berth-webhook-tls");
    assert!(secret["data"]["tls.key"].is_string() && secret["data"]["ca.key"].is_null());
    let bundles: Vec<_> = items
        .iter()
        .filter_map(|item| item["webhooks"].as_array())
        .flatten()
        .map(|webhook| &webhook["clientConfig"]["caBundle"])
        .collect();
    assert_eq!(bundles, vec![&secret["data"]["ca.crt"]; 4]);

    // What the restricted level forbids shows on the pods only, which the Deployment's controller would make.
    let deployment = items.iter().find(|item| item["kind"] == "Deployment").ok_or("no Deployment")?;
    let mut pod = deployment["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("berth");
    dry_run(&kubectl.in_namespace("berth-system"), &pod)?.ok()?;

    // cert-manager's definitions are not here; kustomize has to make sense of it all the same.
    let built = kubectl.run(&["kustomize", &file("certs/cert-manager")])?.ok()?;
    assert_eq!(built.matches("cert-manager.io/inject-ca-from: berth-system/berth-webhook").count(), 2);
    Ok(())
}

fn assert_all(text: &str, expected: &[&str]) {
    for expected in expected {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
    assert_eq!(text.lines().count(), expected.len(), "{text}");
}

fn copy_directory(from: &Path, to: &Path) -> Result<(), Failed> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn least_privilege(ctx: &Context, _: &Namespace) -> Result<(), Failed> {
    let kubectl = ctx.cluster().kubectl();
    let listed = ["auth", "can-i", "--list", "--no-headers"];
    let subject = "--as=system:serviceaccount:berth-system:berth";
    let table = wait_for("the rights to take effect", BOUND, || {
        let table = kubectl.run(&[&listed[..], &[subject]].concat())?.ok()?;
        Ok(table.contains("mcpservers").then_some(table))
    })?;
    // Everybody may ask who they are, and discover what there is.
    let mut rights: Vec<_> = table
        .lines()
        .filter(|line| !line.trim_start().starts_with('[') && !line.starts_with("self"))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    rights.sort();
    assert_eq!(
        rights,
        [
            "configmaps [] [] [get list watch create patch delete]",
            "deployments.apps [] [] [get list watch create patch delete]",
            "events.events.k8s.io [] [] [create]",
            "mcpservers.toolhive.stacklok.dev [] [] [get list watch]",
            "mcpservers.toolhive.stacklok.dev/finalizers [] [] [update]",
            "mcpservers.toolhive.stacklok.dev/status [] [] [patch]",
            "services [] [] [get list watch create patch delete]",
            "statefulsets.apps [] [] [get list watch create patch delete]",
            "virtualmcpservers.toolhive.stacklok.dev [] [] [get list watch]",
            "virtualmcpservers.toolhive.stacklok.dev/finalizers [] [] [update]",
            "virtualmcpservers.toolhive.stacklok.dev/status [] [] [patch]",
        ]
    );
    Ok(())
}
