//! What happens to a client's session, in order.

use reqwest::StatusCode;
use reqwest::header::{ACCEPT, CONTENT_TYPE};

use super::super::DemoError;
use super::super::screen::Screen;
use super::client::Client;
use super::failed;
use super::stage::Stage;

/// Calls that the first step makes.
const CALLS: usize = 4;
/// Clients beside the first one.
const OTHERS: usize = 5;
/// The replica that ends.
const A: usize = 0;

const WHOAMI: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"whoami","arguments":{}}}"#;

pub(super) struct Tour<'a, 's> {
    stage: &'a mut Stage,
    screen: &'a mut Screen<'s>,
    number: usize,
}

impl<'a, 's> Tour<'a, 's> {
    pub(super) fn new(stage: &'a mut Stage, screen: &'a mut Screen<'s>, number: usize) -> Self {
        Self { stage, screen, number }
    }

    pub(super) async fn tell(mut self) -> Result<(), DemoError> {
        self.step(
            "A client starts a session, and uses it through both replicas",
            "the client: initialize, and calls of the tool whoami",
        )?;
        let client = Client::connect(self.stage.replica_urls()).await.map_err(DemoError::Sessions)?;
        let mut home = String::new();
        for _ in 0..CALLS {
            home = self.call(&client).await?.unwrap_or(home);
        }

        self.step(
            "The same session without Berth: a Service picks any server",
            "the same call to each server in turn",
        )?;
        self.without_berth(&client).await?;

        self.step("More clients: each session goes where the fewest are", "5 more clients: initialize")?;
        let mut others = Vec::new();
        for _ in 0..OTHERS {
            let other = Client::connect(self.stage.replica_urls()).await.map_err(DemoError::Sessions)?;
            others.push((other.whoami().await.map_err(DemoError::Sessions)?.server, other));
        }
        self.screen.counts(&self.stage.counts())?;

        self.step("A replica ends: every session goes on through the other", "the pod of replica A is deleted")?;
        self.stage.end_replica(A).await;
        self.tell_clients(&client, &others);
        self.call(&client).await?;
        self.call(&client).await?;

        let title = "Its server crashes: the session waits for it, and others notice nothing";
        self.step(title, &format!("{home} is killed"))?;
        self.stage.kill_server(&home).await.map_err(DemoError::Sessions)?;
        self.call(&client).await?;
        if let Some((_, other)) = others.iter().find(|(server, _)| *server != home) {
            self.screen.remark("another client, on another server:")?;
            other.legs();
            self.call(other).await?;
        }

        let title = "The server is back, and has forgotten everything: the SDK starts anew";
        self.step(title, &format!("{home} is started again, under its old name"))?;
        self.stage.restart_server(&home).await.map_err(DemoError::Sessions)?;
        self.call(&client).await?;

        self.step("A new replica takes A's place, and knows every session", "another replica A is started")?;
        self.stage.start_replica(A).await.map_err(DemoError::Sessions)?;
        self.tell_clients(&client, &others);
        self.call(&client).await?;
        self.call(&client).await.map(|_| ())
    }

    fn step(&mut self, title: &str, command: &str) -> Result<(), DemoError> {
        self.number += 1;
        Ok(self.screen.step(self.number, title, command)?)
    }

    fn tell_clients(&self, client: &Client, others: &[(String, Client)]) {
        for client in others.iter().map(|(_, other)| other).chain([client]) {
            client.set_urls(self.stage.replica_urls());
        }
    }

    /// A call, and all requests that the SDK made for it. The server that answered; none when the call failed.
    async fn call(&mut self, client: &Client) -> Result<Option<String>, DemoError> {
        // What the SDK makes of a failure is seen by the status already.
        let answer = client.whoami().await.ok();
        let legs = client.legs();
        let last = legs.len().saturating_sub(1);
        for (at, leg) in legs.iter().enumerate() {
            self.screen.leg(leg, answer.as_ref().filter(|_| at == last))?;
        }
        Ok(answer.map(|answer| answer.server))
    }

    /// The same call to each server, as it would go without a proxy.
    async fn without_berth(&mut self, client: &Client) -> Result<(), DemoError> {
        let session = client.session().unwrap_or_default();
        let http = reqwest::Client::new();
        for (name, url) in self.stage.server_urls() {
            let call = http
                .post(url)
                .header(CONTENT_TYPE, "application/json")
                .header(ACCEPT, "application/json, text/event-stream")
                .header("mcp-session-id", session.as_ref())
                .body(WHOAMI);
            let status = call.send().await.map_err(failed)?.status();
            self.screen.straight(name, status.as_u16(), status == StatusCode::OK)?;
        }
        Ok(())
    }
}
