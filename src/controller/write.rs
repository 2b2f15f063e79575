//! Single requests, each within its time, and what their failures mean.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use kube::api::{DeleteParams, GetParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::Request;
use kube::{Client, Error};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::objects::{Object, ObjectKind};
use super::owned::{self, Arriving, COUNT_KEEPER, FIELD_MANAGER, Live};
use super::path::{collection, custom_resources};
use super::steady::steady;
use crate::cluster::CrKey;

/// The longest that one request takes that calls no webhook but Berth's own.
pub(super) const REQUEST: Duration = Duration::from_secs(8);
/// The longest that a write of an object takes; a lease is not taken from a leader before what it began is over (see `lease`).
/// Longer than a webhook has that is registered without a time-out of its own, 10 s: then it is the API server that gives
/// up, and says on whom.
pub(super) const WRITE: Duration = Duration::from_secs(12);
/// Where the API server does not say how long it wants to be left alone.
const THROTTLED: Duration = Duration::from_secs(1);

/// How the API server begins when an apply has a field that the definition does not have, or of another type: with a 500, but
/// it will say so until something changes (kubernetes/kubernetes#139253).
const NOT_OF_SCHEMA: &str = "failed to create typed patch object";

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was decided on a state that has changed since.
    Outdated(String),
    /// The API server wants to be left alone for so long.
    Throttled(Duration),
    /// The API server refuses what was asked, and will until something changes; with the fields that it named.
    Refused { reason: String, fields: Vec<String> },
    /// It cannot be reached, or cannot answer; or it is the object that it has no answer for.
    Unavailable(String),
    /// This replica leads no more.
    NotLeading,
}

impl Failure {
    /// What a status says of it: of one that may be over in a moment, only where it `persists`.
    pub(super) fn said(&self, persists: bool) -> Option<String> {
        match self {
            Self::Refused { reason, .. } => Some(steady(reason)),
            Self::Unavailable(reason) if persists => Some(steady(reason)),
            _ => None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let Error::Api(status) = error else { return Self::Unavailable(error.to_string()) };
        let message = status.message.clone();
        match status.code {
            409 => Self::Outdated(message),
            429 => {
                let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
                Self::Throttled(if seconds == 0 { THROTTLED } else { Duration::from_secs(u64::from(seconds).min(60)) })
            }
            code if (400..500).contains(&code) || message.starts_with(NOT_OF_SCHEMA) => {
                let causes = status.details.iter().flat_map(|details| &details.causes);
                let fields = causes.map(|cause| cause.field.clone()).filter(|field| !field.is_empty());
                Self::Refused { reason: message, fields: fields.collect() }
            }
            // A webhook that does not answer brings a 500, and so does a store that changes its leader.
            _ => Self::Unavailable(message),
        }
    }
}

/// Gives a request its time.
pub(super) async fn bounded<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    within(REQUEST, "", request).await
}

/// The same for a write of an object.
async fn bounded_write<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    within(WRITE, "; a webhook may keep the API server waiting", request).await
}

async fn within<T>(time: Duration, why: &str, request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match timeout(time, request).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Service(format!("no answer within {} s{why}", time.as_secs()).into())),
    }
}

/// A `resourceVersion` that no object has: API servers count upwards, and the first write of a cluster is none of ours. One
/// that makes an object does not look at it, so an apply that carries it can only create. Without it, a leader that was held
/// up between not finding an object and making it would overwrite what a new leader has made meanwhile, being the same
/// field manager. (A POST would be recorded as an update, and whoever updated a field keeps it beside whoever applies it.)
const NONE_YET: &str = "1";

/// Applies an object; on the state that `live` is a copy of, or where there is none.
pub(super) async fn apply(
    client: &Client,
    namespace: &str,
    object: &Object,
    live: Option<&Live>,
) -> Result<Live, Failure> {
    let mut json = object.json.clone();
    if let Some(metadata) = json.get_mut("metadata").and_then(Value::as_object_mut) {
        if let Some(live) = live {
            metadata.insert("uid".to_owned(), json!(live.uid));
        }
        metadata.insert("resourceVersion".to_owned(), json!(live.map_or(NONE_YET, |live| live.version.as_str())));
    }
    let params = PatchParams { force: live.is_some(), ..PatchParams::apply(FIELD_MANAGER) };
    patch(client, namespace, object.kind, object.name(), &params, &json).await
}

/// Lets another field manager hold the count as it is.
pub(super) async fn hand_over(
    client: &Client,
    namespace: &str,
    object: &Object,
    live: &Live,
    count: i64,
) -> Result<Live, Failure> {
    let json = json!({
        "apiVersion": object.json["apiVersion"], "kind": object.json["kind"],
        "metadata": {"name": object.name(), "namespace": namespace, "uid": live.uid, "resourceVersion": live.version},
        "spec": {"replicas": count},
    });
    patch(client, namespace, object.kind, object.name(), &PatchParams::apply(COUNT_KEEPER).force(), &json).await
}

/// The managed fields by which what stands in the way of an object that was refused is ours, as it is now; nothing where
/// nothing does.
pub(super) async fn rivals(
    client: &Client,
    namespace: &str,
    object: &Object,
    refused: &[String],
) -> Result<Option<Value>, Failure> {
    let request = Request::new(collection(object.kind, namespace)).get(object.name(), &GetParams::default());
    let found: Value = bounded(client.request(request.map_err(Error::BuildRequest)?)).await?;
    Ok(owned::claim(&found, &object.json, refused))
}

/// Makes it ours. If the object has changed since it was looked at, the write says so.
pub(super) async fn claim(
    client: &Client,
    namespace: &str,
    object: &Object,
    live: &Live,
    fields: &Value,
) -> Result<Live, Failure> {
    let json = json!({"metadata": {"uid": live.uid, "resourceVersion": live.version, "managedFields": fields}});
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    send(client, namespace, object.kind, object.name(), &params, &Patch::Merge(json)).await
}

async fn patch(
    client: &Client,
    namespace: &str,
    kind: ObjectKind,
    name: &str,
    params: &PatchParams,
    json: &Value,
) -> Result<Live, Failure> {
    send(client, namespace, kind, name, params, &Patch::Apply(json)).await
}

async fn send<P: Serialize + Debug>(
    client: &Client,
    namespace: &str,
    kind: ObjectKind,
    name: &str,
    params: &PatchParams,
    patch: &Patch<P>,
) -> Result<Live, Failure> {
    let request = Request::new(collection(kind, namespace)).patch(name, params, patch);
    let answer: Arriving = bounded_write(client.request(request.map_err(Error::BuildRequest)?)).await?;
    Ok(answer.live())
}

/// Deletes an object, if it is still the one that `live` is a copy of.
pub(super) async fn delete(
    client: &Client,
    namespace: &str,
    kind: ObjectKind,
    name: &str,
    live: &Live,
) -> Result<(), Failure> {
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(Preconditions {
            uid: Some(live.uid.clone()),
            resource_version: Some(live.version.clone()),
        }),
        ..DeleteParams::default()
    };
    let request = Request::new(collection(kind, namespace)).delete(name, &params).map_err(Error::BuildRequest)?;
    match bounded_write(client.request::<Value>(request)).await {
        Ok(_) => Ok(()),
        Err(Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// An object as it is stored now, if there is one.
pub(super) async fn read(
    client: &Client,
    namespace: &str,
    kind: ObjectKind,
    name: &str,
) -> Result<Option<Live>, Failure> {
    let request = Request::new(collection(kind, namespace)).get(name, &GetParams::default());
    match bounded(client.request::<Arriving>(request.map_err(Error::BuildRequest)?)).await {
        Ok(found) => Ok(Some(found.live())),
        Err(Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Applies a status on the state of the resource that it was decided on; gives the resource as it is after.
pub(super) async fn status(client: &Client, key: &CrKey, cr: &Value, status: &Value) -> Result<Value, Failure> {
    let metadata = &cr["metadata"];
    let api_version = cr["apiVersion"].as_str().unwrap_or_default();
    let version = api_version.split_once('/').map_or(api_version, |(_, version)| version);
    let json = json!({
        "apiVersion": api_version, "kind": cr["kind"],
        "metadata": {"name": key.name, "namespace": key.namespace, "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"]},
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let request = Request::new(custom_resources(key, version)).patch_subresource(
        "status",
        &key.name,
        &params,
        &Patch::Apply(&json),
    );
    Ok(bounded_write(client.request(request.map_err(Error::BuildRequest)?)).await?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::controller::fake;
    use crate::policy::CrKind;

    use super::*;

    #[test]
    fn a_status_says_the_same_of_each_attempt() {
        let reason = |port: u16| format!("read tcp 10.0.0.1:{port}->10.0.0.2:9443: i/o timeout");
        let said = "read tcp 10.0.0.2:9443: i/o timeout".to_owned();
        for port in [1, 2] {
            let refused = Failure::Refused { reason: reason(port), fields: Vec::new() };
            assert_eq!((refused.said(false), refused.said(true)), (Some(said.clone()), Some(said.clone())));
            let unavailable = Failure::Unavailable(reason(port));
            assert_eq!((unavailable.said(false), unavailable.said(true)), (None, Some(said.clone())));
        }
        assert_eq!(Failure::Outdated(reason(1)).said(true), None);
    }

    /// Who leads makes sure of it before each of these; two in one would have the time of two.
    #[tokio::test]
    async fn each_is_one_request() {
        let count = Arc::new(AtomicUsize::new(0));
        let client = fake::api_server({
            let count = Arc::clone(&count);
            move |_, _| {
                count.fetch_add(1, Ordering::AcqRel);
                // What another wrote in the way of ours.
                let theirs = json!({"f:spec": {"f:ports": {"k:{\"port\":2}": {"f:port": {}}}}});
                let entry = json!({"manager": "another", "operation": "Update", "fieldsV1": theirs});
                let ports = json!([{"name": "http", "port": 2}]);
                Some((200, json!({"metadata": {"managedFields": [entry]}, "spec": {"ports": ports}})))
            }
        })
        .await;
        let json = json!({"metadata": {"name": "a"}, "spec": {"ports": [{"name": "http", "port": 1}]}});
        let object = Object { kind: ObjectKind::Service, json };
        let (live, ns) = (Live::default(), "ns");
        let key = CrKey { kind: CrKind::McpServer, namespace: ns.to_owned(), name: "a".to_owned() };
        let sent = || count.swap(0, Ordering::AcqRel);

        apply(&client, ns, &object, Some(&live)).await.unwrap();
        assert_eq!(sent(), 1);
        hand_over(&client, ns, &object, &live, 1).await.unwrap();
        assert_eq!(sent(), 1);
        let fields = rivals(&client, ns, &object, &["spec.ports[1].name".to_owned()]).await.unwrap().unwrap();
        assert_eq!(sent(), 1);
        claim(&client, ns, &object, &live, &fields).await.unwrap();
        assert_eq!(sent(), 1);
        delete(&client, ns, object.kind, "a", &live).await.unwrap();
        assert_eq!(sent(), 1);
        read(&client, ns, object.kind, "a").await.unwrap();
        assert_eq!(sent(), 1);
        status(&client, &key, &json!({"apiVersion": "example.com/v1"}), &json!({})).await.unwrap();
        assert_eq!(sent(), 1);
    }
}
