//! The routing table against a model: two replicas, a store, and pods that come and go. Whatever happens, a request of a
//! living session goes to its pod, or is told to come again; never elsewhere, and it is never told that the session ended.
//! And the table is of use: what can be known is said, and nobody is put off without a reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests assert, too")]

use std::collections::{BTreeMap, BTreeSet};

use berth_proxy::route::{Action, Facts, Kind, Known, Peek, Source, Standing, Why, decide};
use proptest::prelude::*;

type Session = u8;
type Pod = u8;

/// A request of a client.
#[derive(Clone, Copy, Debug)]
struct Request {
    session: Session,
    source: Source,
    kind: Kind,
    initialize: bool,
}

#[derive(Clone, Debug)]
enum Step {
    /// A client starts a session through a replica.
    Start { replica: usize, session: Session, pod: Pod },
    /// A client goes on with one.
    Request { replica: usize, request: Request },
    /// A client ends one; the other replica has not heard of it yet.
    Delete { replica: usize, session: Session },
    /// A replica hears what was deleted.
    Hear { replica: usize },
    /// A replica's cache is full.
    Evict { replica: usize, session: Session },
    /// A replica asks DNS; the answer is good or not.
    Ask { replica: usize, good: bool },
    /// A pod appears, in truth and in DNS.
    Join(Pod),
    /// A pod goes, with all its sessions.
    Leave(Pod),
    /// The store can be reached, or not.
    Store(bool),
    /// The store forgets everything.
    Lose,
    /// A replica writes back what it remembers; when both have, nothing is in doubt any more.
    WriteBack { replica: usize },
}

#[derive(Default)]
struct Replica {
    cache: BTreeMap<Session, Pod>,
    /// The last good DNS answer, and when it was asked for.
    pods: BTreeSet<Pod>,
    asked_at: usize,
    has_written_back: bool,
}

struct World {
    replicas: [Replica; 2],
    store: BTreeMap<Session, Pod>,
    deleted: BTreeSet<Session>,
    store_up: bool,
    /// Whether what the store does not have may be written back.
    in_doubt: bool,
    dns_up: bool,
    pods: BTreeSet<Pod>,
    /// Sessions that live, by the pod that holds them.
    living: BTreeMap<Session, Pod>,
    now: usize,
}

impl World {
    fn new() -> Self {
        let pods = BTreeSet::from([0, 1, 2]);
        let replica = || Replica { pods: pods.clone(), ..Replica::default() };
        Self {
            replicas: [replica(), replica()],
            store: BTreeMap::new(),
            deleted: BTreeSet::new(),
            store_up: true,
            in_doubt: false,
            dns_up: true,
            pods: pods.clone(),
            living: BTreeMap::new(),
            now: 0,
        }
    }

    fn ask(&mut self, replica: usize, good: bool) {
        self.now += 1;
        self.dns_up = good;
        if good {
            self.replicas[replica].pods.clone_from(&self.pods);
            self.replicas[replica].asked_at = self.now;
        }
    }

    /// How a pod stands for a replica that read the pin now: as `Pods::standing` has it.
    fn standing(&mut self, replica: usize, pod: Pod) -> Standing {
        if self.replicas[replica].pods.contains(&pod) {
            return Standing::Present;
        }
        let since = self.now;
        let good = self.dns_up;
        self.ask(replica, good);
        let known = &self.replicas[replica];
        match (known.pods.contains(&pod), known.asked_at > since) {
            (true, _) => Standing::Present,
            (false, true) => Standing::Gone,
            (false, false) => Standing::Unproven,
        }
    }

    /// Obeys the table until it comes to an end. Also gives the pod that it unpinned the session from.
    fn route(&mut self, replica: usize, request: Request) -> (Action<Pod>, Option<Pod>) {
        let Request { session, source, kind, initialize } = request;
        let cached = self.replicas[replica].cache.get(&session).copied();
        let known = cached.map_or(Known::NotCached, Known::Cached);
        let standing = cached.map_or(Standing::Present, |pod| self.standing(replica, pod));
        let mut facts = Facts { kind, source: Some(source), known, standing, peek: Peek::NotYet };
        let mut unpinned = None;
        for _ in 0..5 {
            match decide(&facts) {
                Action::LookUp => {
                    facts.known = match (self.store_up, self.store.get(&session).copied()) {
                        (false, _) => Known::StoreUnavailable,
                        (true, Some(pod)) => Known::Stored(pod),
                        (true, None) if self.in_doubt => Known::StoreUnavailable,
                        (true, None) => Known::Unknown,
                    };
                    if let Known::Stored(pod) = facts.known {
                        self.replicas[replica].cache.insert(session, pod);
                        facts.standing = self.standing(replica, pod);
                    }
                }
                Action::Peek => facts.peek = if initialize { Peek::Initialize } else { Peek::Other },
                Action::Unpin(pod) => {
                    unpinned = Some(pod);
                    facts.known = Known::Ended;
                }
                end => return (end, unpinned),
            }
        }
        panic!("the table never comes to an end for {facts:?}");
    }

    /// No replica has it in its cache any more.
    fn forget(&mut self, session: Session) {
        for replica in &mut self.replicas {
            replica.cache.remove(&session);
        }
    }

    fn pin(&mut self, replica: usize, session: Session, pod: Pod) {
        self.store.insert(session, pod);
        self.deleted.remove(&session);
        self.forget(session);
        self.replicas[replica].cache.insert(session, pod);
        self.living.insert(session, pod);
    }

    fn request(&mut self, replica: usize, request: Request) {
        let session = request.session;
        let cached = self.replicas[replica].cache.get(&session).copied();
        let stored = self.store.get(&session).copied().filter(|_| self.store_up);
        let holder = self.living.get(&session).copied();
        let dns_up = self.dns_up;
        let (action, unpinned) = self.route(replica, request);
        let context = format!("{request:?}, cached {cached:?}, stored {stored:?}, living {holder:?}: {action:?}");
        // Before all: a living session.
        if let Some(holder) = holder {
            match action {
                Action::Forward(pod) => assert_eq!(pod, holder, "{context}"),
                Action::Unavailable(_) => {}
                _ => panic!("{context}"),
            }
        }
        // And each row for what it says.
        let starts_anew = request.source == Source::Header && request.kind == Kind::Post && request.initialize;
        let pinned = cached.or(stored);
        if let Some(pod) = unpinned {
            assert_eq!(pinned, Some(pod), "{context}");
            assert!(dns_up && !self.pods.contains(&pod), "unpinned without proof: {context}");
            let end = if starts_anew { Action::PlaceAnew } else { Action::SessionNotFound };
            assert_eq!(action, end, "{context}");
            self.store.remove(&session);
            self.forget(session);
            return;
        }
        match (pinned, action) {
            (Some(pin), Action::Forward(pod)) => {
                assert_eq!(pin, pod, "{context}");
                assert!(self.replicas[replica].pods.contains(&pod), "not in the last good answer: {context}");
            }
            (Some(pin), Action::Unavailable(Why::PodUnproven)) => {
                assert!(!dns_up && !self.replicas[replica].pods.contains(&pin), "{context}");
            }
            (None, Action::Unavailable(Why::Store)) => assert!(!self.store_up || self.in_doubt, "{context}"),
            (None, action) => {
                assert!(self.store_up && !self.in_doubt, "{context}");
                match action {
                    Action::Claim => {
                        assert!(request.source.is_named(), "{context}");
                        // SET NX: the first wins.
                        let pod = self.replicas[replica].pods.intersection(&self.pods).next().copied();
                        if let Some(pod) = pod {
                            self.pin(replica, session, pod);
                        }
                    }
                    Action::PlaceAnew => assert!(starts_anew, "{context}"),
                    Action::SessionNotFound => assert!(!starts_anew && !request.source.is_named(), "{context}"),
                    _ => panic!("{context}"),
                }
            }
            (Some(_), _) => panic!("{context}"),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Start { replica, session, pod } => {
                // A server chooses ids that it never used; write before reveal: only a stored session is shown.
                let fresh = !self.living.contains_key(&session) && !self.store.contains_key(&session);
                if fresh && self.store_up && self.pods.contains(&pod) {
                    self.pin(replica, session, pod);
                }
            }
            Step::Request { replica, request } => self.request(replica, request),
            Step::Delete { replica, session } => {
                if self.store_up && self.store.remove(&session).is_some() {
                    self.living.remove(&session);
                    self.deleted.insert(session);
                    self.replicas[replica].cache.remove(&session);
                }
            }
            Step::Hear { replica } => {
                if self.store_up {
                    for session in &self.deleted {
                        self.replicas[replica].cache.remove(session);
                    }
                }
            }
            Step::Evict { replica, session } => {
                self.replicas[replica].cache.remove(&session);
            }
            Step::Ask { replica, good } => self.ask(replica, good),
            Step::Join(pod) => {
                self.pods.insert(pod);
            }
            Step::Leave(pod) => {
                self.pods.remove(&pod);
                self.living.retain(|_, holder| *holder != pod);
            }
            Step::Store(up) => self.store_up = up,
            Step::Lose => {
                self.store.clear();
                self.in_doubt = true;
                for replica in &mut self.replicas {
                    replica.has_written_back = false;
                }
            }
            Step::WriteBack { replica } => {
                if !self.in_doubt || !self.store_up {
                    return;
                }
                for (session, pod) in self.replicas[replica].cache.clone() {
                    if !self.deleted.contains(&session) {
                        self.store.entry(session).or_insert(pod);
                    }
                }
                self.replicas[replica].has_written_back = true;
                if self.replicas.iter().all(|replica| replica.has_written_back) {
                    self.in_doubt = false;
                    // What nobody remembered is lost.
                    let store = &self.store;
                    self.living.retain(|session, _| store.contains_key(session));
                }
            }
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let (replica, session, pod) = (0..2usize, 0..6u8, 0..5u8);
    let source = prop_oneof![
        4 => Just(Source::Header), 1 => Just(Source::Query), 1 => Just(Source::NamedHeader), 1 => Just(Source::NamedCookie)
    ];
    let kind = prop_oneof![Just(Kind::Get), Just(Kind::Post), Just(Kind::Delete), Just(Kind::Other)];
    let request = (session.clone(), source, kind, any::<bool>())
        .prop_map(|(session, source, kind, initialize)| Request { session, source, kind, initialize });
    prop_oneof![
        6 => (replica.clone(), session.clone(), pod.clone())
            .prop_map(|(replica, session, pod)| Step::Start { replica, session, pod }),
        12 => (replica.clone(), request).prop_map(|(replica, request)| Step::Request { replica, request }),
        2 => (replica.clone(), session.clone()).prop_map(|(replica, session)| Step::Delete { replica, session }),
        2 => replica.clone().prop_map(|replica| Step::Hear { replica }),
        2 => (replica.clone(), session).prop_map(|(replica, session)| Step::Evict { replica, session }),
        3 => (replica.clone(), any::<bool>()).prop_map(|(replica, good)| Step::Ask { replica, good }),
        1 => pod.clone().prop_map(Step::Join),
        1 => pod.prop_map(Step::Leave),
        2 => any::<bool>().prop_map(Step::Store),
        1 => Just(Step::Lose),
        3 => replica.prop_map(|replica| Step::WriteBack { replica }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_living_session_is_never_sent_elsewhere_nor_ended(steps in proptest::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
    }
}
