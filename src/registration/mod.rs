//! What a cluster is told about Berth: the resource definitions, and which writes the API server asks Berth about.
//!
//! The files in `webhook-config/` are the one source. They are part of the program, which only fills in where it is
//! reached, so that what `kubectl apply -k webhook-config` registers and what `berth webhook-config` prints cannot
//! drift apart.

use std::fmt;
use std::str::FromStr;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ServiceReference, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use url::Url;

use crate::policy::is_dns_label;

/// The definitions of `MCPServer` and `VirtualMCPServer`, as YAML.
pub const CRDS: [&str; 2] = [
    include_str!("../../webhook-config/crds/mcpservers.yaml"),
    include_str!("../../webhook-config/crds/virtualmcpservers.yaml"),
];

const MUTATING: &str = include_str!("../../webhook-config/mutating.yaml");
const VALIDATING: &str = include_str!("../../webhook-config/validating.yaml");

/// The namespace that the files in `webhook-config/` install to.
pub const DEFAULT_NAMESPACE: &str = "berth-system";
/// The Service that the files in `webhook-config/` make.
pub const DEFAULT_SERVICE: &str = "berth-webhook";
/// The webhook that is asked about scales and autoscalers.
pub const SCALE_WEBHOOK: &str = "scale.berth.dev";

/// Where the API server reaches Berth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A Service in the cluster, on port 443.
    Service {
        /// Its namespace, which is excluded from the registration.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A base URL; `/mutate` and `/validate` are appended.
    Url(Url),
}

/// Why an [`Endpoint`] does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not `NAMESPACE/NAME`.
    #[error("expected NAMESPACE/NAME, for example berth-system/berth-webhook")]
    Service,
    /// Not a URL at all.
    #[error("not a URL: {0}")]
    Url(#[from] url::ParseError),
    /// A URL that the API server does not accept.
    #[error("expected https://HOST[:PORT][/PATH], without a user, a query or a fragment")]
    UrlForm,
}

impl Endpoint {
    /// Parses `NAMESPACE/NAME`.
    ///
    /// # Errors
    /// When either part is missing or is no DNS label.
    pub fn service(text: &str) -> Result<Self, EndpointError> {
        match text.split_once('/') {
            Some((namespace, name)) if is_dns_label(namespace) && is_dns_label(name) => {
                Ok(Self::Service { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(EndpointError::Service),
        }
    }

    /// Parses a base URL.
    ///
    /// # Errors
    /// When it is not one that the API server accepts: https, without a user, a query or a fragment.
    pub fn url(text: &str) -> Result<Self, EndpointError> {
        let url = Url::parse(text)?;
        let accepted = url.scheme() == "https"
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if accepted { Ok(Self::Url(url)) } else { Err(EndpointError::UrlForm) }
    }

    fn client_config(&self, path: &str, ca_bundle: &[u8]) -> WebhookClientConfig {
        let ca_bundle = Some(ByteString(ca_bundle.to_vec()));
        match self {
            Self::Service { namespace, name } => WebhookClientConfig {
                ca_bundle,
                service: Some(ServiceReference {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    path: Some(path.to_owned()),
                    port: Some(443),
                }),
                url: None,
            },
            Self::Url(base) => WebhookClientConfig {
                ca_bundle,
                service: None,
                url: Some(format!("{}{path}", base.as_str().trim_end_matches('/'))),
            },
        }
    }
}

impl Default for Endpoint {
    fn default() -> Self {
        Self::Service { namespace: DEFAULT_NAMESPACE.to_owned(), name: DEFAULT_SERVICE.to_owned() }
    }
}

/// What the API server does when a webhook does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailurePolicy {
    /// The write fails.
    Fail,
    /// The write goes through unseen.
    Ignore,
}

impl fmt::Display for FailurePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fail => "Fail",
            Self::Ignore => "Ignore",
        })
    }
}

impl FromStr for FailurePolicy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "fail" | "Fail" => Ok(Self::Fail),
            "ignore" | "Ignore" => Ok(Self::Ignore),
            _ => Err("expected fail or ignore"),
        }
    }
}

/// The two configurations that make the API server ask Berth.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// For `/mutate`.
    pub mutating: MutatingWebhookConfiguration,
    /// For `/validate`.
    pub validating: ValidatingWebhookConfiguration,
}

/// A file of `webhook-config/` that is part of this program does not parse: a fault of the build.
#[derive(Debug, thiserror::Error)]
#[error("webhook-config/{file} does not parse: {error}")]
pub struct RegistrationError {
    file: &'static str,
    error: Box<serde_saphyr::Error>,
}

impl Registration {
    /// The configurations for a Berth that is reached at `endpoint`, with a certificate that `ca_bundle` (PEM
    /// certificates) vouches for.
    ///
    /// # Errors
    /// Only when this program was built from broken files.
    pub fn new(
        endpoint: &Endpoint,
        ca_bundle: &[u8],
        on_scale_failure: FailurePolicy,
    ) -> Result<Self, RegistrationError> {
        let mut registration = Self::shipped()?;
        for webhook in registration.mutating.webhooks.iter_mut().flatten() {
            webhook.client_config = endpoint.client_config("/mutate", ca_bundle);
            exclude_namespace(&mut webhook.namespace_selector, endpoint);
        }
        for webhook in registration.validating.webhooks.iter_mut().flatten() {
            webhook.client_config = endpoint.client_config("/validate", ca_bundle);
            exclude_namespace(&mut webhook.namespace_selector, endpoint);
            if webhook.name == SCALE_WEBHOOK {
                webhook.failure_policy = Some(on_scale_failure.to_string());
            }
        }
        Ok(registration)
    }

    /// The configurations as `webhook-config/` has them.
    fn shipped() -> Result<Self, RegistrationError> {
        Ok(Self { mutating: parse("mutating.yaml", MUTATING)?, validating: parse("validating.yaml", VALIDATING)? })
    }
}

fn parse<T: serde::de::DeserializeOwned>(file: &'static str, text: &str) -> Result<T, RegistrationError> {
    serde_saphyr::from_str(text).map_err(|error| RegistrationError { file, error: Box::new(error) })
}

/// Berth's own namespace stands in the selector's list, under the name that it has here.
fn exclude_namespace(selector: &mut Option<LabelSelector>, endpoint: &Endpoint) {
    let Endpoint::Service { namespace, .. } = endpoint else {
        return;
    };
    let excluded = selector
        .iter_mut()
        .flat_map(|selector| selector.match_expressions.iter_mut().flatten())
        .flat_map(|expression| expression.values.iter_mut().flatten());
    for name in excluded.filter(|name| *name == DEFAULT_NAMESPACE) {
        namespace.clone_into(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_a_namespace_and_a_name() {
        assert_eq!(Endpoint::service("berth-system/berth-webhook"), Ok(Endpoint::default()));
        for wrong in ["", "berth", "/berth", "a/", "a/b/c", "A/b", "-a/b", "a/b-", "a/b.c"] {
            assert_eq!(Endpoint::service(wrong), Err(EndpointError::Service), "{wrong}");
        }
    }

    #[test]
    fn a_url_is_one_that_the_api_server_accepts() {
        for right in ["https://127.0.0.1:9443", "https://[::1]:9443/", "https://berth.example/hooks"] {
            assert!(Endpoint::url(right).is_ok(), "{right}");
        }
        for wrong in [
            "http://127.0.0.1:9443",
            "https://user@host",
            "https://user:password@host",
            "https://host/?a=b",
            "https://host/#a",
            "127.0.0.1:9443",
            "",
        ] {
            assert!(Endpoint::url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_path_follows_a_base_url_with_one_slash() {
        for (base, expected) in [
            ("https://127.0.0.1:9443", "https://127.0.0.1:9443/mutate"),
            ("https://127.0.0.1:9443/", "https://127.0.0.1:9443/mutate"),
            ("https://h/berth/", "https://h/berth/mutate"),
        ] {
            let config = Endpoint::url(base).unwrap().client_config("/mutate", b"CA");
            assert_eq!(config.url.as_deref(), Some(expected));
            assert_eq!(config.service, None);
        }
    }

    #[test]
    fn another_namespace_takes_the_place_of_the_default_one() {
        let endpoint = Endpoint::service("mcp/hooks").unwrap();
        let registration = Registration::new(&endpoint, b"CA", FailurePolicy::Ignore).unwrap();
        let text = serde_json::to_string(&registration.mutating).unwrap()
            + &serde_json::to_string(&registration.validating).unwrap();
        assert!(!text.contains(DEFAULT_NAMESPACE), "{text}");
        assert_eq!(text.matches(r#"["kube-system","mcp"]"#).count(), 4, "{text}");
    }

    #[test]
    fn the_names_are_the_ones_that_policies_are_read_by() {
        use crate::policy::names::{INJECT, TOOLHIVE_GROUP, TOOLHIVE_VERSIONS};

        let shipped = Registration::shipped().unwrap();
        let webhooks = shipped.validating.webhooks.unwrap_or_default();
        let managed = webhooks[0].match_conditions.iter().flatten().find(|condition| condition.name == "managed");
        let expression = &managed.unwrap().expression;
        assert!(expression.contains(&format!("'{INJECT}' in o.metadata.annotations")), "{expression}");
        assert!(expression.contains(&format!("startsWith('{TOOLHIVE_GROUP}/')")), "{expression}");
        let rules = webhooks.iter().flat_map(|webhook| webhook.rules.iter().flatten());
        let versions: Vec<_> = rules
            .filter(|rule| rule.api_groups.as_deref() == Some(&[TOOLHIVE_GROUP.to_owned()]))
            .map(|rule| rule.api_versions.clone().unwrap_or_default())
            .collect();
        assert_eq!(versions, [TOOLHIVE_VERSIONS, TOOLHIVE_VERSIONS]);
    }
}
