//! What the demo shows, in order.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::DemoError;
use super::super::screen::Screen;
use super::client::Client;
use super::review::{Answer, Question};
use crate::admission::{GroupResource, GroupVersionKind, LiveWorkload};
use crate::cluster::Given;
use crate::manifest::{Document, Object, Source, parse};
use crate::policy::CustomResource;
use crate::policy::names::STAMP;
use crate::preview::Arrival;

const WIRED: &str = include_str!("../../../examples/wired.yaml");
const REFUSED: &str = include_str!("../../../examples/refused.yaml");

/// The example objects.
pub(super) struct Tour {
    sources: Vec<Source>,
}

/// One question, or one for each of the two webhooks.
pub(super) struct Step<'a> {
    title: &'static str,
    command: &'static str,
    document: Option<&'a Document>,
    question: Question,
}

impl Tour {
    pub(super) fn load() -> io::Result<Self> {
        let read = |text: &str| parse(None, text.as_bytes().to_vec()).map_err(io::Error::other);
        Ok(Self { sources: vec![read(WIRED)?, read(REFUSED)?] })
    }

    /// The example of this kind and name.
    fn example(&self, kind: &str, name: &str) -> Option<(&Document, &Object)> {
        let documents = self.sources.iter().flat_map(|source| &source.documents);
        let mut objects =
            documents.flat_map(|document| document.objects().iter().map(move |object| (document, object)));
        objects.find(|(_, object)| object.value["kind"] == kind && object.value["metadata"]["name"] == name)
    }

    fn arrival(&self, kind: &str, name: &str) -> Option<(&Document, Arrival)> {
        let (document, object) = self.example(kind, name)?;
        Some((document, Arrival::of(&object.value, "default")?))
    }

    /// What the webhook finds when it looks for something: every example, as if it had been stored.
    pub(super) fn cluster(&self) -> Given {
        let mut cluster = Given { unreadable: vec!["hidden".to_owned()], ..Given::default() };
        for object in self.sources.iter().flat_map(|source| &source.documents).flat_map(Document::objects) {
            let Some(mut arrival) = Arrival::of(&object.value, "default") else { continue };
            arrival.value["metadata"]["namespace"] = json!("default");
            if let Some(kind) = arrival.identity.custom_resource() {
                let read = CustomResource::from_value(kind, &arrival.value, None);
                cluster.custom_resources.extend(read.ok().map(Arc::new));
            }
            if let Some(kind) = arrival.identity.workload() {
                let read = LiveWorkload::deserialize(&arrival.value);
                cluster.workloads.extend(read.ok().map(|workload| (kind, workload)));
            }
        }
        cluster
    }

    /// Every step, in order. The examples are part of the program, so that none is missing.
    pub(super) fn steps(&self) -> Vec<Step<'_>> {
        [
            self.create(
                "A Deployment asks for three replicas, with its sessions in Redis",
                "kubectl apply: Deployment/notes",
                "Deployment",
                "notes",
            ),
            self.create(
                "The StatefulSet of an MCPServer, from an operator that knows no stamps",
                "ToolHive's operator creates statefulset/fetch",
                "StatefulSet",
                "fetch",
            ),
            self.create(
                "The session proxy of the same MCPServer, complete already",
                "ToolHive's operator creates deployment/fetch",
                "Deployment",
                "fetch",
            ),
            self.scale(
                "Scaled by hand: any pod finds every session",
                "kubectl scale deployment/notes --replicas=5",
                "deployments",
                "notes",
                (3, 5),
            ),
            self.create(
                "Three replicas, and sessions that only one of them knows",
                "kubectl apply: Deployment/chat",
                "Deployment",
                "chat",
            ),
            self.scale("The same by hand", "kubectl scale deployment/chat --replicas=2", "deployments", "chat", (1, 2)),
            self.create(
                "The same by an autoscaler",
                "kubectl autoscale deployment/chat --max=10",
                "HorizontalPodAutoscaler",
                "chat",
            ),
            self.create(
                "A custom resource that scales a process with one client",
                "kubectl apply: MCPServer/sqlite",
                "MCPServer",
                "sqlite",
            ),
            self.create("Redis, but where?", "kubectl apply: VirtualMCPServer/gateway", "VirtualMCPServer", "gateway"),
            self.create("A password for everyone to read", "kubectl apply: Deployment/leaky", "Deployment", "leaky"),
            self.create("A slip of the keyboard", "kubectl apply: Deployment/typo", "Deployment", "typo"),
            self.stale(),
            self.hidden(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn create(&self, title: &'static str, command: &'static str, kind: &str, name: &str) -> Option<Step<'_>> {
        let (document, arrival) = self.arrival(kind, name)?;
        let question = question(arrival, Value::Null);
        Some(Step { title, command, document: Some(document), question })
    }

    fn scale(
        &self,
        title: &'static str,
        command: &'static str,
        resource: &str,
        name: &str,
        (from, to): (i64, i64),
    ) -> Option<Step<'_>> {
        let scale = |replicas: i64| {
            json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": name, "namespace": "default"},
                "spec": {"replicas": replicas}})
        };
        let question = Question {
            kind: GroupVersionKind { group: "autoscaling".into(), version: "v1".into(), kind: "Scale".into() },
            resource: GroupResource { group: "apps".into(), resource: resource.into() },
            sub_resource: "scale",
            name: name.to_owned(),
            object: scale(to),
            old_object: scale(from),
        };
        Some(Step { title, command, document: None, question })
    }

    /// An operator that still has the state of two changes ago writes what it then had.
    fn stale(&self) -> Option<Step<'_>> {
        let (_, arrival) = self.arrival("Deployment", "fetch")?;
        let live = arrival.value.clone();
        let mut question = question(arrival, live);
        question.object["spec"]["template"]["metadata"]["annotations"][STAMP] = json!("3");
        Some(Step {
            title: "A writer that woke up with yesterday's state (stamp 3, and 5 is live)",
            command: "an old operator replica updates deployment/fetch",
            document: None,
            question,
        })
    }

    /// The owner is there, and the API server does not say what is in it.
    fn hidden(&self) -> Option<Step<'_>> {
        let (_, arrival) = self.arrival("Deployment", "fetch")?;
        let mut question = question(arrival, Value::Null);
        question.name = "hidden".to_owned();
        question.object["metadata"]["name"] = json!("hidden");
        question.object["metadata"]["ownerReferences"][0]["name"] = json!("hidden");
        Some(Step {
            title: "A workload whose MCPServer cannot be read just now",
            command: "ToolHive's operator creates deployment/hidden",
            document: None,
            question,
        })
    }

    /// The review that is sent over and over.
    pub(super) fn burst_body(&self) -> Bytes {
        self.steps().first().map(|step| step.question.body("burst")).unwrap_or_default()
    }

    /// A review for a reader to send: small enough for a command line.
    pub(super) fn invitation(&self) -> Value {
        let step = self.scale("", "", "deployments", "chat", (1, 2));
        let mut review = step.map_or(Value::Null, |step| step.question.review("try-me"));
        if let Some(request) = review.get_mut("request").and_then(Value::as_object_mut) {
            for key in ["userInfo", "dryRun"] {
                request.remove(key);
            }
        }
        review
    }
}

fn question(arrival: Arrival, old_object: Value) -> Question {
    let Arrival { identity, value } = arrival;
    Question {
        kind: identity.kind,
        resource: identity.resource,
        sub_resource: "",
        name: identity.name,
        object: value,
        old_object,
    }
}

impl Step<'_> {
    /// Asks both webhooks, as the API server does, and shows it. The number of reviews.
    pub(super) async fn take(
        &self,
        number: usize,
        client: &Client,
        screen: &mut Screen<'_>,
    ) -> Result<usize, DemoError> {
        screen.step(number, self.title, self.command)?;
        let mut reviews = 0;
        let mut took = Duration::ZERO;
        let mut warnings = Vec::new();
        let mut question = self.question.clone();
        // A scale is not mutated: Berth registers for it with the validating webhook only.
        let webhooks = if question.sub_resource.is_empty() { &["/mutate", "/validate"][..] } else { &["/validate"] };
        let mut patch = json_patch::Patch(Vec::new());
        for path in webhooks {
            let uid = format!("demo-{number}{}", path.replace('/', "-"));
            let (body, latency) = client.post(path, question.body(&uid)).await.map_err(DemoError::Webhook)?;
            let answer = Answer::read(&body, &uid).map_err(DemoError::Webhook)?;
            reviews += 1;
            took += latency;
            if !answer.allowed {
                screen.refused(answer.status(), &answer.as_kubectl_prints(), took)?;
                return Ok(reviews);
            }
            if *path == "/mutate" {
                patch = answer.patch().map_err(DemoError::Webhook)?;
                let applied = json_patch::patch(&mut question.object, &patch).map_err(io::Error::other);
                applied.map_err(DemoError::Webhook)?;
            }
            warnings.extend(answer.warnings);
        }
        screen.allowed(patch.0.len(), took)?;
        if let Some((old, new)) = self.texts(&patch).map_err(DemoError::Webhook)? {
            screen.diff(&old, &new)?;
        }
        for warning in warnings {
            screen.warning(&warning)?;
        }
        Ok(reviews)
    }

    /// The manifest before and after, as its author would write it.
    fn texts(&self, patch: &json_patch::Patch) -> io::Result<Option<(String, String)>> {
        let Some((document, object)) = self.document.and_then(|document| Some((document, document.objects().first()?)))
        else {
            return Ok(None);
        };
        let Some(arrival) = Arrival::of(&object.value, "default").filter(|_| !patch.0.is_empty()) else {
            return Ok(None);
        };
        let written = arrival.as_written(&patch.0, &object.value).map_err(io::Error::other)?;
        let mut after = object.value.clone();
        json_patch::patch(&mut after, &written).map_err(io::Error::other)?;
        let new = document.rewrite(&[(object, after)]).map_err(io::Error::other)?;
        Ok(Some((document.text().to_owned(), new.text)))
    }
}
