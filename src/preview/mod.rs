//! What a cluster would make of manifests: the webhook's own decisions, on files instead of writes.
//!
//! There is no cluster here. Custom resources, workloads and autoscalers find each other in the same input, every object
//! counts as new (unless it is said to be stored), and what is not in the input does not exist.

mod arrival;
mod changes;
mod explain;
mod known;
mod provenance;
mod remarks;
mod rules;

use std::collections::HashSet;

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use crate::admission::{Facts, Outcome, Refusal, Settings, Verdict, Webhook, decide};
use crate::manifest::{Document, Object, Source};
pub(crate) use arrival::Arrival;
pub use arrival::Identity;
pub use explain::{Change, Explanation, Origin, Rule, Setting, Standing};
use known::Known;
pub use remarks::Remark;

/// A decision asks for at most three things; more rounds mean that it asks for the same thing for ever.
const MAX_ROUNDS: usize = 8;

/// An object that Berth guards, where it was written, and what became of it.
#[derive(Debug)]
pub struct Judged<'a> {
    /// Its file.
    pub source: &'a Source,
    /// Its document.
    pub document: &'a Document,
    /// The object as it is written.
    pub object: &'a Object,
    /// What it is.
    pub identity: Identity,
    /// What Berth changes in the object as it is written.
    pub patch: Patch,
    /// The object with these changes.
    pub after: Value,
    /// Lines that kubectl would show.
    pub warnings: Vec<String>,
    /// Why it would not be stored.
    pub refusal: Option<Refusal>,
    /// What no writer of it is told; nothing where it is refused.
    pub remarks: Vec<Remark>,
}

impl Judged<'_> {
    /// Whether Berth changes anything in it.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        !self.patch.0.is_empty()
    }
}

/// A defect of Berth itself, met on an object.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {defect}; this is a defect of Berth, please report it with the manifest")]
pub struct PreviewError {
    what: String,
    defect: String,
}

/// How the objects of an input are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// They are new.
    Create,
    /// They are stored as they are, and written again.
    Update,
}

/// Everything that Berth guards in an input, judged.
#[derive(Debug)]
pub struct Preview<'a> {
    /// In the order of the input.
    pub judged: Vec<Judged<'a>>,
    known: Known,
    settings: Settings,
}

impl<'a> Preview<'a> {
    /// Mutates and validates every object that Berth guards. Objects without a namespace are in `namespace`.
    ///
    /// # Errors
    /// Only for a defect of Berth.
    pub fn new(
        sources: &'a [Source],
        namespace: &str,
        settings: &Settings,
        writes: Writes,
    ) -> Result<Self, PreviewError> {
        let objects = sources.iter().flat_map(|source| {
            let documents = source.documents.iter();
            documents.flat_map(move |document| document.objects().iter().map(move |object| (source, document, object)))
        });
        let arrivals: Vec<_> = objects
            .filter_map(|(source, document, object)| {
                Some((source, document, object, Arrival::of(&object.value, namespace)?))
            })
            .collect();
        let mut known = Known::default();
        for (.., arrival) in &arrivals {
            known.add(&arrival.identity, &arrival.value, settings);
        }
        let mut mutated = Vec::new();
        for (source, document, object, arrival) in arrivals {
            let verdict = arrival.decide(Webhook::Mutate, writes, &arrival.value, &known, settings)?;
            let patch = arrival.as_written(verdict.patch(), &object.value)?;
            let mut after = object.value.clone();
            apply(&mut after, &patch.0, &arrival.identity)?;
            let stored = arrival.patched(verdict.patch())?;
            // An autoscaler is judged by the workload as it will be stored.
            known.add(&arrival.identity, &stored.value, settings);
            let (warnings, refusal) = taken_apart(verdict);
            let identity = arrival.identity.clone();
            let remarks = Vec::new();
            let judged = Judged { source, document, object, identity, patch, after, warnings, refusal, remarks };
            mutated.push((judged, arrival, stored));
        }
        let judged = mutated.into_iter().map(|(mut judged, arrival, stored)| {
            if judged.refusal.is_some() {
                return Ok(judged);
            }
            let verdict = stored.decide(Webhook::Validate, writes, &arrival.value, &known, settings)?;
            let (warnings, refusal) = taken_apart(verdict);
            judged.warnings.extend(warnings);
            // Both webhooks may say the same.
            let mut seen = HashSet::new();
            judged.warnings.retain(|warning| seen.insert(warning.clone()));
            // And what is refused need not be warned of.
            let problems = refusal.iter().flat_map(|refusal| &refusal.problems);
            let refused: HashSet<_> = problems.map(ToString::to_string).collect();
            judged.warnings.retain(|warning| !refused.contains(warning));
            if refusal.is_none() {
                judged.remarks = Remark::of(&arrival, settings);
            }
            judged.refusal = refusal;
            Ok(judged)
        });
        Ok(Self { judged: judged.collect::<Result<_, _>>()?, known, settings: settings.clone() })
    }
}

fn taken_apart(verdict: Verdict) -> (Vec<String>, Option<Refusal>) {
    match verdict.outcome {
        Outcome::Allowed(_) => (verdict.warnings, None),
        Outcome::Refused(refusal) => (verdict.warnings, Some(refusal)),
    }
}

fn apply(value: &mut Value, patch: &[PatchOperation], identity: &Identity) -> Result<(), PreviewError> {
    json_patch::patch(value, patch).map_err(|error| identity.defect(format!("its patch does not apply: {error}")))
}

impl Identity {
    fn defect(&self, defect: String) -> PreviewError {
        PreviewError { what: self.to_string(), defect }
    }
}

impl Arrival {
    fn decide(
        &self,
        webhook: Webhook,
        writes: Writes,
        stored: &Value,
        known: &Known,
        settings: &Settings,
    ) -> Result<Verdict, PreviewError> {
        let raw = |value: &Value| {
            serde_json::value::to_raw_value(value).map_err(|error| self.identity.defect(error.to_string()))
        };
        let object = raw(&self.value)?;
        let old = (writes == Writes::Update).then(|| raw(stored)).transpose()?;
        let review = self.review(&object, old.as_deref());
        let mut facts = Facts::default();
        for _ in 0..MAX_ROUNDS {
            match decide(webhook, &review, &facts, settings) {
                Ok(verdict) => return Ok(verdict),
                Err(need) => known.answer(need, &mut facts),
            }
        }
        Err(self.identity.defect("the decision found no end".to_owned()))
    }
}
