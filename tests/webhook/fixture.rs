//! A webhook in this process, with a certificate of its own, and reviews to send to it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use berth::admission::Settings;
use berth::certs::Authority;
use berth::cluster::{Given, Lookup};
use berth::metrics::Metrics;
use berth::webhook::{Admin, Certificates, Readiness, Reviewer, RunningServer, Server, server_config};
use serde_json::{Value, json};

use crate::client::Client;

pub(crate) const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A directory that goes with its owner.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("berth-webhook-test-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A CA, and a directory with a certificate of it.
pub(crate) struct Tls {
    pub(crate) authority: Authority,
    pub(crate) directory: Directory,
}

impl Tls {
    pub(crate) fn new() -> Self {
        let tls = Self { authority: Authority::new(Duration::from_secs(86400)).unwrap(), directory: Directory::new() };
        tls.issue(&tls.directory.0);
        tls
    }

    /// Writes a new pair.
    pub(crate) fn issue(&self, directory: &Path) {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let leaf = self.authority.issue(&names, Duration::from_secs(3600)).unwrap();
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join("tls.crt"), leaf.cert_pem).unwrap();
        fs::write(directory.join("tls.key"), leaf.key_pem).unwrap();
    }
}

pub(crate) struct Fixture {
    pub(crate) tls: Tls,
    pub(crate) client: Client,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) readiness: Readiness,
    /// Ends with the fixture.
    _server: RunningServer,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::start_with(Tls::new()).await
    }

    pub(crate) async fn start_with(tls: Tls) -> Self {
        Self::start_in(tls, Lookup::Given(Given::default())).await
    }

    /// One that finds there what it has to know.
    pub(crate) async fn start_in(tls: Tls, lookup: Lookup) -> Self {
        let metrics = Arc::new(Metrics::default());
        let certificates = Arc::new(Certificates::load(&tls.directory.0, Arc::clone(&metrics)).unwrap());
        let config = server_config(Arc::clone(&certificates) as _).unwrap();
        tokio::spawn(async move { certificates.follow().await });
        let reviewer = Reviewer::new(Settings::default(), lookup, Arc::clone(&metrics));
        let readiness = Readiness::default();
        let (server, admin) = (Server::bind(ANY_PORT).unwrap(), Admin::bind(ANY_PORT).unwrap());
        let (address, admin_address) = (server.address(), admin.address());
        admin.start(readiness.clone(), metrics).unwrap();
        let server = server.start(config, Arc::new(reviewer), readiness.clone(), Duration::from_secs(5)).unwrap();
        let client = Client::new(tls.authority.pem(), address);
        Self { tls, client, address, admin: admin_address, readiness, _server: server }
    }
}

/// A review that Berth has nothing against.
pub(crate) fn review() -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "0815", "operation": "CREATE", "namespace": "default", "name": "web",
        "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
        "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
        "object": {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
            "spec": {"template": {"spec": {"containers": [{"name": "a", "image": "i"}]}}}}}})
}

pub(crate) fn review_bytes() -> Vec<u8> {
    review().to_string().into_bytes()
}
