//! Services: where clients connect to, and where the proxy finds pods.

use serde_json::{Value, json};

use super::config_map::Ports;
use super::metadata::{self, Overrides, set};
use super::refusal::Refusal;
use super::resource::Resource;
use super::{Object, ObjectKind, names};

/// Port of a VirtualMCPServer's Service and container.
pub(super) const VMCP_PORT: u16 = 4483;
/// Name of the port that clients connect to.
pub(super) const FRONT_PORT: &str = "http";
/// Name of the server's own port; SRV records exist only for ports with names.
pub(super) const SERVER_PORT: &str = "mcp";

/// The Service of the session proxy.
pub(super) fn proxy(resource: &Resource<'_>, ports: Ports, users: &Overrides) -> Result<Object, Refusal> {
    let labels = metadata::front_labels(resource);
    // Of no type: the API server makes it ClusterIP, and a person may make it another one.
    let mut spec = json!({"selector": metadata::map(&labels), "ports": [port(FRONT_PORT, ports.proxy, FRONT_PORT)]});
    set(&mut spec, "sessionAffinity", affinity(resource)?);
    let name = names::proxy_service(&resource.name);
    Ok(metadata::object(resource, ObjectKind::Service, name, &labels, Some(users), json!({"spec": spec})))
}

/// The Services by which the proxy finds pods: all of them, and the ready ones.
pub(super) fn server(resource: &Resource<'_>, ports: Ports) -> [Object; 2] {
    let labels = metadata::server_labels(resource);
    let service = |name: String, unready: bool| {
        let mut spec = json!({
            "clusterIP": "None",
            "selector": metadata::map(&labels),
            "ports": [port(SERVER_PORT, ports.server, ports.server)],
        });
        // A pinned session outlives a failed readiness probe.
        set(&mut spec, "publishNotReadyAddresses", unready.then_some(true.into()));
        metadata::object(resource, ObjectKind::Service, name, &labels, None, json!({"spec": spec}))
    };
    [service(names::headless_service(&resource.name), true), service(names::ready_service(&resource.name), false)]
}

/// The Service of the aggregator.
pub(super) fn vmcp(resource: &Resource<'_>) -> Result<Object, Refusal> {
    let labels = metadata::front_labels(resource);
    let mut spec = json!({"selector": metadata::map(&labels), "ports": [port(FRONT_PORT, VMCP_PORT, FRONT_PORT)]});
    let kind = one_of(resource, "serviceType", &["ClusterIP", "NodePort", "LoadBalancer"])?;
    set(&mut spec, "type", kind.map(Into::into));
    set(&mut spec, "sessionAffinity", affinity(resource)?);
    let name = names::vmcp_service(&resource.name);
    Ok(metadata::object(resource, ObjectKind::Service, name, &labels, None, json!({"spec": spec})))
}

/// A target by name follows a container whose port changes; by number it holds for pods that give it no name.
fn port(name: &str, number: u16, target: impl Into<Value>) -> Value {
    json!({"name": name, "port": number, "protocol": "TCP", "targetPort": target.into()})
}

fn affinity(resource: &Resource<'_>) -> Result<Option<Value>, Refusal> {
    Ok(one_of(resource, "sessionAffinity", &["ClientIP", "None"])?.map(Into::into))
}

fn one_of<'a>(resource: &Resource<'a>, field: &str, known: &[&str]) -> Result<Option<&'a str>, Refusal> {
    match resource.spec.text(field)? {
        Some(text) if !known.contains(&text) => {
            Err(Refusal::invalid(&resource.spec.path(field), format!("it must be one of {}", known.join(", "))))
        }
        text => Ok(text),
    }
}
