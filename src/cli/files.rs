//! `-f`: the manifests that a command works on.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::CliError;
use crate::admission::Settings;
use crate::manifest::{InputError, Source, read};
use crate::policy::{Address, RedisStorage};
use crate::preview::{Preview, PreviewError, Writes};

/// Which manifests, and how to read them.
#[derive(Debug, clap::Args)]
pub(super) struct Inputs {
    /// A manifest, a directory of them (*.yaml, *.yml, *.json, however deep), or - for standard input; may be repeated.
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIR|-", required = true)]
    filename: Vec<PathBuf>,

    #[command(flatten)]
    context: Context,
}

/// What manifests do not say themselves.
#[derive(Debug, clap::Args)]
pub(super) struct Context {
    /// Namespace of objects that name none [default: default, or that of the kubeconfig]
    #[arg(short, long)]
    pub(super) namespace: Option<String>,

    /// Redis that stands in for custom resources that name no session storage, as `berth serve` has it.
    #[arg(long, value_name = "URL", env = "BERTH_DEFAULT_SESSION_STORAGE", value_parser = default_storage)]
    default_session_storage: Option<RedisStorage>,
}

fn default_storage(text: &str) -> Result<RedisStorage, String> {
    Ok(RedisStorage { address: Some(Address::parse(text)?), ..RedisStorage::default() })
}

impl Context {
    pub(super) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }

    pub(super) fn settings(&self) -> Settings {
        Settings { default_storage: self.default_session_storage.clone() }
    }
}

impl Inputs {
    /// Reads everything.
    pub(super) fn read(&self) -> Result<Vec<Source>, CliError> {
        read_all(&self.filename)
    }

    /// What a cluster would make of it.
    pub(super) fn preview<'a>(&self, sources: &'a [Source]) -> Result<Preview<'a>, CliError> {
        Ok(Preview::new(sources, self.context.namespace(), &self.context.settings(), Writes::Create)?)
    }
}

/// Reads manifests, and shows where it is when that takes more than a second.
pub(super) fn read_all(filename: &[PathBuf]) -> Result<Vec<Source>, CliError> {
    let mut progress = Progress::new();
    let sources = read(filename, |path| progress.at(path));
    progress.clear();
    Ok(sources?)
}

impl From<InputError> for CliError {
    fn from(error: InputError) -> Self {
        let advice = match &error {
            InputError::NoManifests(_) => Some("name a file, or a directory that holds manifests"),
            InputError::Malformed { template: true, .. } => {
                Some("a template has to be rendered first, as in: helm template NAME CHART | berth validate -f -")
            }
            InputError::Malformed { .. } => Some("nothing was read beyond this; mend it, or leave the file out"),
            InputError::Unreadable { .. } | InputError::NotText { .. } | InputError::Twice => None,
        };
        let error = Self::new(error);
        match advice {
            Some(advice) => error.help(advice),
            None => error,
        }
    }
}

impl From<PreviewError> for CliError {
    fn from(error: PreviewError) -> Self {
        Self::new(error)
    }
}

/// One line on a terminal that says which file is being read.
struct Progress {
    started: Instant,
    shown: bool,
    terminal: bool,
}

impl Progress {
    fn new() -> Self {
        Self { started: Instant::now(), shown: false, terminal: io::stderr().is_terminal() }
    }

    fn at(&mut self, path: &Path) {
        // Nobody can be told that standard error is closed.
        if path.as_os_str() == "-" && io::stdin().is_terminal() && self.terminal {
            let _ = writeln!(io::stderr(), "reading manifests from the terminal; end them with Ctrl-D");
        } else if self.terminal && self.started.elapsed() > Duration::from_secs(1) {
            let _ = write!(io::stderr(), "\r\x1b[Kreading {}", path.display());
            self.shown = true;
        }
    }

    fn clear(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
