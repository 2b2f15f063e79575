//! RunConfig files: what a proxy makes of them at its start, and while it runs.

use berth_test_cluster::{Process, RunDir, http_get, wait_for};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::trial;
use crate::world::{BOUND, World, blocking, program, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("configurations_that_lack_a_part", incomplete),
        trial("a_configuration_without_a_server", serverless),
        trial("a_port_that_is_taken_is_named", taken),
        trial("the_pods_generation_beats_the_file", generation),
        trial("a_changed_configuration_is_taken_unless_it_is_newer_than_the_pod", reload),
    ]
}

/// A proxy that is not expected to serve.
struct Attempt {
    process: Process,
    _dir: RunDir,
}

impl Attempt {
    fn start(config: &Value, arguments: &[&str], generation: Option<&str>) -> Self {
        let dir = RunDir::new().unwrap();
        let file = dir.path().join("runconfig.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let config = format!("--config={}", file.display());
        let arguments = [&[config.as_str(), "--listen=127.0.0.1:0", "--admin=127.0.0.1:0"], arguments].concat();
        let environment = generation.map(|text| ("THV_MCPSERVER_GENERATION".to_owned(), text.to_owned()));
        let environment: Vec<_> = environment.into_iter().collect();
        let process = Process::start(dir.path(), "proxy", program(), arguments, &environment).unwrap();
        Self { process, _dir: dir }
    }

    fn wait_for_log(&self, text: &str) {
        let line = || Ok(std::fs::read_to_string(self.process.log()).is_ok_and(|log| log.contains(text)).then_some(()));
        wait_for(text, BOUND, line).unwrap_or_else(|error| panic!("{error}: {}", self.process.log_tail()));
    }
}

async fn incomplete() {
    let whole = json!({"statefulset_name": "web", "service_name": "s", "namespace": "n", "replicas": 1});
    for part in ["statefulset_name", "service_name", "namespace", "replicas"] {
        let mut lacking = whole.clone();
        lacking.as_object_mut().unwrap().remove(part);
        let config = json!({"target_port": 1, "scaling_config": {"headless_service": lacking}});
        for more in [&[][..], &["--backend=http://127.0.0.1:1"]] {
            let mut attempt = Attempt::start(&config, more, None);
            let status = blocking(|| wait_for("the end of a proxy", BOUND, || attempt.process.exit_status()).unwrap());
            assert_eq!(status.code(), Some(2), "{part}");
            let log = attempt.process.log_tail();
            assert!(log.contains(&format!("headless_service lacks {part}")), "{log}");
        }
    }
}

async fn serverless() {
    let mut attempt = Attempt::start(&json!({"name": "web"}), &[], None);
    let status = blocking(|| wait_for("the end of a proxy", BOUND, || attempt.process.exit_status()).unwrap());
    assert_eq!(status.code(), Some(2));
    let log = attempt.process.log_tail();
    assert!(log.contains("runconfig.json has no target_port; name it there, or give --backend URL"), "{log}");
}

async fn taken() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = socket.local_addr().unwrap().to_string();
    for (listen, admin) in [(taken.as_str(), "127.0.0.1:0"), ("127.0.0.1:0", taken.as_str())] {
        let dir = RunDir::new().unwrap();
        let arguments =
            [format!("--listen={listen}"), format!("--admin={admin}"), "--backend=http://127.0.0.1:1".into()];
        let mut process = Process::start(dir.path(), "proxy", program(), arguments, &[]).unwrap();
        let status = blocking(|| wait_for("the end of a proxy", BOUND, || process.exit_status()).unwrap());
        assert_eq!(status.code(), Some(1));
        let log = process.log_tail();
        assert!(log.contains(&format!("cannot listen on {taken}: Address already in use")), "{log}");
    }
}

async fn generation() {
    let config = json!({"mcpserver_generation": 5, "target_port": 1});
    let (overrides, ignored) = ("overrides the generation", "which is no generation");
    for (variable, told) in [
        (None, None),
        (Some(""), None),
        (Some("5"), None),
        (Some("7"), Some(overrides)),
        (Some("0"), Some(overrides)),
        (Some("seven"), Some(ignored)),
        (Some("-1"), Some(ignored)),
    ] {
        let attempt = Attempt::start(&config, &[], variable);
        blocking(|| attempt.wait_for_log("listening"));
        let log = std::fs::read_to_string(attempt.process.log()).unwrap();
        for text in [overrides, ignored] {
            assert_eq!(log.contains(text), told == Some(text), "{variable:?}: {log}");
        }
    }
}

async fn reload() {
    let mut world = World::new("reloaded", 1).await;
    world.environment.push(("THV_MCPSERVER_GENERATION".to_owned(), "5".to_owned()));
    let more = |generation: u32, size: u32| json!({"mcpserver_generation": generation, "session_cache_size": size});
    let replica = world.replica_with(&more(5, 100));
    let sessions = replica.sessions(20).await;
    let cached = || http_get(replica.admin, "/metrics").unwrap().metric("berth_proxy_sessions_cached", &[]);
    assert_eq!(cached(), 20.0);
    replica.rewrite_config(&more(5, 10));
    until("the smaller cache", || cached() == 10.0).await;
    replica.rewrite_config(&more(6, 5));
    let log = || std::fs::read_to_string(replica.process.log()).unwrap();
    until("a word on the newer one", || log().contains("newer generation")).await;
    assert_eq!(cached(), 10.0);
    replica.rewrite_config(&json!({"session_ttl": "soon"}));
    until("a word on the wrong one", || log().contains("session_ttl is \"soon\"")).await;
    for session in &sessions {
        session.check(&replica.call(session).await);
    }
}
