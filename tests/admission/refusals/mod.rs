//! What is refused, at every door, in the words that kubectl prints; and what only warns.

mod autoscalers;
mod deletions;
mod resources;
mod scales;
mod standing;
mod warnings;
mod workloads;

use std::sync::Arc;

use berth_test_cluster::{Kubectl, Output, Result};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::context::{Context, Namespace};
use crate::objects::stored;

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    let files = [
        autoscalers::trials,
        deletions::trials,
        resources::trials,
        scales::trials,
        standing::trials,
        warnings::trials,
        workloads::trials,
    ];
    files.into_iter().flat_map(|trials| trials(ctx)).collect()
}

const MEMORY: &str = "sessions are kept in memory; set the session provider to redis, or keep replicas at 1 or 0 \
                      [berth:SessionStorageMissingForReplicas]";
const STDIO: &str = "a stdio server is one process with one client; use the transport streamable-http or sse, or keep \
                     replicas at 1 or 0 [berth:StdioTransportCapAt1]";
const BACKENDS: &str = "which backend holds a session is kept in the proxy's memory and lost when it restarts; set the \
                        session provider to redis [berth:SessionStorageMissingForReplicas]";
const ADDRESS: &str = "the session provider is redis, and nothing says where it is; name it as host:port or as a redis:// \
                       URL [berth:SessionStorageAddressMissing]";

/// kubectl printed this, to the letter, and nothing else, and failed.
fn assert_refused(output: &Output, stderr: &str) {
    assert_eq!(output.stderr, format!("{stderr}\n"), "{}", output.command);
    assert_eq!((output.status, output.stdout.as_str()), (1, ""), "{}", output.command);
}

/// kubectl printed one line on standard output, these warnings and nothing else, and did not fail.
fn assert_passed(output: &Output, warnings: &[&str]) {
    let expected: String = warnings.iter().map(|warning| format!("Warning: {warning}\n")).collect();
    assert_eq!(output.stderr, expected, "{}", output.command);
    assert_eq!((output.status, output.stdout.lines().count()), (0, 1), "{}: {}", output.command, output.stdout);
}

/// What kubectl prints of an object with one field at fault.
fn invalid(kind: &str, name: &str, line: &str) -> String {
    format!("The {kind} \"{name}\" is invalid: {line}")
}

fn apply(kubectl: &Kubectl, object: &Value) -> Result<Output> {
    kubectl.apply_yaml(&object.to_string())
}

fn create(kubectl: &Kubectl, object: &Value) -> Result<Output> {
    kubectl.run_with_stdin(&["create", "-f", "-"], &object.to_string())
}

/// What is stored, but for what the cluster's controllers write into it at their own pace: its status, and with it the
/// resourceVersion. A custom resource has no such controller here, so all of it counts.
fn content(ns: &Namespace, what: &str) -> Result<Value> {
    let mut object = stored(ns, what)?;
    if object["apiVersion"].as_str().is_some_and(|version| version.starts_with("toolhive.stacklok.dev/")) {
        return Ok(object);
    }
    object["status"].take();
    object["metadata"]["resourceVersion"].take();
    object["metadata"]["managedFields"].take();
    let annotations = &mut object["metadata"]["annotations"];
    if let Some(present) = annotations.as_object_mut() {
        present.remove("deployment.kubernetes.io/revision");
        if present.is_empty() {
            annotations.take();
        }
    }
    Ok(object)
}

/// Nothing of this name is stored.
fn assert_absent(ns: &Namespace, what: &str) -> Result<()> {
    match stored(ns, what) {
        Ok(stored) => panic!("{what} is stored: {stored}"),
        Err(error) if error.to_string().contains("not found") => Ok(()),
        Err(error) => Err(error),
    }
}
