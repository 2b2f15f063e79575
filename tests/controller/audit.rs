//! What a user wrote, by the API server's own log. Applies that change nothing show nowhere else.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The audit log, from a moment on.
pub(crate) struct Audit {
    log: PathBuf,
    from: usize,
}

impl Audit {
    /// From now on.
    pub(crate) fn from_now(log: &Path) -> Self {
        let from = fs::read(log).map_or(0, |text| text.len());
        Self { log: log.to_owned(), from }
    }

    /// The requests of Berth's service account since, reads and watches not, its Lease not: `VERB RESOURCE NAMESPACE/NAME`.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.requests()
            .into_iter()
            .filter(|request| is_write(request.split(' ').next().unwrap_or_default()) && !request.contains(" leases "))
            .collect()
    }

    /// All its requests since that have ended.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.events().iter().filter(|event| event["stage"] == "ResponseComplete").map(request).collect()
    }

    /// How many of each kind it has asked since, its Lease's too, and watches that go on: by `VERB RESOURCE`, where they
    /// were answered, and by `VERB RESOURCE CODE` where they were refused.
    pub(crate) fn load(&self) -> BTreeMap<String, usize> {
        let mut load = BTreeMap::new();
        for event in self.events() {
            let code = event["responseStatus"]["code"].as_u64().unwrap_or_default();
            let stage = if event["verb"] == "watch" && code < 400 { "ResponseStarted" } else { "ResponseComplete" };
            if event["stage"] == stage {
                let what = format!("{} {}", text(&event["verb"]), resource(&event));
                *load.entry(if code < 400 { what } else { format!("{what} {code}") }).or_default() += 1;
            }
        }
        load
    }

    fn events(&self) -> Vec<Value> {
        let mut events = self.of_everybody();
        events.retain(|event| event["user"]["username"] == "system:serviceaccount:berth-system:berth");
        events
    }

    fn of_everybody(&self) -> Vec<Value> {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(log.get(self.from..).unwrap_or_default()).into_owned();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Whether anybody has asked to write an object of a namespace since, the control plane's controllers above all, whose
    /// words on a workload move what Berth says of its resource; Events not.
    pub(crate) fn anybody_writes_in(&self, namespace: &str) -> bool {
        self.of_everybody().iter().any(|event| {
            let object = &event["objectRef"];
            is_write(text(&event["verb"])) && object["namespace"] == namespace && object["resource"] != "events"
        })
    }

    /// All that are about one namespace.
    pub(crate) fn requests_in(&self, namespace: &str) -> Vec<String> {
        let of = format!(" {namespace}/");
        self.requests().into_iter().filter(|request| request.contains(&of)).collect()
    }

    /// The writes that are.
    pub(crate) fn writes_in(&self, namespace: &str) -> Vec<String> {
        let of = format!(" {namespace}/");
        self.writes().into_iter().filter(|request| request.contains(&of)).collect()
    }

    /// Those that are about objects: a status follows the pods, and Events tell of writes.
    pub(crate) fn object_writes_in(&self, namespace: &str) -> Vec<String> {
        let others = ["/status ", " events "];
        self.writes_in(namespace)
            .into_iter()
            .filter(|write| !others.iter().any(|other| write.contains(other)))
            .collect()
    }
}

fn is_write(verb: &str) -> bool {
    ["create", "update", "patch", "delete", "deletecollection"].contains(&verb)
}

fn request(event: &Value) -> String {
    let (namespace, name) = (text(&event["objectRef"]["namespace"]), text(&event["objectRef"]["name"]));
    format!("{} {} {namespace}/{name} {}", text(&event["verb"]), resource(event), event["responseStatus"]["code"])
}

/// As in `mcpservers/status`; a path where it is about none.
fn resource(event: &Value) -> String {
    let object = &event["objectRef"];
    match object["subresource"].as_str() {
        Some(sub) => format!("{}/{sub}", text(&object["resource"])),
        None if object.is_null() => text(&event["requestURI"]).to_owned(),
        None => text(&object["resource"]).to_owned(),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
