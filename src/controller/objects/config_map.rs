//! ConfigMaps: what the proxy and the aggregator read.

use berth_proxy::config::{HeadlessService, RunConfig, ScalingConfig, SessionRedis};
use serde_json::{Map, Value, json};

use super::refusal::Refusal;
use super::resource::Resource;
use super::{Object, ObjectKind, metadata, names};
use crate::manifest::to_yaml;
use crate::policy::RedisStorage;

/// Key of the RunConfig in its ConfigMap, and name of its file.
pub(super) const RUN_CONFIG_KEY: &str = "runconfig.json";
/// Key of the aggregator's configuration in its ConfigMap, and name of its file.
pub(super) const VMCP_CONFIG_KEY: &str = "config.yaml";

/// What an MCPServer's ports are.
#[derive(Clone, Copy)]
pub(super) struct Ports {
    /// The proxy's, for clients.
    pub(super) proxy: u16,
    /// The server's, for the proxy.
    pub(super) server: u16,
}

/// The ConfigMap of the session proxy.
pub(super) fn run_config(resource: &Resource<'_>, image: &str, ports: Ports, stamp: i64) -> Result<Object, Refusal> {
    let policy = &resource.policy;
    let backend_replicas = policy.backend_replicas.and_then(|count| i32::try_from(count).ok());
    let mut scaling = ScalingConfig::default();
    scaling.session_redis = policy.storage.redis().map(|redis| SessionRedis {
        address: redis.address.as_ref().map(ToString::to_string).unwrap_or_default(),
        db: i32::try_from(redis.db).ok(),
        key_prefix: redis.key_prefix.clone(),
    });
    scaling.headless_service = Some(HeadlessService {
        statefulset_name: names::stateful_set(&resource.name),
        service_name: names::headless_service(&resource.name),
        namespace: resource.namespace.clone(),
        // Has to be there, and says nothing of which pods there are.
        replicas: Some(backend_replicas.unwrap_or(1)),
        ready_service_name: names::ready_service(&resource.name),
    });
    let mut config = RunConfig::default();
    config.mcpserver_generation = Some(stamp);
    config.name.clone_from(&resource.name);
    config.image = image.to_owned();
    config.transport = policy.transport.as_str().to_owned();
    config.host = "0.0.0.0".to_owned();
    config.port = Some(ports.proxy.into());
    config.target_port = Some(ports.server.into());
    config.session_cache_size = Some(policy.session_cache_size);
    config.session_ttl = Some(policy.session_ttl);
    config.scaling_config = Some(scaling);
    config.set_backend_replicas(backend_replicas);
    let text = config.to_json().map_err(|error| Refusal::invalid("spec", error))?;
    let name = names::run_config(&resource.name);
    let data = json!({"data": {RUN_CONFIG_KEY: text}});
    Ok(metadata::object(resource, ObjectKind::ConfigMap, name, &metadata::front_labels(resource), None, data))
}

/// The aggregator's configuration: `spec.config` as it is, and where sessions are kept.
pub(super) fn vmcp_config(config: Option<&Map<String, Value>>, redis: Option<&RedisStorage>) -> Map<String, Value> {
    let mut config = config.cloned().unwrap_or_default();
    config.remove(SESSION_STORAGE);
    if let Some(redis) = redis {
        let address = redis.address.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut storage = json!({"provider": "redis", "address": address, "db": redis.db});
        if let Some(storage) = storage.as_object_mut().filter(|_| !redis.key_prefix.is_empty()) {
            storage.insert("keyPrefix".to_owned(), json!(redis.key_prefix));
        }
        config.insert(SESSION_STORAGE.to_owned(), storage);
    }
    config
}

/// The key of the aggregator's configuration that is Berth's to write.
pub(super) const SESSION_STORAGE: &str = "sessionStorage";

/// The ConfigMap of the aggregator.
pub(super) fn vmcp(resource: &Resource<'_>, config: &Map<String, Value>) -> Object {
    let text = to_yaml(&Value::Object(config.clone()));
    let name = names::vmcp_config(&resource.name);
    let data = json!({"data": {VMCP_CONFIG_KEY: text}});
    metadata::object(resource, ObjectKind::ConfigMap, name, &metadata::front_labels(resource), None, data)
}
