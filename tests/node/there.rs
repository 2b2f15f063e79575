//! This suite on a cluster that was there before, which here is another node: it runs, and leaves no trace.

use std::collections::BTreeSet;
use std::env;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use berth_test_cluster::{Error, Kubectl, Node, Result, wait_for};
use libtest_mimic::{Failed, Trial};

use crate::context::Context;
use crate::scene::BOUND;

/// A cluster in which nothing has come or gone for so long is one that is left alone.
const CALM: Duration = Duration::from_secs(5);

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    if ctx.is_given() {
        // All trials are this one then.
        return Vec::new();
    }
    let ctx = Arc::clone(ctx);
    vec![
        Trial::test("there::a_cluster_with_a_berth_is_refused", move || refused(&ctx)),
        Trial::test("there::a_cluster_is_left_as_it_was", left_as_it_was),
    ]
}

/// The suite with one trial, on the cluster of this kubectl.
fn suite(kubectl: &Kubectl) -> Result<Command> {
    let program = env::current_exe().map_err(|error| Error::new(format!("where is this program? {error}")))?;
    let mut command = Command::new(program);
    command.arg("sessions::one_proxy_and_one_pod").env("KUBECONFIG", kubectl.kubeconfig());
    for variable in ["BERTH_TEST_KUBECONFIG", "BERTH_TEST_LOAD_IMAGE", "BERTH_TEST_AUDIT_LOG"] {
        command.env_remove(variable);
    }
    Ok(command)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn refused(ctx: &Context) -> Result<(), Failed> {
    let output = suite(ctx.stage().kubectl())?.output()?;
    let said = said(&output);
    assert!(!output.status.success() && said.contains("this cluster has a Berth (Namespace/berth-system"), "{said}");
    Ok(())
}

/// Every object by kind, namespace and name; what clusters say about themselves all the time apart.
fn objects(kubectl: &Kubectl) -> Result<BTreeSet<String>> {
    let kinds = kubectl.run(&["api-resources", "--verbs=list", "-o", "name"])?.ok()?;
    let kinds: Vec<_> =
        kinds.lines().filter(|kind| !kind.starts_with("events") && *kind != "componentstatuses").collect();
    let template = "go-template={{range .items}}{{.kind}} {{.metadata.namespace}}/{{.metadata.name}}\n{{end}}";
    let found = kubectl.run(&["get", &kinds.join(","), "--all-namespaces", "-o", template])?.ok()?;
    Ok(found.lines().map(str::to_owned).collect())
}

fn left_as_it_was() -> Result<(), Failed> {
    let node = Node::start()?;
    let kubectl = node.kubectl();
    wait_for("the node's lease", BOUND, || {
        Ok(kubectl.run(&["get", "lease/node", "--namespace=kube-node-lease"])?.success().then_some(()))
    })?;
    // What comes with each namespace, with the node and with the controllers is made in their own time.
    let before = wait_for("a cluster that has all that it makes for itself", BOUND, || {
        let before = objects(kubectl)?;
        thread::sleep(CALM);
        Ok((objects(kubectl)? == before).then_some(before))
    })?;
    assert!(before.len() > 100, "{before:?}");

    let output = suite(kubectl)?.output()?;
    let text = said(&output);
    assert!(
        !output.status.success() && text.contains("export BERTH_TEST_LOAD_IMAGE='kind load image-archive"),
        "{text}"
    );
    assert_eq!(objects(kubectl)?, before);

    let log = node.cluster().audit_log().expect("a node has one").to_owned();
    let suite = || -> Result<Command> {
        let mut suite = suite(kubectl)?;
        suite.env("BERTH_TEST_LOAD_IMAGE", node.load_command()).env("BERTH_TEST_AUDIT_LOG", &log);
        Ok(suite)
    };
    // Killed as Berth is installed.
    let mut killed = suite()?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let installed = wait_for("Berth's Deployment", BOUND, || {
        Ok(kubectl.run(&["get", "deployment/berth", "--namespace=berth-system"])?.success().then_some(()))
    });
    killed.kill()?;
    killed.wait()?;
    installed?;
    // Who tidies up after it comes to the namespaces last, and by those the next one knows of it.
    wait_for("the beginning of the end of berth-system", BOUND, || {
        let get = ["get", "namespace/berth-system", "--ignore-not-found", "-o", "jsonpath={.status.phase}"];
        Ok((kubectl.run(&get)?.ok()? != "Active").then_some(()))
    })?;
    // The next one waits until all that is tidied up.
    let output = suite()?.output()?;
    let text = said(&output);
    assert!(output.status.success() && text.contains("1 passed; 0 failed"), "{text}");
    wait_for("the end of what namespaces take along", BOUND, || Ok((objects(kubectl)? == before).then_some(())))
        .map_err(|error| {
            let after = objects(kubectl).unwrap_or_default();
            format!("{error}: {:?}", before.symmetric_difference(&after).collect::<Vec<_>>())
        })?;
    Ok(())
}
