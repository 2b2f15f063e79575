//! The process around one replica: from flags to a running proxy, and to its end.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use http::HeaderName;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::Cli;
use crate::config::generation::{GENERATION_ENV, Remark};
use crate::config::{Environment, PASSWORD_ENV, Reloader, Routing, RunConfig, SessionStoreSettings, Settings, Update};
use crate::drain::Pauses;
use crate::pods::Pods;
use crate::proxy::{Proxy, ProxySettings};
use crate::route::Names;
use crate::session::Sessions;
use crate::worker::Limits;

/// How often it is looked whether all threads still run.
const LOOK: Duration = Duration::from_secs(1);

/// Parses the process's arguments and runs a replica until it is told to end.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap too; a closed pipe is nothing to tell anyone about.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if let Some(shell) = cli.completions {
        // Into memory first: the generator panics where a write fails.
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "berth-proxy", &mut script);
        return if io::stdout().write_all(&script).is_ok() { ExitCode::SUCCESS } else { ExitCode::from(1) };
    }
    if let Err(message) = cli.log_format.start() {
        eprintln!("berth-proxy: {message}");
        return ExitCode::from(2);
    }
    run(&cli)
}

/// Runs a replica until it is told to end.
fn run(cli: &Cli) -> ExitCode {
    let plan = match Plan::new(cli) {
        Ok(plan) => plan,
        Err(message) => {
            eprintln!("berth-proxy: {message}");
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("berth-proxy: the process cannot start its threads: {error}");
            return ExitCode::from(1);
        }
    };
    match runtime.block_on(plan.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            tracing::error!("{message}");
            ExitCode::from(1)
        }
    }
}

/// Everything that is known before the first socket is bound.
struct Plan {
    settings: Settings,
    environment: Environment,
    reloader: Option<Reloader>,
    limits: Limits,
    threads: usize,
}

impl Plan {
    fn new(cli: &Cli) -> Result<Self, String> {
        let flags = &cli.settings;
        let read = |path: &Path| fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
        let environment = Environment {
            generation: std::env::var(GENERATION_ENV).ok(),
            redis_password: std::env::var(PASSWORD_ENV).ok(),
            redis_ca: flags.redis_ca.as_deref().map(read).transpose()?,
        };
        let text = match &flags.config {
            None => None,
            Some(path) => {
                let text = fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
                Some((path, text?))
            }
        };
        let file = match &text {
            None => None,
            Some((path, text)) => Some(RunConfig::parse(text).map_err(|error| format!("{}: {error}", path.display()))?),
        };
        let settings = Settings::new(flags, file.as_ref(), &environment).map_err(|error| error.to_string())?;
        Ok(Self {
            settings,
            environment,
            reloader: text.map(|(path, text)| Reloader::new(path, text, flags.clone())),
            limits: Limits { connections: cli.max_connections, body: cli.max_body_size, ..Limits::default() },
            threads: cli.threads.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1),
        })
    }

    async fn run(self) -> Result<(), String> {
        let mut end = Signals::new()?;
        remark(self.settings.generation_remark.as_ref());
        let mut pauses = pauses(&self.settings);
        let (pods, sessions) = build(&self.settings)?;
        let header = self.settings.session_header.as_deref().map(str::parse::<HeaderName>).transpose();
        let proxy = ProxySettings {
            listen: self.settings.listen,
            admin: Some(self.settings.admin),
            threads: self.threads,
            limits: self.limits,
            names: Names {
                header: header.map_err(|error| format!("--session-header: {error}"))?,
                cookie: self.settings.session_cookie.clone(),
            },
            pauses,
        };
        let mut proxy = Proxy::start(proxy, Arc::clone(&sessions), pods).await.map_err(|error| error.to_string())?;
        tracing::info!(address = %proxy.address, "listening");
        let (mut reloader, mut settings) = (self.reloader, self.settings);
        loop {
            tokio::select! {
                () = end.next() => break,
                update = changed(reloader.as_mut(), &self.environment) => {
                    take(update, &mut settings, &sessions);
                    pauses = self::pauses(&settings);
                    proxy.set_pauses(pauses);
                }
                () = tokio::time::sleep(LOOK) => {
                    if proxy.is_broken() {
                        return Err("a thread of the proxy ended; the process cannot go on".into());
                    }
                }
            }
        }
        tokio::select! {
            () = proxy.drain() => tracing::info!("ended"),
            () = end.next() => tracing::warn!("ended at once, as told by a second signal"),
        }
        Ok(())
    }
}

/// The pods and the sessions that the settings ask for.
fn build(settings: &Settings) -> Result<(Arc<Pods>, Arc<Sessions>), String> {
    let ready_service = match &settings.routing {
        Routing::Headless { ready_service, .. } => ready_service.as_deref(),
        Routing::Fixed(_) => None,
    };
    let pods = Pods::new(settings.sessions.naming.clone(), ready_service)
        .map_err(|error| format!("the system's DNS configuration cannot be read: {error}"))?;
    let sessions = match &settings.store {
        SessionStoreSettings::Memory => Sessions::in_memory(settings.sessions.clone()),
        SessionStoreSettings::Redis { target, key_prefix } => {
            Sessions::in_redis(settings.sessions.clone(), target.clone(), key_prefix)
        }
    };
    Ok((Arc::new(pods), sessions))
}

fn pauses(settings: &Settings) -> Pauses {
    Pauses { lame_duck: settings.lame_duck, drain: settings.drain_timeout }
}

/// The next change of the file; never without one.
async fn changed(reloader: Option<&mut Reloader>, environment: &Environment) -> Update {
    match reloader {
        Some(reloader) => reloader.next(environment).await,
        None => std::future::pending().await,
    }
}

/// Takes a changed file into use, and says when some of it counts from the next start on only.
fn take(update: Update, settings: &mut Settings, sessions: &Sessions) {
    match update {
        Update::Settings(new) => {
            remark(new.generation_remark.as_ref());
            sessions.reconfigure(&new.sessions);
            let same_store = new.store == settings.store && new.sessions.identity == settings.sessions.identity;
            if new.listen == settings.listen && new.routing == settings.routing && same_store {
                tracing::info!("the configuration has changed and is in use");
            } else {
                tracing::warn!(
                    "the configuration has changed; its addresses, its name and its session store count from the next start on"
                );
            }
            *settings = *new;
        }
        Update::Newer { file, pod } => {
            tracing::info!(file, pod, "the configuration is of a newer generation; this pod is about to be replaced");
        }
        Update::Wrong(message) => tracing::warn!("{message}; what runs goes on"),
    }
}

fn remark(remark: Option<&Remark>) {
    match remark {
        None => {}
        Some(Remark::TakesEffect { file, pod }) => {
            tracing::info!(file, pod, "{GENERATION_ENV} overrides the generation of the configuration");
        }
        Some(Remark::Ignored { text }) => {
            tracing::warn!("{GENERATION_ENV} is {text:?}, which is no generation; the configuration's is used");
        }
    }
}

/// What tells the process to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, String> {
        let listen = |kind| signal(kind).map_err(|error| format!("signals cannot be received: {error}"));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
