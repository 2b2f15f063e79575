//! `berth serve`: the webhook and the controller, for as long as the process runs.

use std::env;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::{FalseyValueParser, NonEmptyStringValueParser};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::output::wants_colour;
use super::{CliError, Outcome, Output};
use crate::controller::objects::Settings;
use crate::controller::{self, Scope};
use crate::policy::{Address, RedisStorage, is_dns_label, parse_duration};
use crate::serve::{self, Options, WebhookOptions};

/// What is logged where RUST_LOG says nothing else. The libraries tell of each start of a thread, and of each request that
/// fails, which is told here once.
const DEFAULT_LOG: &str = "info,actix_server=warn,kube_client=off";

/// Answer admission reviews for a cluster, and build what its custom resources ask for.
///
/// The webhook serves /mutate and /validate over TLS; the certificate files are read again when they change. The
/// controller turns MCPServers and VirtualMCPServers into workloads; of several replicas the one that holds the Lease
/// berth-controller writes. /livez, /readyz and /metrics are on the admin address, in plain HTTP. SIGTERM ends it without
/// losing a review or a write; a second one ends it at once.
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

    /// Serve the webhook only
    #[arg(long, env = "BERTH_NO_CONTROLLER", value_parser = FalseyValueParser::new())]
    no_controller: bool,

    /// Run the controller only; needs no certificate
    #[arg(long, env = "BERTH_NO_WEBHOOK", value_parser = FalseyValueParser::new())]
    no_webhook: bool,

    /// Which custom resources the controller builds workloads for
    #[arg(long, value_name = "SCOPE", env = "BERTH_CONTROLLER_SCOPE", value_enum, default_value_t)]
    controller_scope: ControllerScope,

    /// The session proxy's image. What was built with another one keeps it until its resource changes
    #[arg(long, value_name = "IMAGE", env = "BERTH_PROXY_IMAGE", default_value = concat!("berth-proxy:", env!("CARGO_PKG_VERSION")),
        value_parser = NonEmptyStringValueParser::new())]
    proxy_image: String,

    /// The image of ToolHive's vmcp, which VirtualMCPServers run. What was built with another one keeps it, too
    #[arg(long, value_name = "IMAGE", env = "BERTH_VMCP_IMAGE", default_value = "vmcp", value_parser = NonEmptyStringValueParser::new())]
    vmcp_image: String,

    /// imagePullPolicy of both; absent, Kubernetes decides by the tag. It is kept with the image
    #[arg(long, value_name = "POLICY", env = "BERTH_IMAGE_PULL_POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    image_pull_policy: Option<String>,

    /// The DNS domain of the cluster. Another one restarts every session proxy, which looks for its pods there
    #[arg(long, value_name = "DOMAIN", env = "BERTH_CLUSTER_DOMAIN", default_value = "cluster.local", value_parser = parse_domain)]
    cluster_domain: String,

    /// The namespace of the controller's Lease; absent, that of the pod, or of the kubeconfig's context
    #[arg(long, value_name = "NAMESPACE", env = "BERTH_LEASE_NAMESPACE")]
    lease_namespace: Option<String>,

    /// How often the controller looks at everything again, changed or not; 0: never. Where nothing is wrong, that costs no
    /// request
    #[arg(long, value_name = "DURATION", env = "BERTH_CONTROLLER_RESYNC", default_value = "10m", value_parser = parse_resync)]
    controller_resync: Duration,

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
    /// Those with the annotation berth.dev/class: berth
    #[default]
    Annotated,
    /// All but those whose berth.dev/class names another; for clusters without ToolHive's operator
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
        if self.no_webhook && self.no_controller {
            let message = "with --no-webhook and --no-controller there is nothing left to serve";
            return Err(CliError::new(message).help("leave one of them out"));
        }
        self.log_format.start()?;
        let options = self.options();
        serve::run(&options).map(|()| Outcome::Fine).map_err(|error| {
            let failure = CliError::new(&error);
            match error.advice() {
                Some(advice) => failure.help(advice),
                None => failure,
            }
        })
    }
}

impl Args {
    fn options(self) -> Options {
        let default_storage = self
            .default_session_storage
            .map(|address| RedisStorage { address: Some(address), ..RedisStorage::default() });
        let controller = (!self.no_controller).then(|| controller::Options {
            scope: match self.controller_scope {
                ControllerScope::Annotated => Scope::Annotated,
                ControllerScope::All => Scope::All,
            },
            settings: Settings {
                proxy_image: self.proxy_image,
                vmcp_image: self.vmcp_image,
                image_pull_policy: self.image_pull_policy,
                cluster_domain: self.cluster_domain,
                default_storage: default_storage.clone(),
            },
            resync: Some(self.controller_resync).filter(|resync| !resync.is_zero()),
            lease_namespace: self.lease_namespace,
        });
        let webhook = WebhookOptions { listen: self.listen, tls_dir: self.tls_dir, drain_timeout: self.drain_timeout };
        Options {
            webhook: (!self.no_webhook).then_some(webhook),
            controller,
            admin: self.admin,
            default_storage,
            lame_duck: self.lame_duck,
        }
    }
}

/// Shorter ones would do nothing but look.
const SHORTEST_RESYNC: Duration = Duration::from_millis(100);

fn parse_resync(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        resync if resync.is_zero() || resync >= SHORTEST_RESYNC => Ok(resync),
        _ => Err("it must be 0, for never, or 100ms and more".to_owned()),
    }
}

fn parse_domain(text: &str) -> Result<String, String> {
    match text.split('.').all(is_dns_label) {
        true => Ok(text.to_owned()),
        false => Err("it must be a DNS domain, as in cluster.local".to_owned()),
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
