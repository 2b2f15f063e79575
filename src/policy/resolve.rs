//! Which policy applies to a workload.

use super::annotations::{OptIn, annotation_path, from_annotations, opt_in};
use super::custom_resource::CustomResource;
use super::metadata::{CrKind, Metadata};
use super::model::{Parsed, ScalingPolicy};
use super::names;
use super::problem::{CodeWord, Fault, Problem, shown};

/// The kinds of workload that Berth wires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkloadKind {
    /// apps/Deployment.
    Deployment,
    /// apps/StatefulSet.
    StatefulSet,
}

impl WorkloadKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Deployment, Self::StatefulSet];

    /// The kind's name in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
        }
    }

    /// The kind's plural name, as in URLs.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn from_kind(kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == kind)
    }

    /// The kind of this plural name.
    #[must_use]
    pub fn from_plural(plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.plural() == plural)
    }
}

/// What a workload is to Berth; rules differ by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A workload that opted in by annotation.
    Annotated,
    /// The Deployment of an MCPServer: its session proxy.
    McpServerProxy,
    /// The StatefulSet of an MCPServer: the server itself, in the user's container.
    McpServerBackend,
    /// A workload of a VirtualMCPServer.
    VirtualMcpServer,
}

impl Role {
    /// Whether the workload follows a custom resource.
    #[must_use]
    pub fn is_owned(self) -> bool {
        self != Self::Annotated
    }

    /// Whether the workload's stamp is the generation of an MCPServer.
    #[must_use]
    pub fn has_mcpserver_stamp(self) -> bool {
        matches!(self, Self::McpServerProxy | Self::McpServerBackend)
    }
}

/// The policy of one workload, and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved<'a> {
    /// What the workload is.
    pub role: Role,
    /// Its policy; `replicas` is the count of this very workload.
    pub parsed: Parsed,
    /// The custom resource that it comes from.
    pub owner: Option<&'a CustomResource>,
    /// Where annotations say otherwise than the custom resource, one line each.
    pub conflicts: Vec<String>,
}

/// The policy that applies to a workload, `None` when it is not Berth's.
///
/// `owner` is the custom resource that controls the workload, where there is one and it still exists: it beats
/// annotations. Without one the annotations decide.
#[must_use]
pub fn resolve<'a>(kind: WorkloadKind, meta: &Metadata, owner: Option<&'a CustomResource>) -> Option<Resolved<'a>> {
    let opted = opt_in(meta);
    let unknown = match &opted {
        OptIn::Unknown(value) => Some(Problem::invalid(
            CodeWord::InvalidPolicy,
            annotation_path(names::INJECT),
            value.clone(),
            "it must be enabled or disabled",
        )),
        OptIn::Absent | OptIn::Disabled | OptIn::Enabled => None,
    };
    let mut resolved = match owner {
        Some(owner) => from_owner(kind, meta, owner, opted == OptIn::Enabled),
        None if matches!(opted, OptIn::Absent | OptIn::Disabled) => return None,
        None => Resolved { role: Role::Annotated, parsed: from_annotations(meta), owner: None, conflicts: Vec::new() },
    };
    resolved.parsed.problems.extend(unknown);
    Some(resolved)
}

fn from_owner<'a>(kind: WorkloadKind, meta: &Metadata, owner: &'a CustomResource, annotated: bool) -> Resolved<'a> {
    let role = match (owner.kind, kind) {
        (CrKind::McpServer, WorkloadKind::Deployment) => Role::McpServerProxy,
        (CrKind::McpServer, WorkloadKind::StatefulSet) => Role::McpServerBackend,
        (CrKind::VirtualMcpServer, _) => Role::VirtualMcpServer,
    };
    let mut parsed = owner.parsed.clone();
    if role == Role::McpServerBackend {
        parsed.policy.replicas = parsed.policy.backend_replicas;
    }
    // A problem of the custom resource is refused where the custom resource is written. Here it would name a field that
    // the writer of the workload cannot mend in this object, so its path says whose it is.
    for problem in &mut parsed.problems {
        problem.field = owner.field(&problem.field);
    }
    let conflicts = if annotated { conflicts(meta, owner, &parsed.policy) } else { Vec::new() };
    Resolved { role, parsed, owner: Some(owner), conflicts }
}

fn conflicts(meta: &Metadata, owner: &CustomResource, policy: &ScalingPolicy) -> Vec<String> {
    let Parsed { policy: said, problems } = from_annotations(meta);
    // What cannot be read is shown as its problem shows it: without the password that an address may hold.
    let value = |key: &str| {
        let unreadable = problems.iter().find(|problem| problem.field == annotation_path(key));
        match unreadable.map(|problem| &problem.fault) {
            Some(Fault::Invalid(value)) => shown(value),
            _ => meta.annotation(key).map(shown).unwrap_or_default(),
        }
    };
    let redis = |policy: &ScalingPolicy| policy.storage.redis().cloned().unwrap_or_default();
    let (own, other) = (redis(&said), redis(policy));
    let both_shared = said.storage.is_shared() && policy.storage.is_shared();
    [
        (names::REPLICAS, said.replicas != policy.replicas),
        (names::SESSION_PROVIDER, said.storage.is_shared() != policy.storage.is_shared()),
        (names::SESSION_ADDRESS, both_shared && own.address != other.address),
        (names::SESSION_DB, both_shared && own.db != other.db),
        (names::SESSION_KEY_PREFIX, both_shared && own.key_prefix != other.key_prefix),
        (names::SESSION_PASSWORD_SECRET, both_shared && own.password != other.password),
        (names::TRANSPORT, said.transport != policy.transport),
        (names::GRACE_PERIOD, said.grace_period_seconds != policy.grace_period_seconds),
        (names::SESSION_CACHE_SIZE, said.session_cache_size != policy.session_cache_size),
        (names::SESSION_TTL, said.session_ttl != policy.session_ttl),
    ]
    .into_iter()
    .filter(|(key, differs)| *differs && meta.annotation(key).is_some())
    .map(|(key, _)| {
        let value = value(key);
        let (kind, name) = (owner.kind.as_str(), &owner.meta.name);
        format!("annotation {key}: {value} is not followed: {kind} \"{name}\" controls this workload and says otherwise; change it there")
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn meta(annotations: Value) -> Metadata {
        serde_json::from_value(json!({"name": "web", "annotations": annotations})).unwrap()
    }

    fn cr(kind: CrKind, spec: Value) -> CustomResource {
        CustomResource::from_value(kind, &json!({"metadata": {"name": "cr"}, "spec": spec}), None).unwrap()
    }

    #[test]
    fn without_owner_the_annotations_decide() {
        assert_eq!(resolve(WorkloadKind::Deployment, &meta(json!({})), None), None);
        assert_eq!(resolve(WorkloadKind::Deployment, &meta(json!({"berth.dev/inject": "disabled"})), None), None);
        let resolved = resolve(WorkloadKind::Deployment, &meta(json!({"berth.dev/inject": "enabled"})), None).unwrap();
        assert_eq!((resolved.role, resolved.parsed.problems.len()), (Role::Annotated, 0));
        let resolved = resolve(WorkloadKind::Deployment, &meta(json!({"berth.dev/inject": "on"})), None).unwrap();
        assert_eq!(resolved.parsed.problems[0].field, "metadata.annotations[berth.dev/inject]");
    }

    #[test]
    fn a_statefulset_of_an_mcpserver_counts_backends() {
        let cr = cr(CrKind::McpServer, json!({"replicas": 2, "backendReplicas": 5, "transport": "sse"}));
        let of = |kind| {
            let resolved = resolve(kind, &meta(json!({})), Some(&cr)).unwrap();
            (resolved.role, resolved.parsed.policy.replicas)
        };
        assert_eq!(of(WorkloadKind::Deployment), (Role::McpServerProxy, Some(2)));
        assert_eq!(of(WorkloadKind::StatefulSet), (Role::McpServerBackend, Some(5)));
    }

    #[test]
    fn the_custom_resource_beats_annotations_with_a_line_for_each_conflict() {
        let cr = cr(CrKind::VirtualMcpServer, json!({"replicas": 2}));
        let agreeing = meta(json!({"berth.dev/inject": "enabled", "berth.dev/replicas": "2"}));
        assert_eq!(resolve(WorkloadKind::Deployment, &agreeing, Some(&cr)).unwrap().conflicts, Vec::<String>::new());
        let other =
            meta(json!({"berth.dev/inject": "enabled", "berth.dev/replicas": "3", "berth.dev/session-ttl": "1h"}));
        let resolved = resolve(WorkloadKind::Deployment, &other, Some(&cr)).unwrap();
        assert_eq!(resolved.parsed.policy.replicas, Some(2));
        assert_eq!(resolved.conflicts.len(), 2, "{:?}", resolved.conflicts);
        assert!(resolved.conflicts[0].contains("berth.dev/replicas: \"3\""));
    }

    #[test]
    fn a_conflict_repeats_no_password() {
        let redis = json!({"sessionStorage": {"provider": "redis", "address": "r:6379"}});
        let annotations = json!({"berth.dev/inject": "enabled", "berth.dev/session-provider": "redis",
            "berth.dev/session-address": "redis://:hunter2@r:6379"});
        let cr = cr(CrKind::VirtualMcpServer, redis);
        let resolved = resolve(WorkloadKind::Deployment, &meta(annotations), Some(&cr)).unwrap();
        assert_eq!(resolved.conflicts.len(), 1, "{:?}", resolved.conflicts);
        assert!(!resolved.conflicts[0].contains("hunter2"), "{:?}", resolved.conflicts);
    }
}
