//! `berth serve`: the webhook, for as long as the process runs.

use std::env;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::FalseyValueParser;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::output::wants_colour;
use super::{CliError, Outcome, Output};
use crate::policy::{Address, RedisStorage, parse_duration};
use crate::serve::{self, Options};

/// What is logged where RUST_LOG says nothing else. The libraries tell of each start of a thread, and of each request that
/// fails, which is told here once.
const DEFAULT_LOG: &str = "info,actix_server=warn,kube_client=off";

/// Answer admission reviews for a cluster.
///
/// Serves /mutate and /validate over TLS, and /livez, /readyz and /metrics in plain HTTP on the admin address. The
/// certificate files are read again when they change. SIGTERM ends it without losing a review; a second one ends it at
/// once.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  # against the cluster of a kubeconfig, with a development certificate
  berth certs dev
  KUBECONFIG=~/.kube/config berth serve --tls-dir dev

  # as the Deployment of webhook-config/ runs it
  berth serve --tls-dir /etc/berth/tls --log-format json")]
pub(super) struct Args {
    /// Where the webhook listens
    #[arg(long, value_name = "ADDR", env = "BERTH_LISTEN", default_value = "0.0.0.0:9443")]
    listen: SocketAddr,

    /// Where probes and metrics are, in plain HTTP
    #[arg(long, value_name = "ADDR", env = "BERTH_ADMIN", default_value = "0.0.0.0:9090")]
    admin: SocketAddr,

    /// The directory of tls.crt and tls.key
    #[arg(long, value_name = "DIR", env = "BERTH_TLS_DIR", default_value = "/etc/berth/tls")]
    tls_dir: PathBuf,

    /// Serve the webhook only; this version has no controller yet, so it changes nothing
    #[arg(long, env = "BERTH_NO_CONTROLLER", value_parser = FalseyValueParser::new())]
    no_controller: bool,

    /// Run without the webhook
    #[arg(long, env = "BERTH_NO_WEBHOOK", value_parser = FalseyValueParser::new())]
    no_webhook: bool,

    /// Which custom resources the controller is to build workloads for; without effect in this version
    #[arg(long, value_name = "SCOPE", env = "BERTH_CONTROLLER_SCOPE", value_enum, default_value_t)]
    controller_scope: ControllerScope,

    /// The session store of custom resources that name none: ToolHive's operator-wide default, which no custom resource
    /// shows; host:port or a redis:// URL without credentials
    #[arg(long, value_name = "URL", env = "BERTH_DEFAULT_SESSION_STORAGE", value_parser = Address::parse)]
    default_session_storage: Option<Address>,

    /// How long to go on serving after SIGTERM, not ready, so that endpoints and balancers notice
    #[arg(long, value_name = "DURATION", env = "BERTH_LAME_DUCK", default_value = "5s", value_parser = parse_duration)]
    lame_duck: Duration,

    /// How long requests that are under way then may take to end
    #[arg(long, value_name = "DURATION", env = "BERTH_DRAIN_TIMEOUT", default_value = "20s", value_parser = parse_duration)]
    drain_timeout: Duration,

    /// The form of the log, on standard error
    #[arg(long, value_name = "FORMAT", env = "BERTH_LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
}

/// Which custom resources the controller is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ControllerScope {
    /// Those that ask for it by annotation.
    #[default]
    Annotated,
    /// All.
    All,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

impl Args {
    pub(super) fn run(self, out: &mut Output) -> Result<Outcome, CliError> {
        let _ = out;
        if self.no_webhook {
            let message = "with --no-webhook there is nothing left to serve";
            return Err(CliError::new(message).help("leave --no-webhook out"));
        }
        self.log_format.start()?;
        let options = Options {
            listen: self.listen,
            admin: self.admin,
            tls_dir: self.tls_dir,
            default_storage: self
                .default_session_storage
                .map(|address| RedisStorage { address: Some(address), ..RedisStorage::default() }),
            lame_duck: self.lame_duck,
            drain_timeout: self.drain_timeout,
        };
        serve::run(&options).map(|()| Outcome::Fine).map_err(|error| {
            let failure = CliError::new(&error);
            match error.advice() {
                Some(advice) => failure.help(advice),
                None => failure,
            }
        })
    }
}

impl LogFormat {
    /// Logs from now on. In a process that logs already, that stays as it is.
    fn start(self) -> Result<(), CliError> {
        let wanted = env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
        let targets = wanted.as_deref().unwrap_or(DEFAULT_LOG).parse::<Targets>().map_err(|error| {
            CliError::new(format!("RUST_LOG: {error}")).help(format!("write levels by module, as in {DEFAULT_LOG}"))
        })?;
        let log = tracing_subscriber::fmt::layer().with_writer(io::stderr);
        let log = match self {
            Self::Text => log.with_ansi(wants_colour(io::stderr().is_terminal())).boxed(),
            Self::Json => log.json().flatten_event(true).with_ansi(false).boxed(),
        };
        // Fails only where a subscriber is set already.
        let _ = tracing_subscriber::registry().with(log.with_filter(targets)).try_init();
        Ok(())
    }
}
