//! The flags, each with its variable. Values that the file may give too have no default here: the flag beats the file
//! only where it is given.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::address::Address;
use crate::duration::parse_duration;
use crate::pods::Backend;

/// What the command line says.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// RunConfig, JSON or YAML; read again when it changes
    #[arg(long, value_name = "FILE", env = "BERTH_CONFIG")]
    pub config: Option<PathBuf>,

    /// Server to send requests to, http://HOST:PORT or h2c://HOST:PORT; repeat it for several
    #[arg(long = "backend", value_name = "URL", env = "BERTH_BACKEND", value_delimiter = ',', value_parser = Backend::parse)]
    pub backends: Vec<Backend>,

    /// Address for clients [default: 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR", env = "BERTH_LISTEN")]
    pub listen: Option<SocketAddr>,

    /// Address for /livez, /readyz and /metrics [default: 0.0.0.0:9090]
    #[arg(long, value_name = "ADDR", env = "BERTH_ADMIN")]
    pub admin: Option<SocketAddr>,

    /// Name of the server, as in NAMESPACE/NAME or NAME; servers that share a Redis need different ones
    #[arg(long, value_name = "NAME", env = "BERTH_SERVER")]
    pub server: Option<String>,

    /// Redis that all replicas share: host:port, or a redis://, rediss://, redis+sentinel:// or redis+cluster:// URL
    /// without credentials, redis+sentinel://HOST:PORT/MASTER; the password is taken from THV_SESSION_REDIS_PASSWORD
    #[arg(long, value_name = "URL", env = "BERTH_REDIS", value_parser = Address::parse)]
    pub redis: Option<Address>,

    /// ACL user of the Redis [default: Redis' default user]
    #[arg(long, value_name = "NAME", env = "BERTH_REDIS_USER")]
    pub redis_user: Option<String>,

    /// PEM file of the authorities to trust for rediss:// [default: the system's]
    #[arg(long, value_name = "FILE", env = "BERTH_REDIS_CA")]
    pub redis_ca: Option<PathBuf>,

    /// Prefix of all keys in the Redis [default: berth:session:]
    #[arg(long, value_name = "TEXT", env = "BERTH_KEY_PREFIX")]
    pub key_prefix: Option<String>,

    /// How long an unused session lives [default: 2h]
    #[arg(long, value_name = "DURATION", env = "BERTH_SESSION_TTL", value_parser = parse_duration)]
    pub session_ttl: Option<Duration>,

    /// Sessions in the local cache in front of the Redis [default: 1000]
    #[arg(long, value_name = "N", env = "BERTH_SESSION_CACHE_SIZE")]
    pub session_cache_size: Option<u32>,

    /// Sessions kept without a Redis; above it new ones get 503 [default: 100000]
    #[arg(long, value_name = "N", env = "BERTH_MAX_SESSIONS")]
    pub max_sessions: Option<u32>,

    /// Header that names the session of servers that do not speak MCP
    #[arg(long, value_name = "NAME", env = "BERTH_SESSION_HEADER", value_parser = token)]
    pub session_header: Option<String>,

    /// Cookie that names the session of servers that do not speak MCP
    #[arg(long, value_name = "NAME", env = "BERTH_SESSION_COOKIE", value_parser = token)]
    pub session_cookie: Option<String>,

    /// How long everything is still served after SIGTERM, while /readyz says 503 [default: 5s]
    #[arg(long, value_name = "DURATION", env = "BERTH_LAME_DUCK", value_parser = parse_duration)]
    pub lame_duck: Option<Duration>,

    /// How long requests may go on after that; streams end between two events then [default: 20s]
    #[arg(long, value_name = "DURATION", env = "BERTH_DRAIN_TIMEOUT", value_parser = parse_duration)]
    pub drain_timeout: Option<Duration>,

    /// DNS domain of the cluster
    #[arg(long, value_name = "DOMAIN", env = "BERTH_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
}

/// The name of a header or a cookie (RFC 9110, token).
fn token(text: &str) -> Result<String, String> {
    let valid = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    match !text.is_empty() && text.chars().all(valid) {
        true => Ok(text.to_owned()),
        false => Err("it must be a name without spaces and separators".to_owned()),
    }
}
