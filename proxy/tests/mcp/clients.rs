//! Clients on official SDKs, whose requests go to two replicas in turn: none of them notices.

use std::thread;

use berth_test_mcp::{Packages, Sdk, Transport, run_client};

use crate::deployment::{Replicas, Servers, alone};

const ALL: [(Sdk, Transport); 4] = [
    (Sdk::Python, Transport::StreamableHttp),
    (Sdk::Python, Transport::Sse),
    (Sdk::TypeScript, Transport::StreamableHttp),
    (Sdk::TypeScript, Transport::Sse),
];

#[test]
fn clients_of_every_sdk_and_transport_notice_nothing_of_the_replicas() {
    let _alone = alone();
    let packages = Packages::ensure().unwrap();
    let servers = Servers::start(&packages, 3);
    let replicas = Replicas::start(&servers, 2);
    let [a, b] = [0, 1].map(|replica| format!("http://{}", replicas.addresses[replica]));
    let results = thread::scope(|scope| {
        let (packages, a, b) = (&packages, &a, &b);
        let run = |(sdk, transport)| scope.spawn(move || run_client(packages, sdk, transport, a, b));
        let clients = ALL.map(run);
        clients.map(|client| client.join().unwrap())
    });
    for result in results {
        result.unwrap();
    }
}

/// What the test above is worth: they notice where the two are servers, each with sessions of its own.
#[test]
fn clients_notice_two_servers_without_replicas_before_them() {
    let _alone = alone();
    let packages = Packages::ensure().unwrap();
    let servers = Servers::start(&packages, 2);
    let [a, b] = [0, 1].map(|server| format!("http://{}", servers.addresses()[server]));
    for transport in [Transport::StreamableHttp, Transport::Sse] {
        let error = run_client(&packages, Sdk::TypeScript, transport, &a, &b).unwrap_err().to_string();
        // B answers that it knows no such session.
        assert!(error.contains("404") || error.contains("Session not found"), "{error}");
    }
}
