//! A `VirtualMCPServer`: one endpoint in front of several servers.

use serde_json::{Map, Value, json};

use super::config_map::{self, SESSION_STORAGE, VMCP_CONFIG_KEY};
use super::environment::{self, Environment};
use super::metadata::{self, ignored, set};
use super::pod_template::{self, Own, UserTemplate, restricted};
use super::refusal::Refusal;
use super::resource::Resource;
use super::services::{self, FRONT_PORT, VMCP_PORT};
use super::{Object, ObjectKind, Settings, Warning, conditions, names};
use crate::policy::names::{CONFIG_CHECKSUM, VMCP_CONTAINER};

const CONFIG_DIR: &str = "/etc/vmcp-config";
const CONFIG_VOLUME: &str = "vmcp-config";
/// The user that ToolHive runs the aggregator as.
const USER: u32 = 1000;

pub(super) fn build(
    resource: &Resource<'_>,
    settings: &Settings,
    warnings: &mut Vec<Warning>,
) -> Result<(Vec<Object>, String), Refusal> {
    let given = resource.spec.object("config")?;
    if given.get(SESSION_STORAGE).is_some() {
        warnings.push(ignored(&given.path(SESSION_STORAGE), "it comes from spec.sessionStorage alone"));
    }
    let given = resource.spec.get("config").and_then(Value::as_object);
    let config = config_map::vmcp_config(given, resource.policy.storage.redis());
    let objects = vec![
        config_map::vmcp(resource, &config),
        services::vmcp(resource)?,
        aggregator(resource, settings, &config, warnings)?,
    ];
    let host = names::vmcp_service(&resource.name);
    let url = format!("http://{host}.{}.svc.{}:{VMCP_PORT}/mcp", resource.namespace, settings.cluster_domain);
    Ok((objects, url))
}

fn aggregator(
    resource: &Resource<'_>,
    settings: &Settings,
    config: &Map<String, Value>,
    warnings: &mut Vec<Warning>,
) -> Result<Object, Refusal> {
    let labels = metadata::front_labels(resource);
    let users = UserTemplate::read(&resource.spec, "podTemplateSpec", &labels, warnings)?;
    let grace_period = users.grace_period(&resource.policy, warnings);

    let mut environment = Environment::default();
    environment.set_text("VMCP_NAME", &resource.name);
    environment.set_text("VMCP_NAMESPACE", &resource.namespace);
    let (pod_security, container_security) = restricted(USER);
    let probe = |period: u32| json!({"httpGet": {"path": "/health", "port": FRONT_PORT}, "periodSeconds": period});
    let mut container = json!({
        "name": VMCP_CONTAINER,
        "image": settings.vmcp_image,
        "args": ["serve", format!("--config={CONFIG_DIR}/{VMCP_CONFIG_KEY}"), "--host=0.0.0.0", format!("--port={VMCP_PORT}")],
        "env": environment.into_entries(),
        "ports": [{"name": FRONT_PORT, "containerPort": VMCP_PORT, "protocol": "TCP"}],
        "securityContext": container_security,
        "volumeMounts": [{"name": CONFIG_VOLUME, "mountPath": CONFIG_DIR, "readOnly": true}],
    });
    let mut pod = json!({
        "securityContext": pod_security,
        "volumes": [{"name": CONFIG_VOLUME, "configMap": {"name": names::vmcp_config(&resource.name)}}],
    });
    set(&mut container, "imagePullPolicy", settings.image_pull_policy.clone().map(Value::String));
    let pull_secrets = pod_template::pull_secrets(&resource.spec)?;
    set(&mut pod, "imagePullSecrets", (!pull_secrets.is_empty()).then_some(Value::Array(pull_secrets)));
    set(&mut pod, "serviceAccountName", resource.spec.text("serviceAccount")?.map(Into::into));
    set(&mut pod, "containers", Some(json!([container])));

    // What is in the file counts, not how it is written: another way of writing YAML restarts nothing.
    let checksum = names::digest(&Value::Object(config.clone()));
    let annotations = Map::from_iter([(CONFIG_CHECKSUM.to_owned(), json!(checksum))]);
    let mut template = users.over(pod, Own { labels: &labels, annotations, grace_period });
    if let Some(container) = pod_template::container(&mut template, VMCP_CONTAINER) {
        container.entry("livenessProbe").or_insert_with(|| probe(10));
        container.entry("readinessProbe").or_insert_with(|| probe(5));
        let mut environment = Environment::default();
        let entries = container.get("env").and_then(Value::as_array).into_iter().flatten();
        entries.cloned().for_each(|entry| environment.set(entry));
        let field = resource.spec.path("podTemplateSpec.spec.containers[vmcp].env");
        let mut environment = environment::without_own(environment, &field, warnings);
        environment::password(&resource.policy).into_iter().for_each(|entry| environment.set(entry));
        container.insert("env".to_owned(), Value::Array(environment.into_entries()));
    }
    let mut spec = json!({
        "selector": {"matchLabels": metadata::map(&labels)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": template,
    });
    set(&mut spec, "replicas", conditions::safe_replicas(&resource.policy).map(Into::into));
    let name = names::deployment(&resource.name);
    Ok(metadata::object(resource, ObjectKind::Deployment, name, &labels, None, json!({"spec": spec})))
}
