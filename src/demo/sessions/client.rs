//! A client of the official Rust SDK whose requests take turns through the replicas, and what it sees.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::BoxStream;
use parking_lot::Mutex;
use reqwest::header::{HeaderName, HeaderValue};
use rmcp::model::{CallToolRequestParams, ClientConfig, ClientJsonRpcMessage, ClientRequest, JsonRpcMessage};
use rmcp::service::RunningService;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpClientTransportConfig, StreamableHttpError,
    StreamableHttpPostResponse,
};
use rmcp::{RoleClient, ServiceExt};
use serde::Deserialize;
use sse_stream::Sse;

use super::stage::REPLICAS;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// One request, and what came of it.
#[derive(Clone, Debug)]
pub(in crate::demo) struct Leg {
    /// The protocol's name of it.
    pub(in crate::demo) method: &'static str,
    pub(in crate::demo) replica: &'static str,
    pub(in crate::demo) seen: Seen,
    pub(in crate::demo) took: Duration,
}

/// What the SDK made of an answer.
#[derive(Clone, Debug)]
pub(in crate::demo) enum Seen {
    /// All is well.
    Fine,
    /// 404: the session is over.
    Over,
    /// An error, in these words.
    Error(String),
}

/// What a server says of itself.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::demo) struct Answer {
    pub(in crate::demo) server: String,
    pub(in crate::demo) calls: u64,
}

type Urls = [Option<String>; REPLICAS.len()];

/// A connected client.
pub(super) struct Client {
    roads: Roads,
    sdk: RunningService<RoleClient, ClientConfig>,
}

impl Client {
    /// Starts a session.
    pub(super) async fn connect(urls: Urls) -> io::Result<Self> {
        let traveller = Traveller { urls, next: 0, session: None, legs: Vec::new() };
        let roads = Roads { http: reqwest::Client::new(), traveller: Arc::new(Mutex::new(traveller)) };
        // The address is decided for each request.
        let config = StreamableHttpClientTransportConfig::with_uri("").reinit_on_expired_session(true);
        let transport = StreamableHttpClientTransport::with_client(roads.clone(), config);
        let connect = tokio::time::timeout(PATIENCE, ClientConfig::default().serve(transport)).await;
        let sdk = connect.map_err(io::Error::other)?.map_err(io::Error::other)?;
        Ok(Self { roads, sdk })
    }

    /// Asks who answers; an error is what the SDK makes of it.
    pub(super) async fn whoami(&self) -> io::Result<Answer> {
        let call = self.sdk.call_tool(CallToolRequestParams::new("whoami"));
        let result = tokio::time::timeout(PATIENCE, call).await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        let content = result.structured_content.ok_or_else(|| io::Error::other("an answer without content"))?;
        serde_json::from_value(content).map_err(io::Error::other)
    }

    /// Which replicas there are from now on.
    pub(super) fn set_urls(&self, urls: Urls) {
        self.roads.traveller.lock().urls = urls;
    }

    /// The requests since this was asked last.
    pub(super) fn legs(&self) -> Vec<Leg> {
        std::mem::take(&mut self.roads.traveller.lock().legs)
    }

    /// The session that the client uses.
    pub(super) fn session(&self) -> Option<Arc<str>> {
        self.roads.traveller.lock().session.clone()
    }
}

/// The SDK's HTTP client, with another address for each request.
#[derive(Clone)]
struct Roads {
    http: reqwest::Client,
    traveller: Arc<Mutex<Traveller>>,
}

struct Traveller {
    urls: Urls,
    next: usize,
    session: Option<Arc<str>>,
    legs: Vec<Leg>,
}

impl Roads {
    /// The replica whose turn it is, of those that are there. `moves` says that it is the other one's turn afterwards.
    fn turn(&self, moves: bool) -> (&'static str, Arc<str>) {
        let mut traveller = self.traveller.lock();
        for step in 0..REPLICAS.len() {
            let at = (traveller.next + step) % REPLICAS.len();
            if let (Some(name), Some(Some(url))) = (REPLICAS.get(at), traveller.urls.get(at)) {
                let turn = (*name, url.as_str().into());
                if moves {
                    traveller.next = (at + 1) % REPLICAS.len();
                }
                return turn;
            }
        }
        ("none", "".into())
    }
}

type Failure = StreamableHttpError<reqwest::Error>;

impl StreamableHttpClient for Roads {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        _uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        auth: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Failure> {
        let method = method(&message);
        let (replica, url) = self.turn(method.is_some());
        if session.is_some() {
            self.traveller.lock().session.clone_from(&session);
        }
        let begun = Instant::now();
        let outcome = self.http.post_message(url, message, session, auth, headers).await;
        if let Some(method) = method {
            let (seen, took) = (seen(&outcome), begun.elapsed());
            self.traveller.lock().legs.push(Leg { method, replica, seen, took });
        }
        outcome
    }

    async fn delete_session(
        &self,
        _uri: Arc<str>,
        session: Arc<str>,
        auth: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), Failure> {
        self.http.delete_session(self.turn(false).1, session, auth, headers).await
    }

    async fn get_stream(
        &self,
        _uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        auth: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Failure> {
        self.http.get_stream(self.turn(false).1, session, last_event, auth, headers).await
    }
}

/// The method of a request that is shown; the others are the SDK's own.
fn method(message: &ClientJsonRpcMessage) -> Option<&'static str> {
    let ClientJsonRpcMessage::Request(request) = message else { return None };
    match request.request {
        ClientRequest::InitializeRequest(_) => Some("initialize"),
        ClientRequest::CallToolRequest(_) => Some("tools/call"),
        _ => None,
    }
}

fn seen(outcome: &Result<StreamableHttpPostResponse, Failure>) -> Seen {
    match outcome {
        // The proxy's own errors are the protocol's, whatever their status.
        Ok(StreamableHttpPostResponse::Json(JsonRpcMessage::Error(error), _)) => {
            Seen::Error(error.error.message.to_string())
        }
        Ok(_) => Seen::Fine,
        Err(StreamableHttpError::SessionExpired) => Seen::Over,
        Err(error) => Seen::Error(error.to_string()),
    }
}
