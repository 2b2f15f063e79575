//! Acting as a service account, to run with exactly its rights.

use std::path::PathBuf;

use crate::kubeconfig::{Credentials, write_kubeconfig};
use crate::{ControlPlane, Result};

impl ControlPlane {
    /// A kubeconfig for a service account that exists, with a token (TokenRequest) for eight hours.
    ///
    /// # Errors
    /// When there is no such service account.
    pub fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let token = self.kubectl().in_namespace(namespace).run(&["create", "token", name, "--duration=8h"])?.ok()?;
        let file = format!("{namespace}.{name}");
        write_kubeconfig(self.dir(), &file, self.server(), self.ca_file(), &Credentials::Token(token.trim()))
    }
}
