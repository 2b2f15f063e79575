//! What Berth leaves in a cluster. Where the cluster goes on after the tests, it is refused beside somebody's, and it goes
//! at the end.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::kubectl::run_to_end;
use crate::{ControlPlane, Error, Result, wait_for};

/// The definitions, as kubectl names them.
pub(crate) const CRDS: [&str; 2] =
    ["crd/mcpservers.toolhive.stacklok.dev", "crd/virtualmcpservers.toolhive.stacklok.dev"];
/// The registrations.
const REGISTRATIONS: [&str; 2] = ["mutatingwebhookconfiguration/berth", "validatingwebhookconfiguration/berth"];
/// The namespaces of an installation by the tests.
const NAMESPACES: [&str; 2] = ["namespace/berth-system", "namespace/berth-test-stores"];
/// Whatever Berth was installed by, these objects say so.
const LABELLED: [&str; 4] = [
    "get",
    "mutatingwebhookconfigurations,validatingwebhookconfigurations,clusterroles,clusterrolebindings",
    "-l",
    LABEL,
];
const LABEL: &str = "app.kubernetes.io/name=berth";

/// How long tests that were killed may be tidied up after.
const TIDIED: Duration = Duration::from_secs(180);

/// Applies the CRDs that `program` (berth) ships, and waits until the API server serves them.
///
/// # Errors
/// When `berth crds` fails, or the API server refuses; on a cluster that was there before, when it has a Berth or the
/// CRDs.
pub fn apply_crds(cluster: &ControlPlane, program: &Path) -> Result<()> {
    refuse_beside_berth(cluster)?;
    if cluster.is_external() {
        let found = get(cluster, &CRDS)?;
        if !found.is_empty() {
            let names: Vec<_> = found.iter().map(name).collect();
            return Err(Error::new(format!(
                "this cluster has definitions that the tests would change and take away ({}): name another cluster",
                names.join(", ")
            )));
        }
        for objects in [&CRDS, &REGISTRATIONS] {
            cluster.undo(&[&["delete", "--ignore-not-found", "--timeout=120s"], &objects[..]].concat())?;
        }
    }
    let mut command = Command::new(program);
    command.arg("crds");
    let manifest = run_to_end(command, "berth crds", "")?.ok()?;
    cluster.kubectl().apply_yaml(&manifest)?.ok()?;
    let wait = ["wait", "--for=condition=Established", "--timeout=30s", "-f", "-"];
    cluster.kubectl().run_with_stdin(&wait, &manifest)?.ok()?;
    Ok(())
}

/// Refuses a cluster of somebody's that has a Berth: the tests install their own, and take it away at the end.
pub(crate) fn refuse_beside_berth(cluster: &ControlPlane) -> Result<()> {
    if !cluster.is_external() {
        return Ok(());
    }
    let namespaces = wait_for("the end of what tests left that were killed", TIDIED, || {
        let found = get(cluster, &NAMESPACES)?;
        let going = found.iter().any(|namespace| !namespace["metadata"]["deletionTimestamp"].is_null());
        Ok((!going).then_some(found))
    })?;
    let labelled = cluster.kubectl().run(&[&LABELLED[..], &["-o", "name"]].concat())?.ok()?;
    let found: Vec<_> = namespaces.iter().map(name).chain(labelled.lines().map(str::to_owned)).collect();
    if found.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!(
        "this cluster has a Berth ({}), and the tests would take it away with their own: name another cluster; or, if it is \
         of tests that could not tidy up, run: helm uninstall berth -n berth-system; kubectl delete --ignore-not-found {}",
        found.join(", "),
        [&REGISTRATIONS[..], &CRDS, &NAMESPACES].concat().join(" ")
    )))
}

/// Those objects that are there.
fn get(cluster: &ControlPlane, what: &[&str]) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    for what in what {
        let text = cluster.kubectl().run(&["get", what, "--ignore-not-found", "-o", "json"])?.ok()?;
        if !text.is_empty() {
            found
                .push(serde_json::from_str(&text).map_err(|cause| Error::new(format!("kubectl get {what}: {cause}")))?);
        }
    }
    Ok(found)
}

/// As in `CustomResourceDefinition/mcpservers.toolhive.stacklok.dev`.
fn name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))
}
