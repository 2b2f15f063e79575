//! A namespace, the servers in it, and what can be seen of their pods.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use berth_test_cluster::{Error, Installation, Kubectl, MCP_SERVER_IMAGE, Result, Stage, http_get, wait_for};
use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::client::Client;
use crate::context::Context;

/// For whatever pods have to do for it, on a machine that is busy.
pub(crate) const BOUND: Duration = Duration::from_secs(120);
/// So many connections to a Service that are answered, one after the other, are no luck: one of four pods that is gone
/// would have been missed once in ten thousand times.
const IN_A_ROW: usize = 32;

/// Where a proxy serves, and the server behind it.
pub(crate) const PROXY_PORT: u16 = 8080;
/// Where a proxy has its `/readyz` and its metrics.
pub(crate) const ADMIN_PORT: u16 = 9090;

/// The annotation that says which generation of its resource a pod template is of.
pub(crate) const STAMP: &str = "toolhive.stacklok.dev/mcpserver-generation";

/// A namespace that one trial has for itself.
pub(crate) struct Scene<'a> {
    pub(crate) name: String,
    pub(crate) kubectl: Kubectl,
    pub(crate) ctx: &'a Context,
}

/// A pod as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) ready: bool,
    pub(crate) restarts: i64,
    /// The generation of the resource that its template was of.
    pub(crate) generation: String,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(ctx: &'a Context) -> Result<Self> {
        let name = ctx.stage().cluster().namespace()?;
        let kubectl = ctx.stage().kubectl().in_namespace(&name);
        Ok(Self { name, kubectl, ctx })
    }

    pub(crate) fn stage(&self) -> &Stage {
        self.ctx.stage()
    }

    /// Waits until nothing is left of the trials before, for one that runs alone.
    pub(crate) fn wait_until_alone(&self) -> Result<()> {
        wait_for("the end of what other trials had", 2 * BOUND, || {
            let names = self.ctx.eyes().namespaces()?;
            Ok((!names.iter().any(|name| self.is_of_another_trial(name))).then_some(()))
        })
    }

    /// Whether a namespace is one that another trial has for itself.
    pub(crate) fn is_of_another_trial(&self, namespace: &str) -> bool {
        let run = self.name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        namespace.starts_with(run) && namespace != self.name
    }

    /// Applies an object as a user does.
    pub(crate) fn apply(&self, object: &Value) -> Result<()> {
        self.kubectl.apply_yaml(&object.to_string())?.ok()?;
        Ok(())
    }

    /// Merges `patch` into what is stored.
    pub(crate) fn patch(&self, what: &str, patch: &Value) -> Result<()> {
        self.kubectl.run(&["patch", what, "--type=merge", "--patch", &patch.to_string()])?.ok()?;
        Ok(())
    }

    pub(crate) fn get(&self, what: &str) -> Result<Value> {
        self.ctx.eyes().get(&self.name, what)
    }

    /// Objects of one kind.
    pub(crate) fn list(&self, kind: &str) -> Result<Vec<Value>> {
        self.ctx.eyes().list(&self.name, kind)
    }

    /// The pods that a workload's controller made and that are not being deleted, by name: `ReplicaSet` for those in
    /// front, `StatefulSet` for those of the server.
    pub(crate) fn pods(&self, owner: &str) -> Result<BTreeMap<String, Pod>> {
        let pods = self.list("pods")?.into_iter().filter(|pod| {
            let meta = &pod["metadata"];
            meta["ownerReferences"][0]["kind"] == owner && meta["deletionTimestamp"].is_null()
        });
        let pods = pods.map(|pod| {
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let pod = Pod {
                name: name.clone(),
                uid: pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
                ready: conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"),
                restarts: pod["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap_or_default(),
                generation: pod["metadata"]["annotations"][STAMP].as_str().unwrap_or_default().to_owned(),
            };
            (name, pod)
        });
        Ok(pods.collect())
    }

    /// Waits until exactly so many pods are there, and all of them ready.
    pub(crate) fn wait_for_pods(&self, owner: &str, count: usize) -> Result<BTreeMap<String, Pod>> {
        wait_for(&format!("{count} ready pods of a {owner}"), BOUND, || {
            let pods = self.pods(owner)?;
            Ok((pods.len() == count && pods.values().all(|pod| pod.ready)).then_some(pods))
        })
    }

    /// Waits until a value of an object is there.
    pub(crate) fn wait_for_value(&self, what: &str, pointer: &str, expected: &Value) -> Result<()> {
        let mut last = Value::Null;
        let seen = wait_for(&format!("{what} with {expected} at {pointer}"), BOUND, || {
            last = self.get(what)?;
            Ok((last.pointer(pointer) == Some(expected)).then_some(()))
        });
        seen.map_err(|error| Error::new(format!("{error}: {last:#}")))
    }

    /// Applies an `MCPServer` of the sample image, with this spec besides, and waits until it serves.
    pub(crate) fn start(&self, name: &str, spec: &Value) -> Result<()> {
        self.start_object(&server(name, spec))
    }

    /// Applies an `MCPServer`, and waits until it serves.
    pub(crate) fn start_object(&self, server: &Value) -> Result<()> {
        self.apply(server)?;
        let (name, spec) = (server["metadata"]["name"].as_str().expect("a name"), &server["spec"]);
        let count = |field: &str| spec[field].as_u64().map_or(1, |count| usize::try_from(count).expect("a count"));
        self.wait_for_pods("ReplicaSet", count("replicas"))?;
        self.wait_for_pods("StatefulSet", count("backendReplicas"))?;
        self.wait_for_value(&format!("mcpserver/{name}"), "/status/phase", &json!("Ready"))?;
        self.wait_for_service(&format!("mcp-{name}-proxy"))
    }

    /// Waits until everybody is answered at a Service of proxies. The node's rules follow the pods: for a while they lead
    /// nobody to those that have become ready, and some still to those that end, which serve for a part of that while.
    pub(crate) fn wait_for_service(&self, name: &str) -> Result<()> {
        wait_for("the end of proxies that end", BOUND, || {
            let mut proxies = self.list("pods")?.into_iter().map(|pod| pod["metadata"].clone());
            let ending = proxies
                .any(|meta| meta["ownerReferences"][0]["kind"] == "ReplicaSet" && !meta["deletionTimestamp"].is_null());
            Ok((!ending).then_some(()))
        })?;
        let address = self.service(name)?;
        let mut answers = 0;
        wait_for(&format!("{IN_A_ROW} answers in a row at {name}"), BOUND, || {
            answers = if http_get(address, "/").is_ok() { answers + 1 } else { 0 };
            Ok((answers == IN_A_ROW).then_some(()))
        })
    }

    /// Waits until a workload's rollout is over.
    pub(crate) fn wait_for_rollout(&self, workload: &str) -> Result<()> {
        wait_for(&format!("the end of the rollout of {workload}"), BOUND, || {
            let status = self.kubectl.run(&["rollout", "status", workload, "--timeout=10s"])?;
            Ok(status.success().then_some(()))
        })
    }

    /// Waits for a line with these words in the log of a pod, since its container was started: what a container says gets
    /// there a moment later.
    pub(crate) fn wait_for_line(&self, pod: &str, words: &str) -> Result<String> {
        let mut log = String::new();
        let found = wait_for(&format!("{words:?} in the log of {pod}"), BOUND, || {
            log = self.kubectl.run(&["logs", pod])?.stdout;
            Ok(log.lines().find(|line| line.contains(words)).map(str::to_owned))
        });
        found.map_err(|error| Error::new(format!("{error}: {log}")))
    }

    /// A port of loopback that leads to a Service, as clients of the cluster see it.
    pub(crate) fn service(&self, name: &str) -> Result<SocketAddr> {
        self.stage().service(&self.kubectl, name)
    }

    /// A port of loopback that leads to a port of one pod.
    pub(crate) fn pod_port(&self, pod: &str, port: u16) -> Result<SocketAddr> {
        let ip = self.get(&format!("pod/{pod}"))?["status"]["podIP"].clone();
        let address = format!("{}:{port}", ip.as_str().unwrap_or_default());
        let address = address.parse().map_err(|error| Error::new(format!("{address} of {pod}: {error}")))?;
        self.stage().forward(address)
    }

    /// A client with a new session, through the Service.
    pub(crate) fn connect(&self, server: &str) -> Result<Client> {
        Client::connect(self.service(&format!("mcp-{server}-proxy"))?)
    }

    /// What a trial that failed leaves to look at.
    pub(crate) fn explain(&self, failed: Failed) -> Failed {
        let run = |arguments: &[&str]| self.kubectl.run(arguments).map(|output| output.stdout).unwrap_or_default();
        let last = |text: String| text.lines().rev().take(20).map(|line| format!("{line}\n")).collect::<String>();
        let message = failed.message().unwrap_or("a failure without a message").to_owned();
        let events = last(run(&["get", "events", "--sort-by=.lastTimestamp"]));
        let all = last(run(&["get", "mcpservers,virtualmcpservers,deployments,statefulsets,pods"]));
        format!("{message}\n{all}\n{events}").into()
    }
}

impl Drop for Scene<'_> {
    /// Gives the room that its pods had on the node to others.
    fn drop(&mut self) {
        // First what Berth would build again, and would be refused in a namespace that ends.
        let _ = self.kubectl.run(&["delete", "mcpservers,virtualmcpservers", "--all", "--wait=false"]);
        let _ = self.kubectl.run(&["delete", "namespace", &self.name, "--ignore-not-found", "--wait=false"]);
    }
}

/// An `MCPServer` of the sample image that is Berth's.
pub(crate) fn server(name: &str, spec: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "toolhive.stacklok.dev/v1beta1",
        "kind": "MCPServer",
        "metadata": {"name": name, "annotations": {
            "berth.dev/class": "berth",
            // A trial does not wait half a minute for each pod that goes.
            "berth.dev/termination-grace-period-seconds": "6",
        }},
        "spec": {"image": MCP_SERVER_IMAGE, "transport": "streamable-http"},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    object
}

/// Session storage in the store that anybody may use.
pub(crate) fn redis() -> Value {
    json!({"provider": "redis", "address": Installation::REDIS})
}
