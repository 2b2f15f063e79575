//! The server, as the SDK's own client sees it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test asserts, in its helpers too")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rmcp::model::{CallToolRequestParams, ProgressNotificationParam};
use rmcp::service::{NotificationContext, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientHandler, RoleClient, ServiceExt};
use serde_json::{Value, json};

/// A server process; killed when dropped.
struct Process {
    child: Child,
    address: String,
}

impl Process {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_berth-example-mcp-server"))
            .args(["--listen", "127.0.0.1:0"])
            .env("HOSTNAME", "sample-1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address =
            line.trim().strip_prefix("sample-1 listens at http://").and_then(|rest| rest.strip_suffix("/mcp"));
        Self { address: address.unwrap_or_else(|| panic!("{line}")).to_owned(), child }
    }

    /// The head of the answer to a GET.
    fn get(&self, path: &str, host: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that remembers the progress it was told of.
#[derive(Default)]
struct Client(Mutex<Vec<f64>>);

impl ClientHandler for Client {
    async fn on_progress(&self, progress: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.0.lock().unwrap().push(progress.progress);
    }
}

async fn connect(server: &Process) -> RunningService<RoleClient, Client> {
    let transport = StreamableHttpClientTransport::from_uri(format!("http://{}/mcp", server.address));
    Client::default().serve(transport).await.unwrap()
}

async fn call(client: &RunningService<RoleClient, Client>, tool: &'static str, arguments: Value) -> Value {
    let call = CallToolRequestParams::new(tool).with_arguments(arguments.as_object().unwrap().clone());
    client.call_tool(call).await.unwrap().structured_content.unwrap()
}

#[tokio::test]
async fn each_session_is_counted_for_itself() {
    let server = Process::start();
    let (one, other) = (connect(&server).await, connect(&server).await);
    for calls in 1..=3 {
        assert_eq!(call(&one, "whoami", json!({})).await, json!({"server": "sample-1", "calls": calls}));
    }
    assert_eq!(call(&other, "whoami", json!({})).await["calls"], 1);
    assert_eq!(call(&one, "whoami", json!({})).await["calls"], 4);
}

#[tokio::test]
async fn work_tells_of_its_progress() {
    let server = Process::start();
    let client = connect(&server).await;
    let answer = call(&client, "work", json!({"steps": 3, "step_ms": 10})).await;
    assert_eq!(answer, json!({"server": "sample-1", "calls": 1}));
    assert_eq!(*client.service().0.lock().unwrap(), [1.0, 2.0, 3.0]);

    let endless = CallToolRequestParams::new("work").with_arguments(json!({"steps": 0}).as_object().unwrap().clone());
    let error = client.call_tool(endless).await.unwrap_err().to_string();
    assert!(error.contains("steps must be 1 to 1000"), "{error}");
}

#[test]
fn it_answers_to_names_that_it_does_not_know() {
    let server = Process::start();
    let ready = server.get("/readyz", "mcp-sample-proxy.default.svc:8080");
    assert!(ready.starts_with("HTTP/1.1 200 "), "{ready}");
    let strange = server.get("/mcp", "mcp-sample-proxy.default.svc:8080");
    assert!(!strange.starts_with("HTTP/1.1 403 "), "{strange}");
    let nowhere = server.get("/", "localhost");
    assert!(nowhere.starts_with("HTTP/1.1 404 ") && nowhere.ends_with("/mcp\n"), "{nowhere}");
}

#[tokio::test]
async fn it_ends_when_told_to_though_a_stream_is_open() {
    let mut server = Process::start();
    let _client = connect(&server).await;
    let told = Command::new("kill").arg(server.child.id().to_string()).status().unwrap();
    assert!(told.success());
    let ended = tokio::task::spawn_blocking(move || server.child.wait().map(|status| (status, server)));
    let (status, _server) = tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap().unwrap().unwrap();
    assert!(status.success(), "{status}");
}
