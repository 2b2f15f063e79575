//! The command line beside a real API server: what it says of manifests is what a cluster makes of them.

use std::process::Command;
use std::sync::Arc;

use berth_test_cluster::{Error, Result};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::context::{Context, Namespace, trial};
use crate::objects::{in_redis, opted_in, owned, redis, resource, workload};
use crate::wiring::assert_same;

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        trial(ctx, "command_line::mutate_is_what_the_cluster_stores", mutate_is_what_the_cluster_stores),
        trial(ctx, "command_line::what_validate_refuses_the_cluster_refuses", validate_and_cluster_agree),
        trial(ctx, "command_line::explain_reads_the_cluster", explain_reads_the_cluster),
    ]
}

/// What `berth` prints; its exit code is `code`.
fn berth(ctx: &Context, arguments: &[&str], manifests: &[Value], code: i32) -> Result<String> {
    let path = ctx.cluster().dir().join(format!("manifests-{:?}.json", std::thread::current().id()));
    let stream: String = manifests.iter().map(|manifest| format!("{manifest}\n")).collect();
    std::fs::write(&path, stream).map_err(|error| Error::new(error.to_string()))?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
    command.args(arguments).env("KUBECONFIG", ctx.cluster().kubeconfig());
    if !manifests.is_empty() {
        command.arg("-f").arg(&path);
    }
    let ended = command.output().map_err(|error| Error::new(error.to_string()))?;
    let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {out}{err}");
    Ok(out.into_owned())
}

fn json_of(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| Error::new(format!("{error}: {text}")))
}

/// The parts of a workload that Berth may write, with what the API server fills in where the manifest says nothing.
fn berths_part(object: &Value) -> Value {
    let pod = &object["spec"]["template"]["spec"];
    let or = |value: &Value, default: Value| if value.is_null() { default } else { value.clone() };
    let containers: Vec<_> = pod["containers"].as_array().into_iter().flatten().collect();
    let mut annotations = object["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    annotations.retain(|key, _| key.starts_with("berth.dev/"));
    json!({
        "annotations": annotations,
        "replicas": or(&object["spec"]["replicas"], json!(1)),
        "template": object["spec"]["template"]["metadata"]["annotations"],
        "grace": or(&pod["terminationGracePeriodSeconds"], json!(30)),
        "env": containers.iter().map(|container| json!([container["name"], container["env"]])).collect::<Vec<_>>(),
    })
}

fn mutate_is_what_the_cluster_stores(ctx: &Context, ns: &Namespace) -> Result<(), Failed> {
    let password = ("session-password-secret", "redis/password");
    let server = resource("MCPServer", "v1beta1", "owned", json!({"replicas": 2, "sessionStorage": redis()}));
    ns.client.create(&ns.name, &server)?;
    let server = ns.stored("mcpserver/owned")?;
    let mut plain = in_redis("Deployment", "plain", &[password]);
    plain["spec"]["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "A", "value": "b"}, {"name": "THV_SESSION_REDIS_PASSWORD", "value": "x"}]);
    let mut bare = in_redis("Deployment", "bare", &[("replicas", "0"), ("termination-grace-period-seconds", "90")]);
    bare["spec"].as_object_mut().map(|spec| spec.remove("replicas"));
    let manifests = [
        workload("Deployment", "bystander"),
        opted_in("Deployment", "memory", &[("replicas", "1")]),
        in_redis("Deployment", "three", &[("replicas", "3"), password]),
        in_redis("StatefulSet", "stateful", &[("replicas", "2"), password]),
        plain,
        bare,
        owned(ns, "mcpserver/owned", "Deployment")?,
        owned(ns, "mcpserver/owned", "StatefulSet")?,
    ];
    let mut input = manifests.to_vec();
    input.push(server);
    let printed = json_of(&berth(ctx, &["mutate", "-n", &ns.name, "-o", "json"], &input, 0)?)?;
    for (manifest, mutated) in manifests.iter().zip(printed["items"].as_array().into_iter().flatten()) {
        let stored = ns.client.create(&ns.name, manifest)?;
        assert_eq!(stored["metadata"]["name"], mutated["metadata"]["name"]);
        assert_same(&berths_part(mutated), &berths_part(&stored));
    }
    // What was printed is wired already: the cluster has nothing to add.
    let wired = printed["items"][2].clone();
    let again = json_of(&berth(ctx, &["mutate", "-n", &ns.name, "-o", "json"], std::slice::from_ref(&wired), 0)?)?;
    assert_same(&again, &wired);
    Ok(())
}

fn validate_and_cluster_agree(ctx: &Context, ns: &Namespace) -> Result<(), Failed> {
    let file = format!("{}/examples/refused.yaml", env!("CARGO_MANIFEST_DIR"));
    let said = json_of(&berth(ctx, &["validate", "-f", &file, "-o", "json"], &[], 1)?)?;
    let text = std::fs::read_to_string(&file).map_err(|error| Error::new(error.to_string()))?;
    // One at a time: of several refusals kubectl prints other lines than of one.
    let applied = text.split("\n---\n").map(|manifest| Ok(ns.kubectl.apply_yaml(manifest)?.stderr));
    let printed = applied.collect::<Result<Vec<_>>>()?;
    let mut compared = 0;
    for finding in said["findings"].as_array().into_iter().flatten() {
        let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        // What the autoscaler points at is refused with it, so that to the cluster it points at nothing.
        if text("kind") == "HorizontalPodAutoscaler" {
            continue;
        }
        let refused =
            format!("The {} \"{}\" is invalid: {}: {}", text("kind"), text("name"), text("field"), text("message"));
        let line = format!("{refused} [berth:{}]\n", text("code"));
        assert!(printed.contains(&line), "{line}\nis not in\n{}", printed.join("\n"));
        compared += 1;
    }
    assert_eq!(compared, 5);
    Ok(())
}

fn explain_reads_the_cluster(ctx: &Context, ns: &Namespace) -> Result<(), Failed> {
    let server = resource("MCPServer", "v1beta1", "owned", json!({"replicas": 2, "sessionStorage": redis()}));
    ns.client.create(&ns.name, &server)?;
    ns.client.create(&ns.name, &owned(ns, "mcpserver/owned", "Deployment")?)?;
    let explained = json_of(&berth(ctx, &["explain", "deploy/owned", "-n", &ns.name, "-o", "json"], &[], 0)?)?;
    assert_eq!(explained.as_array().map(Vec::len), Some(1));
    let explained = &explained[0];
    assert_eq!(explained["standing"]["owner"], "MCPServer/owned");
    assert_eq!(explained["settings"][0]["value"], 2);
    assert_eq!(explained["settings"][0]["from"]["field"], "spec.replicas");
    assert_eq!(explained["changes"], json!([]), "what is stored is wired");

    let server = json_of(&berth(ctx, &["explain", "mcpserver/owned", "-n", &ns.name, "-o", "json"], &[], 0)?)?;
    assert_eq!(server[0]["standing"]["policy"], "itself");
    berth(ctx, &["explain", "deploy/missing", "-n", &ns.name], &[], 2)?;
    Ok(())
}
