//! An `MCPServer`: a session proxy in front of the pods of a server.

use k8s_openapi::api::core::v1::ResourceRequirements;
use serde_json::{Map, Value, json};

use super::config_map::{self, Ports, RUN_CONFIG_KEY};
use super::environment::{self, Environment};
use super::metadata::{self, Overrides, set};
use super::pod_template::{self, Own, UserTemplate, restricted};
use super::quantity::with_quantities;
use super::refusal::Refusal;
use super::resource::{Resource, typed};
use super::services::{self, FRONT_PORT, SERVER_PORT};
use super::{Facts, Object, ObjectKind, Settings, Warning, conditions, names};
use crate::admission::generation_entry;
use crate::policy::Transport;
use crate::policy::names::{DEFAULT_STORAGE, STAMP, TOOLHIVE_CONTAINER};

/// Container of the server itself.
const SERVER_CONTAINER: &str = "mcp";
const DEFAULT_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 9090;
/// The user that the proxy's image runs as.
const PROXY_USER: u32 = 65532;
/// The user that servers run as where their pod template names no other; ToolHive's.
const SERVER_USER: u32 = 1000;
const CONFIG_DIR: &str = "/etc/berth";
const CONFIG_VOLUME: &str = "runconfig";

pub(super) fn build(
    resource: &Resource<'_>,
    settings: &Settings,
    facts: &Facts,
    warnings: &mut Vec<Warning>,
) -> Result<(Vec<Object>, String), Refusal> {
    let spec = &resource.spec;
    let image = spec.required("image")?;
    let ports = Ports {
        proxy: spec.port(&["proxyPort", "port"])?.unwrap_or(DEFAULT_PORT),
        server: spec.port(&["mcpPort", "targetPort"])?.unwrap_or(DEFAULT_PORT),
    };
    let overrides = spec.object("resourceOverrides")?;
    let labels = metadata::front_labels(resource);
    let proxy_service = Overrides::read(&overrides.object("proxyService")?, &labels, warnings)?;
    let [headless, ready] = services::server(resource, ports);
    let objects = vec![
        config_map::run_config(resource, image, ports, facts.stamp)?,
        headless,
        ready,
        services::proxy(resource, ports, &proxy_service)?,
        server(resource, image, ports, facts, warnings)?,
        proxy(resource, settings, ports, facts, warnings)?,
    ];
    let path = if resource.policy.transport == Transport::Sse { "sse" } else { "mcp" };
    let host = names::proxy_service(&resource.name);
    let url = format!("http://{host}.{}.svc.{}:{}/{path}", resource.namespace, settings.cluster_domain, ports.proxy);
    Ok((objects, url))
}

/// The StatefulSet of the server's pods.
fn server(
    resource: &Resource<'_>,
    image: &str,
    ports: Ports,
    facts: &Facts,
    warnings: &mut Vec<Warning>,
) -> Result<Object, Refusal> {
    let spec = &resource.spec;
    let labels = metadata::server_labels(resource);
    let users = UserTemplate::read(spec, "podTemplateSpec", &labels, warnings)?;
    let grace_period = users.grace_period(&resource.policy, warnings);

    let mut environment = Environment::default();
    // How servers learn what they are to listen on, by ToolHive's names.
    environment.set_text("MCP_TRANSPORT", resource.policy.transport.as_str());
    environment.set_text("MCP_HOST", "0.0.0.0");
    environment.set_text("MCP_PORT", ports.server.to_string());
    environment.set_text("FASTMCP_PORT", ports.server.to_string());
    environment.extend(spec, "env")?;
    environment.extend_by_secrets(spec, "secrets")?;

    let (pod_security, container_security) = restricted(SERVER_USER);
    let mut container = json!({
        "name": SERVER_CONTAINER,
        "image": image,
        "env": environment.into_entries(),
        "ports": [{"name": SERVER_PORT, "containerPort": ports.server, "protocol": "TCP"}],
        "securityContext": container_security,
    });
    let mut pod = json!({"securityContext": pod_security});
    let (volumes, mounts) = volumes(resource)?;
    let path = spec.path("resources");
    let resources = spec.get("resources").map(|value| with_quantities(value, "resources", &path)).transpose()?;
    let resources = resources.map(|value| typed::<ResourceRequirements>(&value, &path)).transpose()?;
    let args = spec.texts("args")?;
    set(&mut container, "args", (!args.is_empty()).then(|| json!(args)));
    set(&mut container, "resources", resources);
    set(&mut container, "volumeMounts", (!mounts.is_empty()).then_some(Value::Array(mounts)));
    set(&mut pod, "volumes", (!volumes.is_empty()).then_some(Value::Array(volumes)));
    set(&mut pod, "serviceAccountName", spec.text("serviceAccount")?.map(Into::into));
    set(&mut pod, "containers", Some(json!([container])));

    let own = Own { labels: &labels, annotations: stamp(facts), grace_period };
    let mut template = users.over(pod, own);
    if let Some(container) = pod_template::container(&mut template, SERVER_CONTAINER) {
        // Not merged with a user's, which may ask otherwise than by TCP: a probe asks in one way.
        container
            .entry("readinessProbe")
            .or_insert_with(|| json!({"tcpSocket": {"port": ports.server}, "periodSeconds": 2}));
    }
    let mut spec = json!({
        "serviceName": names::headless_service(&resource.name),
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": metadata::map(&labels)},
        "template": template,
    });
    set(&mut spec, "replicas", resource.policy.backend_replicas.map(Into::into));
    let name = names::stateful_set(&resource.name);
    Ok(metadata::object(resource, ObjectKind::StatefulSet, name, &labels, None, json!({"spec": spec})))
}

/// The Deployment of the session proxy.
fn proxy(
    resource: &Resource<'_>,
    settings: &Settings,
    ports: Ports,
    facts: &Facts,
    warnings: &mut Vec<Warning>,
) -> Result<Object, Refusal> {
    let labels = metadata::front_labels(resource);
    let overrides = resource.spec.object("resourceOverrides")?.object("proxyDeployment")?;
    let users = Overrides::read(&overrides, &labels, warnings)?;
    let users_template =
        pod_template::metadata_only(&overrides.object("podTemplateMetadataOverrides")?, &labels, warnings)?;
    let grace_period = users_template.grace_period(&resource.policy, warnings);

    let mut environment = Environment::default();
    environment.extend(&overrides, "env")?;
    let mut environment = environment::without_own(environment, &overrides.path("env"), warnings);
    environment::password(&resource.policy).into_iter().for_each(|entry| environment.set(entry));
    environment.set(generation_entry());

    let admin = if ports.proxy == ADMIN_PORT { ADMIN_PORT + 1 } else { ADMIN_PORT };
    let (lame_duck, drain) = drain(grace_period);
    let (mut pod_security, container_security) = restricted(PROXY_USER);
    if ports.proxy < 1024 {
        // One of the sysctls that every cluster allows; not every runtime lets such ports be bound without it.
        let sysctl = json!([{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]);
        set(&mut pod_security, "sysctls", Some(sysctl));
    }
    let mut container = json!({
        "name": TOOLHIVE_CONTAINER,
        "image": settings.proxy_image,
        "args": [
            format!("--config={CONFIG_DIR}/{RUN_CONFIG_KEY}"),
            format!("--admin=0.0.0.0:{admin}"),
            format!("--cluster-domain={}", settings.cluster_domain),
            format!("--lame-duck={lame_duck}s"),
            format!("--drain-timeout={drain}s"),
        ],
        "env": environment.into_entries(),
        "ports": [
            {"name": FRONT_PORT, "containerPort": ports.proxy, "protocol": "TCP"},
            {"name": "admin", "containerPort": admin, "protocol": "TCP"},
        ],
        "livenessProbe": {"httpGet": {"path": "/livez", "port": "admin"}, "periodSeconds": 10, "timeoutSeconds": 5},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "admin"}, "periodSeconds": 2, "failureThreshold": 2},
        "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}},
        "securityContext": container_security,
        "volumeMounts": [{"name": CONFIG_VOLUME, "mountPath": CONFIG_DIR, "readOnly": true}],
    });
    set(&mut container, "imagePullPolicy", settings.image_pull_policy.clone().map(Value::String));
    let mut pod = json!({
        // It asks the API server nothing, and the names of a namespace's Services are not its business.
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "securityContext": pod_security,
        "containers": [container],
        "volumes": [{"name": CONFIG_VOLUME, "configMap": {"name": names::run_config(&resource.name)}}],
    });
    let pull_secrets = pod_template::pull_secrets(&overrides)?;
    set(&mut pod, "imagePullSecrets", (!pull_secrets.is_empty()).then_some(Value::Array(pull_secrets)));

    let mut annotations = stamp(facts);
    annotations.extend(default_storage(resource));
    let own = Own { labels: &labels, annotations, grace_period };
    let mut spec = json!({
        "selector": {"matchLabels": metadata::map(&labels)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": users_template.over(pod, own),
    });
    set(&mut spec, "replicas", conditions::safe_replicas(&resource.policy).map(Into::into));
    let name = names::deployment(&resource.name);
    Ok(metadata::object(resource, ObjectKind::Deployment, name, &labels, Some(&users), json!({"spec": spec})))
}

/// `spec.volumes`: directories of the node.
fn volumes(resource: &Resource<'_>) -> Result<(Vec<Value>, Vec<Value>), Refusal> {
    let (mut volumes, mut mounts) = (Vec::new(), Vec::new());
    for volume in resource.spec.objects("volumes")? {
        let (name, host, path) =
            (volume.required("name")?, volume.required("hostPath")?, volume.required("mountPath")?);
        let read_only = match volume.get("readOnly") {
            None => false,
            Some(value) => {
                value.as_bool().ok_or_else(|| Refusal::invalid(&volume.path("readOnly"), "it must be true or false"))?
            }
        };
        if volumes.iter().any(|known: &Value| known.get("name").and_then(Value::as_str) == Some(name)) {
            return Err(Refusal::invalid(&volume.path("name"), format!("{name:?} stands there twice")));
        }
        volumes.push(json!({"name": name, "hostPath": {"path": host}}));
        mounts.push(json!({"name": name, "mountPath": path, "readOnly": read_only}));
    }
    Ok((volumes, mounts))
}

fn stamp(facts: &Facts) -> Map<String, Value> {
    Map::from_iter([(STAMP.to_owned(), json!(facts.stamp.to_string()))])
}

/// The store that stands in where the resource names none. A proxy reads of its store once, when it starts, and no spec
/// changes with this one: without it, pods of one server would keep their sessions in different stores.
fn default_storage(resource: &Resource<'_>) -> Option<(String, Value)> {
    let stands_in = resource.spec.get("sessionStorage").is_none();
    let redis = resource.policy.storage.redis().filter(|_| stands_in)?;
    let address = redis.address.as_ref().map(ToString::to_string);
    let digest = names::digest(&json!({"address": address, "db": redis.db, "keyPrefix": redis.key_prefix}));
    Some((DEFAULT_STORAGE.to_owned(), digest.into()))
}

/// Seconds of the lame-duck pause and of draining after it: together less than the grace period, so that the proxy ends
/// itself. 5 and 20 of the usual 30; a longer period goes to the requests.
fn drain(grace_period: i64) -> (i64, i64) {
    let pause = (grace_period / 6).clamp(0, 5);
    let margin = pause.max(1);
    (pause, (grace_period - pause - margin).max(0))
}
