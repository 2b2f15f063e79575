//! Reads of single objects from the API server.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kube::api::GetParams;
use kube::core::{Request, Status};
use kube::{Api, Error};
use tokio::time::timeout;

use super::Shared;
use super::resource::{Arriving, api_resource};
use crate::admission::{Answer, CrQuery, LiveWorkload, Unread, WorkloadQuery};
use crate::metrics::{LiveRead, LiveReadResult};
use crate::policy::CustomResource;
use crate::policy::names::TOOLHIVE_VERSIONS;

/// The longest that one read takes. A review has its own deadline, which is usually shorter.
const READ: Duration = Duration::from_secs(10);

impl Shared {
    /// The custom resource as it is stored now. A resource of the name with another uid is another one.
    pub(super) async fn read_custom_resource(&self, query: &CrQuery) -> Answer<Arc<CustomResource>> {
        let answer = match could_exist(&query.namespace) && could_exist(&query.name) {
            true => self.custom_resource_of_any_version(query).await,
            false => Answer::Absent,
        };
        self.count(LiveRead::CustomResource(query.kind), &answer);
        answer
    }

    async fn custom_resource_of_any_version(&self, query: &CrQuery) -> Answer<Arc<CustomResource>> {
        // The version that the watch found comes first. The others are asked too, since the definition may have been
        // installed, or its versions changed, a moment ago.
        let known = self.store.version(query.kind);
        let others = TOOLHIVE_VERSIONS.into_iter().filter(|version| Some(*version) != known);
        for version in known.into_iter().chain(others) {
            let resource = api_resource(query.kind, version);
            let api: Api<Arriving<false>> = Api::namespaced_with(self.client.clone(), &query.namespace, &resource);
            let found = match bounded(api.get(&query.name)).await {
                Ok(found) => found,
                Err(Failure::NotFound { object: true }) => return Answer::Absent,
                Err(Failure::NotFound { object: false }) => continue,
                Err(Failure::Unread(unread)) => return Answer::Unreadable(unread),
            };
            return match found.read(query.kind, self.default_storage.as_ref()) {
                Ok(copy) if query.uid.as_ref().is_none_or(|uid| *uid == copy.meta.uid) => Answer::Found(Arc::new(copy)),
                Ok(_) => Answer::Absent,
                Err(error) => unreadable(format!("the API server's copy of it cannot be read: {error}")),
            };
        }
        Answer::Absent
    }

    /// The workload as it is stored now.
    pub(super) async fn read_workload(&self, query: &WorkloadQuery) -> Answer<LiveWorkload> {
        let answer = match could_exist(&query.namespace) && could_exist(&query.name) {
            true => self.workload(query).await,
            false => Answer::Absent,
        };
        self.count(LiveRead::Workload(query.kind), &answer);
        answer
    }

    async fn workload(&self, query: &WorkloadQuery) -> Answer<LiveWorkload> {
        let collection = format!("/apis/apps/v1/namespaces/{}/{}", query.namespace, query.kind.plural());
        let request = match Request::new(collection).get(&query.name, &GetParams::default()) {
            Ok(request) => request,
            Err(error) => return unreadable(error.to_string()),
        };
        match bounded(self.client.request(request)).await {
            Ok(workload) => Answer::Found(workload),
            Err(Failure::NotFound { .. }) => Answer::Absent,
            Err(Failure::Unread(unread)) => Answer::Unreadable(unread),
        }
    }

    fn count<T>(&self, object: LiveRead, answer: &Answer<T>) {
        let result = match answer {
            Answer::Found(_) => LiveReadResult::Found,
            Answer::Absent => LiveReadResult::Absent,
            Answer::Unreadable(_) => LiveReadResult::Failed,
        };
        self.metrics.live_read(object, result);
    }
}

/// What the API server would not give, or is not asked for.
pub(super) fn unreadable<T>(reason: String) -> Answer<T> {
    Answer::Unreadable(Unread::Failed(reason))
}

/// Why there is no object.
pub(super) enum Failure {
    /// 404: of the object, or of the whole kind at that version.
    NotFound { object: bool },
    /// It is not known.
    Unread(Unread),
}

pub(super) async fn bounded<T>(read: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    match timeout(READ, read).await {
        Ok(Ok(object)) => Ok(object),
        Ok(Err(Error::Api(status))) if status.code == 404 => Err(Failure::NotFound { object: is_of_object(&status) }),
        Ok(Err(Error::Api(status))) => {
            Err(failed(format!("the API server answered {}: {}", status.code, status.message)))
        }
        // Refused connections, those that break off, and those that are silent.
        Ok(Err(error @ (Error::Service(_) | Error::HyperError(_)))) => {
            Err(unanswered(format!("the API server cannot be asked: {error}")))
        }
        Ok(Err(error)) => Err(failed(format!("the API server cannot be asked: {error}"))),
        Err(_) => Err(unanswered(format!("the API server did not answer within {} s", READ.as_secs()))),
    }
}

fn failed(reason: String) -> Failure {
    Failure::Unread(Unread::Failed(reason))
}

fn unanswered(reason: String) -> Failure {
    Failure::Unread(Unread::Unanswered(reason))
}

/// Whether an answer is the 404 of an object. The API server names the one that it misses; for a path that it does not serve
/// there is none.
pub(super) fn is_of_object(status: &Status) -> bool {
    status.code == 404 && status.details.as_ref().is_some_and(|details| !details.name.is_empty())
}

/// Whether the API server could hold an object of this name. Names come from reviews and go into a path; one that could
/// lead elsewhere names nothing.
pub(super) fn could_exist(name: &str) -> bool {
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    !name.is_empty() && name.len() <= 253 && name.chars().all(valid) && name.starts_with(|c: char| c != '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_lead_elsewhere_names_nothing() {
        for name in ["web", "a.b-c", "0"] {
            assert!(could_exist(name), "{name}");
        }
        for name in ["", "..", ".", "a/b", "../secrets/x", "a?b", "a%2fb", "a#b", "A", "ü", &"a".repeat(254)] {
            assert!(!could_exist(name), "{name}");
        }
    }
}
