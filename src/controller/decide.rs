//! From a custom resource, and what is there for it, to what is to be done. Pure.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::objects::{self, Condition, Facts, Object, ObjectKind, Plan, Reason, Settings, Warning};
use super::owned::{FIELD_MANAGER, Live, Snapshot, covers};
use crate::admission::stamp::{self, Decision};
use crate::cluster::CrKey;
use crate::policy::names::{self, STAMPED_SPEC};
use crate::policy::{CrKind, Metadata, derived};

/// Which custom resources are built from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Those that ask for it by the annotation `berth.dev/class: berth`.
    #[default]
    Annotated,
    /// All but those that ask for somebody else.
    All,
}

/// What is to be done about a custom resource.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Action {
    /// In this order.
    pub(super) steps: Vec<Step>,
    pub(super) outcome: Outcome,
    /// Conditions besides `Ready` and `ManagedElsewhere`.
    pub(super) conditions: Vec<Condition>,
    /// What was asked for and is not done.
    pub(super) warnings: Vec<Warning>,
}

/// Where a custom resource stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// Everything is there, or will be after the steps.
    Built { url: String },
    /// Nothing may be built.
    Refused { reason: Reason, message: String },
    /// An object of a name that is needed is somebody else's.
    Elsewhere { message: String, of_toolhive: bool },
    /// An object of a name that is needed is being deleted.
    Waiting { message: String },
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Apply an object that is not there.
    Create(Object),
    /// Apply an object, if it is still the one that was looked at.
    Apply {
        object: Object,
        live: Arc<Live>,
        /// The count that another field manager has to hold before ours lets go of it: a field that nobody holds any
        /// more goes, and the API server puts 1 in its place.
        hand_over: Option<i64>,
    },
    /// Delete an object, if it is still the one that was looked at.
    Delete { kind: ObjectKind, name: String, live: Arc<Live> },
}

/// Something has to be looked up in the API server first, and added to the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) kind: ObjectKind,
    pub(super) name: String,
}

/// Whether a custom resource is the controller's, and is to stay.
pub(super) fn concerns(cr: &Value, scope: Scope) -> bool {
    let meta = metadata(cr);
    let class = meta.annotation(names::CLASS).map(|class| class.as_str().unwrap_or_default());
    let ours = match scope {
        Scope::Annotated => class == Some(names::CLASS_BERTH),
        Scope::All => class.is_none_or(|class| class == names::CLASS_BERTH),
    };
    ours && !meta.is_deleting()
}

/// What of the metadata the policy reads.
pub(super) fn metadata(cr: &Value) -> Metadata {
    cr.get("metadata").and_then(|metadata| Metadata::deserialize(metadata).ok()).unwrap_or_default()
}

/// Decides what to do.
///
/// # Errors
/// The [`Look`] without which nothing can be decided.
pub(super) fn decide(key: &CrKey, cr: &Value, snapshot: &Snapshot, settings: &Settings) -> Result<Action, Look> {
    let meta = metadata(cr);
    let spec_hash = objects::spec_hash(cr);
    let deployment = snapshot.workload(ObjectKind::Deployment, &meta.uid);
    let stateful_set = snapshot.workload(ObjectKind::StatefulSet, &meta.uid);
    let workloads: Vec<&Live> = [deployment, stateful_set].into_iter().flatten().collect();
    let settings = remembered(settings, key.kind, deployment, &spec_hash);
    let facts = Facts { stamp: stamp_of(&workloads, meta.generation, &spec_hash) };
    let built = match objects::plan(cr, key.kind, &settings, &facts) {
        Plan::Build(built) => built,
        Plan::Nothing { reason, message, conditions } => {
            // What runs without the guard that is asked for must not run on; what cannot be read may be a slip.
            let steps = match reason {
                Reason::UnsupportedField | Reason::TransportUnsupported => deletions(snapshot, &meta.uid, &[]),
                Reason::InvalidSpec => Vec::new(),
            };
            let outcome = Outcome::Refused { reason, message };
            return Ok(Action { steps, outcome, conditions, warnings: Vec::new() });
        }
    };
    let image = match key.kind {
        CrKind::McpServer => &settings.proxy_image,
        CrKind::VirtualMcpServer => &settings.vmcp_image,
    };
    let (conditions, warnings) = (built.conditions, built.warnings);
    let mut steps = Vec::new();
    let mut wanted = Vec::new();
    let mut waiting = None;
    for mut object in built.objects {
        let name = object.name().to_owned();
        finish(&mut object, &spec_hash, image);
        wanted.push((object.kind, name.clone()));
        let place = (object.kind, name);
        let Some(live) = snapshot.objects.get(&place) else {
            if !snapshot.absent.contains(&place) {
                return Err(Look { kind: place.0, name: place.1 });
            }
            steps.push(Step::Create(object));
            continue;
        };
        let what = format!("{} {}", place.0.as_str(), place.1);
        if live.of_toolhive || (live.controller.as_deref() != Some(&meta.uid) && !live.deleting) {
            // Nothing else is touched either: half of what belongs together is nothing that works.
            let message = elsewhere(&what, live);
            let outcome = Outcome::Elsewhere { message, of_toolhive: live.of_toolhive };
            return Ok(Action { steps: Vec::new(), outcome, conditions, warnings });
        }
        if live.deleting {
            waiting.get_or_insert(format!("{what} is being deleted; it is made anew when it is gone"));
        } else if let Some(step) = change(object, live) {
            steps.push(step);
        }
    }
    if let Some(message) = waiting {
        return Ok(Action { steps: Vec::new(), outcome: Outcome::Waiting { message }, conditions, warnings });
    }
    steps.extend(deletions(snapshot, &meta.uid, &wanted));
    Ok(Action { steps, outcome: Outcome::Built { url: built.url }, conditions, warnings })
}

fn elsewhere(what: &str, live: &Live) -> String {
    if live.of_toolhive {
        return format!(
            "{what} is ToolHive's ({live}); to move the server over, take ToolHive's operator away and delete what it made, as \
             the documentation says"
        );
    }
    format!(
        "{what} exists and belongs to somebody else ({live}); rename it, or the resource, and nothing of it is touched"
    )
}

/// The settings with the image that the workload was built with, for as long as its spec says the same: another default
/// in another version of Berth restarts nothing.
fn remembered(settings: &Settings, kind: CrKind, deployment: Option<&Live>, spec_hash: &str) -> Settings {
    let mut settings = settings.clone();
    let same = deployment.filter(|live| live.stamped_spec.as_deref() == Some(spec_hash));
    // An image that somebody else wrote there is none that Berth remembers.
    let own = same.filter(|live| live.owns_annotation(names::DEFAULT_IMAGE));
    if let Some(image) = own.and_then(|live| live.default_image.as_deref()) {
        match kind {
            CrKind::McpServer => image.clone_into(&mut settings.proxy_image),
            CrKind::VirtualMcpServer => image.clone_into(&mut settings.vmcp_image),
        }
    }
    settings
}

/// The stamp that both workloads of an MCPServer shall carry.
///
/// A workload that was stamped for this very spec keeps its stamp, so that scaling moves none; any other spec is of the
/// resource's generation. `workloads` are the resource's own, so a recreated resource starts anew.
fn stamp_of(workloads: &[&Live], generation: i64, spec_hash: &str) -> i64 {
    let generation = generation.max(1);
    // One above the generation is a stray, and comes down: the resource was read after the workloads.
    let stamp = |live: &&Live| live.workload.stamp.map(|stamp| stamp.min(generation));
    let highest = workloads.iter().filter_map(stamp).max();
    let same = workloads.iter().filter(|live| live.stamped_spec.as_deref() == Some(spec_hash)).filter_map(stamp).max();
    // Half of a change may have been carried out, and taken back since: then one is the old spec's, the other higher.
    let given = same.filter(|same| Some(*same) >= highest).unwrap_or(generation);
    match stamp::of_mcpserver(Some(given), highest, generation) {
        Decision::Stamp(stamp) => stamp,
        // Not reached: what is given is the highest, or the generation, which bounds it.
        Decision::Stale { live } => live,
    }
}

/// Adds what the controller remembers on the object itself.
fn finish(object: &mut Object, spec_hash: &str, image: &str) {
    prune(&mut object.json);
    let mut memory = Vec::new();
    if matches!(object.kind, ObjectKind::Deployment | ObjectKind::StatefulSet) {
        memory.push((STAMPED_SPEC, spec_hash.to_owned()));
    }
    if object.kind == ObjectKind::Deployment {
        memory.push((names::DEFAULT_IMAGE, image.to_owned()));
    }
    for (name, value) in memory {
        annotate(object, name, value);
    }
    let hash = derived::digest(&object.json);
    annotate(object, names::APPLIED, hash);
}

fn annotate(object: &mut Object, name: &str, value: String) {
    if let Some(metadata) = object.json.get_mut("metadata").and_then(Value::as_object_mut) {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(name.to_owned(), Value::String(value));
        }
    }
}

/// Removes nulls: to an API server they say nothing, and nobody owns them.
fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(prune);
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

/// What it takes to make an object that is there what it should be; nothing when it is.
fn change(object: Object, live: &Arc<Live>) -> Option<Step> {
    let fields = live.fields();
    let applied = object.json.pointer("/metadata/annotations").and_then(|annotations| annotations.get(names::APPLIED));
    let same = applied.and_then(Value::as_str) == live.applied.as_deref();
    if same && covers(&fields, &object.json) {
        return None;
    }
    let lets_go = fields.pointer("/f:spec/f:replicas").is_some() && object.json.pointer("/spec/replicas").is_none();
    let hand_over = live.workload.count.filter(|_| lets_go && !live.count_is_shared);
    Some(Step::Apply { object, live: Arc::clone(live), hand_over })
}

/// Deletes what the resource has, and is not wanted any more; never what ToolHive writes.
fn deletions(snapshot: &Snapshot, uid: &str, wanted: &[(ObjectKind, String)]) -> Vec<Step> {
    let own = |live: &Live| live.controller.as_deref() == Some(uid) && !live.of_toolhive && !live.deleting;
    // Only what was applied by this controller: whatever else has the resource as its owner is another's work.
    let own = |live: &Live| own(live) && live.managers.iter().any(|manager| &**manager == FIELD_MANAGER);
    let unwanted = snapshot.objects.iter().filter(|(place, live)| !wanted.contains(place) && own(live));
    let delete = |((kind, name), live): (&(ObjectKind, String), &Arc<Live>)| Step::Delete {
        kind: *kind,
        name: name.clone(),
        live: Arc::clone(live),
    };
    unwanted.map(delete).collect()
}

impl Snapshot {
    /// The workload of a kind that a resource owns.
    pub(super) fn workload(&self, kind: ObjectKind, uid: &str) -> Option<&Live> {
        let mut of_kind = self.objects.iter().filter(|((object, _), _)| *object == kind).map(|(_, live)| &**live);
        of_kind.find(|live| live.controller.as_deref() == Some(uid))
    }
}
