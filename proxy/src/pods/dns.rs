//! Pods of a StatefulSet, from the DNS records of its Services.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use parking_lot::Mutex;

use super::lifetime::Lifetime;
use super::name::{PodId, StatefulSetNaming};
use super::snapshot::{Snapshot, Target};

/// How long one DNS server may take for one answer.
const DEADLINE: Duration = Duration::from_millis(700);

/// Asks DNS for the pods of one StatefulSet.
pub(super) struct Resolver {
    resolver: TokioResolver,
    set: StatefulSetNaming,
    ready_service: Option<String>,
    lifetime: Mutex<Lifetime>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("service", &self.set.service_host()).finish_non_exhaustive()
    }
}

impl Resolver {
    pub(super) fn from_system(set: &StatefulSetNaming, ready_service: Option<&str>) -> io::Result<Self> {
        let (config, options) = hickory_resolver::system_conf::read_system_conf().map_err(io::Error::other)?;
        Self::new(set, ready_service, config, options)
    }

    pub(super) fn from_server(
        set: &StatefulSetNaming,
        ready_service: Option<&str>,
        server: SocketAddr,
    ) -> io::Result<Self> {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = server.port();
            connection
        });
        let mut name_server = NameServerConfig::udp_and_tcp(server.ip());
        name_server.connections = connections.into();
        let config = ResolverConfig::from_name_servers(vec![name_server]);
        Self::new(set, ready_service, config, ResolverOpts::default())
    }

    fn new(
        set: &StatefulSetNaming,
        ready_service: Option<&str>,
        config: ResolverConfig,
        mut options: ResolverOpts,
    ) -> io::Result<Self> {
        // An answer proves something only by the time it was asked for.
        options.cache_size = 0;
        options.timeout = DEADLINE;
        options.attempts = 1;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Never;
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let resolver = builder.build().map_err(io::Error::other)?;
        let ready_service = ready_service.map(|service| format!("{service}.{}.svc.{}.", set.namespace, set.domain));
        Ok(Self { resolver, set: set.clone(), ready_service, lifetime: Mutex::default() })
    }

    /// The pods, and how old the answer was when it came; `None` when DNS gave no answer that proves anything.
    pub(super) async fn ask(&self, last: &Snapshot) -> Option<(Snapshot, Duration)> {
        let (pods, ready) = tokio::join!(self.ask_pods(), self.ask_ready());
        let (pods, age) = pods?;
        let ready: Vec<PodId> = match ready {
            Ready::All => pods.keys().copied().collect(),
            Ready::At(addresses) => {
                let is_ready = |found: &Vec<IpAddr>| found.iter().any(|address| addresses.contains(address));
                pods.iter().filter(|(_, found)| is_ready(found)).map(|(pod, _)| *pod).collect()
            }
            Ready::NoAnswer => last.ready().iter().filter(|pod| pods.contains_key(pod)).copied().collect(),
        };
        let targets = pods.iter().filter_map(|(pod, addresses)| {
            let address = SocketAddr::new(*addresses.first()?, self.set.port);
            Some((*pod, Target { address, h2c: false }))
        });
        Some((Snapshot::new(targets, ready), age))
    }

    /// Names and addresses, from the governing Service's SRV records, and the age of these.
    async fn ask_pods(&self) -> Option<(BTreeMap<PodId, Vec<IpAddr>>, Duration)> {
        let host = self.set.service_host();
        let answer = match self.resolver.lookup(format!("{host}."), RecordType::SRV).await {
            Ok(answer) => answer,
            Err(error) => {
                log_failure(&host, &error);
                return None;
            }
        };
        let left = answer.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
        let age = self.lifetime.lock().age(left, Instant::now());
        let mut pods = read_pods(&self.set, answer.answers(), answer.additionals());
        for (pod, addresses) in &mut pods {
            if addresses.is_empty() {
                // A large answer comes without addresses.
                match self.resolver.lookup_ip(format!("{}.", self.set.host(*pod))).await {
                    Ok(found) => addresses.extend(found.iter()),
                    // Its name was given: to leave it out would prove that it is gone.
                    Err(error) => {
                        log_failure(&self.set.host(*pod), &error);
                        return None;
                    }
                }
                addresses.sort_unstable();
            }
        }
        (!pods.is_empty()).then_some((pods, age))
    }

    async fn ask_ready(&self) -> Ready {
        let Some(host) = &self.ready_service else { return Ready::All };
        match self.resolver.lookup_ip(host.as_str()).await {
            Ok(answer) => Ready::At(answer.iter().collect()),
            Err(error) => {
                log_failure(host, &error);
                Ready::NoAnswer
            }
        }
    }
}

/// Which pods may get new sessions.
enum Ready {
    /// There is no Service that says.
    All,
    /// Those at these addresses.
    At(Vec<IpAddr>),
    /// As last time.
    NoAnswer,
}

fn log_failure(host: &str, error: &NetError) {
    // Every two seconds while it lasts; the replica's readiness and its metrics tell it at a higher level.
    tracing::debug!(host, %error, "DNS gave no answer");
}

/// The pods that SRV records name, with the addresses that came along. Names of anything else are skipped.
fn read_pods(set: &StatefulSetNaming, answers: &[Record], additionals: &[Record]) -> BTreeMap<PodId, Vec<IpAddr>> {
    let mut pods: BTreeMap<PodId, Vec<IpAddr>> = BTreeMap::new();
    for record in answers {
        if let RData::SRV(service) = &record.data
            && let Some(pod) = parse_name(set, &service.target)
        {
            pods.entry(pod).or_default();
        }
    }
    for record in additionals.iter().chain(answers) {
        let address = match &record.data {
            RData::A(address) => IpAddr::V4(address.0),
            RData::AAAA(address) => IpAddr::V6(address.0),
            _ => continue,
        };
        if let Some(addresses) = parse_name(set, &record.name).and_then(|pod| pods.get_mut(&pod)) {
            addresses.push(address);
        }
    }
    for addresses in pods.values_mut() {
        // The order of records changes from answer to answer; the connections should not.
        addresses.sort_unstable();
        addresses.dedup();
    }
    pods
}

/// DNS knows no upper and lower case, and ends names with a dot.
fn parse_name(set: &StatefulSetNaming, name: &hickory_resolver::proto::rr::Name) -> Option<PodId> {
    let name = name.to_ascii().to_ascii_lowercase();
    set.parse_host(name.strip_suffix('.').unwrap_or(&name))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_resolver::proto::rr::rdata::{A, SRV};

    use super::*;

    fn srv(target: &str) -> Record {
        let target = format!("{target}.").parse().unwrap();
        Record::from_rdata("x.".parse().unwrap(), 5, RData::SRV(SRV::new(0, 100, 8080, target)))
    }

    fn a(name: &str, last: u8) -> Record {
        Record::from_rdata(format!("{name}.").parse().unwrap(), 5, RData::A(A(Ipv4Addr::new(10, 0, 0, last))))
    }

    #[test]
    fn pods_are_read_by_name_once_each() {
        let name = |ordinal: u8| format!("web-{ordinal}.mcp-web-headless.team.svc.cluster.local");
        let answers = [srv(&name(0)), srv(&name(0)), srv(&name(7).to_uppercase()), srv(&name(3))];
        let additionals = [a(&name(7), 7), a(&name(0), 2), a(&name(0), 1), a("evil.example", 9), a(&name(5), 5)];
        let pods = read_pods(&StatefulSetNaming::web(), &answers, &additionals);
        let ip = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
        let expected = BTreeMap::from([(PodId(0), vec![ip(1), ip(2)]), (PodId(3), vec![]), (PodId(7), vec![ip(7)])]);
        assert_eq!(pods, expected);
    }

    #[test]
    fn records_of_anything_else_are_skipped() {
        let answers = [
            srv("web-0.other.team.svc.cluster.local"),
            srv("web-0.mcp-web-headless.team.svc.cluster.local.evil.example"),
            srv("10-0-0-1.mcp-web-headless.team.svc.cluster.local"),
        ];
        assert_eq!(read_pods(&StatefulSetNaming::web(), &answers, &[]), BTreeMap::new());
    }
}
