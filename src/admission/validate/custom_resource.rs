//! MCPServers and VirtualMCPServers.

use super::findings::{Count, Counted, Finding, judge_count, unknown_annotations, verdict};
use super::workload::missing_address;
use crate::admission::Settings;
use crate::admission::facts::{Answer, Facts, WorkloadQuery};
use crate::admission::review::Review;
use crate::admission::verdict::Verdict;
use crate::admission::workload::{Interrupt, objects, policy_not_found};
use crate::policy::{CrKind, CustomResource, Transport, WorkloadKind, names};

/// The live counts of a custom resource's workloads; what the resource names itself counts instead.
#[derive(Clone, Copy, Default)]
struct Live {
    replicas: i64,
    backends: i64,
}

/// Judges a write of a custom resource.
pub(in crate::admission) fn custom_resource(
    kind: CrKind,
    review: &Review<'_>,
    facts: &Facts,
    settings: &Settings,
) -> Result<Verdict, Interrupt> {
    let what = kind.as_str();
    let (new, old) = objects(what, review, |object| {
        CustomResource::from_json(kind, object.get(), settings.default_storage.as_ref())
    })?;
    if old.as_ref().is_some_and(|old| old.meta.is_deleting()) {
        return Ok(Verdict::allow());
    }
    // What does not exist yet has no workloads.
    let live = if old.is_some() { live_counts(&new, review, facts)? } else { Live::default() };
    let findings = judge(&new, live);
    let before = old.map(|old| judge(&old, live)).unwrap_or_default();
    let warnings = unknown_annotations(what, &new.meta, &names::ON_CUSTOM_RESOURCES);
    Ok(verdict(findings, &before, warnings))
}

/// Asks for the live count where the resource names none and a rule hangs on it.
fn live_counts(cr: &CustomResource, review: &Review<'_>, facts: &Facts) -> Result<Live, Interrupt> {
    let policy = &cr.parsed.policy;
    if policy.storage.is_shared() && policy.transport != Transport::Stdio {
        return Ok(Live::default());
    }
    let of = |kind: WorkloadKind, named: Option<u32>| match named {
        Some(_) => Ok(0),
        None => live_count(kind, cr, review, facts),
    };
    let backends = match cr.kind {
        CrKind::McpServer => of(WorkloadKind::StatefulSet, policy.backend_replicas)?,
        CrKind::VirtualMcpServer => 0,
    };
    Ok(Live { replicas: of(WorkloadKind::Deployment, policy.replicas)?, backends })
}

fn live_count(kind: WorkloadKind, cr: &CustomResource, review: &Review<'_>, facts: &Facts) -> Result<i64, Interrupt> {
    let namespace = if review.namespace.is_empty() { &cr.meta.namespace } else { &review.namespace };
    let name = if cr.meta.name.is_empty() { &review.name } else { &cr.meta.name };
    let query = WorkloadQuery { kind, namespace: namespace.clone(), name: name.clone() };
    match facts.workload(query)? {
        Answer::Found(workload) => {
            // A workload of that name may belong to somebody else.
            let owner = workload.metadata.controller();
            let ours = owner.is_some_and(|owner| owner.kind == cr.kind && owner.uid == cr.meta.uid);
            Ok(if ours { workload.spec.replicas.unwrap_or(1) } else { 0 })
        }
        Answer::Absent => Ok(0),
        Answer::Unreadable(reason) => Err(policy_not_found(&format!("{} \"{name}\"", kind.as_str()), reason)),
    }
}

fn judge(cr: &CustomResource, live: Live) -> Vec<Finding> {
    let policy = &cr.parsed.policy;
    let mut findings: Vec<Finding> = cr.parsed.problems.iter().cloned().map(Finding::broken).collect();
    // Where the resource leaves the count to others, the field at fault is the one that made it wrong.
    let (cause, says) = match policy.transport {
        Transport::Stdio => ("spec.transport", "stdio"),
        _ => ("spec.sessionStorage.provider", "memory"),
    };
    let count = |counted, named: Option<u32>, field, live| match named {
        Some(number) => judge_count(Count { counted, number: i64::from(number), field, says: None }, policy),
        None => judge_count(Count { counted, number: live, field: cause, says: Some(says) }, policy),
    };
    findings.extend(count(Counted::Replicas, policy.replicas, "spec.replicas", live.replicas));
    findings.extend(count(Counted::Backends, policy.backend_replicas, "spec.backendReplicas", live.backends));
    findings.extend(missing_address(&cr.parsed, "spec.sessionStorage.address").map(Finding::broken));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::CodeWord;

    #[test]
    fn an_unreadable_address_is_one_problem_not_two() {
        let value = serde_json::json!({"metadata": {}, "spec": {"sessionStorage": {"provider": "redis", "address": "nowhere"}}});
        let cr = CustomResource::from_value(CrKind::McpServer, &value, None).unwrap();
        let words: Vec<_> = judge(&cr, Live::default()).into_iter().map(|finding| finding.problem.word).collect();
        assert_eq!(words, [CodeWord::InvalidPolicy]);
    }
}
