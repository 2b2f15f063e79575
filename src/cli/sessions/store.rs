//! Which Redis, and what to do when it does not answer.

use std::env;
use std::fs;
use std::path::PathBuf;

use berth_proxy::config::{Environment, Flags, RunConfig, SessionStoreSettings};
use berth_proxy::session::{DEFAULT_KEY_PREFIX, InspectError, Inspector};

use super::super::CliError;
use crate::policy::Address;
use crate::policy::names::PASSWORD_ENV;

/// The flags of `berth-proxy` that name its Redis.
#[derive(Debug, clap::Args)]
pub(super) struct Store {
    /// The Redis: host:port, or a redis://, rediss://, redis+sentinel:// or redis+cluster:// URL without credentials
    #[arg(long, value_name = "URL", env = "BERTH_REDIS", value_parser = Address::parse)]
    redis: Address,

    /// ACL user of the Redis [default: Redis' default user]
    #[arg(long, value_name = "NAME", env = "BERTH_REDIS_USER")]
    redis_user: Option<String>,

    /// PEM file of the authorities to trust for rediss:// [default: the system's]
    #[arg(long, value_name = "FILE", env = "BERTH_REDIS_CA")]
    redis_ca: Option<PathBuf>,

    /// Prefix of all keys in the Redis
    #[arg(long, value_name = "TEXT", env = "BERTH_KEY_PREFIX", default_value = DEFAULT_KEY_PREFIX)]
    key_prefix: String,
}

impl Store {
    pub(super) async fn connect(&self) -> Result<Inspector, CliError> {
        let flags = Flags {
            redis: Some(self.redis.clone()),
            redis_user: self.redis_user.clone(),
            key_prefix: Some(self.key_prefix.clone()),
            ..Flags::default()
        };
        let ca = self.redis_ca.as_ref().map(|path| fs::read(path).map_err(|error| CliError::unreadable(path, error)));
        let environment = Environment {
            redis_password: env::var(PASSWORD_ENV).ok(),
            redis_ca: ca.transpose()?,
            ..Environment::default()
        };
        // The proxy's own reading of its flags, so that both find the same sessions.
        match SessionStoreSettings::new(&flags, &RunConfig::default(), &environment).map_err(CliError::new)? {
            SessionStoreSettings::Redis { target, key_prefix } => {
                Inspector::connect(&target, &key_prefix).await.map_err(|error| self.failed(&error))
            }
            SessionStoreSettings::Memory => Err(CliError::new("no Redis was named").help("give --redis URL")),
        }
    }

    /// How a person is told of it.
    pub(super) fn failed(&self, error: &InspectError) -> CliError {
        let failed = CliError::new(format!("the Redis at {} {error}", self.redis));
        match error {
            InspectError::Unreachable(_) => failed
                .help("check --redis; for a Redis inside the cluster, first: kubectl port-forward service/NAME 6379"),
            InspectError::NoRedis(_) => failed.help("check --redis; with TLS it is rediss://HOST:PORT"),
            InspectError::Unauthorised(_) => {
                failed.help(format!("put its password into {PASSWORD_ENV}; its ACL user is --redis-user NAME"))
            }
            InspectError::OtherData(_) => {
                failed.help("give the --key-prefix and the database (redis://HOST:PORT/NUMBER) of the proxies")
            }
            InspectError::ManyNodes => failed.help("name one with --server NAMESPACE/NAME"),
            InspectError::Refused(_) => failed,
        }
    }

    /// Where it was looked, for a person who finds nothing.
    pub(super) fn place(&self) -> String {
        format!("under {:?} in the Redis at {}", self.key_prefix, self.redis)
    }
}
