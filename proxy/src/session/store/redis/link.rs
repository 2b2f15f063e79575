//! Connections to a Redis, whatever its topology.

use std::fmt;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, Pipeline,
    RedisConnectionInfo, RedisError, RedisFuture, RedisResult, TlsCertificates, TlsMode, Value,
};

use crate::address::{Endpoints, Topology};

/// Until one server must have accepted a connection.
const CONNECT: Duration = Duration::from_secs(1);
/// Until a Sentinel must have answered: there are others.
const ASK_SENTINEL: Duration = Duration::from_millis(500);

/// How long the other end of a connection may acknowledge nothing, not even a probe, before the connection is broken: as one
/// that was idle for so long that a NAT forgot it.
const DEAD: Duration = Duration::from_secs(5);

/// What to connect to, and as whom.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisTarget {
    /// Where it is.
    pub endpoints: Endpoints,
    /// Number of the database, where the endpoints name none.
    pub db: u32,
    /// ACL user; `None` is Redis' `default`.
    pub username: Option<String>,
    /// Password of the user.
    pub password: Option<String>,
    /// PEM of the certificate authorities to trust; `None` is the system's.
    pub ca: Option<Vec<u8>>,
}

impl fmt::Debug for RedisTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTarget").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

/// One multiplexed connection: any number of commands at once, answered in order.
#[derive(Clone)]
pub(super) enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// Two connections to the server that takes writes. Redis answers each in order, and holds a connection whose write is
/// paused: look-ups have their own, so that they are answered meanwhile.
#[derive(Clone)]
pub(super) struct Pair {
    pub(super) read: Connection,
    pub(super) write: Connection,
}

impl RedisTarget {
    /// Connects; the caller bounds the time of the whole.
    pub(super) async fn connect(&self) -> RedisResult<Pair> {
        match &self.endpoints.topology {
            Topology::Single => {
                let Some((host, port)) = self.endpoints.hosts.first() else { return Err(no_host()) };
                let client = self.client(host, *port, self.credentials())?;
                Ok(Pair { read: single(&client).await?, write: single(&client).await? })
            }
            Topology::Sentinel { master } => {
                let (host, port) = self.ask_sentinels(master).await?;
                let client = self.client(&host, port, self.credentials())?;
                let pair = Pair { read: single(&client).await?, write: single(&client).await? };
                check_master(pair.read.clone()).await?;
                Ok(pair)
            }
            Topology::Cluster => {
                let client = self.cluster()?;
                let connect = async || client.get_async_connection().await.map(Connection::Cluster);
                Ok(Pair { read: connect().await?, write: connect().await? })
            }
        }
    }

    fn credentials(&self) -> RedisConnectionInfo {
        let db = self.endpoints.db.unwrap_or(self.db);
        let mut settings = RedisConnectionInfo::default().set_db(db.into());
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        settings
    }

    fn info(&self, host: &str, port: u16, settings: RedisConnectionInfo) -> RedisResult<ConnectionInfo> {
        let host = host.to_owned();
        let address = match self.endpoints.tls {
            true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            false => ConnectionAddr::Tcp(host, port),
        };
        Ok(address.into_connection_info()?.set_redis_settings(settings).set_tcp_settings(tcp_settings()))
    }

    fn client(&self, host: &str, port: u16, settings: RedisConnectionInfo) -> RedisResult<Client> {
        let info = self.info(host, port, settings)?;
        match self.endpoints.tls {
            true => Client::build_with_tls(info, self.certificates()),
            false => Client::open(info),
        }
    }

    fn certificates(&self) -> TlsCertificates {
        TlsCertificates { client_tls: None, root_cert: self.ca.clone() }
    }

    fn cluster(&self) -> RedisResult<ClusterClient> {
        let nodes: Vec<_> = (self.endpoints.hosts.iter())
            .map(|(host, port)| self.info(host, *port, self.credentials().set_db(0)))
            .collect::<RedisResult<_>>()?;
        // Every command has a deadline where it is sent; the client's own would be shorter than that of a write.
        let mut client = ClusterClient::builder(nodes)
            .connection_timeout(CONNECT)
            .overall_response_timeout(None)
            .tcp_settings(tcp_settings());
        if self.endpoints.tls {
            client = client.tls(TlsMode::Secure).certs(self.certificates());
        }
        client.build()
    }

    /// The address of the master, from the first Sentinel that knows it.
    async fn ask_sentinels(&self, master: &str) -> RedisResult<(String, u16)> {
        let mut last = no_host();
        for (host, port) in &self.endpoints.hosts {
            let anonymous = RedisConnectionInfo::default();
            let known = RedisConnectionInfo::default();
            // Many Sentinels have no password where the servers have one, and refuse one that they do not know.
            for settings in [anonymous, self.sentinel_credentials(known)] {
                match tokio::time::timeout(ASK_SENTINEL, self.ask_sentinel(host, *port, settings, master)).await {
                    Ok(Ok(Some(address))) => return Ok(address),
                    Ok(Ok(None)) => {
                        last =
                            RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, "no Sentinel knows the master"));
                        break;
                    }
                    Ok(Err(error)) => last = error,
                    Err(_) => {
                        last = RedisError::from((ErrorKind::Io, "a Sentinel did not answer"));
                        break;
                    }
                }
                if last.code() != Some("NOAUTH") {
                    break;
                }
            }
        }
        Err(last)
    }

    fn sentinel_credentials(&self, mut settings: RedisConnectionInfo) -> RedisConnectionInfo {
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        settings
    }

    async fn ask_sentinel(
        &self,
        host: &str,
        port: u16,
        settings: RedisConnectionInfo,
        master: &str,
    ) -> RedisResult<Option<(String, u16)>> {
        let mut connection = single(&self.client(host, port, settings)?).await?;
        redis::cmd("SENTINEL").arg("get-master-addr-by-name").arg(master).query_async(&mut connection).await
    }
}

fn tcp_settings() -> TcpSettings {
    let probes = TcpKeepalive::new().with_time(DEAD / 2).with_interval(DEAD / 5);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(probes);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(DEAD);
    settings
}

async fn single(client: &Client) -> RedisResult<Connection> {
    // Deadlines of commands are set where they are sent: a write may take longer than a look-up.
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::Single)
}

/// A Sentinel may still name the old master right after a failover, or be asked while one is under way.
async fn check_master(mut connection: Connection) -> RedisResult<()> {
    let role: Vec<Value> = redis::cmd("ROLE").query_async(&mut connection).await?;
    match role.first() {
        Some(Value::BulkString(role)) if role == b"master" => Ok(()),
        _ => Err(RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, "the server is no master (any more)"))),
    }
}

fn no_host() -> RedisError {
    RedisError::from((ErrorKind::InvalidClientConfig, "no host to connect to"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;

    /// Reads keep the other connection of a pair proven; nothing but the kernel looks after that of writes.
    #[test]
    fn connections_to_every_topology_end_of_themselves_when_they_are_dead() {
        let settings = format!("{:?}", tcp_settings());
        assert!(settings.contains("user_timeout: Some(5s)"), "{settings}");
        assert!(settings.contains("keepalive: Some("), "{settings}");
        for address in ["redis://one:6379", "rediss://one:6379", "redis+cluster://one:6379"] {
            let endpoints = Address::parse(address).and_then(|address| address.endpoints()).unwrap();
            let target = RedisTarget { endpoints, db: 0, username: None, password: None, ca: None };
            let info = target.info("one", 6379, target.credentials()).unwrap();
            assert_eq!(format!("{:?}", info.tcp_settings()), settings, "{address}");
            let cluster = format!("{:?}", target.cluster().unwrap());
            assert_eq!(cluster.matches(&settings).count(), 2, "of the first node, and of those it names: {cluster}");
        }
    }
}
