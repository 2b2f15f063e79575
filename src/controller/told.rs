//! What Events have told of each resource, so that nothing is told at each look.
//!
//! In memory: whoever leads next tells once more what still holds, which is better than that nobody does.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::cluster::CrKey;

/// What an Event says, for one generation of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Digest(u64);

impl Digest {
    pub(super) fn new(cr: &Value, reason: &str, message: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        let uid = cr.pointer("/metadata/uid").and_then(Value::as_str);
        let generation = cr.pointer("/metadata/generation").and_then(Value::as_i64);
        (uid, generation, reason, message).hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// What was told of the resources that are there.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<HashMap<CrKey, HashSet<Digest>>>);

impl Told {
    /// Keeps in mind only what still holds: the rest is news when it comes back.
    pub(super) fn keep(&self, key: &CrKey, holds: &HashSet<Digest>) {
        let mut all = self.lock();
        if let Some(told) = all.get_mut(key) {
            told.retain(|digest| holds.contains(digest));
            if told.is_empty() {
                all.remove(key);
            }
        }
    }

    pub(super) fn is_told(&self, key: &CrKey, digest: Digest) -> bool {
        self.lock().get(key).is_some_and(|told| told.contains(&digest))
    }

    pub(super) fn add(&self, key: &CrKey, digest: Digest) {
        self.lock().entry(key.clone()).or_default().insert(digest);
    }

    /// The resource is gone.
    pub(super) fn forget(&self, key: &CrKey) {
        self.lock().remove(key);
    }

    /// Another replica leads: nobody looks here at what goes.
    pub(super) fn forget_all(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CrKey, HashSet<Digest>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::CrKind;

    #[test]
    fn what_holds_is_told_once_and_what_comes_back_is_told_again() {
        let key = CrKey { kind: CrKind::McpServer, namespace: "ns".to_owned(), name: "foo".to_owned() };
        let cr = |generation: i64| json!({"metadata": {"uid": "u", "generation": generation}});
        let (a, b) = (Digest::new(&cr(1), "Word", "a"), Digest::new(&cr(1), "Word", "b"));
        let told = Told::default();
        told.add(&key, a);
        told.add(&key, b);
        assert!(told.is_told(&key, Digest::new(&cr(1), "Word", "a")));
        for other in
            [Digest::new(&cr(2), "Word", "a"), Digest::new(&cr(1), "Other", "a"), Digest::new(&json!({}), "Word", "a")]
        {
            assert!(!told.is_told(&key, other));
        }
        told.keep(&key, &HashSet::from([a]));
        assert_eq!((told.is_told(&key, a), told.is_told(&key, b)), (true, false));
        told.keep(&key, &HashSet::new());
        assert!(
            !told.is_told(&key, a) && told.lock().is_empty(),
            "nothing is left of a resource that is as it should be"
        );
        told.add(&key, a);
        told.forget(&key);
        assert!(!told.is_told(&key, a));
        told.add(&key, a);
        told.forget_all();
        assert!(!told.is_told(&key, a));
    }
}
