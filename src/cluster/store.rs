//! The copies of custom resources.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::policy::{CrKind, CustomResource};

/// Namespace and name.
pub(super) type Key = (String, String);

/// One kind's copies.
pub(super) type Copies = HashMap<Key, Arc<CustomResource>>;

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
        self.read(kind).copies.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// The version at which the kind is served, as far as is known.
    pub(super) fn version(&self, kind: CrKind) -> Option<&'static str> {
        self.read(kind).version
    }

    pub(super) fn set_version(&self, kind: CrKind, version: Option<&'static str>) {
        self.write(kind).version = version;
    }

    /// Takes over a full list.
    pub(super) fn replace(&self, kind: CrKind, copies: Copies) {
        self.write(kind).copies = copies;
    }

    pub(super) fn insert(&self, kind: CrKind, key: Key, copy: CustomResource) {
        self.write(kind).copies.insert(key, Arc::new(copy));
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
