//! From the bytes of a question to the bytes of its answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::deadline::Deadline;
use crate::admission::{Facts, Need, Reason, Review, ReviewError, Settings, Verdict, Webhook, decide};
use crate::cluster::{Found, Lookup};
use crate::metrics::Metrics;
use crate::policy::CodeWord;

/// A decision asks for at most four things; more rounds mean that it asks for the same thing for ever.
const MAX_ROUNDS: usize = 8;

/// The shape of [`decide`].
type Decide = fn(Webhook, &Review<'_>, &Facts, &Settings) -> Result<Verdict, Need>;

/// Why a question gets no `AdmissionReview` for an answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// It carries no review.
    #[error(transparent)]
    NoReview(#[from] ReviewError),
    /// Nothing could be decided; the API server then does what is registered for a webhook that does not answer.
    #[error("{0}")]
    Undecided(String),
}

/// Answers reviews.
#[derive(Debug)]
pub struct Reviewer {
    settings: Settings,
    lookup: Lookup,
    metrics: Arc<Metrics>,
    decide: Decide,
}

impl Reviewer {
    /// Answers by these settings, with what `lookup` finds.
    #[must_use]
    pub fn new(settings: Settings, lookup: Lookup, metrics: Arc<Metrics>) -> Self {
        Self { settings, lookup, metrics, decide }
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The answer to the review in `body`: an `AdmissionReview` as JSON.
    ///
    /// # Errors
    /// When the body carries no review that could be answered, or nothing could be decided.
    pub async fn answer(&self, webhook: Webhook, body: &[u8], deadline: Deadline) -> Result<Vec<u8>, NoAnswer> {
        let started = Instant::now();
        let review = Review::from_slice(body)?;
        let verdict = self.judge(webhook, &review, deadline).await;
        let took = started.elapsed();
        self.metrics.reviewed(webhook, &review, &verdict, took);
        log(webhook, &review, &verdict, took);
        if let Some(refusal) = verdict.refusal().filter(|refusal| refusal.undecided) {
            return Err(NoAnswer::Undecided(refusal.message.clone()));
        }
        verdict.to_json(&review).map_err(|error| NoAnswer::NoReview(error.into()))
    }

    async fn judge(&self, webhook: Webhook, review: &Review<'_>, deadline: Deadline) -> Verdict {
        let mut facts = Facts::default();
        for _ in 0..MAX_ROUNDS {
            // Every write that Berth guards passes here. Should a decision panic, that is one refusal, and not a process.
            let decision = catch_unwind(AssertUnwindSafe(|| (self.decide)(webhook, review, &facts, &self.settings)));
            match decision {
                Ok(Ok(verdict)) => return verdict,
                Ok(Err(need)) => {
                    // What the cache has costs no time, and is found after the deadline, too.
                    let found = timeout_at(deadline.at(), self.lookup.find(&need)).await;
                    found.unwrap_or_else(|_| Found::late(&need, deadline.allowed())).add_to(&mut facts, need);
                }
                Err(_) => return broken("the decision on this object ended in a panic"),
            }
        }
        broken("the decision on this object found no end")
    }
}

fn broken(what: &str) -> Verdict {
    tracing::error!("{what}");
    let sentence = format!("{what}: this is a defect of Berth, please report it with the object");
    Verdict::refuse(500, Reason::InternalError, None, &sentence)
}

/// One line a review: who asked what about which object, and what came of it. No bodies: they hold other people's data.
fn log(webhook: Webhook, review: &Review<'_>, verdict: &Verdict, took: Duration) {
    let refusal = verdict.refusal();
    tracing::info!(
        uid = review.uid.as_str(),
        webhook = webhook.as_str(),
        kind = review.kind.kind.as_str(),
        namespace = review.namespace.as_str(),
        name = review.name.as_str(),
        operation = review.operation.as_str(),
        verdict = if verdict.is_allowed() { "allowed" } else { "refused" },
        code = refusal.and_then(|refusal| refusal.word).map_or("", CodeWord::as_str),
        patches = verdict.patch().len(),
        warnings = verdict.warnings.len(),
        ms = took.as_secs_f64() * 1000.0,
        "review"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{CrQuery, Freshness};
    use crate::cluster::Given;
    use crate::policy::CrKind;
    use serde_json::{Value, json};

    fn answer_of(decide: Decide) -> Value {
        let lookup = Lookup::Given(Given::default());
        let reviewer = Reviewer { settings: Settings::default(), lookup, metrics: Arc::default(), decide };
        let body = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request":
            {"uid": "u", "kind": {"group": "apps", "version": "v1", "kind": "Deployment"}, "operation": "CREATE"}});
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let answer = runtime.block_on(async {
            let deadline = Deadline::after(Duration::from_secs(5));
            reviewer.answer(Webhook::Mutate, body.to_string().as_bytes(), deadline).await.unwrap()
        });
        serde_json::from_slice(&answer).unwrap()
    }

    fn need() -> Need {
        let (namespace, name) = ("ns".to_owned(), "x".to_owned());
        let freshness = Freshness::Generation(0);
        Need::CustomResource(CrQuery { kind: CrKind::McpServer, namespace, name, uid: None, freshness })
    }

    #[test]
    fn a_panic_in_a_decision_refuses_that_one_review() {
        let answer = answer_of(|_, _, _, _| panic!("a defect"));
        assert_eq!(answer["response"]["allowed"], json!(false));
        assert_eq!(answer["response"]["uid"], json!("u"));
        assert_eq!(answer["response"]["status"]["code"], json!(500));
    }

    #[test]
    fn a_decision_that_never_ends_is_refused() {
        let answer = answer_of(|_, _, _, _| Err(need()));
        assert_eq!(answer["response"]["allowed"], json!(false));
        assert_eq!(answer["response"]["status"]["code"], json!(500));
    }
}
