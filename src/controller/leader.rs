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

    /// Tries, for ever; calls `elected` each time that this replica becomes the leader, and `lost` when it is one no more.
    pub(super) async fn run(&mut self, elected: impl Fn(), lost: impl Fn()) {
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
                        lost();
                    }
                    leads = false;
                    self.leadership.set(None);
                }
                // A leader goes on until its time is over, which it keeps by its own clock.
                Err(error) => {
                    tracing::debug!(%error, "the lease cannot be renewed or read");
                    if leads && !self.leadership.may_write() {
                        tracing::warn!(%error, "the lease cannot be renewed; writes no more until it can");
                        lost();
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
        match self.give_back().await {
            Ok(true) => tracing::info!("gave the lease back"),
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, "the lease could not be given back; it ends by itself"),
        }
    }

    /// Says whether there was one to give back.
    async fn give_back(&mut self) -> Result<bool, Error> {
        if let Some(held) = self.held.take() {
            match self.replace(&given_back(held)).await {
                Ok(_) => return Ok(true),
                // Somebody else took it; or an attempt that was dropped with the process's end had been stored.
                Err(Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error),
            }
        }
        match bounded(self.api.get_opt(LEASE_NAME)).await? {
            Some(found) if record(&found).holder == self.me => self.replace(&given_back(found)).await.map(|_| true),
            _ => Ok(false),
        }
    }

    /// Whether this replica holds the lease now.
    async fn attempt(&mut self) -> Result<bool, Error> {
        // It stays held while it is renewed: this attempt may be dropped in the middle, and what was held is given back then.
        if let Some(held) = self.held.clone() {
            match self.renew(held).await {
                Ok(renewed) => {
                    self.held = Some(renewed);
                    return Ok(true);
                }
                // Somebody wrote it, or took it away.
                Err(Error::Api(status)) if matches!(status.code, 404 | 409) => self.held = None,
                Err(error) => return Err(error),
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

    async fn renew(&self, mut held: Lease) -> Result<Lease, Error> {
        if let Some(spec) = &mut held.spec {
            spec.renew_time = Some(now());
        }
        self.replace(&held).await
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

fn given_back(mut lease: Lease) -> Lease {
    if let Some(spec) = &mut lease.spec {
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(now());
    }
    lease
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};
    use tokio::time::timeout;

    use super::*;
    use crate::controller::fake;

    /// An API server of one Lease, which can store a write and not answer.
    #[derive(Default)]
    struct Fake {
        lease: Mutex<Option<Value>>,
        is_silent: AtomicBool,
    }

    impl Fake {
        fn holder(&self) -> Value {
            let lease = self.lease.lock().unwrap();
            lease.as_ref().map(|lease| lease["spec"]["holderIdentity"].clone()).unwrap_or_default()
        }

        fn answer(&self, method: &str, mut body: Value) -> (u16, Value) {
            let mut lease = self.lease.lock().unwrap();
            let stored = lease.as_ref().map_or(0, version);
            match (method, &*lease) {
                ("GET", Some(lease)) => return (200, lease.clone()),
                ("GET" | "PUT", None) => return status(404),
                ("POST", Some(_)) => return status(409),
                ("PUT", Some(_)) if version(&body) != stored => return status(409),
                _ => {}
            }
            body["metadata"]["resourceVersion"] = json!((stored + 1).to_string());
            *lease = Some(body.clone());
            (200, body)
        }
    }

    fn version(lease: &Value) -> u64 {
        lease["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok()).unwrap_or(0)
    }

    fn status(code: u16) -> (u16, Value) {
        let reason = if code == 404 { "NotFound" } else { "Conflict" };
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code});
        (code, status)
    }

    async fn candidate(fake: &Arc<Fake>) -> Candidate {
        let fake = Arc::clone(fake);
        let client = fake::api_server(move |method, body| {
            let answer = fake.answer(method, body);
            (method == "GET" || !fake.is_silent.load(Ordering::Acquire)).then_some(answer)
        })
        .await;
        Candidate::new(client, "ns", "me".to_owned(), Arc::default(), Arc::default())
    }

    /// One attempt that the end of the process drops: it is stored, and not answered.
    async fn dropped(candidate: &mut Candidate, fake: &Fake) {
        fake.is_silent.store(true, Ordering::Release);
        assert!(timeout(Duration::from_millis(500), candidate.attempt()).await.is_err());
        fake.is_silent.store(false, Ordering::Release);
    }

    #[tokio::test]
    async fn a_lease_is_given_back_whatever_became_of_its_last_renewal() {
        let fake = Arc::new(Fake::default());
        let mut me = candidate(&fake).await;
        assert!(me.attempt().await.unwrap() && me.attempt().await.unwrap());
        assert_eq!(fake.holder(), "me");
        dropped(&mut me, &fake).await;
        me.release().await;
        assert_eq!(fake.holder(), "", "it was renewed, and nobody heard of it");

        assert!(me.attempt().await.unwrap());
        me.release().await;
        assert_eq!(fake.holder(), "");

        // The first attempt of all.
        dropped(&mut me, &fake).await;
        assert_eq!(fake.holder(), "me");
        me.release().await;
        assert_eq!(fake.holder(), "");
    }

    #[tokio::test]
    async fn the_lease_of_another_is_not_given_back() {
        let fake = Arc::new(Fake::default());
        let mut me = candidate(&fake).await;
        assert!(me.attempt().await.unwrap());
        let mut another = fake.lease.lock().unwrap().clone().unwrap();
        another["spec"]["holderIdentity"] = json!("another");
        assert_eq!(fake.answer("PUT", another).0, 200);
        me.release().await;
        assert_eq!(fake.holder(), "another");
    }
}
