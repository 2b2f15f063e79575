//! Acting as a service account, to run with exactly its rights.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::kubeconfig::{Credentials, write_kubeconfig};
use crate::{ControlPlane, Result};

impl ControlPlane {
    /// A kubeconfig for a service account that exists, with a token (TokenRequest) for eight hours.
    ///
    /// # Errors
    /// When there is no such service account.
    pub fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        self.token_kubeconfig(namespace, name, &format!("{namespace}.{name}"), self.server())
    }

    /// The same, for a way to the API server of one's own (a [`crate::Wire`], say).
    ///
    /// # Errors
    /// As [`ControlPlane::service_account_kubeconfig`].
    pub fn service_account_kubeconfig_by(&self, way: SocketAddr, namespace: &str, name: &str) -> Result<PathBuf> {
        let file = format!("{namespace}.{name}.{}", way.port());
        self.token_kubeconfig(namespace, name, &file, &format!("https://{way}"))
    }

    fn token_kubeconfig(&self, namespace: &str, name: &str, file: &str, server: &str) -> Result<PathBuf> {
        let token = self.kubectl().in_namespace(namespace).run(&["create", "token", name, "--duration=8h"])?.ok()?;
        write_kubeconfig(self.dir(), file, server, self.ca_file(), &Credentials::Token(token.trim()))
    }
}
