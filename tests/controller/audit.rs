//! What a user wrote, by the API server's own log. Applies that change nothing show nowhere else.

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
        let writes = ["create", "update", "patch", "delete", "deletecollection"];
        self.requests()
            .into_iter()
            .filter(|request| {
                let verb = request.split(' ').next().unwrap_or_default();
                writes.contains(&verb) && !request.contains(" leases ")
            })
            .collect()
    }

    /// All its requests since that have ended, its Lease's not.
    pub(crate) fn requests(&self) -> Vec<String> {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(text.get(self.from..).unwrap_or_default()).into_owned();
        text.lines().filter_map(|line| request(&serde_json::from_str(line).ok()?)).collect()
    }

    /// Those that are about one namespace.
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

fn request(event: &Value) -> Option<String> {
    if event["user"]["username"] != "system:serviceaccount:berth-system:berth" || event["stage"] != "ResponseComplete" {
        return None;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = &event["objectRef"];
    let sub = object["subresource"].as_str().map(|sub| format!("/{sub}")).unwrap_or_default();
    let (verb, resource) = (text(&event["verb"]), text(&object["resource"]));
    let (namespace, name) = (text(&object["namespace"]), text(&object["name"]));
    Some(format!("{verb} {resource}{sub} {namespace}/{name} {}", event["responseStatus"]["code"]))
}
