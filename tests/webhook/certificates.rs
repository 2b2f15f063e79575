//! Certificates change while the webhook serves.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::{BOUND, Client, Protocol};
use crate::fixture::{Fixture, Tls, review_bytes};

/// Reviews without a pause, over connections that stay and over new ones.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: JoinSet<()>,
}

impl Load {
    fn start(client: &Client) -> Self {
        let mut load = Self { stop: Arc::default(), answered: Arc::default(), clients: JoinSet::new() };
        for protocol in Protocol::BOTH {
            for stay in [true, false] {
                let (client, stop, answered) = (client.clone(), Arc::clone(&load.stop), Arc::clone(&load.answered));
                load.clients.spawn(async move {
                    let mut connection = client.connect(protocol).await.unwrap();
                    while !stop.load(Ordering::Relaxed) {
                        if !stay {
                            connection = client.connect(protocol).await.unwrap();
                        }
                        let answer = connection.request("POST", "/mutate", &review_bytes()).await.unwrap();
                        assert_eq!(answer.status, 200);
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        }
        load
    }

    /// Ends it; every request was answered, or this panics.
    async fn finish(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        self.answered.load(Ordering::Relaxed)
    }
}

fn certificate(directory: &Path) -> Vec<u8> {
    CertificateDer::from_pem_file(directory.join("tls.crt")).unwrap().to_vec()
}

async fn served(client: &Client) -> Vec<u8> {
    client.connect(Protocol::Http1).await.unwrap().certificate().to_vec()
}

/// Waits until new connections get this certificate.
async fn until_served(client: &Client, expected: &[u8]) {
    let start = Instant::now();
    while served(client).await != expected {
        assert!(start.elapsed() < BOUND, "the new certificate is not served");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_change_under_load_without_a_failed_request() {
    let fixture = Fixture::start().await;
    let directory = &fixture.tls.directory.0;
    let load = Load::start(&fixture.client);
    for _ in 0..2 {
        fixture.tls.issue(directory);
        until_served(&fixture.client, &certificate(directory)).await;
    }
    assert!(load.finish().await > 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kubelets_symlink_swap_is_followed_under_load() {
    let tls = Tls::new();
    let directory = tls.directory.0.clone();
    let generation = |number: u32| directory.join(format!("..{number}"));
    let point = |number: u32| {
        symlink(format!("..{number}"), directory.join("..data_tmp")).unwrap();
        fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    };
    tls.issue(&generation(0));
    point(0);
    for name in ["tls.crt", "tls.key"] {
        fs::remove_file(directory.join(name)).unwrap();
        symlink(Path::new("..data").join(name), directory.join(name)).unwrap();
    }
    let fixture = Fixture::start_with(tls).await;
    let load = Load::start(&fixture.client);
    for number in 1..3 {
        fixture.tls.issue(&generation(number));
        point(number);
        fs::remove_dir_all(generation(number - 1)).unwrap();
        until_served(&fixture.client, &certificate(&directory)).await;
    }
    assert!(load.finish().await > 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_written_pair_leaves_the_old_one_in_service() {
    let fixture = Fixture::start().await;
    let directory = &fixture.tls.directory.0;
    let old = certificate(directory);
    let other = Tls::new();
    fs::copy(other.directory.0.join("tls.key"), directory.join("tls.key")).unwrap();
    // Several looks at the files.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        assert_eq!(served(&fixture.client).await, old);
        sleep(Duration::from_millis(100)).await;
    }
    fixture.tls.issue(directory);
    until_served(&fixture.client, &certificate(directory)).await;
}
