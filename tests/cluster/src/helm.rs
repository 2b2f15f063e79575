//! Helm, as a user would run it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kubectl::run_to_end;
use crate::{Binaries, ControlPlane, Output, Result};

/// Helm with directories of its own for what it keeps, and a kubeconfig where there is a cluster.
#[derive(Debug, Clone)]
pub struct Helm {
    program: PathBuf,
    home: PathBuf,
    directory: Option<PathBuf>,
    kubeconfig: Option<PathBuf>,
}

impl Helm {
    /// For what needs no cluster: lint, template, package. `home` holds its caches.
    ///
    /// # Errors
    /// When it has to be built, and that fails.
    pub fn alone(home: &Path) -> Result<Self> {
        Ok(Self {
            program: Binaries::find().program("helm")?,
            home: home.to_owned(),
            directory: None,
            kubeconfig: None,
        })
    }

    /// The same, run in `directory`, which relative paths of arguments then start from.
    pub fn in_directory(&self, directory: &Path) -> Self {
        Self { directory: Some(directory.to_owned()), ..self.clone() }
    }

    /// As the administrator of `cluster`.
    ///
    /// # Errors
    /// As [`Helm::alone`].
    pub fn in_cluster(cluster: &ControlPlane) -> Result<Self> {
        Ok(Self { kubeconfig: Some(cluster.kubeconfig().to_owned()), ..Self::alone(cluster.dir())? })
    }

    /// Has a command run at the end, where the cluster goes on after the tests.
    pub(crate) fn undo(&self, cluster: &ControlPlane, arguments: &[&str]) -> Result<()> {
        let kubeconfig = cluster.kubeconfig().display().to_string();
        cluster.undo_by(&self.program, &[arguments, &["--kubeconfig", &kubeconfig]].concat())
    }

    /// Runs a command to its end; a refusal is an [`Output`] like any other.
    ///
    /// # Errors
    /// When it cannot be run, or is still running after two minutes.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.run_with_stdin(arguments, "")
    }

    /// Runs a command that reads `stdin`, as in `-f -`.
    ///
    /// # Errors
    /// As [`Helm::run`].
    pub fn run_with_stdin(&self, arguments: &[&str], stdin: &str) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(arguments).env_remove("KUBECONFIG").env("HOME", &self.home);
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(variable, self.home.join(variable.to_lowercase()));
        }
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        if let Some(kubeconfig) = &self.kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        run_to_end(command, &format!("helm {}", arguments.join(" ")), stdin)
    }
}
