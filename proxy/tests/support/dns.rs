//! A DNS server for StatefulSets behind headless Services.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use parking_lot::Mutex;
use tokio::net::UdpSocket;

/// How the server answers.
#[derive(Clone, Copy, PartialEq, Default)]
pub enum Mood {
    #[default]
    Good,
    Failing,
    Empty,
    Silent,
}

/// A StatefulSet `NAME` in the namespace `team`, behind `mcp-NAME-headless` and `mcp-NAME`.
#[derive(Default)]
pub struct Zone {
    pub pods: BTreeMap<u16, Ipv4Addr>,
    pub ready: Vec<Ipv4Addr>,
    pub mood: Mood,
    /// How long its records have to live, in seconds: less than at first means that a cache has them from before.
    pub lifetime: u32,
    /// How often its pods were asked for.
    pub asked: u32,
}

#[derive(Default)]
pub struct Zones(Mutex<HashMap<String, Arc<Mutex<Zone>>>>);

impl Zones {
    /// The zone of a StatefulSet.
    pub fn of(&self, set: &str) -> Arc<Mutex<Zone>> {
        Arc::clone(self.0.lock().entry(set.to_owned()).or_default())
    }

    /// Answers at an address, until dropped.
    pub async fn serve(self: Arc<Self>, socket: UdpSocket) -> io::Result<()> {
        let mut bytes = [0; 2048];
        loop {
            let (n, from) = socket.recv_from(&mut bytes).await?;
            if let Some(answer) = Message::from_vec(&bytes[..n]).ok().and_then(|question| self.answer(&question)) {
                socket.send_to(&answer.to_vec().map_err(io::Error::other)?, from).await?;
            }
        }
    }

    fn answer(&self, question: &Message) -> Option<Message> {
        let query = question.queries.first()?;
        let mut message = Message::response(question.metadata.id, OpCode::Query);
        message.add_query(query.clone());
        message.metadata.recursion_available = true;
        let name = query.name().to_ascii().to_ascii_lowercase();
        let service = name.strip_suffix(".team.svc.cluster.local.").and_then(|rest| rest.strip_prefix("mcp-"));
        let set = service.map(|service| service.strip_suffix("-headless").unwrap_or(service)).unwrap_or_default();
        let zone = self.of(set);
        let mut zone = zone.lock();
        zone.asked += u32::from(query.query_type() == RecordType::SRV);
        let a = |name: &Name, ip: Ipv4Addr| Record::from_rdata(name.clone(), zone.lifetime, RData::A(A(ip)));
        match zone.mood {
            Mood::Silent => return None,
            Mood::Failing => message.metadata.response_code = ResponseCode::ServFail,
            Mood::Empty => {}
            Mood::Good if query.query_type() == RecordType::SRV => {
                for (ordinal, ip) in &zone.pods {
                    let pod: Name = format!("{set}-{ordinal}.{name}").parse().ok()?;
                    let service = SRV::new(0, 10, 80, pod.clone());
                    message.add_answer(Record::from_rdata(query.name().clone(), zone.lifetime, RData::SRV(service)));
                    message.add_additional(a(&pod, *ip));
                }
            }
            Mood::Good if query.query_type() == RecordType::A => {
                message.add_answers(zone.ready.iter().map(|ip| a(query.name(), *ip)));
            }
            Mood::Good => {}
        }
        Some(message)
    }
}

/// A DNS server for the StatefulSet `web` alone.
pub struct Dns {
    pub address: SocketAddr,
    pub zone: Arc<Mutex<Zone>>,
}

impl Dns {
    pub async fn start(pods: BTreeMap<u16, Ipv4Addr>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let zones = Arc::<Zones>::default();
        let zone = zones.of("web");
        *zone.lock() = Zone { ready: pods.values().copied().collect(), pods, ..Zone::default() };
        tokio::spawn(zones.serve(socket));
        Self { address, zone }
    }

    pub fn set(&self, mood: Mood) {
        self.zone.lock().mood = mood;
    }
}
