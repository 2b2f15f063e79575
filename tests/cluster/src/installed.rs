//! Programs that the machine has to have.

use std::env;
use std::path::PathBuf;

use crate::{Error, Result};

/// Where administrators' programs are, which not everybody's `PATH` names.
const MORE: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The path of a program; where it is missing, the error names the Debian package that has it.
pub(crate) fn installed(program: &str, package: &str) -> Result<PathBuf> {
    let paths = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&paths)
        .chain(MORE.iter().map(PathBuf::from))
        .map(|path| path.join(program))
        .find(|path| path.exists())
        .ok_or_else(|| {
            Error::new(format!(
                "{program} is missing; run: apt-get install -y --no-install-recommends {package} (tests/run does)"
            ))
        })
}
