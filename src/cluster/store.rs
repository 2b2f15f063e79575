//! The copies of custom resources.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

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
}

impl Store {
    pub(super) fn get(&self, kind: CrKind, namespace: &str, name: &str) -> Option<Arc<CustomResource>> {
        self.read(kind).copies.get(&(namespace.to_owned(), name.to_owned()))?.read.clone()
    }

    /// The JSON of a copy.
    pub(super) fn whole(&self, kind: CrKind, key: &Key) -> Option<Arc<str>> {
        self.read(kind).copies.get(key)?.whole.clone()
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
        std::mem::replace(&mut self.write(kind).copies, copies)
    }

    /// Keeps a copy, unless the one that is there is newer.
    pub(super) fn insert(&self, kind: CrKind, key: Key, copy: Copy) {
        match self.write(kind).copies.entry(key) {
            Entry::Occupied(there) if there.get().version > copy.version => {}
            Entry::Occupied(mut there) => {
                there.insert(copy);
            }
            Entry::Vacant(free) => {
                free.insert(copy);
            }
        }
    }

    pub(super) fn remove(&self, kind: CrKind, key: &Key) {
        self.write(kind).copies.remove(key);
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
