//! Whole objects, for people to look at.

use kube::api::GetParams;
use kube::core::Request;
use serde_json::Value;

use super::Cluster;
use super::live::{Failure, bounded, could_exist, unreadable};
use crate::admission::Answer;

impl Cluster {
    /// An object as the API server gives it, of the first of these versions of its group that is served.
    pub async fn object(
        &self,
        group: &str,
        versions: &[&str],
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Answer<Value> {
        if !could_exist(namespace) || !could_exist(name) {
            return Answer::Absent;
        }
        for version in versions {
            let collection = format!("/apis/{group}/{version}/namespaces/{namespace}/{plural}");
            let request = match Request::new(collection).get(name, &GetParams::default()) {
                Ok(request) => request,
                Err(error) => return unreadable(error.to_string()),
            };
            match bounded(self.shared.client.request(request)).await {
                Ok(object) => return Answer::Found(object),
                Err(Failure::NotFound { object: true }) => return Answer::Absent,
                Err(Failure::NotFound { object: false }) => {}
                Err(Failure::Unread(unread)) => return Answer::Unreadable(unread),
            }
        }
        Answer::Absent
    }

    /// The namespace of the kubeconfig's context.
    #[must_use]
    pub fn default_namespace(&self) -> &str {
        self.shared.client.default_namespace()
    }
}
