//! What ToolHive has of a resource that Berth refuses: it may run there, and then its status is not Berth's to write.
//!
//! Of a resource that is built, every object is looked for before it is made, which shows whose it is. Of one that is refused
//! nothing is made, and the caches hold only what Berth made.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Client;
use serde_json::Value;
use tokio::time::Instant;

use super::decide::{Action, Outcome};
use super::objects::ObjectKind;
use super::owned::{Live, Snapshot};
use super::write::{self, Failure};
use crate::cluster::{Cluster, CrKey};
use crate::policy::CrKind;

/// How long it counts that ToolHive was seen: nothing tells when it goes. That it was not counts for as long as the resource
/// stays as it is, since whoever takes it on writes its status.
const SEEN: Duration = Duration::from_secs(60);

/// What was seen of resources that are refused, so that one that stays as it is costs no request.
#[derive(Debug, Default)]
pub(super) struct Sightings(Mutex<HashMap<CrKey, Sighting>>);

#[derive(Debug)]
struct Sighting {
    /// The `resourceVersion` of the resource.
    version: String,
    /// What is ToolHive's, in words.
    what: Option<String>,
    at: Instant,
}

impl Sightings {
    /// What ToolHive has of a resource, in words; nothing when it has nothing.
    pub(super) async fn of(
        &self,
        client: &Client,
        cluster: &Cluster,
        key: &CrKey,
        cr: &Value,
        snapshot: &Snapshot,
    ) -> Result<Option<String>, Failure> {
        let version = version(cr);
        if let Some(known) = self.known(key, version, Instant::now()) {
            return Ok(known);
        }
        let what = look(client, cluster, key, cr, snapshot).await?;
        let sighting = Sighting { version: version.to_owned(), what: what.clone(), at: Instant::now() };
        self.lock().insert(key.clone(), sighting);
        Ok(what)
    }

    fn known(&self, key: &CrKey, version: &str, now: Instant) -> Option<Option<String>> {
        let all = self.lock();
        let sighting = all.get(key).filter(|sighting| sighting.version == version)?;
        let counts = sighting.what.is_none() || now.duration_since(sighting.at) < SEEN;
        counts.then(|| sighting.what.clone())
    }

    /// The resource has another version now, by a write of Berth's own that nobody else's came before.
    pub(super) fn renew(&self, key: &CrKey, cr: &Value) {
        if let Some(sighting) = self.lock().get_mut(key) {
            version(cr).clone_into(&mut sighting.version);
        }
    }

    /// The resource is gone, or is not refused any more.
    pub(super) fn forget(&self, key: &CrKey) {
        self.lock().remove(key);
    }

    /// Another replica leads: nobody looks here at what goes.
    pub(super) fn forget_all(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CrKey, Sighting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn version(cr: &Value) -> &str {
    cr.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default()
}

async fn look(
    client: &Client,
    cluster: &Cluster,
    key: &CrKey,
    cr: &Value,
    snapshot: &Snapshot,
) -> Result<Option<String>, Failure> {
    let uid = cr.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
    for kind in workloads(key.kind) {
        // By the resource's own name, whatever Berth would call it.
        let known = snapshot.objects.get(&(*kind, key.name.clone()));
        let read = match known {
            Some(live) => Some(Live::clone(live)),
            None => write::read(client, &key.namespace, *kind, &key.name).await?,
        };
        if let Some(live) = read.filter(|live| is_of(live, uid)) {
            return Ok(Some(format!("{} {} is ToolHive's ({live})", kind.as_str(), key.name)));
        }
    }
    Ok(cluster.status_of_toolhive(key).then(|| "ToolHive writes its status".to_owned()))
}

/// The workloads that ToolHive builds of a kind.
fn workloads(kind: CrKind) -> &'static [ObjectKind] {
    match kind {
        CrKind::McpServer => &[ObjectKind::Deployment, ObjectKind::StatefulSet],
        CrKind::VirtualMcpServer => &[ObjectKind::Deployment],
    }
}

/// Whether a workload is ToolHive's, and of this resource: others of its kinds have Deployments of their name, too. What its
/// runner makes has no owner.
fn is_of(live: &Live, uid: &str) -> bool {
    live.of_toolhive && live.controller.as_deref().is_none_or(|controller| controller == uid)
}

impl Action {
    /// What becomes of a refusal where ToolHive runs the resource: it is not Berth's to judge in the status.
    pub(super) fn left_to_toolhive(self, what: &str) -> Self {
        let Outcome::Refused { message, .. } = &self.outcome else { return self };
        let message = format!("{what}, and the resource is left to it; Berth would build nothing of it: {message}");
        // Its conditions are not written either, so an Event of one would be news each time.
        Self { outcome: Outcome::Elsewhere { message, of_toolhive: true }, conditions: Vec::new(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_not_there_counts_until_the_resource_changes_and_what_was_there_for_a_while() {
        let (sightings, now) = (Sightings::default(), Instant::now());
        let key = CrKey { kind: CrKind::McpServer, namespace: "ns".to_owned(), name: "foo".to_owned() };
        let see = |what: Option<&str>| {
            let sighting = Sighting { version: "1".to_owned(), what: what.map(str::to_owned), at: now };
            sightings.lock().insert(key.clone(), sighting);
        };
        assert_eq!(sightings.known(&key, "1", now), None);
        see(None);
        assert_eq!(sightings.known(&key, "1", now + SEEN * 100), Some(None));
        assert_eq!(sightings.known(&key, "2", now), None, "somebody wrote the resource");
        sightings.renew(&key, &json!({"metadata": {"resourceVersion": "2"}}));
        assert_eq!(sightings.known(&key, "2", now), Some(None), "it was Berth");
        see(Some("x"));
        assert_eq!(sightings.known(&key, "1", now), Some(Some("x".to_owned())));
        assert_eq!(sightings.known(&key, "1", now + SEEN), None, "it may have gone");
        sightings.forget(&key);
        assert_eq!(sightings.known(&key, "1", now), None);
    }

    #[test]
    fn a_workload_of_another_resource_of_toolhives_is_none_of_this_one() {
        let live = |of_toolhive: bool, controller: Option<&str>| Live {
            of_toolhive,
            controller: controller.map(Into::into),
            ..Live::default()
        };
        for (live, is_its) in [
            (live(true, Some("u")), true),
            (live(true, None), true),
            (live(true, Some("another")), false),
            (live(false, Some("u")), false),
        ] {
            assert_eq!(is_of(&live, "u"), is_its, "{live:?}");
        }
    }
}
