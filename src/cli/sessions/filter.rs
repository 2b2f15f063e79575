//! Which sessions are meant.

use berth_proxy::session::Identity;

use super::super::CliError;
use super::row::Row;

#[derive(Debug, Default, clap::Args)]
pub(super) struct Filter {
    /// Sessions of servers in this namespace; `-` is that of servers outside Kubernetes
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// Sessions of this server
    #[arg(long, value_name = "NAME|NAMESPACE/NAME")]
    server: Option<String>,

    /// Sessions on this pod
    #[arg(long, value_name = "NAME")]
    pod: Option<String>,
}

/// What the flags ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    namespace: Option<String>,
    name: Option<String>,
    pod: Option<String>,
}

impl Filter {
    pub(super) fn names_a_pod(&self) -> bool {
        self.pod.is_some()
    }

    /// # Errors
    /// The flags contradict each other, or name what cannot be a server.
    pub(super) fn wanted(self) -> Result<Wanted, CliError> {
        let (of_server, name) = match self.server.as_deref().map(|server| server.split_once('/')) {
            Some(Some((namespace, name))) => (Some(namespace.to_owned()), Some(name.to_owned())),
            _ => (None, self.server.clone()),
        };
        if let (Some(one), Some(other)) = (&self.namespace, &of_server)
            && one != other
        {
            let message = format!("--namespace {one:?} and --server {:?} contradict each other", self.server);
            return Err(CliError::new(message).help("leave --namespace out"));
        }
        let namespace = self.namespace.or(of_server);
        for (text, flag) in [(&namespace, "namespace"), (&name, "server")] {
            if let Some(text) = text
                && Identity::new(text, text).is_none()
            {
                return Err(CliError::new(format!("--{flag}: {text:?} is no name"))
                    .help("give --server NAME or --server NAMESPACE/NAME"));
            }
        }
        Ok(Wanted { namespace, name, pod: self.pod })
    }
}

impl Wanted {
    /// The one server that is meant, where the flags name it whole.
    pub(super) fn server(&self) -> Option<Identity> {
        Identity::new(self.namespace.as_deref()?, self.name.as_deref()?)
    }

    pub(super) fn takes_server(&self, server: &Identity) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| *namespace == server.namespace)
            && self.name.as_ref().is_none_or(|name| *name == server.name)
    }

    pub(super) fn takes(&self, row: &Row) -> bool {
        self.takes_server(&row.server) && self.pod.as_deref().is_none_or(|pod| row.pod() == Some(pod))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(namespace: Option<&str>, server: Option<&str>) -> Result<Wanted, String> {
        let filter = Filter { namespace: namespace.map(Into::into), server: server.map(Into::into), pod: None };
        filter.wanted().map_err(|error| error.to_string())
    }

    #[test]
    fn a_server_is_named_alone_or_with_its_namespace() {
        let web = Identity { namespace: "shop".into(), name: "web".into() };
        let other = Identity { namespace: "shop".into(), name: "api".into() };
        for (namespace, server, whole) in [
            (None, Some("web"), false),
            (None, Some("shop/web"), true),
            (Some("shop"), Some("web"), true),
            (Some("shop"), Some("shop/web"), true),
        ] {
            let wanted = wanted(namespace, server).unwrap();
            assert!(wanted.takes_server(&web) && !wanted.takes_server(&other), "{namespace:?} {server:?}");
            assert_eq!(wanted.server(), whole.then(|| web.clone()));
        }
        assert!(wanted(Some("shop"), None).unwrap().takes_server(&other));
        assert!(!wanted(Some("other"), None).unwrap().takes_server(&other));
    }

    #[test]
    fn contradictions_and_names_that_are_none_are_told() {
        assert!(wanted(Some("a"), Some("b/web")).unwrap_err().contains("contradict"));
        for server in ["", "a/", "/b", "a/b/c", "a b", "\x1b[31m"] {
            assert!(wanted(None, Some(server)).unwrap_err().contains("is no name"), "{server:?}");
        }
    }
}
