//! Somebody else's mutating webhook, as a mesh or a registry mirror has one: adds a container and an annotation to pod
//! templates, and takes images from elsewhere.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use berth_test_cluster::{Error, Kubectl, Result, RunDir, WebhookTls, wait_for};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto};
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(5);
/// How long an API server may take to learn of a registration.
const ASKED: Duration = Duration::from_secs(60);
/// What it adds.
pub(crate) const SIDECAR: &str = "mesh";
pub(crate) const ANNOTATION: &str = "mesh.example/injected";
/// What images begin with when it has seen them.
pub(crate) const MIRROR: &str = "mirror.example/";

/// A webhook that is called for the workloads of one namespace. Dropping it takes its registration back and ends it.
pub(crate) struct Injector {
    kubectl: Kubectl,
    name: String,
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Injector {
    /// Serves it on loopback and registers it; after Berth's, by its name, so that Berth's is asked once more.
    pub(crate) fn start(kubectl: &Kubectl, namespace: &str) -> Result<Self> {
        let failed = |cause: io::Error| Error::new(format!("cannot serve an injector: {cause}"));
        let dir = RunDir::new()?;
        let tls = WebhookTls::new(&dir.path().join("injector"))?;
        let authority = fs::read(tls.ca_file()).map_err(failed)?;
        let config = Arc::new(server_config(&tls)?);
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let ended = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&ended);
        let thread = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let config = Arc::clone(&config);
                // The API server says what it did not get: the write is refused, and the trial fails by that.
                thread::spawn(move || serve(stream, config));
            }
        });
        let name = format!("injector-{namespace}");
        let injector = Self { kubectl: kubectl.clone(), name, address, ended, thread: Some(thread) };
        let registration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": injector.name},
            "webhooks": [{
                "name": "injector.mesh.example",
                "clientConfig": {"url": format!("https://{address}/"), "caBundle": BASE64.encode(authority)},
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "rules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                    "resources": ["deployments", "statefulsets"]}],
                "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail", "timeoutSeconds": 5,
            }],
        });
        injector.kubectl.apply_yaml(&registration.to_string())?.ok()?;
        // The API server learns of it in its own time.
        wait_for("an injector that is asked", ASKED, || {
            let tried = ["create", "deployment", "tried", "--image=tried", "--dry-run=server", "-o", "json"];
            Ok(injector.kubectl.run(&tried)?.ok()?.contains(ANNOTATION).then_some(()))
        })?;
        Ok(injector)
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        let _ = self.kubectl.run(&["delete", "--ignore-not-found", "mutatingwebhookconfiguration", &self.name]);
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect_timeout(&self.address, BOUND);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn server_config(tls: &WebhookTls) -> Result<ServerConfig> {
    let failed = |cause: &dyn std::fmt::Display| Error::new(format!("the injector's certificate: {cause}"));
    let certificate = CertificateDer::from_pem_file(tls.dir().join("tls.crt")).map_err(|cause| failed(&cause))?;
    let key = PrivateKeyDer::from_pem_file(tls.dir().join("tls.key")).map_err(|cause| failed(&cause))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|cause| failed(&cause))?;
    builder.with_no_client_auth().with_single_cert(vec![certificate], key).map_err(|cause| failed(&cause))
}

/// One request, which an API server makes by HTTP/1.1 where no other protocol was agreed on.
fn serve(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
    stream.set_read_timeout(Some(BOUND))?;
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    let mut length = 0;
    let mut line = String::new();
    while stream.read_line(&mut line)? > 2 {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        line.clear();
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let review: Value = serde_json::from_slice(&body)?;
    let patch = patch(&review["request"]["object"]).to_string();
    let answer = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": {"uid": review["request"]["uid"], "allowed": true, "patchType": "JSONPatch", "patch": BASE64.encode(patch)},
    });
    let answer = answer.to_string();
    let length = answer.len();
    let mut stream = stream.into_inner();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{answer}"
    )?;
    stream.flush()?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// What it would add to a workload; nothing where it has been.
fn patch(workload: &Value) -> Value {
    let template = &workload["spec"]["template"];
    let mut steps = Vec::new();
    if template["metadata"]["annotations"][ANNOTATION].is_null() {
        if template["metadata"]["annotations"].is_null() {
            steps.push(json!({"op": "add", "path": "/spec/template/metadata/annotations", "value": {}}));
        }
        let path = format!("/spec/template/metadata/annotations/{}", ANNOTATION.replace('/', "~1"));
        steps.push(json!({"op": "add", "path": path, "value": "yes"}));
    }
    let containers = template["spec"]["containers"].as_array().cloned().unwrap_or_default();
    for (index, container) in containers.iter().enumerate() {
        let image = container["image"].as_str().unwrap_or_default();
        if !image.starts_with(MIRROR) {
            let path = format!("/spec/template/spec/containers/{index}/image");
            steps.push(json!({"op": "replace", "path": path, "value": format!("{MIRROR}{image}")}));
        }
    }
    if !containers.iter().any(|container| container["name"] == SIDECAR) {
        let sidecar =
            json!({"name": SIDECAR, "image": format!("{MIRROR}mesh:1"), "env": [{"name": "OF", "value": "mesh"}]});
        steps.push(json!({"op": "add", "path": "/spec/template/spec/containers/-", "value": sidecar}));
    }
    Value::Array(steps)
}
