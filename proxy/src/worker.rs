//! One thread of the proxy, and what all threads share.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use slab::Slab;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::connection_state::{ConnectionState, Order};
use crate::drain::{Drain, Stage};
use crate::metrics::{Counters, Event, Metrics};
use crate::place::{Placed, Placements};
use crate::pods::{PodId, Pods, Snapshot, Target};
use crate::route::Names;
use crate::session::{InUse, Pin, SessionKey, Sessions};
use crate::upstream::{PodConnection, Pool, SharedConnections};

/// How often a thread looks at its clock, its connections and the drain.
const TICK: Duration = Duration::from_millis(200);
/// How long a connection may be idle once the drain has begun: a client may be sending a request on it, since the response
/// before it did not say that the connection closes.
pub(crate) const LAST_REQUEST: Duration = Duration::from_millis(500);
/// A request that lasts longer keeps its session in use.
const LONG_MS: u32 = 1_000;

/// What bounds clients.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections of clients at the same time, in the whole process.
    pub connections: usize,
    /// Bytes of a request's body.
    pub body: Option<u64>,
    /// Bytes of a request's head.
    pub head: usize,
    /// How long a head may take from its first byte on.
    pub head_timeout: Duration,
    /// How long a connection may be idle.
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 65_536,
            body: None,
            head: 32 * 1024,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(120),
        }
    }
}

/// What all threads share.
pub struct Shared {
    /// Where every session is.
    pub sessions: Arc<Sessions>,
    /// The server's pods.
    pub pods: Arc<Pods>,
    /// Placements of this replica.
    pub placements: Mutex<Placements>,
    /// Names under which servers other than MCP's carry a session.
    pub names: Names,
    /// What bounds clients.
    pub limits: Limits,
    /// What is counted.
    pub metrics: Metrics,
    /// Whether the process is ending.
    pub drain: Drain,
    /// Open connections of clients.
    pub connections: AtomicUsize,
    /// Where work goes on that no client waits for.
    pub background: Handle,
}

/// A request under way.
struct InFlight {
    since: u32,
    session: Option<(SessionKey, Pin)>,
    in_use: Option<InUse>,
}

/// One thread of the proxy.
pub struct Worker {
    pub(crate) shared: Arc<Shared>,
    counters: Arc<Counters>,
    pool: Pool,
    pub(crate) h2: SharedConnections,
    in_flight: RefCell<Slab<InFlight>>,
    streams: RefCell<Slab<Option<Waker>>>,
    connections: RefCell<Slab<Arc<ConnectionState>>>,
    /// Milliseconds since `started`, as of the last tick.
    clock: Arc<AtomicU32>,
    started: Instant,
    snapshot: RefCell<(u64, Arc<Snapshot>)>,
    stage: Cell<Stage>,
    stage_changed: Notify,
    chance: Cell<u64>,
}

impl Worker {
    /// Thread number `index`.
    #[must_use]
    pub fn new(shared: Arc<Shared>, index: usize) -> Rc<Self> {
        Rc::new(Self {
            counters: shared.metrics.of(index),
            pool: Pool::default(),
            h2: SharedConnections::default(),
            in_flight: RefCell::default(),
            streams: RefCell::default(),
            connections: RefCell::default(),
            clock: Arc::default(),
            started: Instant::now(),
            snapshot: RefCell::new((0, Arc::default())),
            stage: Cell::new(Stage::Serving),
            stage_changed: Notify::new(),
            chance: Cell::new(RandomState::new().hash_one(index) | 1),
            shared,
        })
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Milliseconds, as of the last tick; shared with what may leave the thread.
    pub(crate) fn clock(&self) -> &Arc<AtomicU32> {
        &self.clock
    }

    fn now(&self) -> u32 {
        self.clock.load(Relaxed)
    }

    /// What the process is doing, as of the last tick.
    pub(crate) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// Whether open streams are to end between two events.
    pub(crate) fn is_ending_streams(&self) -> bool {
        self.stage.get() >= Stage::EndingStreams
    }

    /// Where a pod is, by the last good answer.
    pub(crate) fn target(&self, pod: PodId) -> Option<Target> {
        self.with_snapshot(|snapshot| snapshot.target(pod))
    }

    /// Looks at the last good answer.
    pub(crate) fn with_snapshot<T>(&self, look: impl FnOnce(&Snapshot) -> T) -> T {
        let version = self.shared.pods.version();
        let mut cached = self.snapshot.borrow_mut();
        if cached.0 != version {
            *cached = (version, self.shared.pods.current());
        }
        look(&cached.1)
    }

    /// The pod for a new session, or for one request without any, among the ready ones that were not tried yet. Say
    /// how it ended.
    pub(crate) fn place(&self, tried: &[PodId], sessionless: bool) -> Option<Placement> {
        let ready: Vec<PodId> = self
            .with_snapshot(|snapshot| snapshot.ready().iter().copied().filter(|pod| !tried.contains(pod)).collect());
        let (now, chance) = (Instant::now(), self.chance());
        let mut placements = self.shared.placements.lock();
        let pod = if sessionless {
            placements.place_once(&ready, now, chance)
        } else {
            placements.place(&ready, &self.shared.sessions.counts(), now, chance)
        }?;
        drop(placements);
        Some(Placement { shared: Arc::clone(&self.shared), pod, how: Placed::NoSession })
    }

    /// A random number (xorshift; only ties are decided by it).
    fn chance(&self) -> u64 {
        let mut chance = self.chance.get();
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        self.chance.set(chance);
        chance
    }

    /// An idle connection to a pod.
    pub(crate) fn idle(&self, pod: PodId, address: SocketAddr) -> Option<Box<PodConnection>> {
        self.pool.take(pod, address, self.now())
    }

    /// Keeps a connection for the next request.
    pub(crate) fn keep(&self, pod: PodId, connection: Box<PodConnection>, keep_alive: Option<u32>) {
        self.pool.put(pod, connection, self.now(), keep_alive);
    }

    /// Counts a request as under way.
    pub(crate) fn track(self: &Rc<Self>, client: &Arc<ConnectionState>) -> Tracked {
        client.begin();
        let request = InFlight { since: self.now(), session: None, in_use: None };
        let slot = self.in_flight.borrow_mut().insert(request);
        Tracked { worker: Rc::clone(self), client: Arc::clone(client), slot }
    }

    /// Enters a connection of a client into the books, until the guard is dropped.
    pub(crate) fn enter(self: &Rc<Self>, state: Arc<ConnectionState>) -> Entered {
        Entered { slot: self.connections.borrow_mut().insert(state), worker: Rc::clone(self) }
    }

    /// Looks after clock, connections, sessions in use and the drain, for as long as the thread runs.
    pub async fn tick(self: Rc<Self>) {
        loop {
            tokio::time::sleep(TICK).await;
            let now = u32::try_from(self.started.elapsed().as_millis() & u128::from(u32::MAX)).unwrap_or_default();
            self.clock.store(now, Relaxed);
            self.pool.sweep(now);
            self.look_after_requests(now);
            self.look_after_connections(now);
            let stage = self.shared.drain.stage();
            if stage != self.stage.get() {
                self.stage.set(stage);
                self.enter_stage(stage);
            }
        }
    }

    fn look_after_requests(&self, now: u32) {
        let mut in_flight = self.in_flight.borrow_mut();
        self.counters.set_in_flight(in_flight.len());
        for (_, request) in in_flight.iter_mut() {
            if let Some((key, pin)) = request.session
                && request.in_use.is_none()
                && now.wrapping_sub(request.since) >= LONG_MS
            {
                request.in_use = Some(self.shared.sessions.in_use(key, pin));
            }
        }
    }

    fn look_after_connections(&self, now: u32) {
        let connections = self.connections.borrow();
        self.counters.set_connections(connections.len());
        let limits = &self.shared.limits;
        let draining = self.stage() >= Stage::Draining;
        let idle = if draining { LAST_REQUEST } else { limits.idle_timeout };
        for (_, state) in connections.iter() {
            if let Some(event) = state.overdue(now, limits.head_timeout, idle) {
                if event == Event::HeadTimeout || (event == Event::IdleTimeout && !draining) {
                    self.counters.event(event);
                }
                state.order(Order::Close);
            }
            state.watch();
            state.forget_head(now);
        }
    }

    /// Until no new connections are to be accepted.
    pub(crate) async fn wait_for_drain(&self) {
        self.wait_for(|worker| worker.stage() >= Stage::Draining).await;
    }

    /// Until the drain is over: everything was closed, or has to be.
    pub(crate) async fn wait_for_the_end(&self) {
        self.wait_for(|worker| worker.stage() == Stage::Closing).await;
        // The connections that were just told to close do so now.
        tokio::task::yield_now().await;
    }

    async fn wait_for(&self, reached: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.stage_changed.notified();
            if reached(self) {
                return;
            }
            changed.await;
        }
    }

    fn enter_stage(&self, stage: Stage) {
        self.stage_changed.notify_waiters();
        if stage >= Stage::Draining {
            let order = if stage == Stage::Closing { Order::Close } else { Order::Finish };
            for (_, state) in self.connections.borrow().iter() {
                state.order(order);
            }
        }
        if stage >= Stage::EndingStreams {
            for (_, waker) in self.streams.borrow().iter() {
                if let Some(waker) = waker {
                    waker.wake_by_ref();
                }
            }
        }
    }
}

/// A new session, or a request without one, on its way to a pod. A client that leaves meanwhile says nothing of the pod.
pub(crate) struct Placement {
    shared: Arc<Shared>,
    pub(crate) pod: PodId,
    how: Placed,
}

impl Placement {
    /// Says how it ended.
    pub(crate) fn ended(mut self, how: Placed) {
        self.how = how;
    }
}

impl Drop for Placement {
    fn drop(&mut self) {
        self.shared.placements.lock().ended(self.pod, self.how, Instant::now());
    }
}

/// A request under way; dropped when its response is complete, or its client left.
pub(crate) struct Tracked {
    worker: Rc<Worker>,
    client: Arc<ConnectionState>,
    slot: usize,
}

impl Tracked {
    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// A stream of events is the response.
    pub(crate) fn is_stream(&self) {
        self.client.is_stream();
    }

    /// Counts what the client's connection becomes when it changes its protocol.
    pub(crate) fn enter_tunnel(&self) -> Entered {
        self.worker.shared.connections.fetch_add(1, Relaxed);
        self.client.is_tunnel();
        self.worker.enter(Arc::clone(&self.client))
    }

    /// The request belongs to this session, which stays in use while it lasts.
    pub(crate) fn belongs_to(&self, key: SessionKey, pin: Pin) {
        if let Some(request) = self.worker.in_flight.borrow_mut().get_mut(self.slot) {
            request.session = Some((key, pin));
        }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        // What it held is dropped after the books are closed.
        let request = self.worker.in_flight.borrow_mut().try_remove(self.slot);
        drop(request);
        self.client.end(self.worker.now());
    }
}

/// A client's connection in the books.
pub(crate) struct Entered {
    worker: Rc<Worker>,
    slot: usize,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.worker.connections.borrow_mut().try_remove(self.slot);
        self.worker.shared.connections.fetch_sub(1, Relaxed);
    }
}

/// A stream of events in the books, so that the drain can wake it.
pub(crate) struct StreamSlot {
    worker: Rc<Worker>,
    slot: usize,
}

impl StreamSlot {
    pub(crate) fn new(worker: &Rc<Worker>) -> Self {
        Self { slot: worker.streams.borrow_mut().insert(None), worker: Rc::clone(worker) }
    }

    /// Says whom to wake.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        if let Some(waker) = self.worker.streams.borrow_mut().get_mut(self.slot)
            && !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        self.worker.streams.borrow_mut().try_remove(self.slot);
    }
}
