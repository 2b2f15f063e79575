//! Clients on official SDKs, whose requests go to several replicas: none of them notices.

use std::thread;
use std::time::Duration;

use berth_test_cluster::Balancer;
use berth_test_mcp::{Client, Packages, Sdk, Sequence};

use crate::deployment::{Replicas, Servers, alone};

/// How long clients go on between two replacements.
const CALM: Duration = Duration::from_millis(500);

const ALL: [(Sdk, Sequence); 4] = [
    (Sdk::Python, Sequence::Streamable),
    (Sdk::Python, Sequence::Sse),
    (Sdk::TypeScript, Sequence::Streamable),
    (Sdk::TypeScript, Sequence::Sse),
];

#[test]
fn clients_of_every_sdk_and_transport_notice_nothing_of_two_replicas() {
    let _alone = alone();
    let packages = Packages::ensure().unwrap();
    let servers = Servers::start(&packages, 3);
    let replicas = Replicas::start(&servers, 2, &[]);
    let [a, b] = [0, 1].map(|replica| format!("http://{}", replicas.addresses()[replica].0));
    let clients = ALL.map(|(sdk, sequence)| Client::start(&packages, sdk, sequence, &a, &b).unwrap());
    for client in clients {
        client.finish().unwrap();
    }
}

/// What the test above is worth: they notice where the two are servers, each with sessions of its own.
#[test]
fn clients_notice_two_servers_without_replicas_before_them() {
    let _alone = alone();
    let packages = Packages::ensure().unwrap();
    let servers = Servers::start(&packages, 2);
    let [a, b] = [0, 1].map(|server| format!("http://{}", servers.addresses()[server]));
    for sequence in [Sequence::Streamable, Sequence::Sse] {
        let client = Client::start(&packages, Sdk::TypeScript, sequence, &a, &b).unwrap();
        let error = client.finish().unwrap_err().to_string();
        // B answers that it knows no such session.
        assert!(error.contains("404") || error.contains("Session not found"), "{error}");
    }
}

#[test]
fn clients_notice_nothing_while_every_replica_is_replaced() {
    let _alone = alone();
    let packages = Packages::ensure().unwrap();
    let servers = Servers::start(&packages, 3);
    let mut replicas = Replicas::start(&servers, 3, &["--lame-duck=1s", "--drain-timeout=1s"]);
    let balancer = Balancer::start(&replicas.addresses()).unwrap();
    let url = format!("http://{}", balancer.address());
    let start = |sdk| Client::start(&packages, sdk, Sequence::Rolling, &url, &url).unwrap();
    let mut clients = [Sdk::Python, Sdk::TypeScript].map(start);
    for client in &mut clients {
        client.wait_until_begun().unwrap();
    }
    for replica in 0..3 {
        thread::sleep(CALM);
        replicas.replace(replica);
    }
    thread::sleep(CALM);
    for client in clients {
        client.stop().unwrap();
    }
}
