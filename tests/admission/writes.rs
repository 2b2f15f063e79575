//! Every form of write, of every workload that is Berth's business: what is stored, and that writing it again writes
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use berth_test_cluster::{Error, Result, wait_for};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::context::{Context, Namespace, trial};
use crate::objects::{in_redis, owned, resource, uncounted};
use crate::wiring::{REVISION, STAMP, Wiring, assert_same, bystander, generation_env, password_env, without_status};

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        trial(ctx, "writes::applied", |_, ns| written(ns, apply, apply)),
        trial(ctx, "writes::applied_server_side", |_, ns| written(ns, apply_server_side, apply_server_side)),
        trial(ctx, "writes::created_and_replaced", |_, ns| written(ns, create_and_replace, replace)),
        trial(ctx, "writes::patched_merge", |_, ns| patched(ns, "merge")),
        trial(ctx, "writes::patched_strategic", |_, ns| patched(ns, "strategic")),
        trial(ctx, "writes::patched_json", |_, ns| patched(ns, "json")),
        trial(ctx, "writes::a_dry_run_shows_all_and_stores_nothing", dry_run),
        trial(ctx, "writes::what_is_stored_shows_no_drift", no_drift),
        trial(ctx, "writes::what_toolhives_operator_built_right_gets_no_patch", built_by_toolhive),
    ]
}

const BOUND: Duration = Duration::from_secs(60);

/// A workload that is Berth's business.
struct Case {
    /// As in `deployment/web`.
    what: String,
    manifest: Value,
    /// What it is to carry once it is written.
    wiring: Wiring,
    /// Whether its stamp counts the changes of its template; else it is the generation of the MCPServer that owns it.
    counts: bool,
}

impl Case {
    fn new(manifest: Value, wiring: Wiring) -> Self {
        let counts = manifest["metadata"]["ownerReferences"].is_null();
        Self { what: what(&manifest), manifest, wiring, counts }
    }

    /// The same with another image, and the stamp that follows.
    fn changed(&self) -> Self {
        let mut manifest = self.manifest.clone();
        manifest["spec"]["template"]["spec"]["containers"][0]["image"] = json!("example:2");
        let stamp = self.wiring.stamp.map(|stamp| stamp + i64::from(self.counts));
        Self { what: self.what.clone(), manifest, wiring: Wiring { stamp, ..self.wiring.clone() }, ..*self }
    }
}

fn what(manifest: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_lowercase();
    format!("{}/{}", text(&manifest["kind"]), text(&manifest["metadata"]["name"]))
}

/// One case for each role that a workload can have.
fn cases(ns: &Namespace) -> Result<Vec<Case>> {
    let mut cases = annotated();
    cases.extend(controlled(ns)?);
    for case in &mut cases {
        let container = &mut case.manifest["spec"]["template"]["spec"]["containers"][0];
        container["image"] = json!("example:1");
        container["env"] = json!([{"name": "A", "value": "b"}]);
    }
    Ok(cases)
}

fn annotated() -> Vec<Case> {
    let annotations =
        [("replicas", "3"), ("session-password-secret", "redis/password"), ("termination-grace-period-seconds", "45")];
    let wiring = Wiring {
        replicas: 3,
        grace_period_seconds: 45,
        stamp: Some(1),
        env: vec![password_env("redis", "password"), generation_env()],
        record: Some("app/THV_MCPSERVER_GENERATION,app/THV_SESSION_REDIS_PASSWORD"),
    };
    let case = |kind| Case::new(uncounted(in_redis(kind, "web", &annotations)), wiring.clone());
    vec![case("Deployment"), case("StatefulSet")]
}

fn controlled(ns: &Namespace) -> Result<Vec<Case>> {
    define_servers(ns)?;
    let proxy = Wiring {
        replicas: 2,
        grace_period_seconds: 45,
        stamp: Some(1),
        env: vec![password_env("redis", "password"), generation_env()],
        record: Some("toolhive/THV_MCPSERVER_GENERATION,toolhive/THV_SESSION_REDIS_PASSWORD"),
    };
    // The container is the user's, and gets nothing.
    let backend = Wiring { env: Vec::new(), record: None, ..proxy.clone() };
    let aggregator = Wiring {
        grace_period_seconds: 30,
        stamp: None,
        env: vec![password_env("redis", "password")],
        record: Some("vmcp/THV_SESSION_REDIS_PASSWORD"),
        ..proxy.clone()
    };
    let case = |server, kind, wiring| -> Result<Case> { Ok(Case::new(workload_of(ns, server, kind)?, wiring)) };
    Ok(vec![
        case("mcpserver/foo", "Deployment", proxy)?,
        case("mcpserver/foo", "StatefulSet", backend)?,
        case("virtualmcpserver/bar", "Deployment", aggregator)?,
    ])
}

/// An MCPServer and a VirtualMCPServer with two replicas of everything.
fn define_servers(ns: &Namespace) -> Result<()> {
    let storage = json!({
        "provider": "redis", "address": "redis.example:6379",
        "passwordRef": {"name": "redis", "key": "password"},
    });
    let spec = json!({"replicas": 2, "backendReplicas": 2, "sessionStorage": storage});
    let mut server = resource("MCPServer", "v1beta1", "foo", spec);
    server["metadata"]["annotations"] = json!({"berth.dev/termination-grace-period-seconds": "45"});
    ns.client.create(&ns.name, &server)?;
    let spec = json!({"replicas": 2, "sessionStorage": storage});
    ns.client.create(&ns.name, &resource("VirtualMCPServer", "v1beta1", "bar", spec))?;
    Ok(())
}

/// A server's workload as its controller would write it, but for what Berth adds.
fn workload_of(ns: &Namespace, server: &str, kind: &str) -> Result<Value> {
    let mut manifest = owned(ns, server, kind)?;
    // Of an owned workload the count is its controller's business.
    manifest["spec"]["replicas"] = json!(2);
    if kind == "StatefulSet" {
        manifest["spec"]["template"]["spec"]["containers"][0]["name"] = json!("mcp");
    }
    Ok(manifest)
}

/// Writes an object by kubectl, and gives kubectl's answer.
type Write = fn(&Namespace, &Value) -> Result<Value>;

/// What a replace leaves out is gone. The Deployment controller's own annotation has to stay in, else that is a change.
fn replace(ns: &Namespace, manifest: &Value) -> Result<Value> {
    let what = what(manifest);
    let live = wait_for(&format!("{what} as its controller has seen it"), BOUND, || {
        let live = ns.stored(&what)?;
        Ok((live["status"]["observedGeneration"] == live["metadata"]["generation"]).then_some(live))
    })?;
    let mut manifest = manifest.clone();
    if let Some(revision) = live["metadata"]["annotations"].get(REVISION) {
        manifest["metadata"]["annotations"][REVISION] = revision.clone();
    }
    kubectl(ns, &["replace"], &manifest)
}

/// A replace takes over some fields of who created the object, which is a change, but one that counts no more than that.
fn create_and_replace(ns: &Namespace, manifest: &Value) -> Result<Value> {
    let created = kubectl(ns, &["create"], manifest)?;
    let replaced = replace(ns, manifest)?;
    assert_same(&replaced["spec"], &created["spec"]);
    assert_eq!(replaced["metadata"]["generation"], created["metadata"]["generation"]);
    Ok(replaced)
}

fn apply(ns: &Namespace, manifest: &Value) -> Result<Value> {
    kubectl(ns, &["apply"], manifest)
}

fn apply_server_side(ns: &Namespace, manifest: &Value) -> Result<Value> {
    kubectl(ns, &["apply", "--server-side"], manifest)
}

fn kubectl(ns: &Namespace, arguments: &[&str], manifest: &Value) -> Result<Value> {
    parse(&ns.kubectl_with(&[arguments, &["-o", "json"]].concat(), manifest)?.ok()?)
}

fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| Error::new(format!("kubectl printed no JSON: {error}: {text}")))
}

fn written(ns: &Namespace, first: Write, later: Write) -> Result<(), Failed> {
    for case in cases(ns)? {
        let answer = first(ns, &case.manifest)?;
        case.wiring.assert_exact(ns, &case.manifest, &answer)?;
        case.wiring.assert_exact(ns, &case.manifest, &ns.stored(&case.what)?)?;
        assert_changes_nothing(ns, &case.what, || later(ns, &case.manifest))?;

        let changed = case.changed();
        later(ns, &changed.manifest)?;
        changed.wiring.assert_exact(ns, &changed.manifest, &ns.stored(&case.what)?)?;
    }
    Ok(())
}

/// Fails unless the write leaves the object as it was, down to its resourceVersion.
fn assert_changes_nothing(ns: &Namespace, what: &str, write: impl Fn() -> Result<Value>) -> Result<()> {
    wait_for(&format!("a write of {what} that leaves its resourceVersion"), BOUND, || {
        let before = ns.stored(what)?;
        write()?;
        let after = ns.stored(what)?;
        assert_same(&without_status(&after), &without_status(&before));
        // Controllers may have written the status meanwhile, until there is nothing more to say.
        Ok((after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]).then_some(()))
    })
}

fn patched(ns: &Namespace, form: &str) -> Result<(), Failed> {
    let kubectl_patch = |what: &str, patch: &Value| {
        parse(&ns.kubectl.run(&["patch", what, "--type", form, "-p", &patch.to_string(), "-o", "json"])?.ok()?)
    };
    for mut case in cases(ns)? {
        // Nobody's business yet.
        let name = case.manifest["metadata"]["name"].as_str().unwrap_or_default();
        let mut before = bystander(&case.manifest, name);
        before["spec"]["replicas"] = json!(2);
        ns.client.create(&ns.name, &before)?;

        let opt_in = opt_in_patch(&case.manifest, form);
        kubectl_patch(&case.what, &opt_in)?;
        case.manifest["metadata"]["annotations"]["example.com/a"] = json!("b");
        case.wiring.assert_exact(ns, &case.manifest, &ns.stored(&case.what)?)?;
        assert_changes_nothing(ns, &case.what, || kubectl_patch(&case.what, &opt_in))?;

        let changed = case.changed();
        let image = image_patch(&changed.manifest, form);
        kubectl_patch(&case.what, &image)?;
        changed.wiring.assert_exact(ns, &changed.manifest, &ns.stored(&case.what)?)?;
    }
    Ok(())
}

/// Adds what makes a workload Berth's business: annotations, or an owner.
fn opt_in_patch(manifest: &Value, form: &str) -> Value {
    let metadata = &manifest["metadata"];
    let owners = &metadata["ownerReferences"];
    match (form, owners.is_null()) {
        ("json", true) => {
            let annotations = metadata["annotations"].as_object().into_iter().flatten();
            annotations
                .map(|(key, value)| {
                    let path = format!("/metadata/annotations/{}", key.replace('/', "~1"));
                    json!({"op": "add", "path": path, "value": value})
                })
                .collect()
        }
        ("json", false) => json!([{"op": "add", "path": "/metadata/ownerReferences", "value": owners}]),
        (_, true) => json!({"metadata": {"annotations": metadata["annotations"]}}),
        (_, false) => json!({"metadata": {"ownerReferences": owners}}),
    }
}

fn image_patch(manifest: &Value, form: &str) -> Value {
    let container = &manifest["spec"]["template"]["spec"]["containers"][0];
    let path = "/spec/template/spec/containers/0/image";
    match form {
        "json" => json!([{"op": "replace", "path": path, "value": container["image"]}]),
        "strategic" => {
            let change = json!({"name": container["name"], "image": container["image"]});
            json!({"spec": {"template": {"spec": {"containers": [change]}}}})
        }
        // A merge patch replaces lists whole: Berth's entries are gone until it adds them again.
        _ => json!({"spec": {"template": {"spec": {"containers": [container]}}}}),
    }
}

fn dry_run(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    for case in cases(ns)? {
        let answer = kubectl(ns, &["create", "--dry-run=server"], &case.manifest)?;
        case.wiring.assert_exact(ns, &case.manifest, &answer)?;
        let none = ns.stored(&case.what).expect_err("nothing is stored").to_string();
        assert!(none.contains("not found"), "{none}");

        apply(ns, &case.manifest)?;
        let before = ns.stored(&case.what)?;
        let changed = case.changed();
        let answer = kubectl(ns, &["apply", "--dry-run=server"], &changed.manifest)?;
        changed.wiring.assert_exact(ns, &changed.manifest, &answer)?;
        assert_same(&without_status(&ns.stored(&case.what)?), &without_status(&before));
    }
    Ok(())
}

/// What GitOps tools ask: would the manifest change what is there?
fn no_drift(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let manifests: Vec<_> = cases(ns)?.into_iter().map(|case| case.manifest).collect();
    let manifest = json!({"apiVersion": "v1", "kind": "List", "items": manifests}).to_string();
    for form in [&[][..], &["--server-side"]] {
        let kubectl = |verb: &str| ns.kubectl.run_with_stdin(&[&[verb, "-f", "-"][..], form].concat(), &manifest);
        kubectl("apply")?.ok()?;
        // It compares two looks at each object, between which controllers may write its status, until there is nothing more
        // to say.
        let mut last = None;
        wait_for("an answer that nothing would change", BOUND, || {
            let diff = last.insert(kubectl("diff")?);
            Ok((diff.stdout.is_empty() && diff.status == 0).then_some(()))
        })
        .map_err(|error| format!("{error}: {last:?}"))?;
    }
    Ok(())
}

/// ToolHive compares what is stored with what it would write, and would write for ever where somebody else changes it.
fn built_by_toolhive(ctx: &Context, ns: &Namespace) -> Result<(), Failed> {
    define_servers(ns)?;
    let stamped = |mut manifest: Value, generation: &str| {
        let template = &mut manifest["spec"]["template"];
        template["metadata"]["annotations"] = json!({STAMP: generation});
        template["spec"]["terminationGracePeriodSeconds"] = json!(45);
        manifest
    };
    let env =
        [json!({"name": "TOOLHIVE_DEBUG", "value": "false"}), generation_env(), password_env("redis", "password")];
    let mut proxy = stamped(workload_of(ns, "mcpserver/foo", "Deployment")?, "1");
    proxy["spec"]["template"]["spec"]["containers"][0]["env"] = json!(env);
    let backend = stamped(workload_of(ns, "mcpserver/foo", "StatefulSet")?, "1");
    let mut aggregator = workload_of(ns, "virtualmcpserver/bar", "Deployment")?;
    aggregator["spec"]["template"]["spec"]["containers"][0]["env"] = json!([env[0], env[2]]);

    let operator = "--field-manager=thv-operator";
    for manifest in [&proxy, &aggregator] {
        kubectl(ns, &["create", operator], manifest)?;
    }
    let runner = ["apply", "--server-side", "--field-manager=toolhive-container-manager"];
    kubectl(ns, &runner, &backend)?;
    // The server changes, and all is written anew.
    ns.client.merge(&ns.name, "mcpserver/foo", &json!({"spec": {"image": "example:2"}}))?;
    kubectl(ns, &["replace", operator], &stamped(proxy, "2"))?;
    kubectl(ns, &["replace", operator], &aggregator)?;
    kubectl(ns, &runner, &stamped(backend, "2"))?;

    let reviews = ctx.reviews(ns);
    let mutations: Vec<_> = reviews.iter().filter(|review| review["webhook"] == "mutate").collect();
    // A write that meets another writer is asked about again.
    assert!(mutations.len() >= 6, "{mutations:?}");
    for review in mutations {
        assert_eq!((&review["patches"], &review["warnings"]), (&json!(0), &json!(0)), "{review}");
    }
    Ok(())
}
