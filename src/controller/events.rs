//! Kubernetes Events about custom resources.
//!
//! They go with a write: after one of an object, or before that of a status that says something new. What is asked for in vain
//! stands in no status, and is told once for each generation and each leader. Nothing is told a second time for a status that
//! could not be written (`told`).

use kube::Client;
use kube::api::PostParams;
use kube::core::Request;
use serde_json::{Value, json};

use super::clock;
use super::write::bounded;
use crate::cluster::CrKey;

/// What the API server takes.
const LONGEST_NOTE: usize = 1024;

/// Tells of what happened.
#[derive(Clone)]
pub(super) struct Recorder {
    client: Client,
    /// Which replica it is.
    instance: String,
}

/// How serious it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Normal,
    Warning,
}

impl Recorder {
    pub(super) fn new(client: Client, instance: String) -> Self {
        Self { client, instance }
    }

    /// Publishes one. An Event that cannot be published is lost: nothing depends on it.
    pub(super) async fn publish(&self, key: &CrKey, cr: &Value, severity: Severity, reason: &str, note: &str) {
        let event = self.event(key, cr, severity, reason, note);
        let collection = format!("/apis/events.k8s.io/v1/namespaces/{}/events", key.namespace);
        let published = async {
            let request = Request::new(collection).create(&PostParams::default(), event.to_string().into_bytes());
            let request = request.map_err(kube::Error::BuildRequest)?;
            bounded(self.client.request::<Value>(request)).await
        };
        if let Err(error) = published.await {
            tracing::debug!(resource = %key, reason, error = %error, "an event could not be published");
        }
    }

    fn event(&self, key: &CrKey, cr: &Value, severity: Severity, reason: &str, note: &str) -> Value {
        let metadata = &cr["metadata"];
        let prefix: String = key.name.chars().take(200).collect();
        let prefix = prefix.trim_end_matches(['.', '-']);
        json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"generateName": format!("{prefix}-"), "namespace": key.namespace},
            "eventTime": clock::now_micros(),
            "reportingController": "berth.dev/controller",
            "reportingInstance": self.instance,
            "action": "Reconcile",
            "reason": reason,
            "note": shortened(note),
            "type": match severity { Severity::Normal => "Normal", Severity::Warning => "Warning" },
            "regarding": {
                "apiVersion": cr["apiVersion"], "kind": key.kind.as_str(), "namespace": key.namespace, "name": key.name,
                "uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"],
            },
        })
    }
}

fn shortened(note: &str) -> String {
    if note.len() <= LONGEST_NOTE {
        return note.to_owned();
    }
    let end = (0..=LONGEST_NOTE - 3).rev().find(|end| note.is_char_boundary(*end)).unwrap_or_default();
    format!("{}…", note.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_fits() {
        assert_eq!(shortened("short"), "short");
        let long = shortened(&"é".repeat(2000));
        assert!(long.len() <= LONGEST_NOTE && long.ends_with('…'), "{}", long.len());
    }
}
