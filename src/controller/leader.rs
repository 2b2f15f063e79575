//! Holds the Lease, or waits for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client, Error};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::lease::{LEASE, Observer, RETRY, Record, WRITES};
use super::write::bounded;
use crate::backoff::jitter;
use crate::metrics::Metrics;

/// The Lease of all replicas.
pub(super) const LEASE_NAME: &str = "berth-controller";

/// Whether this replica leads, for those who write.
#[derive(Debug, Default)]
pub(super) struct Leadership {
    /// Until when a write may begin.
    until: Mutex<Option<Instant>>,
    retired: AtomicBool,
    changed: Notify,
}

impl Leadership {
    /// Whether a write may begin now.
    pub(super) fn may_write(&self) -> bool {
        !self.is_retired() && self.until().is_some_and(|until| Instant::now() < until)
    }

    /// Waits until a write may begin; `false` when none will any more.
    pub(super) async fn wait(&self) -> bool {
        loop {
            let changed = self.changed.notified();
            if self.is_retired() {
                return false;
            }
            if self.may_write() {
                return true;
            }
            changed.await;
        }
    }

    /// No write begins from now on.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Waits for that.
    pub(super) async fn retired(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_retired() {
                return;
            }
            changed.await;
        }
    }

    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    fn until(&self) -> Option<Instant> {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, until: Option<Instant>) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        self.changed.notify_waiters();
    }
}

/// One replica that wants to lead.
pub(super) struct Candidate {
    api: Api<Lease>,
    me: String,
    leadership: Arc<Leadership>,
    metrics: Arc<Metrics>,
    observer: Observer,
    /// The lease as it was written last by this replica.
    held: Option<Lease>,
}

impl Candidate {
    pub(super) fn new(
        client: Client,
        namespace: &str,
        me: String,
        leadership: Arc<Leadership>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, me, leadership, metrics, observer: Observer::default(), held: None }
    }

    /// Tries, for ever; calls `elected` each time that this replica becomes the leader.
    pub(super) async fn run(&mut self, elected: impl Fn()) {
        let mut leads = false;
        loop {
            let began = Instant::now();
            match self.attempt().await {
                Ok(true) => {
                    self.leadership.set(Some(began + WRITES));
                    if !leads {
                        tracing::info!(identity = self.me, "leads: writes from now on");
                        elected();
                    }
                    leads = true;
                }
                Ok(false) => {
                    if leads {
                        tracing::warn!("another replica leads; writes no more");
                    }
                    leads = false;
                    self.leadership.set(None);
                }
                // A leader goes on until its time is over, which it keeps by its own clock.
                Err(error) => {
                    tracing::debug!(%error, "the lease cannot be renewed or read");
                    if leads && !self.leadership.may_write() {
                        tracing::warn!(%error, "the lease cannot be renewed; writes no more until it can");
                        leads = false;
                    }
                }
            }
            self.metrics.leads(leads);
            sleep(jitter(RETRY)).await;
        }
    }

    /// Gives the lease back, so that another need not wait for its end.
    pub(super) async fn release(&mut self) {
        self.leadership.set(None);
        self.metrics.leads(false);
        let Some(mut lease) = self.held.take() else { return };
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(now());
        }
        match self.replace(&lease).await {
            Ok(_) => tracing::info!("gave the lease back"),
            Err(error) => tracing::debug!(%error, "the lease could not be given back; it ends by itself"),
        }
    }

    /// Whether this replica holds the lease now.
    async fn attempt(&mut self) -> Result<bool, Error> {
        if let Some(held) = self.held.take() {
            match self.renew(held).await {
                Ok(renewed) => {
                    self.held = Some(renewed);
                    return Ok(true);
                }
                // Somebody wrote it, or took it away.
                Err((Error::Api(status), _)) if matches!(status.code, 404 | 409) => {}
                Err((error, held)) => {
                    self.held = Some(held);
                    return Err(error);
                }
            }
        }
        let Some(found) = bounded(self.api.get_opt(LEASE_NAME)).await? else {
            return self.create().await;
        };
        let record = record(&found);
        if !self.observer.may_take(&record, &self.me, Instant::now()) {
            return Ok(false);
        }
        let transitions = record.transitions.saturating_add(i32::from(record.holder != self.me));
        let taken = Lease { spec: Some(self.spec(transitions, &found)), ..found };
        match self.replace(&taken).await {
            Ok(lease) => {
                self.held = Some(lease);
                Ok(true)
            }
            // Another was faster.
            Err(Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn renew(&self, mut held: Lease) -> Result<Lease, (Error, Lease)> {
        if let Some(spec) = &mut held.spec {
            spec.renew_time = Some(now());
        }
        self.replace(&held).await.map_err(|error| (error, held))
    }

    async fn create(&mut self) -> Result<bool, Error> {
        let metadata = ObjectMeta { name: Some(LEASE_NAME.to_owned()), ..ObjectMeta::default() };
        let lease = Lease { metadata, spec: Some(self.spec(0, &Lease::default())) };
        match bounded(self.api.create(&PostParams::default(), &lease)).await {
            Ok(lease) => {
                self.held = Some(lease);
                Ok(true)
            }
            Err(Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes the lease if it is still the one that was read.
    async fn replace(&self, lease: &Lease) -> Result<Lease, Error> {
        bounded(self.api.replace(LEASE_NAME, &PostParams::default(), lease)).await
    }

    fn spec(&self, transitions: i32, before: &Lease) -> LeaseSpec {
        let acquired = before.spec.as_ref().filter(|spec| spec.holder_identity.as_deref() == Some(&self.me));
        LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: i32::try_from(LEASE.as_secs()).ok(),
            lease_transitions: Some(transitions),
            acquire_time: acquired.and_then(|spec| spec.acquire_time.clone()).or_else(|| Some(now())),
            renew_time: Some(now()),
            ..LeaseSpec::default()
        }
    }
}

fn record(lease: &Lease) -> Record {
    let Some(spec) = &lease.spec else { return Record::default() };
    Record {
        holder: spec.holder_identity.clone().unwrap_or_default(),
        duration: spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0),
        renewed: spec.renew_time.as_ref().map(|time| time.0.to_string()).unwrap_or_default(),
        transitions: spec.lease_transitions.unwrap_or(0),
    }
}

fn now() -> MicroTime {
    MicroTime(Timestamp::now())
}

/// For the end of the process: longer is not waited for what is being written, nor for the lease.
pub(super) const HAND_OVER: Duration = Duration::from_secs(5);
