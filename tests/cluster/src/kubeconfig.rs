//! Kubeconfigs: who asks which API server.

use std::fs;
use std::path::{Path, PathBuf};

use crate::certificates::Certified;
use crate::{Error, Result};

/// How a kubeconfig says who it is.
pub(crate) enum Credentials<'a> {
    Certificate(&'a Certified),
    Token(&'a str),
}

/// Writes `NAME.kubeconfig` in `dir`.
pub(crate) fn write_kubeconfig(
    dir: &Path,
    name: &str,
    server: &str,
    ca_file: &Path,
    credentials: &Credentials<'_>,
) -> Result<PathBuf> {
    let user = match credentials {
        Credentials::Certificate(certified) => {
            let (certificate, key) = certified.write(dir, name)?;
            format!("client-certificate: {}\n    client-key: {}", certificate.display(), key.display())
        }
        Credentials::Token(token) => format!("token: {token}"),
    };
    let path = dir.join(format!("{name}.kubeconfig"));
    let text = format!(
        "apiVersion: v1
kind: Config
current-context: {name}
contexts:
- name: {name}
  context:
    cluster: test
    user: {name}
clusters:
- name: test
  cluster:
    server: {server}
    certificate-authority: {ca}
users:
- name: {name}
  user:
    {user}
",
        ca = ca_file.display()
    );
    fs::write(&path, text).map_err(Error::at("write", &path))?;
    Ok(path)
}
