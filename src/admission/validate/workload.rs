//! Deployments and StatefulSets.

use serde_json::Value;

use super::findings::{Count, Counted, Finding, judge_count, unknown_annotations, verdict};
use crate::admission::Webhook;
use crate::admission::facts::Facts;
use crate::admission::review::Review;
use crate::admission::template;
use crate::admission::verdict::Verdict;
use crate::admission::workload::{Interrupt, Workload, unreadable};
use crate::admission::write::Write;
use crate::policy::{
    CodeWord, CustomResource, Metadata, Parsed, Problem, Resolved, Role, WorkloadKind, annotation_path, derived, names,
};

/// Judges a write of a workload.
pub(in crate::admission) fn workload(
    kind: WorkloadKind,
    review: &Review<'_>,
    facts: &Facts,
) -> Result<Verdict, Interrupt> {
    let write = Write::read(Webhook::Validate, kind, review, facts)?;
    let Some(resolved) = write.resolve() else { return Ok(Verdict::allow()) };
    if let Some(refusal) = write.stale(&resolved) {
        return Ok(refusal);
    }
    let judge = |workload, resolved| judge(workload, resolved).map_err(|error| unreadable(kind.as_str(), error));
    let findings = judge(&write.new, &resolved)?;
    // Most writes break no rule; then nobody has to know what the old object broke.
    let before = match (&write.old, write.resolve_old()) {
        (Some(old), Some(resolved)) if !findings.is_empty() => judge(old, &resolved)?,
        _ => Vec::new(),
    };
    let mut warnings = unknown_annotations(kind.as_str(), &write.new.metadata, &names::ON_WORKLOADS);
    warnings.extend(resolved.conflicts.iter().cloned());
    warnings.extend(service_name_warning(kind, &write.new, &resolved));
    Ok(verdict(findings, &before, warnings))
}

/// Every rule that a workload breaks.
fn judge<'w>(workload: &'w Workload<'_>, resolved: &Resolved<'_>) -> Result<Vec<Finding>, &'w serde_json::Error> {
    let policy = &resolved.parsed.policy;
    let mut findings: Vec<Finding> = resolved.parsed.problems.iter().cloned().map(Finding::broken).collect();
    let count =
        Count { counted: Counted::of(resolved.role), number: workload.count(), field: "spec.replicas", says: None };
    findings.extend(judge_count(count, policy));
    findings.extend(missing_address(&resolved.parsed, &address_field(resolved.owner)).map(Finding::broken));
    // The StatefulSet of an MCPServer runs the user's own container, with the user's own env.
    if resolved.role != Role::McpServerBackend {
        let template = workload.template()?;
        let owner_kind = resolved.owner.map(|owner| owner.kind);
        match template::container(template, policy.container.as_deref(), owner_kind) {
            Ok(container) => findings.extend(plain_password(template, container.index).map(Finding::broken)),
            Err(problem) => findings.push(Finding::broken(problem)),
        }
    }
    Ok(findings)
}

/// What to do about a Redis without an address.
const ADDRESS_MISSING: &str = "the session provider is redis, and nothing says where it is; name it as host:port or as a \
                               redis:// URL";

/// Redis that nobody can find. `field` is where its address belongs.
pub(super) fn missing_address(parsed: &Parsed, field: &str) -> Option<Problem> {
    parsed.policy.storage.redis().filter(|redis| redis.address.is_none())?;
    // An address that cannot be read is there; that it cannot be read is said already.
    let unreadable = parsed.problems.iter().any(|problem| problem.field == field);
    (!unreadable).then(|| Problem::required(CodeWord::SessionStorageAddressMissing, field, ADDRESS_MISSING))
}

fn address_field(owner: Option<&CustomResource>) -> String {
    match owner {
        None => annotation_path(names::SESSION_ADDRESS),
        Some(owner) => owner.field("spec.sessionStorage.address"),
    }
}

/// A password in the clear. Where there is a reference to replace it with, mutation has done so already.
fn plain_password(template: &Value, container: usize) -> Option<Problem> {
    let entries = template::env_named(template, container, names::PASSWORD_ENV);
    let (index, _) = entries.into_iter().find(|(_, entry)| template::is_plain(entry))?;
    Some(Problem::invalid(
        CodeWord::PlaintextPassword,
        format!("spec.template.spec.containers[{container}].env[{index}].value"),
        "(hidden)",
        format!(
            "{} holds the Redis password in plain text; keep it in a Secret, name that with {}: NAME/KEY (or passwordRef), and \
             take the value out",
            names::PASSWORD_ENV,
            names::SESSION_PASSWORD_SECRET
        ),
    ))
}

/// Sessions are pinned to pods by the DNS names that a headless Service gives them.
fn service_name_warning(kind: WorkloadKind, workload: &Workload<'_>, resolved: &Resolved<'_>) -> Option<String> {
    if kind != WorkloadKind::StatefulSet {
        return None;
    }
    let name = workload.spec.service_name.as_deref().unwrap_or_default();
    let of_form = |name: &str| {
        name.strip_prefix("mcp-").and_then(|rest| rest.strip_suffix("-headless")).is_some_and(|n| !n.is_empty())
    };
    let expected = |owner: &Metadata| derived::headless_service(&owner.name);
    let (right, expected) = match resolved.owner {
        Some(owner) => (name == expected(&owner.meta), expected(&owner.meta)),
        None => (of_form(name), expected(&workload.metadata)),
    };
    (!right).then(|| {
        format!(
            "spec.serviceName: {name:?} names no headless Service of the form {expected}: sessions are pinned to the DNS names \
             that such a Service gives to pods"
        )
    })
}
