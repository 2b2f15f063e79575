//! From (custom resource, settings, facts) to Kubernetes objects. Pure and synchronous.
//!
//! The same input gives the same bytes, and a field that the API server fills in is left to it: what is written here is
//! applied again only when it says something else. **What an old resource gives must not change from one version to the
//! next**: a changed pod template restarts every server, and upgrading Berth restarts none. `tests/controller_objects`
//! holds the templates still.

mod conditions;
mod config_map;
mod environment;
mod fields;
mod mcp_server;
mod metadata;
mod pod_template;
mod quantity;
mod refusal;
mod resource;
mod services;
mod virtual_mcp_server;

pub use crate::policy::derived as names;
pub use conditions::Condition;
pub(super) use pod_template::has_keys;
pub use refusal::Reason;

use serde_json::Value;

use crate::policy::{CrKind, RedisStorage};
use refusal::Refusal;
use resource::Resource;

/// What the process is set to; the same for all resources.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Image of the session proxy.
    pub proxy_image: String,
    /// Image of the aggregator of a `VirtualMCPServer`.
    pub vmcp_image: String,
    /// `imagePullPolicy` of both; `None` leaves it to the API server.
    pub image_pull_policy: Option<String>,
    /// DNS domain of the cluster, usually `cluster.local`.
    pub cluster_domain: String,
    /// Stands in where a resource names no session storage.
    pub default_storage: Option<RedisStorage>,
}

/// What is known besides the custom resource itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The stamp that the templates of an `MCPServer` carry.
    pub stamp: i64,
    /// The count of its Deployment as it is now, which counts where the resource names none; 0 without a Deployment.
    pub replicas: i64,
    /// The same of its StatefulSet.
    pub backends: i64,
}

/// What becomes of one custom resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Nothing may be built.
    Nothing {
        /// The kind of reason.
        reason: Reason,
        /// One sentence that names the field and says what to do.
        message: String,
        /// Every condition that applies to the kind, active or not.
        conditions: Vec<Condition>,
    },
    /// This is to exist.
    Build(Build),
}

/// What is to exist for one custom resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Build {
    /// In the order in which they are to be applied: a pod finds its configuration and its names.
    pub objects: Vec<Object>,
    /// What was asked for and is not done, one line each.
    pub warnings: Vec<Warning>,
    /// Every condition that applies to the kind, active or not.
    pub conditions: Vec<Condition>,
    /// Where clients in the cluster reach it.
    pub url: String,
}

/// Something that was asked for and is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// A word for the Event.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

/// The kinds of object that are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// core/ConfigMap.
    ConfigMap,
    /// core/Service.
    Service,
    /// apps/StatefulSet.
    StatefulSet,
    /// apps/Deployment.
    Deployment,
}

impl ObjectKind {
    /// The kind's name in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Service => "Service",
            Self::StatefulSet => "StatefulSet",
            Self::Deployment => "Deployment",
        }
    }

    fn api_version(self) -> &'static str {
        match self {
            Self::ConfigMap | Self::Service => "v1",
            Self::StatefulSet | Self::Deployment => "apps/v1",
        }
    }
}

/// One object as it is to be applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its kind.
    pub kind: ObjectKind,
    /// All of it. `spec.replicas` is absent where nobody but an autoscaler, or a person, decides the count.
    pub json: Value,
}

impl Object {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.json.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
    }
}

/// What is to exist for this custom resource.
///
/// A field that guards access, and that Berth does not know how to honour, comes before everything else that may be
/// wrong: what runs without the guard has to go.
#[must_use]
pub fn plan(cr: &Value, kind: CrKind, settings: &Settings, facts: &Facts) -> Plan {
    let resource = match Resource::read(cr, kind, settings) {
        Ok(resource) => resource,
        Err(Refusal { reason, message }) => return Plan::Nothing { reason, message, conditions: Vec::new() },
    };
    let conditions = conditions::of(kind, &resource.policy, facts);
    match build(&resource, settings, facts) {
        Ok(built) => Plan::Build(Build { conditions, ..built }),
        Err(Refusal { reason, message }) => Plan::Nothing { reason, message, conditions },
    }
}

fn build(resource: &Resource<'_>, settings: &Settings, facts: &Facts) -> Result<Build, Refusal> {
    let mut warnings = fields::check(resource)?;
    resource.check_policy()?;
    let (objects, url) = match resource.kind {
        CrKind::McpServer => mcp_server::build(resource, settings, facts, &mut warnings)?,
        CrKind::VirtualMcpServer => virtual_mcp_server::build(resource, settings, &mut warnings)?,
    };
    Ok(Build { objects, warnings, conditions: Vec::new(), url })
}

/// Hash of all of the spec that templates are made from: everything but the replica counts.
///
/// Settings have no part in it, so that a Berth with another default image restarts nothing. 32 hexadecimal digits; two
/// specs that mean the same to JSON have the same.
#[must_use]
pub fn spec_hash(cr: &Value) -> String {
    let mut spec = cr.get("spec").cloned().unwrap_or_default();
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("replicas");
        spec.remove("backendReplicas");
        // The API server drops nulls, manifests may carry them.
        spec.retain(|_, value| !value.is_null());
    }
    names::digest(&spec)
}
