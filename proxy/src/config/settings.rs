//! Flags over file: what the proxy does. Pure; files are read by the caller.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::flags::Flags;
use super::generation::{self, Remark};
use super::run_config::{RunConfig, SessionRedis};
use crate::address::{Address, Topology};
use crate::pods::{Backend, Naming, StatefulSetNaming};
use crate::session::{DEFAULT_KEY_PREFIX, Identity, RedisTarget, SessionSettings};

const DEFAULT_PORT: u16 = 8080;
const DEFAULT_ADMIN_PORT: u16 = 9090;
/// Session lifetime where none is named.
pub const DEFAULT_SESSION_TTL: Duration = Duration::from_secs(2 * 60 * 60);
/// Sessions in the local cache where no number is named.
pub const DEFAULT_SESSION_CACHE_SIZE: u32 = 1000;
/// Environment variable that holds the Redis password.
pub const PASSWORD_ENV: &str = "THV_SESSION_REDIS_PASSWORD";
const DEFAULT_MAX_SESSIONS: u32 = 100_000;
const DEFAULT_LAME_DUCK: Duration = Duration::from_secs(5);
const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// What comes from neither the flags nor the file.
#[derive(Clone, Default)]
pub struct Environment {
    /// [`GENERATION_ENV`](generation::GENERATION_ENV).
    pub generation: Option<String>,
    /// [`PASSWORD_ENV`].
    pub redis_password: Option<String>,
    /// Contents of the file of `--redis-ca`.
    pub redis_ca: Option<Vec<u8>>,
}

/// All that the proxy has to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address for clients.
    pub listen: SocketAddr,
    /// Address for probes and metrics.
    pub admin: SocketAddr,
    /// Where the pods are.
    pub routing: Routing,
    /// Where sessions are kept.
    pub store: SessionStoreSettings,
    /// What sessions need besides.
    pub sessions: SessionSettings,
    /// Header that names a session, besides MCP's.
    pub session_header: Option<String>,
    /// Cookie that names a session.
    pub session_cookie: Option<String>,
    /// How long everything is still served after SIGTERM.
    pub lame_duck: Duration,
    /// How long requests may go on after that.
    pub drain_timeout: Duration,
    /// The generation that counts.
    pub generation: Option<i64>,
    /// What to log of it.
    pub generation_remark: Option<Remark>,
}

/// Where the pods of the server are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Routing {
    /// By DNS, in a headless Service.
    Headless {
        /// How they are called.
        naming: StatefulSetNaming,
        /// The Service whose addresses are those of ready pods.
        ready_service: Option<String>,
    },
    /// They are named.
    Fixed(Vec<Backend>),
}

/// Where sessions are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionStoreSettings {
    /// In this process alone.
    Memory,
    /// In a Redis.
    Redis {
        /// Which, and as whom.
        target: RedisTarget,
        /// Prefix of all keys.
        key_prefix: String,
    },
}

impl SessionStoreSettings {
    /// The store that the flags name, else the file's.
    ///
    /// # Errors
    /// What is missing or wrong, and what to do.
    pub fn new(flags: &Flags, file: &RunConfig, environment: &Environment) -> Result<Self, SettingsError> {
        let none = SessionRedis::default();
        let in_file = file.scaling_config.as_ref().and_then(|scaling| scaling.session_redis.as_ref());
        let address = match (&flags.redis, in_file) {
            (Some(address), _) => address.clone(),
            (None, Some(redis)) => Address::parse(&redis.address)
                .map_err(|why| SettingsError(format!("scaling_config.session_redis.address: {why}")))?,
            (None, None) => return Ok(Self::Memory),
        };
        let endpoints =
            address.endpoints().map_err(|why| SettingsError(format!("the address of the Redis, {address}: {why}")))?;
        // What the file says of the database belongs to its own address.
        let in_file = in_file.filter(|_| flags.redis.is_none()).unwrap_or(&none);
        let db = in_file.db.unwrap_or(0);
        let db = u32::try_from(db)
            .map_err(|_| SettingsError(format!("scaling_config.session_redis.db is {db}; it must be 0 or more")))?;
        if endpoints.topology == Topology::Cluster && endpoints.db.unwrap_or(db) != 0 {
            return Err(SettingsError("a Redis Cluster has the database 0 alone; take the number away".into()));
        }
        let key_prefix = match &flags.key_prefix {
            Some(prefix) => prefix.clone(),
            None if in_file.key_prefix.is_empty() => DEFAULT_KEY_PREFIX.to_owned(),
            None => in_file.key_prefix.clone(),
        };
        // An empty hash tag counts as none, and the keys would be spread over the Cluster.
        if key_prefix.contains("{}") {
            return Err(SettingsError(format!("the key prefix is {key_prefix:?}; it must not contain {{}}")));
        }
        let target = RedisTarget {
            endpoints,
            db,
            username: flags.redis_user.clone(),
            password: environment.redis_password.clone().filter(|password| !password.is_empty()),
            ca: environment.redis_ca.clone(),
        };
        Ok(Self::Redis { target, key_prefix })
    }
}

/// Why there are no settings: one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

impl Settings {
    /// Flags over file.
    ///
    /// # Errors
    /// What is missing or wrong, where it stands, and what to do.
    pub fn new(flags: &Flags, file: Option<&RunConfig>, environment: &Environment) -> Result<Self, SettingsError> {
        let none = RunConfig::default();
        let file = file.unwrap_or(&none);
        let routing = routing(flags, file)?;
        let naming = match &routing {
            Routing::Headless { naming, .. } => Naming::StatefulSet(naming.clone()),
            Routing::Fixed(backends) => Naming::Fixed(backends.clone()),
        };
        let (generation, generation_remark) =
            generation::effective(file.mcpserver_generation, environment.generation.as_deref());
        let sessions = SessionSettings {
            identity: identity(flags, file, &routing)?,
            naming,
            ttl: first_not_zero(flags.session_ttl, file.session_ttl).unwrap_or(DEFAULT_SESSION_TTL),
            cache_size: size(flags.session_cache_size, file.session_cache_size, DEFAULT_SESSION_CACHE_SIZE),
            max_sessions: size(flags.max_sessions, None, DEFAULT_MAX_SESSIONS),
        };
        Ok(Self {
            listen: listen(flags, file)?,
            admin: flags.admin.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_ADMIN_PORT))),
            routing,
            store: SessionStoreSettings::new(flags, file, environment)?,
            sessions,
            session_header: flags.session_header.clone(),
            session_cookie: flags.session_cookie.clone(),
            lame_duck: flags.lame_duck.unwrap_or(DEFAULT_LAME_DUCK),
            drain_timeout: flags.drain_timeout.unwrap_or(DEFAULT_DRAIN_TIMEOUT),
            generation,
            generation_remark,
        })
    }
}

fn routing(flags: &Flags, file: &RunConfig) -> Result<Routing, SettingsError> {
    let headless = file.scaling_config.as_ref().and_then(|scaling| scaling.headless_service.as_ref());
    // Whatever else is said, a configuration that asks for headless routing and lacks a part is refused.
    let headless = headless.map(|headless| headless.routing().map_err(SettingsError)).transpose()?;
    if !flags.backends.is_empty() {
        return distinct(flags.backends.clone());
    }
    let target_port = port("target_port", file.target_port)?;
    let needs_port = || SettingsError("target_port is missing; give the port of the server".into());
    if let Some(headless) = headless {
        let naming = StatefulSetNaming {
            statefulset: headless.statefulset,
            service: headless.service,
            namespace: headless.namespace,
            domain: flags.cluster_domain.clone(),
            port: target_port.ok_or_else(needs_port)?,
        };
        return Ok(Routing::Headless { naming, ready_service: headless.ready_service });
    }
    if target_port.is_none() && file.target_host.is_empty() {
        return Err(SettingsError(match &flags.config {
            None => "no server to send requests to; give --backend URL or --config FILE".to_owned(),
            Some(path) => format!(
                "no server to send requests to: {} has no target_port; name it there, or give --backend URL",
                path.display()
            ),
        }));
    }
    let host = if file.target_host.is_empty() { "localhost" } else { &file.target_host };
    let url = format!("http://{host}:{}", target_port.ok_or_else(needs_port)?);
    let backend = Backend::parse(&url).map_err(|why| SettingsError(format!("target_host {host:?}: {why}")))?;
    Ok(Routing::Fixed(vec![backend]))
}

fn distinct(backends: Vec<Backend>) -> Result<Routing, SettingsError> {
    for (at, backend) in backends.iter().enumerate() {
        let same = |other: &&Backend| (&other.host, other.port) == (&backend.host, backend.port);
        if backends.iter().take(at).any(|other| same(&other)) {
            return Err(SettingsError(format!("the backend {} is given twice; give each once", backend.url())));
        }
    }
    Ok(Routing::Fixed(backends))
}

fn identity(flags: &Flags, file: &RunConfig, routing: &Routing) -> Result<Identity, SettingsError> {
    let (namespace, name) = match (&flags.server, routing) {
        (Some(server), _) => server.split_once('/').unwrap_or(("-", server)),
        (None, Routing::Headless { naming, .. }) => (naming.namespace.as_str(), naming.statefulset.as_str()),
        (None, Routing::Fixed(_)) if file.name.is_empty() => ("-", "default"),
        (None, Routing::Fixed(_)) => ("-", file.name.as_str()),
    };
    Identity::new(namespace, name).ok_or_else(|| {
        let text = format!("{namespace}/{name}");
        SettingsError(format!("{text:?} is no name of a server; give --server NAMESPACE/NAME or NAME"))
    })
}

fn listen(flags: &Flags, file: &RunConfig) -> Result<SocketAddr, SettingsError> {
    if let Some(listen) = flags.listen {
        return Ok(listen);
    }
    let host = match file.host.as_str() {
        "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => host
            .parse()
            .map_err(|_| SettingsError(format!("host is {host:?}; it must be an IP address to listen on")))?,
    };
    Ok(SocketAddr::new(host, port("port", file.port)?.unwrap_or(DEFAULT_PORT)))
}

/// 0 is what ToolHive writes for a port that is not set.
fn port(name: &str, number: Option<i64>) -> Result<Option<u16>, SettingsError> {
    let Some(number) = number.filter(|number| *number != 0) else { return Ok(None) };
    u16::try_from(number)
        .map(Some)
        .map_err(|_| SettingsError(format!("{name} is {number}; it must be a number from 1 to 65535")))
}

fn first_not_zero(flag: Option<Duration>, file: Option<Duration>) -> Option<Duration> {
    [flag, file].into_iter().flatten().find(|duration| !duration.is_zero())
}

/// 0 is the default, wherever it stands.
fn size(flag: Option<u32>, file: Option<u32>, default: u32) -> usize {
    let size = flag.filter(|size| *size > 0).or(file.filter(|size| *size > 0)).unwrap_or(default);
    usize::try_from(size).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADLESS: &str = r#"{
        "name": "web", "port": 8081, "host": "127.0.0.1", "target_port": 3000, "session_ttl": 60000000000,
        "session_cache_size": 5, "mcpserver_generation": 3,
        "scaling_config": {
            "session_redis": {"address": "redis:6379", "db": 2},
            "headless_service": {"statefulset_name": "web", "service_name": "mcp-web-headless", "namespace": "team",
                                 "replicas": 1, "ready_service_name": "mcp-web"}}}"#;

    fn flags() -> Flags {
        Flags { cluster_domain: "cluster.local".into(), ..Flags::default() }
    }

    fn settings(flags: &Flags, file: &str) -> Result<Settings, String> {
        let file = RunConfig::parse(file).unwrap();
        Settings::new(flags, Some(&file), &Environment::default()).map_err(|error| error.to_string())
    }

    fn backend(url: &str) -> Backend {
        Backend::parse(url).unwrap()
    }

    #[test]
    fn the_file_says_everything() {
        let settings = settings(&flags(), HEADLESS).unwrap();
        assert_eq!(settings.listen, "127.0.0.1:8081".parse().unwrap());
        assert_eq!((settings.sessions.ttl, settings.sessions.cache_size), (Duration::from_secs(60), 5));
        assert_eq!(settings.sessions.identity.to_string(), "team/web");
        assert_eq!(settings.generation, Some(3));
        let Routing::Headless { naming, ready_service } = &settings.routing else { panic!("{:?}", settings.routing) };
        assert_eq!(naming.host(crate::pods::PodId(0)), "web-0.mcp-web-headless.team.svc.cluster.local");
        assert_eq!((naming.port, ready_service.as_deref()), (3000, Some("mcp-web")));
        let SessionStoreSettings::Redis { target, key_prefix } = &settings.store else { panic!("memory") };
        assert_eq!((target.db, key_prefix.as_str()), (2, "berth:session:"));
    }

    #[test]
    fn flags_beat_the_file() {
        let mut flags = flags();
        flags.listen = Some("0.0.0.0:9".parse().unwrap());
        flags.session_ttl = Some(Duration::from_secs(7));
        flags.session_cache_size = Some(9);
        flags.redis = Some(Address::parse("other:6379").unwrap());
        flags.backends = vec![backend("http://127.0.0.1:1"), backend("http://127.0.0.1:2")];
        let settings = settings(&flags, HEADLESS).unwrap();
        assert_eq!(settings.listen, "0.0.0.0:9".parse().unwrap());
        assert_eq!((settings.sessions.ttl, settings.sessions.cache_size), (Duration::from_secs(7), 9));
        assert_eq!(settings.routing, Routing::Fixed(flags.backends.clone()));
        let SessionStoreSettings::Redis { target, .. } = &settings.store else { panic!("memory") };
        assert_eq!((target.endpoints.hosts[0].0.as_str(), target.db), ("other", 0));
    }

    #[test]
    fn zero_is_the_default_where_it_has_no_meaning() {
        let mut flags = flags();
        flags.session_ttl = Some(Duration::ZERO);
        let settings =
            settings(&flags, r#"{"target_port": 1, "session_ttl": 0, "session_cache_size": 0, "port": 0}"#).unwrap();
        assert_eq!((settings.sessions.ttl, settings.sessions.cache_size), (Duration::from_secs(7200), 1000));
        assert_eq!(settings.listen, "0.0.0.0:8080".parse().unwrap());
        assert_eq!(settings.routing, Routing::Fixed(vec![backend("http://localhost:1")]));
        assert!(matches!(settings.store, SessionStoreSettings::Memory));
    }

    #[test]
    fn the_file_of_the_documents_is_read() {
        let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/plain-workloads.md");
        let document = std::fs::read_to_string(document).unwrap();
        let manifest = document.split("```yaml\n").nth(2).and_then(|rest| rest.split("```").next()).unwrap();
        let manifest: serde_json::Value = serde_saphyr::from_str(manifest).unwrap();
        let settings = settings(&flags(), manifest["data"]["runconfig.yaml"].as_str().unwrap()).unwrap();
        assert_eq!(settings.listen, "0.0.0.0:8080".parse().unwrap());
        let Routing::Headless { naming, ready_service } = settings.routing else { panic!("{:?}", settings.routing) };
        let url = Naming::StatefulSet(naming).url(crate::pods::PodId(2));
        assert_eq!(url.as_deref(), Some("http://memory-2.memory-pods.default.svc.cluster.local:3000"));
        assert_eq!(ready_service.as_deref(), Some("memory-ready"));
        assert!(matches!(settings.store, SessionStoreSettings::Redis { .. }));
    }

    #[test]
    fn an_incomplete_headless_service_is_an_error_whatever_else_is_said() {
        let file = r#"{"target_port": 1, "scaling_config": {"headless_service": {"statefulset_name": "web"}}}"#;
        let mut flags = flags();
        assert!(settings(&flags, file).unwrap_err().contains("lacks service_name, namespace, replicas"));
        flags.backends = vec![backend("http://127.0.0.1:1")];
        assert!(settings(&flags, file).unwrap_err().contains("lacks service_name, namespace, replicas"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (file, part) in [
            ("{}", "no server to send requests to"),
            (r#"{"target_port": 70000}"#, "target_port is 70000"),
            (r#"{"target_port": 1, "port": -1}"#, "port is -1"),
            (r#"{"target_port": 1, "host": "example.com"}"#, "IP address"),
            (r#"{"target_host": "a"}"#, "target_port is missing"),
            (r#"{"target_port": 1, "target_host": "a/b"}"#, "target_host"),
            (r#"{"target_port": 1, "name": "a b"}"#, "no name of a server"),
            (r#"{"target_port": 1, "scaling_config": {"session_redis": {}}}"#, "address"),
            (r#"{"target_port": 1, "scaling_config": {"session_redis": {"address": "r:1", "db": -1}}}"#, "db is -1"),
            (
                r#"{"target_port": 1, "scaling_config": {"session_redis": {"address": "redis+cluster://r:1/2"}}}"#,
                "database 0",
            ),
            (
                r#"{"target_port": 1, "scaling_config": {"session_redis": {"address": "r:1", "key_prefix": "{}"}}}"#,
                "key prefix",
            ),
        ] {
            let error = settings(&flags(), file).unwrap_err();
            assert!(error.contains(part), "{file}: {error}");
        }
        let mut twice = flags();
        twice.backends = vec![backend("http://127.0.0.1:1"), backend("http://127.0.0.1:1/")];
        assert!(settings(&twice, "{}").unwrap_err().contains("given twice"));
    }

    #[test]
    fn the_password_comes_from_the_environment_and_is_not_shown() {
        let file = RunConfig::parse(HEADLESS).unwrap();
        let environment = Environment { redis_password: Some("hunter2".into()), ..Environment::default() };
        let settings = Settings::new(&flags(), Some(&file), &environment).unwrap();
        let SessionStoreSettings::Redis { target, .. } = &settings.store else { panic!("memory") };
        assert_eq!(target.password.as_deref(), Some("hunter2"));
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    #[test]
    fn flags_are_well_formed() {
        use clap::{Args, Command, FromArgMatches};
        let command = || Flags::augment_args(Command::new("berth-proxy"));
        command().debug_assert();
        let parse = |arguments: &[&str]| {
            let all = std::iter::once("berth-proxy").chain(arguments.iter().copied());
            command().try_get_matches_from(all).map(|found| Flags::from_arg_matches(&found).unwrap())
        };
        let flags = parse(&["--backend", "http://a:1", "--backend", "h2c://b:2", "--session-ttl", "90s"]).unwrap();
        assert_eq!(flags.backends, [backend("http://a:1"), backend("h2c://b:2")]);
        assert_eq!(flags.session_ttl, Some(Duration::from_secs(90)));
        for wrong in [["--redis", "redis://user:pw@r:1"], ["--session-header", "a b"], ["--backend", "ftp://a:1"]] {
            assert!(parse(&wrong).is_err(), "{wrong:?}");
        }
        for flag in command().get_arguments() {
            let variable = flag.get_env().and_then(|variable| variable.to_str()).unwrap_or_default();
            let long = flag.get_long().unwrap_or_default().to_uppercase().replace('-', "_");
            assert_eq!(variable, format!("BERTH_{long}"), "every flag has its variable");
        }
    }
}
