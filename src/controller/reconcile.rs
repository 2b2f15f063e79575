//! One look at one custom resource: what is there, what should be, the writes between them, the status.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use serde_json::Value;
use tokio::time::Instant;

use super::clock;
use super::decide::{self, Action, Look, Outcome, Scope, Step, applied, concerns};
use super::duel::Written;
use super::events::{Recorder, Severity};
use super::leader::Leadership;
use super::not_kept::NotKept;
use super::objects::{Object, ObjectKind, Settings};
use super::owned::{Live, Owned, Snapshot};
use super::queue::{Finished, Looked};
use super::status::{self, APPLY_FAILED, MANAGED_ELSEWHERE, READY};
use super::told::{Digest, Told};
use super::toolhives::Sightings;
use super::write::{self, Failure};
use crate::backoff::jitter;
use crate::cluster::{Cluster, CrKey};
use crate::metrics::{ControllerWrite, Metrics};

/// How soon to look again at a name that somebody else's object has: nothing tells when it is free.
const TAKEN: Duration = Duration::from_secs(30);
/// The same where ToolHive has it, which is meant to stay.
const TOOLHIVES: Duration = Duration::from_secs(300);
/// How soon to look again at an object that is being deleted.
const GOING: Duration = Duration::from_secs(5);
/// How long a resource cannot be carried out before it says so, where that may be the API server's trouble and over in a
/// moment. Longer than an API server waits for its store, and not as long as it waits for a webhook.
const PERSISTS: Duration = Duration::from_secs(9);

/// What looking at resources takes.
pub(super) struct Reconciler {
    pub(super) client: Client,
    pub(super) cluster: Cluster,
    pub(super) owned: Arc<Owned>,
    pub(super) settings: Settings,
    pub(super) scope: Scope,
    pub(super) leadership: Arc<Leadership>,
    pub(super) events: Recorder,
    pub(super) metrics: Arc<Metrics>,
    pub(super) not_kept: NotKept,
    pub(super) sightings: Sightings,
    pub(super) told: Told,
}

impl Reconciler {
    /// Looks at a resource, once; says what follows. `trouble_since`: when the first look began that failed, if one did, and
    /// none has succeeded since.
    pub(super) async fn look(&self, key: &CrKey, trouble_since: Option<Instant>) -> Looked {
        let began = Instant::now();
        let mut written = Written::default();
        let finished = match self.reconcile(key, trouble_since.unwrap_or(began), &mut written).await {
            Ok(None) => Finished::Settled,
            Ok(Some(pause)) => Finished::Again(pause),
            Err(Failure::Throttled(pause)) => {
                tracing::info!(resource = %key, seconds = pause.as_secs(), "the API server wants rest");
                Finished::Throttled(jitter(pause * 2))
            }
            // Who looks waits until this replica leads again, if it ever does.
            Err(Failure::NotLeading) => Finished::Again(Duration::ZERO),
            Err(Failure::Outdated(reason)) => {
                tracing::debug!(resource = %key, reason, "decided on what has changed meanwhile; once more");
                self.metrics.controller_outdated();
                Finished::Outdated
            }
            Err(Failure::Refused { reason, .. } | Failure::Unavailable(reason)) => {
                tracing::warn!(resource = %key, reason, "not as it should be; trying again later");
                Finished::Failed
            }
        };
        self.metrics.reconciled(key.kind, !matches!(finished, Finished::Failed | Finished::Outdated));
        Looked { finished, written, began }
    }

    async fn reconcile(
        &self,
        key: &CrKey,
        trouble_since: Instant,
        written: &mut Written,
    ) -> Result<Option<Duration>, Failure> {
        let Some(text) = self.cluster.whole(key) else {
            self.sightings.forget(key);
            self.told.forget(key);
            return Ok(None);
        };
        let mut cr: Value = parse(&text)?;
        if !concerns(&cr, self.scope) {
            return Ok(None);
        }
        // The objects first, the resource after them: a write is refused when its object has moved, so what is written is
        // made from a resource as new as the object, whoever else writes.
        let mut snapshot = self.owned.of(&key.namespace, &uid(&cr));
        let mut action = self.decide(key, &cr, &mut snapshot).await?;
        if !action.steps.is_empty() {
            let Some(fresh) = write::bounded(self.cluster.read_whole(&self.client, key)).await? else {
                return Ok(None);
            };
            if fresh != text {
                let before = uid(&cr);
                cr = parse(&fresh)?;
                if !concerns(&cr, self.scope) {
                    return Ok(None);
                }
                // Another resource of the name, with other objects.
                if uid(&cr) != before {
                    return Err(Failure::Outdated("it is another resource of the name".to_owned()));
                }
                action = self.decide(key, &cr, &mut snapshot).await?;
            }
        }
        let failure = self.carry_out(key, &cr, &action, &mut snapshot, written).await;
        let refused = match &failure {
            Err(error) => match error.said(trouble_since.elapsed() >= PERSISTS) {
                Some(said) => Some(said),
                None => return failure.map(|()| None),
            },
            Ok(()) => None,
        };
        if let Outcome::Refused { .. } = action.outcome {
            if let Some(what) = self.sightings.of(&self.client, &self.cluster, key, &cr, &snapshot).await? {
                action = action.left_to_toolhive(&what);
            }
        } else {
            self.sightings.forget(key);
        }
        let refused = refused.as_deref();
        self.tell(key, &cr, &action, refused).await?;
        self.write_status(key, &cr, &action, &snapshot, refused, written).await?;
        failure?;
        Ok(match &action.outcome {
            Outcome::Built { .. } | Outcome::Refused { .. } => None,
            Outcome::Elsewhere { of_toolhive: true, .. } => Some(jitter(TOOLHIVES)),
            Outcome::Elsewhere { .. } => Some(jitter(TAKEN)),
            Outcome::Waiting { .. } => Some(jitter(GOING)),
        })
    }

    /// Decides, and looks up what that takes.
    async fn decide(&self, key: &CrKey, cr: &Value, snapshot: &mut Snapshot) -> Result<Action, Failure> {
        loop {
            let Look { kind, name } = match decide::decide(key, cr, snapshot, &self.settings) {
                Ok(action) => return Ok(action),
                Err(look) => look,
            };
            // Each answer is one more place that is known, and a plan has few.
            match write::read(&self.client, &key.namespace, kind, &name).await? {
                Some(live) => drop(snapshot.objects.insert((kind, name), Arc::new(live))),
                None => drop(snapshot.absent.insert((kind, name))),
            }
        }
    }

    async fn carry_out(
        &self,
        key: &CrKey,
        cr: &Value,
        action: &Action,
        snapshot: &mut Snapshot,
        written: &mut Written,
    ) -> Result<(), Failure> {
        let mut done: Vec<(&'static str, String)> = Vec::new();
        let mut result = Ok(());
        for step in &action.steps {
            result = self.carry_out_one(key, step, snapshot, &mut done).await;
            if result.is_err() {
                break;
            }
            if let Step::Create(object) | Step::Apply { object, .. } = step {
                written.object(object.kind, object.name(), applied(object).unwrap_or_default());
            }
        }
        if !done.is_empty() {
            let note = sentence(&done);
            tracing::info!(resource = %key, note, "written");
            let reason = if done.iter().all(|(verb, _)| *verb == "created") { "Created" } else { "Updated" };
            self.events.publish(key, cr, Severity::Normal, reason, &note).await;
        }
        result
    }

    /// Before each write, with nothing else in between: what takes its time may outlast the lease.
    fn go_on(&self) -> Result<(), Failure> {
        if self.leadership.may_write() { Ok(()) } else { Err(Failure::NotLeading) }
    }

    async fn carry_out_one(
        &self,
        key: &CrKey,
        step: &Step,
        snapshot: &mut Snapshot,
        done: &mut Vec<(&'static str, String)>,
    ) -> Result<(), Failure> {
        self.go_on()?;
        let (client, namespace) = (&self.client, key.namespace.as_str());
        let (kind, name, verb) = match step {
            Step::Create(object) => {
                let live = write::apply(client, namespace, object, None).await?;
                self.keep(key, object.kind, object.name(), live, snapshot);
                (object.kind, object.name(), "created")
            }
            Step::Apply { object, live, hand_over } => {
                let mut live = Live::clone(live);
                if let Some(count) = hand_over {
                    live = write::hand_over(client, namespace, object, &live, *count).await?;
                    self.metrics.controller_write(object.kind.as_str(), ControllerWrite::HandOver);
                    self.go_on()?;
                }
                let live = match write::apply(client, namespace, object, Some(&live)).await {
                    Err(refused) => self.apply_after_claim(namespace, object, &live, refused).await?,
                    Ok(applied) => applied,
                };
                self.keep(key, object.kind, object.name(), live, snapshot);
                (object.kind, object.name(), "updated")
            }
            Step::Delete { kind, name, live } => {
                write::delete(client, namespace, *kind, name, live).await?;
                self.owned.forget(*kind, namespace, name, live);
                snapshot.objects.remove(&(*kind, name.clone()));
                (*kind, name.as_str(), "deleted")
            }
        };
        self.metrics.controller_write(
            kind.as_str(),
            match verb {
                "created" => ControllerWrite::Create,
                "updated" => ControllerWrite::Update,
                _ => ControllerWrite::Delete,
            },
        );
        done.push((verb, format!("{} {name}", kind.as_str())));
        Ok(())
    }

    /// Applies an object that was refused once more, where that was for what others wrote beside ours.
    async fn apply_after_claim(
        &self,
        namespace: &str,
        object: &Object,
        live: &Live,
        failure: Failure,
    ) -> Result<Live, Failure> {
        let refused = match &failure {
            Failure::Refused { fields, .. } if !fields.is_empty() => fields,
            _ => return Err(failure),
        };
        let Some(fields) = write::rivals(&self.client, namespace, object, refused).await? else {
            return Err(failure);
        };
        self.go_on()?;
        let live = write::claim(&self.client, namespace, object, live, &fields).await?;
        self.metrics.controller_write(object.kind.as_str(), ControllerWrite::Claim);
        self.go_on()?;
        write::apply(&self.client, namespace, object, Some(&live)).await
    }

    fn keep(&self, key: &CrKey, kind: ObjectKind, name: &str, live: Live, snapshot: &mut Snapshot) {
        self.owned.take_over(kind, &key.namespace, name, live.clone());
        snapshot.objects.insert((kind, name.to_owned()), Arc::new(live));
    }

    /// An Event for what the status is about to say for the first time, and for what is asked for in vain.
    async fn tell(&self, key: &CrKey, cr: &Value, action: &Action, refused: Option<&str>) -> Result<(), Failure> {
        let news = match (&action.outcome, refused) {
            (Outcome::Refused { reason, message }, _) => Some((READY, reason.as_str(), message.as_str())),
            (Outcome::Elsewhere { message, .. }, _) => Some((MANAGED_ELSEWHERE, MANAGED_ELSEWHERE, message.as_str())),
            (_, Some(message)) => Some((READY, APPLY_FAILED, message)),
            _ => None,
        };
        let active = action.conditions.iter().filter(|condition| condition.active);
        let active = active.map(|condition| (condition.kind, condition.reason, condition.message.as_str()));
        let news = news.into_iter().chain(active);
        let news = news.filter(|(kind, reason, message)| status::is_news(cr, kind, reason, message));
        let news = news.map(|(_, reason, message)| (reason, message));
        let warnings = action.warnings.iter().filter(|_| !action.is_of_toolhive());
        let warnings = warnings.map(|warning| (warning.reason, warning.message.as_str()));
        let all = news.chain(warnings).map(|(reason, message)| (Digest::new(cr, reason, message), reason, message));
        let all: Vec<_> = all.collect();
        self.told.keep(key, &all.iter().map(|(digest, ..)| *digest).collect());
        for (digest, reason, message) in all {
            if self.told.is_told(key, digest) {
                continue;
            }
            self.go_on()?;
            self.events.publish(key, cr, Severity::Warning, reason, message).await;
            self.told.add(key, digest);
        }
        Ok(())
    }

    async fn write_status(
        &self,
        key: &CrKey,
        cr: &Value,
        action: &Action,
        snapshot: &Snapshot,
        failure: Option<&str>,
        written: &mut Written,
    ) -> Result<(), Failure> {
        let mut not_kept = self.not_kept.of(key.kind, Instant::now());
        let now = clock::now();
        let (wanted, answer) = loop {
            let known = status::Known { kind: key.kind, cr, action, snapshot, failure, not_kept: &not_kept, now: &now };
            let Some(wanted) = status::change(&known) else { return Ok(()) };
            self.go_on()?;
            match write::status(&self.client, key, cr, &wanted).await {
                Ok(answer) => break (wanted, answer),
                Err(Failure::Refused { reason, fields }) => {
                    let lost = self.not_kept.learn_refused(key.kind, &wanted, &reason, Instant::now());
                    if lost.is_empty() {
                        return Err(Failure::Refused { reason, fields });
                    }
                    // Once more without them, of which there are few.
                    not_kept.extend(lost);
                }
                Err(failure) => return Err(failure),
            }
        };
        self.metrics.controller_write(key.kind.as_str(), ControllerWrite::Status);
        // What was not kept, nobody has changed back.
        if self.not_kept.learn(key.kind, &wanted, &answer, Instant::now()) {
            written.status(&wanted);
        }
        self.sightings.renew(key, &answer);
        self.cluster.take_over(key, answer);
        Ok(())
    }
}

fn parse(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::Unavailable(format!("the resource cannot be read: {error}")))
}

fn uid(cr: &Value) -> String {
    cr.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// As in `created ConfigMap a, Service b; updated Deployment c`.
fn sentence(done: &[(&'static str, String)]) -> String {
    let mut parts: Vec<(&str, Vec<&str>)> = Vec::new();
    for (verb, what) in done {
        match parts.last_mut() {
            Some((last, list)) if last == verb => list.push(what),
            _ => parts.push((verb, vec![what])),
        }
    }
    parts.iter().map(|(verb, list)| format!("{verb} {}", list.join(", "))).collect::<Vec<_>>().join("; ")
}
