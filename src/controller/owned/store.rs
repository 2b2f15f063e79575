//! The copies of owned objects.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Live;
use crate::controller::objects::ObjectKind;

/// Kind and name of an object, in the namespace of the custom resource that it is about.
pub(in crate::controller) type Place = (ObjectKind, String);

/// All owned objects of the cluster.
#[derive(Debug, Default)]
pub(in crate::controller) struct Owned {
    copies: Mutex<Copies>,
}

#[derive(Debug, Default)]
struct Copies {
    /// By kind, namespace and name.
    by_name: HashMap<(ObjectKind, String, String), Arc<Live>>,
    /// What a custom resource controls, by its uid.
    by_owner: HashMap<String, BTreeSet<(ObjectKind, String, String)>>,
    /// Up to which version the watch of a kind has told everything; absent where it has listed, and told nothing since.
    told: HashMap<ObjectKind, u128>,
}

/// What is known of the objects of one custom resource, taken before its own state is read.
#[derive(Clone, Debug, Default)]
pub(in crate::controller) struct Snapshot {
    /// What is there.
    pub(in crate::controller) objects: BTreeMap<Place, Arc<Live>>,
    /// What the API server was asked for, and does not have.
    pub(in crate::controller) absent: BTreeSet<Place>,
}

impl Owned {
    /// What a custom resource controls in its own namespace. An owner of another namespace is none: anybody could write one.
    pub(in crate::controller) fn of(&self, namespace: &str, owner: &str) -> Snapshot {
        let copies = self.lock();
        let keys = copies.by_owner.get(owner).into_iter().flatten().filter(|key| key.1 == namespace);
        let objects = keys.filter_map(|key| Some(((key.0, key.2.clone()), Arc::clone(copies.by_name.get(key)?))));
        Snapshot { objects: objects.collect(), absent: BTreeSet::new() }
    }

    /// Keeps a copy that the watch brings, unless the one that is there is newer. Gives the one that was there.
    pub(super) fn insert(&self, kind: ObjectKind, namespace: &str, name: &str, live: Live) -> Option<Arc<Live>> {
        let mut copies = self.lock();
        copies.advance(kind, &live);
        copies.insert((kind, namespace.to_owned(), name.to_owned()), live)
    }

    /// Keeps the answer to a write. Where there is no copy, the watch has not come so far yet, or it has told of the end of
    /// the object already and will not again; then the answer is left alone.
    pub(in crate::controller) fn take_over(&self, kind: ObjectKind, namespace: &str, name: &str, live: Live) {
        let mut copies = self.lock();
        let key = (kind, namespace.to_owned(), name.to_owned());
        let is_ahead = copies.told.get(&kind).zip(live.number()).is_some_and(|(told, version)| *told < version);
        if is_ahead || copies.by_name.contains_key(&key) {
            copies.insert(key, live);
        }
    }

    /// Forgets an object of which the watch tells that it ended so; one of the name that is newer is another.
    pub(super) fn remove(&self, kind: ObjectKind, namespace: &str, name: &str, ended: &Live) {
        let mut copies = self.lock();
        copies.advance(kind, ended);
        copies.remove(&(kind, namespace.to_owned(), name.to_owned()), |there| !ended.is_older_than(there));
    }

    /// Forgets an object that was deleted as it was known here.
    pub(in crate::controller) fn forget(&self, kind: ObjectKind, namespace: &str, name: &str, deleted: &Live) {
        let key = (kind, namespace.to_owned(), name.to_owned());
        self.lock().remove(&key, |there| there.uid == deleted.uid && there.version == deleted.version);
    }

    /// Takes over a full list of one kind; gives what is not in it any more, each with its namespace.
    ///
    /// The list counts, also where it is older: the cluster may have been restored from a backup. What was written while
    /// it was on its way comes again by the watch.
    pub(super) fn replace(&self, kind: ObjectKind, list: Vec<(String, String, Live)>) -> Vec<(String, Arc<Live>)> {
        let mut copies = self.lock();
        let mut stale: BTreeSet<_> = copies.by_name.keys().filter(|key| key.0 == kind).cloned().collect();
        for (namespace, name, live) in list {
            let key = (kind, namespace, name);
            stale.remove(&key);
            copies.remove(&key, |_| true);
            copies.insert(key, live);
        }
        // What the list is of is not known; the next event says how far the watch has come.
        copies.told.remove(&kind);
        stale.iter().filter_map(|key| Some((key.1.clone(), copies.remove(key, |_| true)?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Copies> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Copies {
    fn insert(&mut self, key: (ObjectKind, String, String), live: Live) -> Option<Arc<Live>> {
        let before = self.by_name.get(&key).cloned();
        if before.as_ref().is_some_and(|before| live.is_older_than(before)) {
            return before;
        }
        self.remove(&key, |_| true);
        if let Some(owner) = &live.owner {
            self.by_owner.entry(owner.uid.clone()).or_default().insert(key.clone());
        }
        self.by_name.insert(key, Arc::new(live));
        before
    }

    fn advance(&mut self, kind: ObjectKind, live: &Live) {
        if let Some(version) = live.number() {
            let told = self.told.entry(kind).or_default();
            *told = version.max(*told);
        }
    }

    fn remove(&mut self, key: &(ObjectKind, String, String), if_it: impl Fn(&Live) -> bool) -> Option<Arc<Live>> {
        if !self.by_name.get(key).is_some_and(|there| if_it(there)) {
            return None;
        }
        let before = self.by_name.remove(key)?;
        if let Some(owner) = &before.owner
            && let Some(keys) = self.by_owner.get_mut(&owner.uid)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.by_owner.remove(&owner.uid);
            }
        }
        Some(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{ControllerRef, CrKind};

    fn live(version: &str, owner: &str) -> Live {
        let owner = ControllerRef { kind: CrKind::McpServer, name: "cr".into(), uid: owner.into() };
        Live { uid: "u".into(), version: version.into(), owner: Some(owner), ..Live::default() }
    }

    #[test]
    fn an_older_copy_that_comes_later_is_not_kept() {
        let owned = Owned::default();
        owned.insert(ObjectKind::Deployment, "ns", "d", live("10", "a"));
        owned.insert(ObjectKind::Deployment, "ns", "d", live("9", "a"));
        assert_eq!(owned.of("ns", "a").objects[&(ObjectKind::Deployment, "d".to_owned())].version, "10");
        owned.insert(ObjectKind::Deployment, "ns", "d", live("11", "b"));
        assert!(owned.of("ns", "a").objects.is_empty(), "it has another owner");
        assert_eq!(owned.of("ns", "b").objects.len(), 1);
    }

    #[test]
    fn an_answer_that_comes_after_the_end_of_its_object_is_left_alone() {
        let owned = Owned::default();
        let names = |owned: &Owned| owned.of("ns", "a").objects.into_keys().map(|(_, name)| name).collect::<Vec<_>>();
        let take_over =
            |name: &str, version: &str| owned.take_over(ObjectKind::Service, "ns", name, live(version, "a"));
        owned.insert(ObjectKind::Service, "ns", "known", live("10", "a"));
        // Made at 11, gone at 12, and the watch told of both before the answer came.
        owned.remove(ObjectKind::Service, "ns", "gone", &live("12", "a"));
        take_over("gone", "11");
        assert_eq!(names(&owned), ["known"]);
        take_over("new", "13");
        take_over("known", "14");
        assert_eq!(names(&owned), ["known", "new"], "what is ahead of the watch counts at once");
        // The list may be newer than all that is in it.
        owned.replace(ObjectKind::Service, vec![("ns".into(), "known".into(), live("14", "a"))]);
        take_over("gone", "15");
        assert_eq!(names(&owned), ["known"]);
        owned.insert(ObjectKind::Service, "ns", "known", live("20", "a"));
        take_over("new", "21");
        assert_eq!(names(&owned), ["known", "new"]);
    }

    #[test]
    fn the_end_of_one_object_does_not_take_its_successor_along() {
        let owned = Owned::default();
        let there = |owned: &Owned| owned.of("ns", "a").objects.len();
        owned.insert(ObjectKind::Service, "ns", "s", live("10", "a"));
        owned.take_over(ObjectKind::Service, "ns", "s", Live { uid: "second".into(), ..live("13", "a") });
        owned.remove(ObjectKind::Service, "ns", "s", &live("12", "a"));
        owned.forget(ObjectKind::Service, "ns", "s", &live("10", "a"));
        assert_eq!(there(&owned), 1);
        owned.take_over(ObjectKind::Service, "ns", "s", live("11", "a"));
        assert_eq!(owned.of("ns", "a").objects[&(ObjectKind::Service, "s".to_owned())].uid, "second");
        owned.forget(ObjectKind::Service, "ns", "s", &Live { uid: "second".into(), ..live("13", "a") });
        assert_eq!(there(&owned), 0);
    }

    #[test]
    fn an_object_of_another_namespace_is_nobodys() {
        let owned = Owned::default();
        owned.insert(ObjectKind::Deployment, "theirs", "d", live("1", "a"));
        assert!(owned.of("ns", "a").objects.is_empty());
    }

    #[test]
    fn a_list_removes_what_is_gone() {
        let owned = Owned::default();
        owned.insert(ObjectKind::Service, "ns", "a", live("1", "o"));
        owned.insert(ObjectKind::Service, "ns", "b", live("1", "o"));
        owned.insert(ObjectKind::ConfigMap, "ns", "c", live("1", "o"));
        let gone = owned.replace(ObjectKind::Service, vec![("ns".into(), "b".into(), live("2", "o"))]);
        assert_eq!(gone.len(), 1);
        let left: Vec<_> = owned.of("ns", "o").objects.into_keys().map(|(_, name)| name).collect();
        assert_eq!(left, ["c", "b"]);
    }

    #[test]
    fn a_list_counts_where_a_restored_cluster_has_older_objects() {
        let owned = Owned::default();
        owned.insert(ObjectKind::Service, "ns", "a", live("9", "o"));
        owned.replace(ObjectKind::Service, vec![("ns".into(), "a".into(), live("5", "o"))]);
        assert_eq!(owned.of("ns", "o").objects[&(ObjectKind::Service, "a".to_owned())].version, "5");
    }
}
