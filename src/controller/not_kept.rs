//! Fields of the status that the installed definitions do not keep, as the answers to writes show. Pure.
//!
//! Another's definition may lack some: the API server refuses a status with one as a whole, or, where another version of the
//! definition has it, drops it, and it would be written for ever. The definition may also be replaced while Berth runs, so
//! what was not kept is tried again from time to time.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::status;
use crate::policy::CrKind;

/// How long a field is left out at most.
const LONGEST: Duration = Duration::from_secs(300);

/// What is known of each kind's definition.
#[derive(Debug)]
pub(super) struct NotKept {
    lost: Mutex<HashMap<CrKind, Lost>>,
    again: Duration,
}

#[derive(Debug)]
struct Lost {
    fields: BTreeSet<&'static str>,
    tried: Instant,
}

impl NotKept {
    /// Nothing yet. Fields are tried again each time that everything is looked at, if that is often.
    pub(super) fn new(resync: Option<Duration>) -> Self {
        Self { lost: Mutex::default(), again: resync.map_or(LONGEST, |resync| resync.min(LONGEST)) }
    }

    /// What to leave out of a status of this kind. Nothing when it is time to try: who writes next finds out for all.
    pub(super) fn of(&self, kind: CrKind, now: Instant) -> BTreeSet<&'static str> {
        let all = self.lock();
        let lost = all.get(&kind).filter(|lost| now.duration_since(lost.tried) < self.again);
        lost.map(|lost| lost.fields.clone()).unwrap_or_default()
    }

    /// Takes note of the answer to a status that was sent; says whether everything of it was kept.
    pub(super) fn learn(&self, kind: CrKind, sent: &Value, answer: &Value, now: Instant) -> bool {
        let kept = |field: &str| answer.get("status").is_some_and(|status| status.get(field).is_some());
        let lost: BTreeSet<_> = sent_of(sent).filter(|field| !kept(field)).collect();
        let everything = lost.is_empty();
        if everything && sent_of(sent).count() == status::FIELDS.len() {
            self.lock().remove(&kind);
        }
        self.add(kind, sent, lost, now);
        everything
    }

    /// The same of a refusal: gives the fields that it is for. Nothing is applied of what has a field that the definition does
    /// not have.
    pub(super) fn learn_refused(
        &self,
        kind: CrKind,
        sent: &Value,
        reason: &str,
        now: Instant,
    ) -> BTreeSet<&'static str> {
        let unknown = |field: &str| reason.contains(&format!(".status.{field}: field not declared in schema"));
        let lost: BTreeSet<_> = sent_of(sent).filter(|field| unknown(field)).collect();
        self.add(kind, sent, lost.clone(), now);
        lost
    }

    /// What is lost besides what was left out this time.
    fn add(&self, kind: CrKind, sent: &Value, lost: BTreeSet<&'static str>, now: Instant) {
        if !lost.is_empty() {
            let mut all = self.lock();
            let before = all.get(&kind).map(|before| before.fields.clone()).unwrap_or_default();
            let left_out = before.into_iter().filter(|field| sent.get(field).is_none());
            all.insert(kind, Lost { fields: lost.into_iter().chain(left_out).collect(), tried: now });
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CrKind, Lost>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sent_of(status: &Value) -> impl Iterator<Item = &'static str> {
    status::FIELDS.into_iter().filter(|field| status.get(field).is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    const KIND: CrKind = CrKind::McpServer;

    fn status(without: &[&str]) -> Value {
        let fields = status::FIELDS.into_iter().filter(|field| !without.contains(field));
        Value::Object(fields.map(|field| (field.to_owned(), json!(0))).collect::<Map<_, _>>())
    }

    #[test]
    fn a_definition_is_tried_again_and_unlearned_when_it_keeps_all() {
        let (not_kept, now) = (NotKept::new(None), Instant::now());
        let answer = |without: &[&str]| json!({"status": status(without)});
        let lacking = ["replicas", "selector"];
        assert!(!not_kept.learn(KIND, &status(&[]), &answer(&lacking), now));
        assert_eq!(not_kept.of(KIND, now), BTreeSet::from(lacking));
        assert_eq!(not_kept.of(CrKind::VirtualMcpServer, now), BTreeSet::new());
        // A write without them says nothing about them.
        assert!(not_kept.learn(KIND, &status(&lacking), &answer(&lacking), now));
        assert_eq!(not_kept.of(KIND, now), BTreeSet::from(lacking));

        let later = now + LONGEST;
        assert_eq!(not_kept.of(KIND, later), BTreeSet::new(), "it is tried");
        assert!(!not_kept.learn(KIND, &status(&[]), &answer(&["selector"]), later));
        assert_eq!(not_kept.of(KIND, later), BTreeSet::from(["selector"]), "another definition");
        assert!(not_kept.learn(KIND, &status(&[]), &answer(&[]), later));
        assert_eq!(not_kept.of(KIND, later), BTreeSet::new());
    }

    #[test]
    fn a_refusal_names_what_is_not_kept() {
        let (not_kept, now) = (NotKept::new(None), Instant::now());
        let reason = "failed to create typed patch object (ns/foo; toolhive.stacklok.dev/v1beta1, Kind=MCPServer): errors:\n  \
                      .status.replicas: field not declared in schema\n  .status.selector: field not declared in schema";
        let lacking = ["replicas", "selector"];
        assert_eq!(not_kept.learn_refused(KIND, &status(&[]), reason, now), BTreeSet::from(lacking));
        assert_eq!(not_kept.of(KIND, now), BTreeSet::from(lacking));
        let another = "x: .status.url: field not declared in schema";
        assert_eq!(not_kept.learn_refused(KIND, &status(&lacking), another, now), BTreeSet::from(["url"]));
        assert_eq!(not_kept.of(KIND, now), BTreeSet::from(["replicas", "selector", "url"]));
        assert!(not_kept.learn_refused(KIND, &status(&[]), "the object has been deleted", now).is_empty());
        assert_eq!(not_kept.of(KIND, now), BTreeSet::from(["replicas", "selector", "url"]));
    }

    #[test]
    fn it_is_tried_at_the_pace_of_the_resync() {
        let (not_kept, now) = (NotKept::new(Some(Duration::from_secs(1))), Instant::now());
        not_kept.learn(KIND, &status(&[]), &json!({}), now);
        assert_eq!(not_kept.of(KIND, now).len(), status::FIELDS.len());
        assert_eq!(not_kept.of(KIND, now + Duration::from_secs(1)), BTreeSet::new());
    }
}
