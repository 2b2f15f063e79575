//! An API server that misbehaves on demand, for what the real one does only on bad days.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::fixture::ANY_PORT;

/// What is answered to a path; `watch` counts as part of it (`…/mcpservers?watch`).
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// A status and a body.
    Json(u16, Value),
    /// A watch: these events, then silence.
    Events(Vec<Value>),
    /// Nothing, ever.
    Hang,
    /// The connection closes.
    Close,
}

#[derive(Clone)]
pub(crate) struct FakeApi {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    acceptor: AbortHandle,
}

#[derive(Default)]
struct State {
    replies: Mutex<HashMap<String, Reply>>,
    asked: Mutex<Vec<String>>,
}

pub(crate) const SERVERS: &str = "/apis/toolhive.stacklok.dev/v1beta1/mcpservers";

impl FakeApi {
    pub(crate) async fn start() -> Self {
        Self::start_at(ANY_PORT, Arc::default()).await
    }

    /// The same one again, after [`FakeApi::stop`].
    pub(crate) async fn restart(&self) -> Self {
        Self::start_at(self.address, Arc::clone(&self.state)).await
    }

    async fn start_at(address: SocketAddr, state: Arc<State>) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener: TcpListener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&state);
        let acceptor = tokio::spawn(async move {
            // Ends with the acceptor.
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                connections.spawn(async move { state.serve(socket).await });
            }
        });
        Self { address, state, acceptor: acceptor.abort_handle() }
    }

    pub(crate) fn stop(&self) {
        self.acceptor.abort();
    }

    pub(crate) fn reply(&self, path: &str, reply: Reply) {
        self.state.replies.lock().unwrap().insert(path.to_owned(), reply);
    }

    /// Installs MCPServers at a version, with a list and a watch of these.
    pub(crate) fn serve_servers(&self, version: &str, resource_version: &str, items: &[Value]) {
        let group = format!("/apis/toolhive.stacklok.dev/{version}");
        let resource = json!({"name": "mcpservers", "singularName": "mcpserver", "namespaced": true,
            "kind": "MCPServer", "verbs": ["get", "list", "watch"]});
        let list = json!({"kind": "APIResourceList", "groupVersion": format!("toolhive.stacklok.dev/{version}"),
            "resources": [resource]});
        self.reply(&group, Reply::Json(200, list));
        let list = json!({"kind": "MCPServerList", "apiVersion": format!("toolhive.stacklok.dev/{version}"),
            "metadata": {"resourceVersion": resource_version}, "items": items});
        self.reply(&format!("{group}/mcpservers"), Reply::Json(200, list));
        self.reply(&format!("{group}/mcpservers?watch"), Reply::Events(Vec::new()));
    }

    /// How often a path was asked for.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.state.asked.lock().unwrap().iter().filter(|asked| *asked == path).count()
    }
}

impl State {
    async fn serve(&self, socket: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(socket);
        loop {
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).await.ok()? == 0 {
                    return None;
                }
                match line.trim_end() {
                    "" => break,
                    line => head.push(line.to_owned()),
                }
            }
            let target = head[0].split(' ').nth(1)?;
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let watch = query.split('&').any(|pair| pair.starts_with("watch="));
            let path = if watch { format!("{path}?watch") } else { path.to_owned() };
            self.asked.lock().unwrap().push(path.clone());
            let reply = {
                let replies = self.replies.lock().unwrap();
                let group = path.split("/namespaces/").next().unwrap_or_default();
                let missing = || Reply::Json(404, not_found(&path, replies.contains_key(group)));
                replies.get(&path).cloned().unwrap_or_else(missing)
            };
            match reply {
                Reply::Json(status, body) => {
                    let body = body.to_string();
                    let head = format!(
                        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                        body.len()
                    );
                    stream.write_all((head + &body).as_bytes()).await.ok()?;
                }
                Reply::Events(events) => {
                    let head =
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
                    stream.write_all(head.as_bytes()).await.ok()?;
                    for event in events {
                        let line = format!("{event}\n");
                        stream.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).await.ok()?;
                    }
                    stream.flush().await.ok()?;
                    std::future::pending::<()>().await;
                }
                Reply::Hang => std::future::pending::<()>().await,
                Reply::Close => return None,
            }
        }
    }
}

/// As the API server says it: of an object by its name, of a path that it does not serve without one.
fn not_found(path: &str, served: bool) -> Value {
    let details = match path.split_once("/namespaces/") {
        Some((_, object)) if served => json!({"name": object.rsplit('/').next()}),
        _ => json!({}),
    };
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "not found",
        "reason": "NotFound", "code": 404, "details": details})
}

/// An MCPServer as it is stored.
pub(crate) fn server(name: &str, uid: &str, generation: i64) -> Value {
    json!({"apiVersion": "toolhive.stacklok.dev/v1beta1", "kind": "MCPServer",
        "metadata": {"name": name, "namespace": "default", "uid": uid, "generation": generation, "resourceVersion": "7",
            "managedFields": [{"manager": "kubectl"}]},
        "spec": {"replicas": 1, "transport": "sse", "image": "i"}})
}
