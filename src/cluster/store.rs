//! The copies of custom resources.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::time::Instant;

use super::watching::LOST;
use crate::admission::{CrQuery, Freshness};
use crate::policy::{CrKind, CustomResource};

/// Namespace and name.
pub(super) type Key = (String, String);

/// What is kept of a custom resource.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    /// As far as the rules read it; nothing where they cannot.
    pub(super) read: Option<Arc<CustomResource>>,
    /// Its JSON, where somebody builds from it.
    pub(super) whole: Option<Arc<str>>,
    /// Whether the phase in its status is of ToolHive's writing, where somebody builds from it.
    pub(super) status_of_toolhive: bool,
    /// Its `resourceVersion`: a higher number is newer.
    pub(super) version: Option<u128>,
}

/// One kind's copies.
pub(super) type Copies = HashMap<Key, Copy>;

/// Every kind's copies, and the version at which the API server serves the kind.
#[derive(Debug, Default)]
pub(super) struct Store {
    mcp_servers: RwLock<Kind>,
    virtual_mcp_servers: RwLock<Kind>,
}

#[derive(Debug, Default)]
struct Kind {
    version: Option<&'static str>,
    copies: Copies,
    /// When the watch failed last, if nothing has come of it since.
    failed: Option<Instant>,
    /// A list is coming in that will take the place of the copies: what has changed before it, no event told.
    listing: bool,
}

impl Store {
    /// The copy that will do for a query.
    pub(super) fn find(&self, query: &CrQuery, now: Instant) -> Option<Arc<CustomResource>> {
        let kind = self.read(query.kind);
        let copy = kind.copies.get(&(query.namespace.clone(), query.name.clone()))?;
        let read = copy.read.as_ref()?;
        let new_enough = match query.freshness {
            Freshness::Generation(generation) => read.meta.generation >= generation,
            Freshness::Version(version) | Freshness::Cached(version) => copy.version >= Some(version),
            Freshness::Now => false,
            Freshness::Followed => kind.follows(now),
        };
        let same = query.uid.as_ref().is_none_or(|uid| *uid == read.meta.uid);
        (same && new_enough).then(|| Arc::clone(read))
    }

    /// The watch of a kind works, or failed a moment ago.
    pub(super) fn watched(&self, kind: CrKind, failed: Option<Instant>) {
        self.write(kind).failed = failed;
    }

    /// A list begins, which ends with [`Self::replace`].
    pub(super) fn listing(&self, kind: CrKind) {
        self.write(kind).listing = true;
    }

    /// The JSON of a copy.
    pub(super) fn whole(&self, kind: CrKind, key: &Key) -> Option<Arc<str>> {
        self.read(kind).copies.get(key)?.whole.clone()
    }

    pub(super) fn status_of_toolhive(&self, kind: CrKind, key: &Key) -> bool {
        self.read(kind).copies.get(key).is_some_and(|copy| copy.status_of_toolhive)
    }

    pub(super) fn keys(&self, kind: CrKind) -> Vec<Key> {
        self.read(kind).copies.keys().cloned().collect()
    }

    /// The version at which the kind is served, as far as is known.
    pub(super) fn version(&self, kind: CrKind) -> Option<&'static str> {
        self.read(kind).version
    }

    pub(super) fn set_version(&self, kind: CrKind, version: Option<&'static str>) {
        self.write(kind).version = version;
    }

    /// Takes over a full list; gives the copies that were there before.
    pub(super) fn replace(&self, kind: CrKind, copies: Copies) -> Copies {
        let mut kind = self.write(kind);
        kind.listing = false;
        std::mem::replace(&mut kind.copies, copies)
    }

    /// Keeps a copy that the watch brings, unless the one that is there is newer. Says whether it is news: what was read, and
    /// the answer to a write of one's own, come a second time by the watch.
    pub(super) fn insert(&self, kind: CrKind, key: Key, copy: Copy) -> bool {
        match self.write(kind).copies.entry(key) {
            Entry::Occupied(there) if there.get().version > copy.version => false,
            Entry::Occupied(mut there) => {
                let version = there.insert(copy).version;
                version.is_none() || version != there.get().version
            }
            Entry::Vacant(free) => {
                free.insert(copy);
                true
            }
        }
    }

    /// Keeps a copy that was read, or came as the answer to a write: in place of an older one only. Where there is none, the
    /// watch may have seen the end of the resource already, and would not tell of it again.
    pub(super) fn renew(&self, kind: CrKind, key: &Key, copy: Copy) {
        if let Some(there) = self.write(kind).copies.get_mut(key).filter(|there| there.version <= copy.version) {
            *there = copy;
        }
    }

    /// The version of the copy that is there.
    pub(super) fn copy_version(&self, kind: CrKind, key: &Key) -> Option<u128> {
        self.read(kind).copies.get(key)?.version
    }

    /// Forgets a resource that ended at this version; one of the name that is newer is another.
    pub(super) fn remove(&self, kind: CrKind, key: &Key, version: Option<u128>) {
        if let Entry::Occupied(there) = self.write(kind).copies.entry(key.clone())
            && there.get().version <= version
        {
            there.remove();
        }
    }

    pub(super) fn count(&self, kind: CrKind) -> usize {
        self.read(kind).copies.len()
    }

    fn kind(&self, kind: CrKind) -> &RwLock<Kind> {
        match kind {
            CrKind::McpServer => &self.mcp_servers,
            CrKind::VirtualMcpServer => &self.virtual_mcp_servers,
        }
    }

    fn read(&self, kind: CrKind) -> RwLockReadGuard<'_, Kind> {
        self.kind(kind).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, kind: CrKind) -> RwLockWriteGuard<'_, Kind> {
        self.kind(kind).write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kind {
    /// Whether the copies follow the cluster, as far as is known: a watch that goes on where it ended says so by no event, so one
    /// that has not failed for long works. It fails late: where nothing answers, a connection falls silent at the end of a
    /// watch at the latest, and is given up 45 s later, so a copy may be some 80 s behind.
    fn follows(&self, now: Instant) -> bool {
        !self.listing && self.failed.is_none_or(|failed| now.duration_since(failed) > LOST)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const KIND: CrKind = CrKind::McpServer;

    fn key() -> Key {
        ("ns".to_owned(), "foo".to_owned())
    }

    fn copy(version: u128) -> Copy {
        Copy { read: None, whole: Some(version.to_string().into()), status_of_toolhive: false, version: Some(version) }
    }

    fn there(store: &Store) -> Option<Arc<str>> {
        store.whole(KIND, &key())
    }

    #[test]
    fn what_was_written_or_read_is_no_news_when_the_watch_brings_it() {
        let store = Store::default();
        assert!(store.insert(KIND, key(), copy(1)));
        store.renew(KIND, &key(), copy(3));
        assert!(!store.insert(KIND, key(), copy(2)), "older than what is known");
        assert!(!store.insert(KIND, key(), copy(3)));
        assert_eq!(there(&store).as_deref(), Some("3"));
        assert!(store.insert(KIND, key(), copy(4)));
        let unversioned = || Copy { version: None, ..copy(0) };
        let store = Store::default();
        assert!(store.insert(KIND, key(), unversioned()) && store.insert(KIND, key(), unversioned()), "who knows");
    }

    #[test]
    fn copies_are_followed_until_the_watch_fails_or_lists_anew() {
        let (store, now) = (Store::default(), Instant::now());
        let follows = |after: Duration| store.read(KIND).follows(now + after);
        store.listing(KIND);
        assert!(!follows(LOST * 2));
        store.replace(KIND, Copies::new());
        assert!(follows(Duration::ZERO));
        store.watched(KIND, Some(now));
        assert!(!follows(LOST), "the next failure may be that late");
        assert!(follows(LOST + Duration::from_millis(1)), "a watch that goes on says so by no event");
        store.listing(KIND);
        assert!(!follows(LOST * 2), "what a list says is not known before its end");
        store.watched(KIND, None);
        assert!(!follows(LOST * 2));
        store.replace(KIND, Copies::new());
        assert!(follows(Duration::ZERO));
    }

    #[test]
    fn what_is_gone_does_not_come_back_with_a_late_answer() {
        let store = Store::default();
        store.insert(KIND, key(), copy(1));
        store.remove(KIND, &key(), Some(3));
        store.renew(KIND, &key(), copy(2));
        assert_eq!(there(&store), None);
    }

    #[test]
    fn the_end_of_one_resource_does_not_take_its_successor_along() {
        let store = Store::default();
        store.insert(KIND, key(), copy(1));
        // It was read before the watch told of the end of the first one, at 2.
        store.renew(KIND, &key(), copy(3));
        store.remove(KIND, &key(), Some(2));
        assert_eq!(there(&store).as_deref(), Some("3"));
    }
}
