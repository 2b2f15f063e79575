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

impl Action {
    /// Whether the resource is ToolHive's, and its status with it.
    pub(super) fn is_of_toolhive(&self) -> bool {
        matches!(self.outcome, Outcome::Elsewhere { of_toolhive: true, .. })
    }
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
    let deployment = snapshot.workload(ObjectKind::Deployment, &key.name, &meta.uid);
    let stateful_set = snapshot.workload(ObjectKind::StatefulSet, &key.name, &meta.uid);
    let workloads: Vec<&Live> = [deployment, stateful_set].into_iter().flatten().collect();
    let settings = remembered(settings, key.kind, deployment, &spec_hash);
    let count = |live: Option<&Live>| live.and_then(|live| live.workload.count).unwrap_or(0);
    let facts = Facts {
        stamp: stamp_of(&workloads, meta.generation, &spec_hash),
        replicas: count(deployment),
        backends: count(stateful_set),
    };
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
    let (conditions, warnings) = (built.conditions, built.warnings);
    let mut steps = Vec::new();
    let mut wanted = Vec::new();
    let mut waiting = None;
    for mut object in built.objects {
        let name = object.name().to_owned();
        finish(&mut object, key.kind, &spec_hash, &settings);
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
        let own = live.controller.as_deref() == Some(&meta.uid);
        let of_name = live.owner.as_ref().is_some_and(|owner| owner.kind == key.kind && owner.name == key.name);
        let former = of_name && !own;
        if live.of_toolhive || !(own || former || live.deleting) {
            // Nothing else is touched either: half of what belongs together is nothing that works.
            let message = elsewhere(&what, live);
            let outcome = Outcome::Elsewhere { message, of_toolhive: live.of_toolhive };
            // Of ToolHive's resources no condition but that is written, and an Event of one would be news each time.
            let conditions = if live.of_toolhive { Vec::new() } else { conditions };
            return Ok(Action { steps: Vec::new(), outcome, conditions, warnings });
        }
        if former {
            waiting.get_or_insert(format!(
                "{what} is of an earlier resource of this name, and Kubernetes removes it; it is made anew when it is gone"
            ));
        } else if live.deleting {
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

/// The settings with the image that the workload was built with, and how it is pulled, for as long as its spec says the same:
/// another default in another version of Berth restarts nothing.
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
        // Goes with the image: without the one, the other is forgotten, too.
        let own = own.filter(|live| live.owns_annotation(names::DEFAULT_PULL_POLICY));
        if let Some(policy) = own.and_then(|live| live.default_pull_policy.as_deref()) {
            settings.image_pull_policy = Some(policy).filter(|policy| !policy.is_empty()).map(str::to_owned);
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
fn finish(object: &mut Object, kind: CrKind, spec_hash: &str, settings: &Settings) {
    prune(&mut object.json);
    let mut memory = Vec::new();
    if matches!(object.kind, ObjectKind::Deployment | ObjectKind::StatefulSet) {
        memory.push((STAMPED_SPEC, spec_hash.to_owned()));
    }
    if object.kind == ObjectKind::Deployment {
        let image = match kind {
            CrKind::McpServer => &settings.proxy_image,
            CrKind::VirtualMcpServer => &settings.vmcp_image,
        };
        memory.push((names::DEFAULT_IMAGE, image.clone()));
        memory.push((names::DEFAULT_PULL_POLICY, settings.image_pull_policy.clone().unwrap_or_default()));
    }
    for (name, value) in memory {
        annotate(object, name, value);
    }
    let hash = derived::digest(&object.json);
    annotate(object, names::APPLIED, hash);
}

/// The hash of an object that is finished.
pub(super) fn applied(object: &Object) -> Option<&str> {
    object.json.pointer("/metadata/annotations")?.get(names::APPLIED)?.as_str()
}

fn annotate(object: &mut Object, name: &str, value: String) {
    if let Some(metadata) = object.json.get_mut("metadata").and_then(Value::as_object_mut) {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(name.to_owned(), Value::String(value));
        }
    }
}

/// Removes nulls and empty lists of items with keys: to an API server they say nothing, and nobody owns them.
fn prune(value: &mut Value) {
    let nothing = |key: &str, value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty() && objects::has_keys(key),
        _ => false,
    };
    match value {
        Value::Object(map) => {
            map.retain(|key, value| !nothing(key, value));
            map.values_mut().for_each(prune);
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

/// What it takes to make an object that is there what it should be; nothing when it is.
fn change(object: Object, live: &Arc<Live>) -> Option<Step> {
    let fields = live.fields();
    let same = applied(&object) == live.applied.as_deref();
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
    /// The workload of a kind that a resource owns, under the name that it has in a plan.
    pub(super) fn workload(&self, kind: ObjectKind, cr: &str, uid: &str) -> Option<&Live> {
        let name = match kind {
            ObjectKind::StatefulSet => derived::stateful_set(cr),
            _ => derived::deployment(cr),
        };
        self.objects.get(&(kind, name)).map(|live| &**live).filter(|live| live.controller.as_deref() == Some(uid))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::policy::ControllerRef;

    const UID: &str = "u-1";

    fn key() -> CrKey {
        CrKey { kind: CrKind::McpServer, namespace: "ns".to_owned(), name: "foo".to_owned() }
    }

    fn cr(generation: i64, spec: Value) -> Value {
        let mut cr = json!({
            "apiVersion": "toolhive.stacklok.dev/v1beta1", "kind": "MCPServer",
            "metadata": {"name": "foo", "namespace": "ns", "uid": UID, "generation": generation,
                "annotations": {"berth.dev/class": "berth"}},
            "spec": {"image": "i:1", "transport": "streamable-http"},
        });
        for (key, value) in spec.as_object().into_iter().flatten() {
            cr["spec"][key] = value.clone();
        }
        cr
    }

    fn settings() -> Settings {
        Settings {
            proxy_image: "proxy:1".to_owned(),
            vmcp_image: "vmcp:1".to_owned(),
            image_pull_policy: None,
            cluster_domain: "cluster.local".to_owned(),
            default_storage: None,
        }
    }

    /// Looks everything up in an empty cluster.
    fn decided(cr: &Value, snapshot: &mut Snapshot, settings: &Settings) -> Action {
        for _ in 0..20 {
            match decide(&key(), cr, snapshot, settings) {
                Ok(action) => return action,
                Err(look) => snapshot.absent.insert((look.kind, look.name)),
            };
        }
        panic!("it looks for ever");
    }

    /// What an API server would hold after the steps.
    fn carried_out(action: &Action) -> Snapshot {
        let mut snapshot = Snapshot { absent: BTreeSet::new(), ..Snapshot::default() };
        for step in &action.steps {
            if let Step::Create(object) | Step::Apply { object, .. } = step {
                let live = Live::applied(&object.json);
                snapshot.objects.insert((object.kind, object.name().to_owned()), Arc::new(live));
            }
        }
        snapshot
    }

    fn live(snapshot: &mut Snapshot, kind: ObjectKind) -> &mut Live {
        let mut of_kind = snapshot.objects.iter_mut().filter(|((object, _), _)| *object == kind);
        Arc::make_mut(of_kind.next().unwrap().1)
    }

    #[test]
    fn what_was_applied_is_left_alone() {
        let cr = cr(1, json!({"replicas": 2, "sessionStorage": {"provider": "redis", "address": "r:6379"}}));
        let action = decided(&cr, &mut Snapshot::default(), &settings());
        assert_eq!(action.steps.len(), 6, "{:?}", action.steps);
        let mut snapshot = carried_out(&action);
        assert_eq!(decided(&cr, &mut snapshot, &settings()).steps, []);
        // Another version of Berth, with another default.
        let newer = Settings { proxy_image: "proxy:2".to_owned(), ..settings() };
        assert_eq!(decided(&cr, &mut snapshot, &newer).steps, []);
        let policy = |policy: Option<&str>| Settings { image_pull_policy: policy.map(str::to_owned), ..settings() };
        assert_eq!(decided(&cr, &mut snapshot, &policy(Some("Always"))).steps, []);
        let mut pulled = carried_out(&decided(&cr, &mut Snapshot::default(), &policy(Some("Always"))));
        for other in [None, Some("Never"), Some("Always")] {
            assert_eq!(decided(&cr, &mut pulled, &policy(other)).steps, [], "{other:?}");
        }
    }

    #[test]
    fn a_new_spec_or_a_memory_that_is_taken_away_brings_the_pull_policy_that_is_set() {
        let always = Settings { image_pull_policy: Some("Always".to_owned()), ..settings() };
        let of_deployment = |action: &Action| {
            let object = action.steps.iter().find_map(|step| match step {
                Step::Create(object) | Step::Apply { object, .. } if object.kind == ObjectKind::Deployment => {
                    Some(object)
                }
                _ => None,
            });
            object.expect("the Deployment changes").json["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"]
                .clone()
        };
        let built = decided(&cr(1, json!({})), &mut Snapshot::default(), &settings());
        assert_eq!(of_deployment(&built), Value::Null);
        let mut snapshot = carried_out(&built);
        let changed = decided(&cr(2, json!({"image": "i:2"})), &mut snapshot, &always);
        assert_eq!(of_deployment(&changed), "Always");
        for annotation in ["default-image", "default-pull-policy"] {
            let mut snapshot = carried_out(&built);
            live(&mut snapshot, ObjectKind::Deployment)
                .disown("/f:metadata/f:annotations", &format!("f:berth.dev/{annotation}"));
            assert_eq!(of_deployment(&decided(&cr(1, json!({})), &mut snapshot, &always)), "Always", "{annotation}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_empty_settles(
            pod in any_of(json!({
                "volumes": [], "initContainers": [], "imagePullSecrets": [], "hostAliases": [], "resourceClaims": [],
                "topologySpreadConstraints": [], "tolerations": [], "nodeSelector": {}, "affinity": {}, "securityContext": {},
            })),
            own in any_of(empty_container()),
            beside in any_of(empty_container()),
        ) {
            let mut pod = pod;
            let named = |name: &str, container: Value| {
                let mut container = container;
                container["name"] = json!(name);
                container
            };
            pod["containers"] = json!([named("mcp", own), named("beside", beside)]);
            let cr = cr(1, json!({"podTemplateSpec": {"spec": pod}}));
            let action = decided(&cr, &mut Snapshot::default(), &settings());
            proptest::prop_assert_eq!(action.steps.len(), 6);
            proptest::prop_assert_eq!(decided(&cr, &mut carried_out(&action), &settings()).steps, []);
        }
    }

    fn empty_container() -> Value {
        json!({
            "env": [], "ports": [], "volumeMounts": [], "volumeDevices": [], "args": [], "envFrom": [], "lifecycle": {},
            "resources": {"limits": {}, "claims": []}, "securityContext": {"capabilities": {"add": []}}, "workingDir": "",
        })
    }

    /// Some of these fields.
    fn any_of(fields: Value) -> impl proptest::strategy::Strategy<Value = Value> {
        use proptest::strategy::Strategy;
        let fields: Vec<_> = fields.as_object().unwrap().clone().into_iter().collect();
        proptest::sample::subsequence(fields.clone(), 0..=fields.len()).prop_map(|some| some.into_iter().collect())
    }

    #[test]
    fn a_default_image_that_another_wrote_is_not_remembered() {
        let cr = cr(1, json!({}));
        let mut snapshot = carried_out(&decided(&cr, &mut Snapshot::default(), &settings()));
        let deployment = live(&mut snapshot, ObjectKind::Deployment);
        deployment.default_image = Some("evil:1".into());
        deployment.disown("/f:metadata/f:annotations", "f:berth.dev/default-image");
        let action = decided(&cr, &mut snapshot, &settings());
        let Some(Step::Apply { object, .. }) = action.steps.first() else { panic!("{:?}", action.steps) };
        let image = object.json.pointer("/spec/template/spec/containers/0/image");
        assert_eq!((object.kind, image), (ObjectKind::Deployment, Some(&json!("proxy:1"))));
    }

    #[test]
    fn a_count_is_handed_over_only_where_nobody_else_holds_it() {
        let counted = cr(1, json!({"replicas": 1}));
        let mut snapshot = carried_out(&decided(&counted, &mut Snapshot::default(), &settings()));
        live(&mut snapshot, ObjectKind::Deployment).workload.count = Some(7);
        let hand_over = |snapshot: &mut Snapshot| {
            let action = decided(&cr(2, json!({})), snapshot, &settings());
            let of_deployment = action.steps.into_iter().find_map(|step| match step {
                Step::Apply { object, hand_over, .. } if object.kind == ObjectKind::Deployment => Some(hand_over),
                _ => None,
            });
            of_deployment.expect("the Deployment changes")
        };
        assert_eq!(hand_over(&mut snapshot), Some(7), "the live count, not the one that was asked for");
        live(&mut snapshot, ObjectKind::Deployment).count_is_shared = true;
        assert_eq!(hand_over(&mut snapshot), None);
    }

    #[test]
    fn stamps() {
        let workload = |spec: &str, stamp: i64| Live {
            stamped_spec: Some(spec.into()),
            workload: crate::controller::owned::Workload { stamp: Some(stamp), ..Default::default() },
            ..Live::default()
        };
        let of = |workloads: &[Live], generation| stamp_of(&workloads.iter().collect::<Vec<_>>(), generation, "new");
        assert_eq!(of(&[], 4), 4, "nothing is there");
        assert_eq!(of(&[workload("new", 2), workload("new", 2)], 4), 2, "only counts changed");
        assert_eq!(of(&[workload("old", 2), workload("old", 2)], 4), 4, "the spec changed");
        assert_eq!(of(&[workload("new", 2)], 4), 2, "the other one was lost");
        assert_eq!(of(&[workload("new", 4), workload("old", 2)], 5), 4, "half of a change was carried out");
        assert_eq!(of(&[workload("new", 2), workload("other", 4)], 5), 5, "half of a change was taken back");
        assert_eq!(of(&[workload("new", 999)], 4), 4, "a stray comes down");
        assert_eq!(of(&[workload("old", 999)], 4), 4);
    }

    #[test]
    fn nothing_is_touched_where_one_object_is_anothers() {
        let cr = cr(1, json!({}));
        let whole = carried_out(&decided(&cr, &mut Snapshot::default(), &settings()));
        for (others, toolhives) in [(true, false), (false, true)] {
            let mut snapshot = whole.clone();
            live(&mut snapshot, ObjectKind::ConfigMap).applied = None;
            let deployment = live(&mut snapshot, ObjectKind::Deployment);
            deployment.of_toolhive = toolhives;
            if others {
                deployment.controller = Some("u-2".into());
                deployment.owner = None;
            }
            let action = decided(&cr, &mut snapshot, &settings());
            assert_eq!(action.steps, []);
            assert!(matches!(action.outcome, Outcome::Elsewhere { of_toolhive, .. } if of_toolhive == toolhives));
            assert_eq!(action.conditions.is_empty(), toolhives, "{:?}", action.conditions);
        }
    }

    #[test]
    fn what_an_earlier_resource_of_the_name_left_is_waited_for() {
        let cr = cr(1, json!({}));
        let mut snapshot = carried_out(&decided(&cr, &mut Snapshot::default(), &settings()));
        let service = live(&mut snapshot, ObjectKind::Service);
        service.controller = Some("u-0".into());
        service.owner = Some(ControllerRef { kind: CrKind::McpServer, name: "foo".to_owned(), uid: "u-0".to_owned() });
        let action = decided(&cr, &mut snapshot, &settings());
        assert_eq!(action.steps, []);
        assert!(matches!(&action.outcome, Outcome::Waiting { message } if message.contains("an earlier resource")));
        if let Some(owner) = &mut live(&mut snapshot, ObjectKind::Service).owner {
            owner.name = "bar".to_owned();
        }
        assert!(matches!(decided(&cr, &mut snapshot, &settings()).outcome, Outcome::Elsewhere { .. }));
    }

    #[test]
    fn what_berth_does_not_do_takes_away_what_runs_without_it() {
        let built = carried_out(&decided(&cr(1, json!({})), &mut Snapshot::default(), &settings()));
        let guarded = cr(2, json!({"oidcConfig": {"type": "kubernetes"}}));
        let action = decided(&guarded, &mut built.clone(), &settings());
        assert_eq!(action.steps.len(), 6, "{:?}", action.steps);
        assert!(action.steps.iter().all(|step| matches!(step, Step::Delete { .. })));
        let unreadable = cr(2, json!({"podTemplateSpec": "x"}));
        assert_eq!(decided(&unreadable, &mut built.clone(), &settings()).steps, []);
    }

    #[test]
    fn who_asks_for_another_is_never_ours() {
        let class = |class: Value| json!({"metadata": {"annotations": {"berth.dev/class": class}}});
        for (cr, annotated, all) in [
            (class(json!("berth")), true, true),
            (class(json!("other")), false, false),
            (class(json!(7)), false, false),
            (json!({"metadata": {}}), false, true),
            (json!({"metadata": "x"}), false, true),
            (
                json!({"metadata": {"deletionTimestamp": "t", "annotations": {"berth.dev/class": "berth"}}}),
                false,
                false,
            ),
        ] {
            assert_eq!((concerns(&cr, Scope::Annotated), concerns(&cr, Scope::All)), (annotated, all), "{cr}");
        }
    }
}
