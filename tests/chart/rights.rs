//! The rights that the chart gives, beside what Berth asks the API server for over the whole life of what it looks after.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use berth_test_cluster::{Berth, BerthOptions, ControlPlane, ControlPlaneOptions, Kubectl, apply_crds, wait_for};
use serde_json::{Value, json};

use crate::support::{Desk, documents};

const BOUND: Duration = Duration::from_secs(60);
const BERTH: &str = "system:serviceaccount:berth-system:berth";
/// The right that no request shows: it is asked for where something is to be owned with blockOwnerDeletion.
const FINALIZERS: &str = "/finalizers";

/// `VERB RESOURCE.GROUP[/SUBRESOURCE][ NAME]`, as in `patch mcpservers.toolhive.stacklok.dev/status`.
type Rights = BTreeSet<String>;

fn right(verb: &str, resource: &str, group: &str, name: &str) -> String {
    let (resource, sub) = resource.split_once('/').unwrap_or((resource, ""));
    let dot = if group.is_empty() { "" } else { "." };
    let slash = if sub.is_empty() { "" } else { "/" };
    let space = if name.is_empty() { "" } else { " " };
    format!("{verb} {resource}{dot}{group}{slash}{sub}{space}{name}")
}

/// What the roles say.
fn granted(roles: &[Value]) -> Rights {
    let texts = |value: &Value| -> Vec<String> {
        let texts = value.as_array().into_iter().flatten();
        texts.map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = Rights::new();
    for rule in roles.iter().flat_map(|role| role["rules"].as_array().into_iter().flatten()) {
        let names = texts(&rule["resourceNames"]);
        let names = if names.is_empty() { vec![String::new()] } else { names };
        for verb in texts(&rule["verbs"]) {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    rights.extend(names.iter().map(|name| right(&verb, &resource, &group, name)));
                }
            }
        }
    }
    rights
}

/// What Berth asked for, by the API server's own log: the rights that it used, and what it was refused.
fn asked_for(log: &Path, granted: &Rights) -> (Rights, BTreeSet<String>) {
    let (mut used, mut refused) = (Rights::new(), BTreeSet::new());
    let text = fs::read_to_string(log).unwrap();
    for event in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let object = &event["objectRef"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        // What is no resource is discovery, which everybody may read.
        if event["user"]["username"] != BERTH || object["resource"].is_null() {
            continue;
        }
        let resource = match object["subresource"].as_str() {
            Some(sub) => format!("{}/{sub}", text(&object["resource"])),
            None => text(&object["resource"]),
        };
        let (verb, group) = (text(&event["verb"]), text(&object["apiGroup"]));
        // An apply of what was not there asks for both.
        if verb == "patch" && event["responseStatus"]["code"] == 201 {
            used.insert(right("create", &resource, &group, ""));
        }
        let named = right(&verb, &resource, &group, &text(&object["name"]));
        if event["annotations"]["authorization.k8s.io/decision"] == "forbid" || event["responseStatus"]["code"] == 403 {
            refused.insert(format!("{named}: {}", event["responseStatus"]["message"]));
        } else if granted.contains(&named) {
            used.insert(named);
        } else {
            used.insert(right(&verb, &resource, &group, ""));
        }
    }
    (used, refused)
}

/// A cluster whose API server minds blockOwnerDeletion, with the rights of the chart.
struct World {
    cluster: ControlPlane,
    roles: Vec<Value>,
    kubectl: Kubectl,
    options: BerthOptions,
}

impl World {
    fn new() -> Self {
        let options = ControlPlaneOptions { controller_manager: false, audit: true };
        let plugin = "--enable-admission-plugins=OwnerReferencesPermissionEnforcement";
        let cluster = ControlPlane::start_own_with(&options, &[plugin]).unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_berth"));
        apply_crds(&cluster, program).unwrap();
        let parts = ["-s", "templates/rbac.yaml", "-s", "templates/serviceaccount.yaml"];
        let manifest = Desk::new().template(&parts).ok().unwrap();
        cluster.kubectl().run(&["create", "namespace", "berth-system"]).unwrap().ok().unwrap();
        cluster.kubectl().apply_yaml(&manifest).unwrap().ok().unwrap();
        let roles: Vec<_> = documents(&manifest).into_iter().filter(|object| object["rules"].is_array()).collect();

        let mut options = BerthOptions::new(program);
        // What the chart's Deployment says, but for where it is.
        options.arguments =
            ["--controller-scope=all", "--lease-namespace=berth-system", "--lame-duck=1s"].map(str::to_owned).to_vec();
        options.kubeconfig = Some(cluster.service_account_kubeconfig("berth-system", "berth").unwrap());
        let namespace = cluster.namespace().unwrap();
        let kubectl = cluster.kubectl().in_namespace(&namespace);
        let world = Self { cluster, roles, kubectl, options };
        world.wait_for_right("update", "leases.coordination.k8s.io/berth-controller", "yes");
        world.wait_for_right("create", "configmaps", "yes");
        world
    }

    fn wait_for_right(&self, verb: &str, what: &str, expected: &str) {
        let mut arguments = vec!["auth", "can-i", "-n", "berth-system", "--as", BERTH, verb];
        arguments.extend(what.split(' '));
        wait_for(&format!("{expected} to {verb} {what}"), BOUND, || {
            let answer = self.cluster.kubectl().run(&arguments)?;
            Ok((answer.stdout.trim() == expected).then_some(()))
        })
        .unwrap();
    }

    fn start(&self, register: bool) -> Berth {
        Berth::start(&self.cluster, BerthOptions { register, ..self.options.clone() }).unwrap()
    }

    fn run(&self, arguments: &[&str]) {
        self.kubectl.run(arguments).unwrap().ok().unwrap();
    }

    fn create(&self, object: &Value) {
        self.kubectl.run_with_stdin(&["create", "-f", "-"], &object.to_string()).unwrap().ok().unwrap();
    }

    fn patch(&self, what: &str, spec: &Value) {
        self.run(&["patch", what, "--type=merge", "-p", &json!({"spec": spec}).to_string()]);
    }

    fn wait(&self, what: &str, why: &str, is_so: impl Fn(&Value) -> bool) {
        let found = wait_for(&format!("{what} {why}"), BOUND, || {
            let output = self.kubectl.run(&["get", what, "--ignore-not-found", "-o", "json"])?;
            let object = serde_json::from_str(&output.ok()?).unwrap_or_default();
            Ok(is_so(&object).then_some(()))
        });
        found.unwrap();
    }

    /// Waits until Berth has dealt with the resource as it is now.
    fn settled(&self, what: &str) {
        self.wait(what, "observed", |object| {
            object["status"]["observedGeneration"] == object["metadata"]["generation"]
        });
    }

    fn audit_log(&self) -> &Path {
        self.cluster.audit_log().unwrap()
    }
}

fn resource(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "toolhive.stacklok.dev/v1beta1", "kind": kind,
        "metadata": {"name": name}, "spec": spec,
    })
}

fn workload(kind: &str, name: &str, metadata: Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": metadata,
        "spec": {"serviceName": "x", "selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "toolhive", "image": "example"}]},
        }},
    });
    object["metadata"]["name"] = json!(name);
    if kind == "Deployment" {
        object["spec"].as_object_mut().unwrap().remove("serviceName");
    }
    object
}

/// The whole life of both kinds: built, changed, scaled, refused what Berth does not do, built again, deleted.
fn lives(world: &World) {
    let storage = json!({"provider": "redis", "address": "redis:6379"});
    let server = json!({"image": "a", "transport": "streamable-http", "backendReplicas": 1, "sessionStorage": storage});
    world.create(&resource("MCPServer", "one", &server));
    world.create(&resource("VirtualMCPServer", "two", &json!({"config": {"name": "two"}, "sessionStorage": storage})));
    let built = ["deployment/one", "statefulset/one", "service/mcp-one-proxy", "configmap/one-runconfig"];
    let built = || built.iter().chain(&["deployment/two", "service/vmcp-two", "configmap/two-vmcp-config"]);
    let there = |expected: bool| built().for_each(|what| world.wait(what, "built", |o| o.is_object() == expected));
    there(true);
    world.patch("mcpserver/one", &json!({"image": "b", "proxyPort": 8081, "replicas": 2, "backendReplicas": 2}));
    world.patch("virtualmcpserver/two", &json!({"replicas": 2, "config": {"name": "three"}}));
    world.wait("statefulset/one", "changed", |o| o["spec"]["template"]["spec"]["containers"][0]["image"] == "b");
    world.wait("deployment/two", "scaled", |o| o["spec"]["replicas"] == 2);
    world.settled("mcpserver/one");
    // Set back.
    world.run(&["patch", "deployment/one", "--type=json", "-p", r#"[{"op": "remove", "path": "/metadata/labels"}]"#]);
    world.wait("deployment/one", "set back", |o| o["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "berth");
    // What Berth does not do is not left running.
    world.patch("mcpserver/one", &json!({"oidcConfig": {"type": "kubernetes"}}));
    world.patch("virtualmcpserver/two", &json!({"incomingAuth": {"type": "oidc"}}));
    there(false);
    world.patch("mcpserver/one", &json!({"oidcConfig": null}));
    world.patch("virtualmcpserver/two", &json!({"incomingAuth": null}));
    there(true);
    // The rest is the garbage collector's.
    world.run(&["delete", "mcpserver/one", "virtualmcpserver/two"]);
}

/// What the webhook reads when its cache does not know.
fn reviews(world: &World) {
    for kind in ["Deployment", "StatefulSet"] {
        let annotations = json!({"annotations": {
            "berth.dev/inject": "enabled", "berth.dev/session-provider": "redis", "berth.dev/session-address": "redis:6379",
        }});
        world.create(&workload(kind, "plain", annotations));
        world.run(&["scale", &format!("{}/plain", kind.to_lowercase()), "--replicas=2"]);
    }
    // Of a resource that nobody has heard of.
    for kind in ["MCPServer", "VirtualMCPServer"] {
        let owner = json!({
            "apiVersion": "toolhive.stacklok.dev/v1beta1", "kind": kind, "name": "nobody", "controller": true,
            "uid": "00000000-0000-4000-8000-000000000000",
        });
        let owned = workload("Deployment", "owned", json!({"ownerReferences": [owner]}));
        let dry = ["create", "--dry-run=server", "-f", "-"];
        world.kubectl.run_with_stdin(&dry, &owned.to_string()).unwrap().ok().unwrap();
    }
}

#[test]
fn every_right_is_used_and_none_is_missing() {
    let world = World::new();
    let granted = granted(&world.roles);
    assert!(granted.len() > 20, "{granted:?}");
    let mut first = world.start(true);
    let second = world.start(false);
    lives(&world);
    reviews(&world);
    // The next one takes the Lease over.
    first.stop(BOUND).unwrap();
    first.deregister().unwrap();
    world.create(&resource("VirtualMCPServer", "later", &json!({"config": {"name": "later"}})));
    world.wait("deployment/later", "built", Value::is_object);

    let (used, refused) = asked_for(world.audit_log(), &granted);
    assert!(refused.is_empty(), "Berth asked for what it may not: {refused:#?}");
    let beyond: Vec<_> = used.difference(&granted).collect();
    assert!(beyond.is_empty(), "rights that no role of the chart gives, but somebody does: {beyond:#?}");
    let unused: Vec<_> = granted.difference(&used).filter(|right| !right.ends_with(FINALIZERS)).collect();
    assert!(unused.is_empty(), "nothing needs these rights any more; take them out of the roles: {unused:#?}");

    without_finalizers(&world);
    drop(second);
}

/// Without the right to their finalizers nothing that blocks the deletion of a resource may be made.
fn without_finalizers(world: &World) {
    for role in &world.roles {
        let mut role = role.clone();
        let rules = role["rules"].as_array_mut().unwrap();
        rules.retain(|rule| !rule["resources"][0].as_str().unwrap().ends_with(FINALIZERS));
        world.cluster.kubectl().apply_yaml(&role.to_string()).unwrap().ok().unwrap();
    }
    world.wait_for_right("update", "mcpservers.toolhive.stacklok.dev/x --subresource=finalizers", "no");
    world.create(&resource("MCPServer", "unowned", &json!({"image": "a", "transport": "streamable-http"})));
    wait_for("a refusal to block the deletion of a resource", BOUND, || {
        let (_, refused) = asked_for(world.audit_log(), &Rights::new());
        Ok(refused.iter().any(|refused| refused.contains("blockOwnerDeletion")).then_some(()))
    })
    .unwrap();
}
