//! Which policy applies to an object, where each value of it comes from, and what follows.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::provenance::{self, Provenance, number};
use super::{Judged, Preview, Remark, changes, rules};
use crate::admission::{CrQuery, Freshness, LiveWorkload};
use crate::controller::objects::Reason;
use crate::policy::names;
use crate::policy::{CrKind, CustomResource, Role, Transport, WorkloadKind, resolve};

/// Everything that Berth has to say of one object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// Kind of the object.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub standing: Standing,
    /// The policy, value by value.
    pub settings: Vec<Setting>,
    /// What a write of the object would change in it.
    pub changes: Vec<Change>,
    /// The rules that bind it.
    pub rules: Vec<Rule>,
    /// Why a write of it would be refused, one sentence each.
    pub refused: Vec<String>,
    /// What a writer would be warned of.
    pub warnings: Vec<String>,
    /// What a writer would not be told, and should know.
    pub remarks: Vec<Rule>,
}

/// Whose an object is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "policy", rename_all = "kebab-case")]
pub enum Standing {
    /// A workload that opted in by annotation.
    Annotations,
    /// A workload that a custom resource controls.
    CustomResource {
        /// `KIND/NAME`.
        owner: String,
    },
    /// The object is itself a policy, for the workloads of its name that it controls.
    Itself,
    /// An autoscaler, judged by what it scales.
    Target {
        /// `KIND/NAME`.
        target: String,
    },
    /// Berth leaves it alone.
    None {
        /// Why.
        reason: String,
    },
}

/// One value of a policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    /// What it is about.
    pub name: &'static str,
    /// The value; null is hands off.
    pub value: Value,
    /// Whether what stands there cannot be read; then the value is the safest one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unreadable: bool,
    /// Where it comes from.
    pub from: Origin,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "source", rename_all = "kebab-case")]
pub enum Origin {
    /// A field of an object, be it an annotation.
    Field {
        /// `KIND/NAME`.
        object: String,
        /// Path of the field.
        field: String,
    },
    /// The command line of Berth.
    Flag {
        /// The flag.
        flag: &'static str,
    },
    /// Nobody says otherwise.
    Default,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Path of the field.
    pub field: String,
    /// What stands there; null when nothing does.
    pub from: Value,
    /// What will stand there; null when nothing will.
    pub to: Value,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Its code word, where breaking it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// What it means for this object.
    pub text: String,
}

impl Preview<'_> {
    /// Explains one of the judged objects.
    #[must_use]
    pub fn explain(&self, judged: &Judged<'_>) -> Explanation {
        let identity = &judged.identity;
        let value = &judged.object.value;
        let mut explanation = Explanation {
            kind: identity.kind.kind.clone(),
            namespace: identity.namespace.clone(),
            name: identity.name.clone(),
            standing: Standing::None { reason: String::new() },
            settings: Vec::new(),
            changes: changes::of_patch(&judged.patch.0, value),
            rules: Vec::new(),
            refused: refused(judged),
            warnings: judged.warnings.clone(),
            remarks: judged.remarks.iter().map(remark).collect(),
        };
        if let Some(kind) = identity.workload() {
            self.workload(kind, judged, &mut explanation);
        } else if let Some(kind) = identity.custom_resource() {
            self.custom_resource(kind, judged, &mut explanation);
        } else {
            let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let target = format!("{}/{}", text("/spec/scaleTargetRef/kind"), text("/spec/scaleTargetRef/name"));
            explanation.standing = Standing::Target { target };
        }
        explanation
    }

    fn workload(&self, kind: WorkloadKind, judged: &Judged<'_>, explanation: &mut Explanation) {
        let value = &judged.object.value;
        let metadata = LiveWorkload::deserialize(value).map(|workload| workload.metadata).unwrap_or_default();
        let controller = metadata.controller();
        let owner = controller.as_ref().and_then(|controller| {
            self.known.custom_resource(&CrQuery {
                kind: controller.kind,
                namespace: judged.identity.namespace.clone(),
                name: controller.name.clone(),
                uid: (!controller.uid.is_empty()).then(|| controller.uid.clone()),
                freshness: Freshness::Generation(0),
            })
        });
        let Some(resolved) = resolve(kind, &metadata, owner.as_ref().map(|(cr, _)| cr.as_ref())) else {
            let reason = match controller {
                Some(owner) => format!(
                    "its owner {}/{} is not known here, and it has no {}",
                    owner.kind.as_str(),
                    owner.name,
                    names::INJECT
                ),
                None => format!(
                    "it has no annotation {}: enabled, and no MCPServer or VirtualMCPServer controls it",
                    names::INJECT
                ),
            };
            explanation.standing = Standing::None { reason };
            return;
        };
        explanation.standing = match resolved.owner {
            Some(owner) => Standing::CustomResource { owner: format!("{}/{}", owner.kind.as_str(), owner.meta.name) },
            None => Standing::Annotations,
        };
        let provenance = match &owner {
            Some((cr, value)) => Provenance::resource(cr, value, self.settings.default_storage.is_some()),
            None => Provenance::annotations(judged.identity.to_string(), &metadata, &resolved.parsed.problems),
        };
        let template = value.pointer("/spec/template").unwrap_or(&Value::Null);
        let backend = resolved.role == Role::McpServerBackend;
        let policy = &resolved.parsed.policy;
        let replicas =
            if backend { ("spec.backendReplicas", policy.replicas) } else { ("spec.replicas", policy.replicas) };
        explanation.settings.push(provenance.setting("replicas", names::REPLICAS, replicas.0, number(replicas.1)));
        explanation.settings.extend(provenance.storage(policy));
        explanation.settings.push(provenance.transport(policy));
        explanation.settings.push(provenance.grace(policy, Some((&judged.identity.to_string(), template))));
        if !backend {
            explanation.settings.extend(provenance::container(
                &provenance,
                &resolved,
                template,
                &judged.identity.to_string(),
            ));
        }
        explanation.settings.extend(provenance.server(policy));
        explanation.rules = rules::of_workload(&resolved, &metadata);
    }

    fn custom_resource(&self, kind: CrKind, judged: &Judged<'_>, explanation: &mut Explanation) {
        explanation.standing = Standing::Itself;
        let value = &judged.object.value;
        let Ok(cr) = CustomResource::from_value(kind, value, self.settings.default_storage.as_ref()) else { return };
        let provenance = Provenance::resource(&cr, value, self.settings.default_storage.is_some());
        let policy = &cr.parsed.policy;
        let mut settings = vec![provenance.setting("replicas", "", "spec.replicas", number(policy.replicas))];
        if kind == CrKind::McpServer {
            settings.push(provenance.setting(
                "backend replicas",
                "",
                "spec.backendReplicas",
                number(policy.backend_replicas),
            ));
        }
        settings.extend(provenance.storage(policy));
        settings.push(provenance.transport(policy));
        settings.push(provenance.grace(policy, None));
        settings.extend(provenance.server(policy));
        explanation.settings = settings;
        explanation.rules.push(rules::of_count(policy, false));
        if kind == CrKind::McpServer && policy.transport != Transport::Stdio {
            explanation.rules.push(rules::of_count(policy, true));
        }
        explanation.rules.extend(rules::of_address(policy));
    }
}

fn remark(remark: &Remark) -> Rule {
    Rule { code: remark.reason.map(Reason::as_str), text: remark.text.clone() }
}

fn refused(judged: &Judged<'_>) -> Vec<String> {
    let Some(refusal) = &judged.refusal else { return Vec::new() };
    match refusal.problems.as_slice() {
        [] => vec![refusal.message.clone()],
        problems => problems.iter().map(ToString::to_string).collect(),
    }
}
