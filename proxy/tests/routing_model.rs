//! The routing table against a model: two replicas, a store, and pods that come and go. Whatever happens, a request of a
//! living session goes to its pod, or is told to come again; never elsewhere, and it is never told that the session ended.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests assert, too")]

use std::collections::{BTreeMap, BTreeSet};

use berth_proxy::route::{Action, Facts, Kind, Known, Peek, Source, Standing, decide};
use proptest::prelude::*;

type Session = u8;
type Pod = u8;

#[derive(Clone, Debug)]
enum Step {
    /// A client starts a session through a replica.
    Start { replica: usize, session: Session, pod: Pod },
    /// A client goes on with one.
    Request { replica: usize, session: Session, source: Source, kind: Kind, peek: bool },
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
}

#[derive(Default)]
struct Replica {
    cache: BTreeMap<Session, Pod>,
    /// The last good DNS answer, and when it was asked for.
    pods: BTreeSet<Pod>,
    asked_at: usize,
}

struct World {
    replicas: [Replica; 2],
    store: BTreeMap<Session, Pod>,
    store_up: bool,
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
            store_up: true,
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

    /// Obeys the table until it comes to an end.
    fn request(&mut self, replica: usize, session: Session, source: Source, kind: Kind, peek: bool) -> Action<Pod> {
        let cached = self.replicas[replica].cache.get(&session).copied();
        let known = cached.map_or(Known::NotCached, Known::Cached);
        let standing = cached.map_or(Standing::Present, |pod| self.standing(replica, pod));
        let mut facts = Facts { kind, source: Some(source), known, standing, peek: Peek::NotYet };
        for _ in 0..4 {
            match decide(&facts) {
                Action::LookUp => {
                    let stored = self.store.get(&session).copied();
                    facts.known = match (self.store_up, stored) {
                        (false, _) => Known::StoreUnavailable,
                        (true, Some(pod)) => Known::Stored(pod),
                        (true, None) => Known::Unknown,
                    };
                    if let Known::Stored(pod) = facts.known {
                        self.replicas[replica].cache.insert(session, pod);
                        facts.standing = self.standing(replica, pod);
                    }
                }
                Action::Peek => facts.peek = if peek { Peek::Initialize } else { Peek::Other },
                end => return end,
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

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Start { replica, session, pod } => {
                // A server chooses ids that it never used; write before reveal: only a stored session is shown.
                let fresh = !self.living.contains_key(&session) && !self.store.contains_key(&session);
                if fresh && self.store_up && self.pods.contains(&pod) {
                    self.store.insert(session, pod);
                    self.forget(session);
                    self.replicas[replica].cache.insert(session, pod);
                    self.living.insert(session, pod);
                }
            }
            Step::Request { replica, session, source, kind, peek } => {
                let action = self.request(replica, session, source, kind, peek);
                match (self.living.get(&session), action) {
                    (Some(holder), Action::Forward(pod)) => assert_eq!(pod, *holder),
                    (Some(_), Action::Unavailable(_)) => {}
                    (Some(_), other) => panic!("a living session: {other:?}"),
                    (None, Action::UnpinAndNotFound(pod)) => {
                        assert!(!self.pods.contains(&pod), "unpinned from a pod that is there");
                        self.store.remove(&session);
                        self.forget(session);
                    }
                    (None, _) => {}
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
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let (replica, session, pod) = (0..2usize, 0..6u8, 0..5u8);
    let source = prop_oneof![
        4 => Just(Source::Header), 1 => Just(Source::Query), 1 => Just(Source::NamedHeader), 1 => Just(Source::NamedCookie)
    ];
    let kind = prop_oneof![Just(Kind::Get), Just(Kind::Post), Just(Kind::Delete), Just(Kind::Other)];
    prop_oneof![
        4 => (replica.clone(), session.clone(), pod.clone())
            .prop_map(|(replica, session, pod)| Step::Start { replica, session, pod }),
        8 => (replica.clone(), session.clone(), source, kind, any::<bool>()).prop_map(
            |(replica, session, source, kind, peek)| Step::Request { replica, session, source, kind, peek }
        ),
        2 => (replica.clone(), session).prop_map(|(replica, session)| Step::Evict { replica, session }),
        2 => (replica, any::<bool>()).prop_map(|(replica, good)| Step::Ask { replica, good }),
        1 => pod.clone().prop_map(Step::Join),
        1 => pod.prop_map(Step::Leave),
        1 => any::<bool>().prop_map(Step::Store),
    ]
}

proptest! {
    #[test]
    fn a_living_session_is_never_sent_elsewhere_nor_ended(steps in proptest::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
    }
}
