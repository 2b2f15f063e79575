//! One replica without a Redis.

use std::sync::Arc;
use std::time::Duration;

use berth_proxy::pods::PodId;
use berth_proxy::session::{Found, PathTag, Pin, PinMode, PinOutcome, Readiness, Sessions, UnpinReason};

use crate::world::{on_pod, settings, wait};

struct Memory {
    sessions: Arc<Sessions>,
    runtime: tokio::runtime::Runtime,
}

impl Memory {
    fn new(ttl: Duration, max_sessions: usize) -> Self {
        let mut settings = settings("web");
        (settings.ttl, settings.max_sessions) = (ttl, max_sessions);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let sessions = Sessions::in_memory(settings);
        runtime.spawn(Arc::clone(&sessions).run());
        Self { sessions, runtime }
    }

    fn pin(&self, id: &str, pod: u16) -> PinOutcome {
        self.pin_as(id, pod, PinMode::First)
    }

    fn pin_as(&self, id: &str, pod: u16, mode: PinMode) -> PinOutcome {
        let key = self.sessions.key(id.as_bytes());
        self.runtime.block_on(self.sessions.pin(&key, PodId(pod), PathTag::default(), mode))
    }

    fn find(&self, id: &str) -> Found {
        self.runtime.block_on(self.sessions.find(&self.sessions.key(id.as_bytes())))
    }

    fn unpin(&self, id: &str, pod: u16) {
        let key = self.sessions.key(id.as_bytes());
        self.runtime.block_on(self.sessions.unpin(&key, PodId(pod), UnpinReason::Deleted));
    }
}

#[test]
fn pins_are_kept_and_forgotten() {
    let memory = Memory::new(Duration::from_secs(60), 100);
    assert_eq!(memory.sessions.readiness(), Readiness::Ready);
    assert_eq!(memory.find("one"), Found::Unknown);
    assert_eq!(memory.pin("one", 1), PinOutcome::Pinned);
    assert_eq!(memory.find("one"), on_pod(1));
    assert_eq!(memory.pin("one", 2), PinOutcome::AlreadyPinned(PodId(1)));
    assert_eq!(memory.pin_as("one", 2, PinMode::Replace(PodId(0))), PinOutcome::AlreadyPinned(PodId(1)));
    assert_eq!(memory.pin_as("one", 2, PinMode::Replace(PodId(1))), PinOutcome::Pinned);
    assert_eq!([1, 2].map(|pod| memory.sessions.counts().of(PodId(pod))), [0, 1]);
    memory.unpin("one", 1);
    assert_eq!(memory.find("one"), on_pod(2), "it moved");
    memory.unpin("one", 2);
    assert_eq!(memory.find("one"), Found::Unknown);
    assert_eq!(memory.sessions.counts().of(PodId(2)), 0);
}

#[test]
fn at_the_bound_new_sessions_are_refused_and_none_is_lost() {
    let memory = Memory::new(Duration::from_secs(60), 10);
    for number in 0..10u16 {
        assert_eq!(memory.pin(&number.to_string(), 0), PinOutcome::Pinned);
    }
    assert_eq!(memory.pin("more", 0), PinOutcome::Full);
    assert_eq!(memory.pin("3", 0), PinOutcome::Pinned, "one that is there");
    for number in 0..10u16 {
        assert_eq!(memory.find(&number.to_string()), on_pod(0));
    }
    memory.unpin("5", 0);
    assert_eq!(memory.pin("more", 0), PinOutcome::Pinned);
}

#[test]
fn sessions_expire_but_for_those_in_use() {
    let memory = Memory::new(Duration::from_secs(2), 2);
    assert_eq!(memory.pin("idle", 0), PinOutcome::Pinned);
    assert_eq!(memory.pin("stream", 0), PinOutcome::Pinned);
    let pin = Pin { pod: PodId(0), path: PathTag::default() };
    let stream = memory.sessions.in_use(memory.sessions.key(b"stream"), pin);
    wait("the end of an idle session", || memory.sessions.statistics().cached == 1);
    std::thread::sleep(Duration::from_millis(2_100));
    assert_eq!(memory.find("idle"), Found::Unknown);
    assert_eq!(memory.find("stream"), on_pod(0));
    assert_eq!(memory.pin("new", 0), PinOutcome::Pinned, "expired ones make room");
    drop(stream);
    wait("the end of all", || memory.sessions.statistics().cached == 0);
    assert_eq!(memory.sessions.counts().of(PodId(0)), 0);
}

#[test]
fn lifetime_and_bound_change_while_running() {
    let memory = Memory::new(Duration::from_secs(3600), 1);
    assert_eq!(memory.pin("one", 0), PinOutcome::Pinned);
    assert_eq!(memory.pin("two", 0), PinOutcome::Full);
    let mut changed = settings("web");
    (changed.ttl, changed.max_sessions) = (Duration::from_millis(300), 2);
    memory.sessions.reconfigure(&changed);
    assert_eq!(memory.pin("two", 0), PinOutcome::Pinned);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(memory.find("one"), Found::Unknown);
}
