//! What is counted, in Prometheus' form.
//!
//! Every label is a `&'static str`, so its values are a closed set: nothing that a user wrote becomes one.

mod controller;
mod process;

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use self::controller::Controller;
pub use self::controller::ControllerWrite;
use self::process::Process;
use crate::admission::{Review, Verdict, Webhook};
use crate::policy::{CrKind, WorkloadKind};

/// Bounds in seconds: a review takes a tenth of a millisecond, or several where it has to ask the API server.
const BUCKETS: [f64; 12] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 4.0, 10.0];

/// Every metric of the process.
pub struct Metrics {
    registry: Registry,
    reviews: Family<ReviewLabels, Counter>,
    durations: Family<WebhookLabels, Histogram>,
    rejected: Family<StatusLabels, Counter>,
    watched: Family<KindLabels, Gauge>,
    live_reads: Family<LiveReadLabels, Counter>,
    certificate_expiry: Gauge,
    reloads: Family<ResultLabels, Counter>,
    controller: Controller,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReviewLabels {
    webhook: &'static str,
    kind: &'static str,
    operation: &'static str,
    verdict: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WebhookLabels {
    webhook: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LiveReadLabels {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// Kinds of object that a live read is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiveRead {
    /// A custom resource.
    CustomResource(CrKind),
    /// A workload.
    Workload(WorkloadKind),
}

/// How a live read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiveReadResult {
    /// The object was there.
    Found,
    /// It was not.
    Absent,
    /// Nobody knows.
    Failed,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process::new()));
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        let own = registry.sub_registry_with_prefix("berth");
        own.register("build", "The version that runs", version);
        let reviews = Family::default();
        own.register("admission_reviews", "Reviews answered", reviews.clone());
        let durations: Family<WebhookLabels, Histogram> = Family::new_with_constructor(|| Histogram::new(BUCKETS));
        own.register_with_unit("admission_duration", "Time that reviews took", Unit::Seconds, durations.clone());
        let rejected = Family::default();
        own.register("rejected_requests", "Requests that carried no readable review", rejected.clone());
        let watched = Family::default();
        own.register("custom_resources", "Custom resources in the cache", watched.clone());
        let live_reads = Family::default();
        own.register("live_reads", "Objects that reviews had to read from the API server", live_reads.clone());
        let certificate_expiry = Gauge::default();
        own.register_with_unit(
            "tls_certificate_not_after_timestamp",
            "When the served certificate expires",
            Unit::Seconds,
            certificate_expiry.clone(),
        );
        let reloads = Family::default();
        own.register("tls_certificate_reloads", "Changes of the certificate files", reloads.clone());
        let controller = Controller::register(own);
        Self { registry, reviews, durations, rejected, watched, live_reads, certificate_expiry, reloads, controller }
    }
}

impl Metrics {
    /// A review was answered.
    pub fn reviewed(&self, webhook: Webhook, review: &Review<'_>, verdict: &Verdict, took: Duration) {
        let labels = ReviewLabels {
            webhook: webhook.as_str(),
            kind: known_kind(&review.kind.kind),
            operation: review.operation.as_str(),
            verdict: if verdict.is_allowed() { "allowed" } else { "refused" },
            code: verdict.refusal().map_or("", |refusal| refusal.word.map_or("other", |word| word.as_str())),
        };
        self.reviews.get_or_create(&labels).inc();
        self.durations.get_or_create(&WebhookLabels { webhook: webhook.as_str() }).observe(took.as_secs_f64());
    }

    /// A request was turned away before its review was read; the HTTP status.
    pub fn rejected(&self, status: u16) {
        let status = match status {
            400 => "400",
            404 => "404",
            405 => "405",
            408 => "408",
            413 => "413",
            _ => "other",
        };
        self.rejected.get_or_create(&StatusLabels { status }).inc();
    }

    /// How many custom resources of a kind are known now.
    pub fn watched(&self, kind: CrKind, count: usize) {
        self.watched.get_or_create(&KindLabels { kind: kind.as_str() }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// An object was read from the API server.
    pub fn live_read(&self, object: LiveRead, result: LiveReadResult) {
        let kind = match object {
            LiveRead::CustomResource(kind) => kind.as_str(),
            LiveRead::Workload(kind) => kind.as_str(),
        };
        let result = match result {
            LiveReadResult::Found => "found",
            LiveReadResult::Absent => "absent",
            LiveReadResult::Failed => "failed",
        };
        self.live_reads.get_or_create(&LiveReadLabels { kind, result }).inc();
    }

    /// A certificate is served from now on; when it expires, in seconds of Unix time.
    pub fn certificate(&self, not_after: i64) {
        self.certificate_expiry.set(not_after);
    }

    /// The certificate files changed: whether they could be used.
    pub fn reloaded(&self, usable: bool) {
        let result = if usable { "served" } else { "unusable" };
        self.reloads.get_or_create(&ResultLabels { result }).inc();
    }

    /// All of it, in the OpenMetrics text form.
    ///
    /// # Errors
    /// Never, as long as memory lasts: it is written to a string.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// The kinds that rules exist for; any other is one value, since its name is the user's.
fn known_kind(kind: &str) -> &'static str {
    const OTHERS: [&str; 2] = ["Scale", "HorizontalPodAutoscaler"];
    let workload = WorkloadKind::from_kind(kind).map(WorkloadKind::as_str);
    let custom = || CrKind::from_kind(kind).map(CrKind::as_str);
    let other = || OTHERS.into_iter().find(|known| *known == kind);
    workload.or_else(custom).or_else(other).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_wrote_becomes_no_label() {
        let metrics = Metrics::default();
        for hostile in ["Pod", "x\"} 1\nowned 1", "🦀", ""] {
            let body = serde_json::json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request":
                {"uid": "u", "kind": {"kind": hostile}, "name": hostile, "namespace": hostile, "operation": hostile}});
            let body = body.to_string();
            let review = Review::from_slice(body.as_bytes()).unwrap();
            metrics.reviewed(Webhook::Mutate, &review, &Verdict::allow(), Duration::from_millis(1));
        }
        let text = metrics.text().unwrap();
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with("berth_admission_reviews_total")).collect();
        assert_eq!(
            lines,
            [
                "berth_admission_reviews_total{webhook=\"mutate\",kind=\"other\",operation=\"UNKNOWN\",verdict=\"allowed\",\
              code=\"\"} 4"
            ]
        );
    }

    #[test]
    fn the_process_reports_its_own_memory_and_time() {
        let text = Metrics::default().text().unwrap();
        let value = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
            line.and_then(|line| line.split(' ').nth(1)?.parse::<f64>().ok())
                .unwrap_or_else(|| panic!("{name}: {text}"))
        };
        assert!(value("process_resident_memory_bytes") > 1_000_000.0);
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(value("process_start_time_seconds") > 1.0e9);
        assert!(value("process_open_fds") > 2.0);
    }
}
