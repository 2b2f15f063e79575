//! What the server can do for a client.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rmcp::handler::server::wrapper::{Json, Parameters};
use rmcp::model::{Implementation, ProgressNotificationParam, ServerCapabilities, ServerConfig};
use rmcp::schemars::{self, JsonSchema};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, tool, tool_handler, tool_router};
use serde::{Deserialize, Serialize};

const LONGEST_STEP: u64 = 60_000;
const MOST_STEPS: u32 = 1000;

/// One session: the SDK makes one of these for each.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    server: Arc<str>,
    calls: Arc<AtomicU64>,
}

/// Who answered, and what it remembers of the session.
#[derive(Debug, Serialize, JsonSchema)]
struct Answer {
    /// The name of the server that holds this session
    server: String,
    /// How many calls this session has made, this one included
    calls: u64,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Work {
    /// How many steps, 1 to 1000
    steps: u32,
    /// How long each step takes in milliseconds, at most 60000
    step_ms: u64,
}

impl Default for Work {
    fn default() -> Self {
        Self { steps: 5, step_ms: 1000 }
    }
}

#[tool_router]
impl Session {
    pub(crate) fn new(server: Arc<str>) -> Self {
        Self { server, calls: Arc::default() }
    }

    fn count(&self) -> Json<Answer> {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        Json(Answer { server: self.server.to_string(), calls })
    }

    /// Tells which server answers, and how many calls this session has made.
    #[tool]
    async fn whoami(&self) -> Json<Answer> {
        self.count()
    }

    /// Works for a while, and tells of its progress after each step.
    #[tool]
    async fn work(
        &self,
        Parameters(Work { steps, step_ms }): Parameters<Work>,
        context: RequestContext<RoleServer>,
    ) -> Result<Json<Answer>, ErrorData> {
        if !(1..=MOST_STEPS).contains(&steps) || step_ms > LONGEST_STEP {
            let message = format!("steps must be 1 to {MOST_STEPS}, and step_ms at most {LONGEST_STEP}");
            return Err(ErrorData::invalid_params(message, None));
        }
        let answer = self.count();
        let token = context.meta.get_progress_token();
        for step in 1..=steps {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(step_ms)) => {}
                () = context.ct.cancelled() => return Err(ErrorData::internal_error("cancelled by the client", None)),
            }
            if let Some(token) = token.clone() {
                let progress = ProgressNotificationParam::new(token, f64::from(step))
                    .with_total(f64::from(steps))
                    .with_message(format!("step {step} of {steps} on {}", self.server));
                // A client that has left is told by the end of the call.
                let _ = context.peer.notify_progress(progress).await;
            }
        }
        Ok(answer)
    }
}

#[tool_handler]
impl ServerHandler for Session {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("berth-example-mcp-server", env!("CARGO_PKG_VERSION")))
            .with_instructions("`whoami` tells which server holds this session; `work` takes its time.")
    }
}
