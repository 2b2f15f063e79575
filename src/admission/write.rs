//! One write of a Deployment or StatefulSet: the object, what it was before, and whose it is.

use serde_json::Value;

use super::Webhook;
use super::facts::{Facts, Freshness};
use super::review::{Operation, Review};
use super::stamp::{self, Decision};
use super::verdict::{Reason, Verdict};
use super::workload::{Copies, Interrupt, Workload, objects, owner};
use crate::policy::{CodeWord, CustomResource, Metadata, Resolved, WorkloadKind, names, resolve};

/// A write as both webhooks see it.
pub(super) struct Write<'a, 'f> {
    pub(super) kind: WorkloadKind,
    pub(super) operation: Operation,
    pub(super) new: Workload<'a>,
    /// The object as it is stored; on UPDATE only.
    pub(super) old: Option<Workload<'a>>,
    /// The custom resource that controls the object, if it still exists.
    pub(super) owner: Option<&'f CustomResource>,
    /// Whether the same custom resource controlled the old object.
    pub(super) same_owner: bool,
}

impl<'a, 'f> Write<'a, 'f> {
    /// Reads a write from its review.
    pub(super) fn read(
        webhook: Webhook,
        kind: WorkloadKind,
        review: &Review<'a>,
        facts: &'f Facts,
    ) -> Result<Self, Interrupt> {
        let (new, old) = objects(kind.as_str(), review, Workload::read)?;
        // Only the stored object says that it is being deleted; in a new one, anybody can write that.
        if old.as_ref().is_some_and(|old| old.metadata.is_deleting()) {
            return Err(Interrupt::Done(Verdict::allow()));
        }
        let namespace = if review.namespace.is_empty() { &new.metadata.namespace } else { &review.namespace };
        // The highest generation that either object is known to have been made from: an older copy of the owner would
        // take a stale write for a new one.
        let stamp = |workload: &Workload<'_>| workload.stamp().unwrap_or(0);
        let copies = || {
            let min_generation = stamp(&new).max(old.as_ref().map_or(0, stamp));
            // More replicas than before, of which sessions may depend on what the owner says now: a copy could be outdated.
            let raises = new.count() > old.as_ref().map_or(0, Workload::count).max(1);
            let now = webhook == Webhook::Validate && raises;
            let freshness = if now { Freshness::Now } else { Freshness::Generation(min_generation) };
            // The API server holds up a workload that nobody answers for: none is let through by a copy that may be outdated.
            Copies { freshness, stand_in: None }
        };
        let owner = owner(&new.metadata, namespace, copies, facts)?.map(|known| known.cr);
        let same_owner = old.as_ref().is_some_and(|old| is_same_owner(&new.metadata, &old.metadata));
        Ok(Self { kind, operation: review.operation, new, old, owner, same_owner })
    }

    /// The policy that applies to the object; `None` when it is not Berth's.
    pub(super) fn resolve(&self) -> Option<Resolved<'f>> {
        resolve(self.kind, &self.new.metadata, self.owner)
    }

    /// The policy that applied to the old object: by its own annotations, and by its owner if that is the same.
    pub(super) fn resolve_old(&self) -> Option<Resolved<'f>> {
        resolve(self.kind, &self.old.as_ref()?.metadata, self.owner.filter(|_| self.same_owner))
    }

    /// The pod template of the old object, as far as rules look at it; null when the object is new.
    pub(super) fn old_template(&self) -> &Value {
        // An old template that cannot be read is one that nothing of the new one is equal to.
        self.old.as_ref().and_then(|old| old.template().ok()).unwrap_or(&Value::Null)
    }

    /// What becomes of the stamp, where it is the generation of an MCPServer.
    pub(super) fn mcpserver_stamp(&self, resolved: &Resolved<'_>) -> Option<Decision> {
        let owner = resolved.owner.filter(|_| resolved.role.has_mcpserver_stamp())?;
        let live = self.old.as_ref().filter(|_| self.same_owner).and_then(Workload::stamp);
        Some(stamp::of_mcpserver(self.new.stamp(), live, owner.meta.generation))
    }

    /// The refusal of a write that was made from an older state than the live object.
    pub(super) fn stale(&self, resolved: &Resolved<'_>) -> Option<Verdict> {
        let Decision::Stale { live } = self.mcpserver_stamp(resolved)? else { return None };
        let given = self.new.stamp().unwrap_or(0);
        let owner = resolved.owner.map_or("", |owner| &owner.meta.name);
        let sentence = format!(
            "the pod template carries {} {given} and the live object has {live}: it was made from an older state of \
             MCPServer \"{owner}\", and the newer one stays; read the MCPServer again and build the template from that",
            names::STAMP
        );
        Some(Verdict::refuse(403, Reason::Forbidden, Some(CodeWord::StaleGeneration), &sentence))
    }
}

fn is_same_owner(new: &Metadata, old: &Metadata) -> bool {
    match (new.controller(), old.controller()) {
        (Some(new), Some(old)) => new.kind == old.kind && new.uid == old.uid,
        _ => false,
    }
}
