//! `berth serve` as a process: how it starts, what it says, how it fails.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use berth_test_cluster::Process;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::admin::get;
use crate::client::{Answer, Client, Protocol};
use crate::fake_api::FakeApi;
use crate::fixture::{ANY_PORT, Directory, Tls, review};

/// A `berth serve` that runs.
pub(crate) struct Berth {
    pub(crate) process: Process,
    pub(crate) webhook: SocketAddr,
    pub(crate) admin: SocketAddr,
    _directory: Directory,
}

impl Berth {
    /// Starts one, and waits until it is ready.
    pub(crate) async fn start(tls: &Tls, api: &FakeApi, arguments: &[&str]) -> Self {
        let directory = Directory::new();
        let kubeconfig = kubeconfig(&directory, &format!("http://{}", api.address));
        let tls_dir = tls.directory.0.to_str().unwrap();
        let base = [
            "serve",
            "--no-controller",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--tls-dir",
            tls_dir,
            "--log-format",
            "json",
        ];
        let program = Path::new(env!("CARGO_BIN_EXE_berth"));
        let environment = [("KUBECONFIG".to_owned(), kubeconfig)];
        let process =
            Process::start(&directory.0, "berth", program, base.iter().chain(arguments), &environment).unwrap();
        let start = Instant::now();
        let (webhook, admin) = loop {
            if let Some(addresses) = addresses(process.log()) {
                break addresses;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{}", process.log_tail());
            sleep(Duration::from_millis(20)).await;
        };
        let berth = Self { process, webhook, admin, _directory: directory };
        while !is_ready(berth.admin).await {
            assert!(start.elapsed() < Duration::from_secs(20), "{}", berth.process.log_tail());
            sleep(Duration::from_millis(20)).await;
        }
        berth
    }

    pub(crate) fn client(&self, tls: &Tls) -> Client {
        Client::new(tls.authority.pem(), self.webhook)
    }

    /// Waits for its end.
    pub(crate) async fn end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.exit_status().unwrap() {
                return status;
            }
            assert!(start.elapsed() < Duration::from_secs(15), "{}", self.process.log_tail());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn kubeconfig(directory: &Directory, server: &str) -> String {
    let path = directory.0.join("kubeconfig");
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
    fs::write(&path, config.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// From the line that `serve` logs at its start.
fn addresses(log: &Path) -> Option<(SocketAddr, SocketAddr)> {
    let line = line(log, "berth serves")?;
    let address = |key: &str| line[key].as_str()?.rsplit('/').next()?.parse().ok();
    Some((address("webhook")?, address("admin")?))
}

fn line(log: &Path, message: &str) -> Option<Value> {
    let text = fs::read_to_string(log).ok()?;
    let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.find(|line| line["message"] == message)
}

pub(crate) async fn is_ready(admin: SocketAddr) -> bool {
    let ready = timeout(Duration::from_secs(5), get(admin, "/readyz")).await;
    matches!(ready, Ok(Ok(Answer { status: 200, .. })))
}

#[tokio::test]
async fn a_review_is_one_line_of_the_log_without_its_content() {
    let (tls, api) = (Tls::new(), FakeApi::start().await);
    let berth = Berth::start(&tls, &api, &[]).await;
    let mut review = review();
    review["request"]["name"] = json!("web\n{\"level\":\"FORGED\"}");
    review["request"]["object"]["metadata"]["annotations"] = json!({"secret": "swordfish"});
    let body = review.to_string();
    assert_eq!(berth.client(&tls).once(Protocol::Http2, "POST", "/mutate", body.as_bytes()).await.status, 200);
    let text = fs::read_to_string(berth.process.log()).unwrap();
    let line = line(berth.process.log(), "review").unwrap_or_else(|| panic!("{text}"));
    for (field, value) in [
        ("uid", json!("0815")),
        ("webhook", json!("mutate")),
        ("kind", json!("Deployment")),
        ("namespace", json!("default")),
        ("name", review["request"]["name"].clone()),
        ("operation", json!("CREATE")),
        ("verdict", json!("allowed")),
        ("code", json!("")),
        ("patches", json!(0)),
    ] {
        assert_eq!(line[field], value, "{field} of {line}");
    }
    assert!(line["ms"].as_f64().is_some_and(|ms| ms > 0.0 && ms < 10_000.0), "{line}");
    assert!(!text.contains("swordfish"), "{text}");
    assert_eq!(text.lines().filter(|line| line.contains("0815")).count(), 1, "{text}");
}

#[tokio::test]
async fn it_is_not_ready_before_its_cache_is_complete() {
    let (tls, directory) = (Tls::new(), Directory::new());
    // Nobody listens there.
    let kubeconfig = kubeconfig(&directory, "http://127.0.0.1:1");
    let program = Path::new(env!("CARGO_BIN_EXE_berth"));
    let tls_dir = tls.directory.0.to_str().unwrap();
    let arguments = ["serve", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--log-format=json", "--tls-dir", tls_dir];
    let environment = [("KUBECONFIG".to_owned(), kubeconfig)];
    let process = Process::start(&directory.0, "berth", program, arguments, &environment).unwrap();
    let start = Instant::now();
    let answer = loop {
        if let Some((_, admin)) = addresses(process.log())
            && let Ok(answer) = get(admin, "/readyz").await
        {
            break answer;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{}", process.log_tail());
        sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((answer.status, answer.text().contains("the cache of MCPServers")), (503, true), "{}", answer.text());
}

#[test]
fn what_keeps_it_from_starting_is_said_with_what_to_do() {
    let (tls, directory) = (Tls::new(), Directory::new());
    let good = kubeconfig(&directory, "http://127.0.0.1:1");
    let taken = TcpListener::bind(ANY_PORT).unwrap();
    let taken_address = taken.local_addr().unwrap().to_string();
    let tls_dir = tls.directory.0.to_str().unwrap();
    let absent = directory.0.join("absent");
    let absent = absent.to_str().unwrap();
    let fail = |kubeconfig: &str, arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_berth"))
            .arg("serve")
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            .env_remove("KUBERNETES_SERVICE_HOST")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let any = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    for (kubeconfig, arguments, parts) in [
        (good.as_str(), [&any[..], &["--tls-dir", absent]].concat(), ["tls.crt", "berth certs"]),
        (absent, [&any[..], &["--tls-dir", tls_dir]].concat(), ["no cluster", "KUBECONFIG"]),
        (&good, vec!["--tls-dir", tls_dir, "--listen", &taken_address], ["in use", "--listen"]),
        (
            &good,
            vec!["--tls-dir", tls_dir, "--listen", "127.0.0.1:0", "--admin", &taken_address],
            ["in use", "--admin"],
        ),
        (&good, vec!["--no-webhook", "--no-controller"], ["nothing left", "--no-webhook"]),
        (&good, vec!["--default-session-storage", "redis://user:secret@r:6379"], ["credentials", "Secret"]),
    ] {
        let error = fail(kubeconfig, &arguments);
        for part in parts {
            assert!(error.contains(part), "{arguments:?}: no {part:?} in {error}");
        }
    }
}
