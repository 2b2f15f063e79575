//! Berth may not read what a decision needs: it says so, and that trying again is worth it.

use std::sync::Arc;

use libtest_mimic::{Failed, Trial};
use serde_json::json;

use crate::alone::{Alone, BOUND, trial};
use crate::context::{Context, Namespace};
use crate::objects::{autoscaler, in_redis, owned, redis, resource, workload};
use berth_test_cluster::{Output, wait_for};

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    let alone = ctx.alone();
    vec![trial(alone, "rights::what_cannot_be_read_is_not_decided", not_decided)]
}

fn assert_undecided(output: &Output, before: &str, webhook: &str, what: &str, ns: &Namespace) {
    let (kind, name) = what.split_once('/').unwrap_or_default();
    let (group, plural) = match kind {
        "MCPServer" => ("toolhive.stacklok.dev", "mcpservers"),
        "StatefulSet" => ("apps", "statefulsets"),
        _ => ("apps", "deployments"),
    };
    let sentence = format!(
        "{kind} \"{name}\" could not be read (the API server answered 403: {plural}.{group} \"{name}\" is forbidden: User \
         \"system:serviceaccount:berth-system:berth\" cannot get resource \"{plural}\" in API group \"{group}\" in the \
         namespace \"{}\"), so nothing is known of its policy; try again [berth:PolicyNotFound]\n",
        ns.name
    );
    // kubectl autoscale may print another error in the place of a refusal, but not in that of a warning.
    let warning = if webhook == "scale.berth.dev" { format!("Warning: {sentence}") } else { String::new() };
    let expected = format!(
        "{warning}Error from server (InternalError): {before}admission webhook \"{webhook}\" denied the request: {sentence}"
    );
    assert_eq!((output.stderr.as_str(), output.status), (expected.as_str(), 1), "{}", output.command);
}

fn not_decided(alone: &mut Alone, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    let create = |object: &serde_json::Value| kubectl.run_with_stdin(&["create", "-f", "-"], &object.to_string());
    let web = in_redis("Deployment", "web", &[]);
    create(&web)?.ok()?;
    create(&resource("MCPServer", "v1beta1", "foo", json!({"sessionStorage": redis()})))?.ok()?;
    // Known from the cache from here on, but not as new as this workload says it is.
    wait_for("the resource in the cache", BOUND, || {
        Ok((alone.metrics()?.metric("berth_custom_resources", &[("kind", "MCPServer")]) >= 1.0).then_some(()))
    })?;
    let mut newer = owned(ns, "mcpserver/foo", "Deployment")?;
    newer["spec"]["template"]["metadata"]["annotations"] = json!({"toolhive.stacklok.dev/mcpserver-generation": "7"});

    alone.revoke_rights()?;
    let creating = "error when creating \"STDIN\": ";
    assert_undecided(&create(&newer)?, creating, "mutate.berth.dev", "MCPServer/foo", ns);
    // Whose workload it is cannot be known: it may be anybody's, so the registration decides, which lets it pass.
    kubectl.run(&["scale", "deployment/web", "--replicas=3"])?.ok()?;
    create(&autoscaler("web", &web, 3))?.ok()?;
    // The scale of a resource names the version that is stored, which is the one in the cache; an autoscaler names none.
    kubectl.run(&["scale", "mcpserver/foo", "--replicas=3"])?.ok()?;
    let target =
        json!({"apiVersion": "toolhive.stacklok.dev/v1beta1", "kind": "MCPServer", "metadata": {"name": "foo"}});
    assert_undecided(&create(&autoscaler("foo", &target, 3))?, creating, "scale.berth.dev", "MCPServer/foo", ns);
    let memory = r#"{"spec":{"sessionStorage":{"provider":"memory"}}}"#;
    let patched = kubectl.run(&["patch", "mcpserver/foo", "--type=merge", "-p", memory])?;
    assert_undecided(&patched, "", "resources.berth.dev", "StatefulSet/foo", ns);
    // What needs nothing else is decided.
    create(&in_redis("Deployment", "needs-nothing", &[]))?.ok()?;
    create(&workload("Deployment", "bystander"))?.ok()?;
    kubectl.run(&["scale", "deployment/bystander", "--replicas=3"])?.ok()?;

    alone.restore_rights()?;
    create(&newer)?.ok()?;
    kubectl.run(&["scale", "deployment/web", "--replicas=3"])?.ok()?;
    Ok(())
}
