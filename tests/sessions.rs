//! `berth sessions` against a real Redis, with sessions of real servers behind real proxies.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test asserts, in its helpers too")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_example_mcp_server::Server;
use berth_proxy::address::Address;
use berth_proxy::drain::Pauses;
use berth_proxy::pods::{Backend, Naming, PodId, Pods};
use berth_proxy::proxy::{Proxy, ProxySettings};
use berth_proxy::route::Names;
use berth_proxy::session::{
    DEFAULT_KEY_PREFIX, Found, Hasher, Identity, PathTag, PinMode, PinOutcome, Readiness, RedisTarget, SessionSettings,
    Sessions,
};
use berth_proxy::worker::Limits;
use berth_test_cluster::Redis;
use serde_json::Value;

/// How long anything may take that is not measured.
const PATIENCE: Duration = Duration::from_secs(20);

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#;
const CALL: &str = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"whoami","arguments":{}}}"#;

/// Two replicas of the proxy of `shop/web` over two servers, and a Redis.
struct World {
    redis: Redis,
    replicas: [SocketAddr; 2],
    pods: [String; 2],
    _proxies: [Proxy; 2],
    // Last: everything above ends before what it runs on.
    _runtime: tokio::runtime::Runtime,
}

impl World {
    fn start() -> Self {
        let redis = Redis::start().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (pods, proxies) = runtime.block_on(async {
            let mut pods = Vec::new();
            for name in ["web-0", "web-1"] {
                let server = Server::bind("127.0.0.1:0".parse().unwrap(), name).await.unwrap();
                pods.push(server.address.to_string());
                tokio::spawn(server.serve(std::future::pending()));
            }
            let proxies = [replica(&redis, &pods).await, replica(&redis, &pods).await];
            (pods.try_into().unwrap(), proxies)
        });
        let replicas = [proxies[0].address, proxies[1].address];
        let world = Self { redis, replicas, pods, _proxies: proxies, _runtime: runtime };
        // A store that was empty at first may have lost something, for a moment.
        for replica in world.replicas {
            until("a store without doubt", || post(replica, Some("nobody"), CALL).status == 404);
        }
        world
    }

    /// Makes a session through the first replica, and uses it through the other.
    fn session(&self) -> String {
        let reply = post(self.replicas[0], None, INITIALIZE);
        assert_eq!(reply.status, 200, "{}", reply.text);
        let id = reply.session();
        assert_eq!(post(self.replicas[1], Some(&id), CALL).status, 200);
        id
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command.env("BERTH_REDIS", self.redis.address());
        command
    }

    fn berth(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.command(arguments), "")
    }

    fn list(&self, arguments: &[&str]) -> Value {
        let ran = self.berth(&[&["list", "-o", "json"], arguments].concat());
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {} {}", ran.out, ran.err))
    }

    /// What the session is called in the store and in logs.
    fn hash(&self, id: &str) -> String {
        let web = Identity { namespace: "shop".into(), name: "web".into() };
        Hasher::new(&web).session(id.as_bytes()).to_hex()
    }
}

fn naming(pods: &[String]) -> Naming {
    Naming::Fixed(pods.iter().map(|pod| Backend::parse(&format!("http://{pod}")).unwrap()).collect())
}

/// The sessions of `shop/web` in a Redis of any kind.
fn sessions(url: &str, ca: Option<&Path>, naming: Naming) -> Arc<Sessions> {
    let settings = SessionSettings {
        identity: Identity { namespace: "shop".into(), name: "web".into() },
        naming,
        ttl: Duration::from_secs(600),
        cache_size: 100,
        max_sessions: 100,
    };
    let endpoints = Address::parse(url).unwrap().endpoints().unwrap();
    let ca = ca.map(|path| std::fs::read(path).unwrap());
    let target = RedisTarget { endpoints, db: 0, username: None, password: None, ca };
    Sessions::in_redis(settings, target, DEFAULT_KEY_PREFIX)
}

async fn replica(redis: &Redis, pods: &[String]) -> Proxy {
    let naming = naming(pods);
    let proxy = ProxySettings {
        listen: "127.0.0.1:0".parse().unwrap(),
        admin: None,
        threads: 1,
        limits: Limits::default(),
        names: Names::default(),
        pauses: Pauses { lame_duck: Duration::ZERO, drain: Duration::ZERO },
    };
    let sessions = sessions(&redis.address(), None, naming.clone());
    Proxy::start(proxy, sessions, Arc::new(Pods::new(naming, None).unwrap())).await.unwrap()
}

struct Reply {
    status: u16,
    text: String,
}

impl Reply {
    fn session(&self) -> String {
        let line = self.text.lines().find(|line| line.to_ascii_lowercase().starts_with("mcp-session-id:"));
        line.and_then(|line| line.split_once(':')).map(|(_, id)| id.trim().to_owned()).expect("a session")
    }
}

fn post(to: SocketAddr, session: Option<&str>, body: &str) -> Reply {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let session = session.map_or_else(String::new, |id| format!("Mcp-Session-Id: {id}\r\n"));
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: web\r\nContent-Type: application/json\r\nAccept: application/json, \
         text/event-stream\r\nConnection: close\r\nContent-Length: {}\r\n{session}\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    Reply { status: status.unwrap_or_else(|| panic!("{text}")), text }
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
    command.arg("sessions").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for variable in ["BERTH_REDIS", "BERTH_REDIS_USER", "BERTH_REDIS_CA", "BERTH_KEY_PREFIX"] {
        command.env_remove(variable);
    }
    command.env_remove("THV_SESSION_REDIS_PASSWORD");
    command
}

fn ran(command: &mut Command, input: &str) -> Ran {
    let mut child = command.spawn().unwrap();
    // The process may end without reading.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().expect("no signal"), out: text(output.stdout), err: text(output.stderr) }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "did not see {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn sessions_are_listed_and_shown_and_their_ids_never() {
    let world = World::start();
    let ids: Vec<_> = (0..4).map(|_| world.session()).collect();
    let listed = world.list(&[]);
    let sessions = listed["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 4);
    for session in sessions {
        assert_eq!((&session["namespace"], &session["server"]), (&Value::from("shop"), &Value::from("web")));
        assert!(world.pods.iter().any(|pod| session["pod"] == **pod), "{session}");
        assert!(session["expiresInSeconds"].as_u64().unwrap() > 500, "{session}");
    }
    let counted: u64 = listed["pods"].as_array().unwrap().iter().map(|pod| pod["sessions"].as_u64().unwrap()).sum();
    assert_eq!(counted, 4);
    let on_first = world.list(&["--pod", &world.pods[0]]);
    assert_eq!(on_first["sessions"].as_array().unwrap().len(), 2, "new sessions are spread");

    let table = world.berth(&["list"]).out;
    let shown = world.berth(&["show", &ids[0]]).out;
    let from_input = ran(&mut world.command(&["show", "-"]), &format!("{}\n", ids[0]));
    // But for the ages.
    let named = |text: &str| text.lines().take(4).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!((from_input.code, named(&from_input.out)), (0, named(&shown)));
    for id in &ids {
        let hash = world.hash(id);
        assert!(table.contains(&hash[..8]), "{table}");
        let by_hash = world.berth(&["show", &hash[..8]]);
        assert!(by_hash.out.contains(&hash) && by_hash.out.contains("shop/web"), "{}", by_hash.out);
        for text in [&table, &shown, &by_hash.out, &listed.to_string()] {
            assert!(!text.contains(id), "{text}");
        }
    }
    let yaml = world.berth(&["list", "--per-pod", "-o", "yaml"]).out;
    assert!(yaml.contains("pods:") && yaml.contains("sessions: 2") && !yaml.contains("backendURL"), "{yaml}");
    for nothing in [["--namespace", "other"], ["--server", "api"], ["--pod", "web-7"]] {
        let ran = world.berth(&[&["list"], &nothing[..]].concat());
        assert!(ran.code == 0 && ran.out.starts_with("no sessions under"), "{}", ran.out);
    }
}

#[test]
fn an_evicted_session_is_unknown_to_every_replica_within_a_second() {
    let world = World::start();
    let (one, other) = (world.session(), world.session());
    let told = world.berth(&["evict", &world.hash(&one)[..8], "--dry-run"]);
    assert!(told.code == 0 && told.out.starts_with("would evict shop/web "), "{}", told.out);
    assert_eq!(post(world.replicas[0], Some(&one), CALL).status, 200);

    let evicted = |id: &str| {
        let told = world.berth(&["evict", id]);
        assert!(told.code == 0 && told.out.starts_with("evicted shop/web ") && !told.out.contains(id), "{}", told.out);
        let begun = Instant::now();
        for replica in world.replicas {
            until("404", || post(replica, Some(id), CALL).status == 404);
        }
        begun.elapsed()
    };
    let mut took = vec![evicted(&one)];
    // Twice the promise: other tests run beside this one; and a busy machine may be late now and then.
    while took.last().is_some_and(|took| *took >= Duration::from_secs(2)) {
        assert!(took.len() < 5, "{took:?}");
        took.push(evicted(&world.session()));
    }
    for replica in world.replicas {
        assert_eq!(post(replica, Some(&other), CALL).status, 200, "others go on");
    }
    let again = world.berth(&["evict", &one]);
    assert!(again.code == 1 && again.out.starts_with("no such session") && !again.out.contains(&one), "{}", again.out);
}

#[test]
fn all_of_a_pod_and_all_of_a_server_are_evicted() {
    let world = World::start();
    let ids: Vec<_> = (0..6).map(|_| world.session()).collect();
    let told = world.berth(&["evict", "--pod", &world.pods[1]]);
    assert_eq!((told.code, told.out.lines().count()), (0, 3), "{}", told.out);
    let left = world.list(&[]);
    assert!(left["sessions"].as_array().unwrap().iter().all(|session| session["pod"] == *world.pods[0]), "{left}");

    let refused = world.berth(&["evict"]);
    assert!(refused.code == 2 && refused.err.contains("no session was named"), "{}", refused.err);
    let told = world.berth(&["evict", "--all", "--server", "shop/other"]);
    assert!(told.code == 0 && told.out.starts_with("no sessions"), "{}", told.out);
    let told = world.berth(&["evict", "--all", "--server", "shop/web"]);
    assert_eq!((told.code, told.out.lines().count()), (0, 3), "{}", told.out);
    for id in &ids {
        until("404", || post(world.replicas[1], Some(id), CALL).status == 404);
    }
    assert!(world.list(&[])["sessions"].as_array().unwrap().is_empty());
}

/// A process that is told to end, or killed when dropped.
struct Running(Child);

impl Running {
    fn terminate(&mut self) -> Option<i32> {
        assert!(Command::new("kill").arg(self.0.id().to_string()).status().unwrap().success());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_watch_tells_of_what_comes_and_goes_also_after_an_outage() {
    let mut world = World::start();
    let one = world.session();
    let mut watch = Running(world.command(&["list", "--watch", "--interval", "50ms"]).spawn().unwrap());
    let mut lines = BufReader::new(watch.0.stdout.take().unwrap()).lines();
    let mut errors = BufReader::new(watch.0.stderr.take().unwrap()).lines();
    let hash = world.hash(&one);
    assert!(lines.next().unwrap().unwrap().starts_with(&format!("+ shop/web {} on ", &hash[..8])));
    world.berth(&["evict", &hash]);
    assert!(lines.next().unwrap().unwrap().starts_with(&format!("- shop/web {} on ", &hash[..8])));
    // What a replica has not heard of before an outage, it would write back after it.
    for replica in world.replicas {
        until("404", || post(replica, Some(&one), CALL).status == 404);
    }
    world.redis.kill().unwrap();
    assert!(errors.next().unwrap().unwrap().ends_with("trying again"));
    world.redis.run().unwrap();
    until("a store without doubt", || post(world.replicas[0], Some("nobody"), CALL).status == 404);
    let two = world.hash(&world.session());
    assert!(lines.next().unwrap().unwrap().starts_with(&format!("+ shop/web {} on ", &two[..8])));
    assert_eq!(watch.terminate(), Some(0));
}

#[test]
fn what_is_wrong_with_the_redis_is_told() {
    // Nothing listens on port 1.
    let ran_with = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut command = command(arguments);
        command.envs(variables.iter().copied());
        ran(&mut command, "")
    };
    let ran = ran_with(&[], &["list", "--redis", "127.0.0.1:1"]);
    assert!(ran.code == 2 && ran.err.contains("the Redis at 127.0.0.1:1 cannot be reached"), "{}", ran.err);
    assert!(ran.err.contains("help: "), "{}", ran.err);
    let ran = ran_with(&[], &["list"]);
    assert!(ran.code == 2 && ran.err.contains("--redis"), "{}", ran.err);
    let ran = ran_with(&[], &["list", "--redis", "redis://user:pw@r:1"]);
    assert!(ran.code == 2 && ran.err.contains("credentials"), "{}", ran.err);

    let redis = Redis::start_with(&["--requirepass", "hunter2"]).unwrap();
    let address = redis.address();
    let right = [("THV_SESSION_REDIS_PASSWORD", "hunter2")];
    for wrong in [&[][..], &[("THV_SESSION_REDIS_PASSWORD", "guess")]] {
        let ran = ran_with(wrong, &["list", "--redis", &address]);
        assert!(ran.code == 2 && ran.err.contains("lets nobody in"), "{}", ran.err);
        assert!(ran.err.contains("THV_SESSION_REDIS_PASSWORD") && !ran.err.contains("guess"), "{}", ran.err);
    }
    let ran = ran_with(&right, &["list", "--redis", &address]);
    assert!(ran.code == 0 && ran.out.starts_with("no sessions under \"berth:session:\""), "{} {}", ran.out, ran.err);

    let other = Redis::start().unwrap();
    other.command("SET berth:session:shop/web/{shop/web}:pins 1").unwrap();
    other.command("SET \"berth:session:a/\\x1b[31m/{a/\\x1b[31m}:pins\" 1").unwrap();
    other.command("SET \"berth:session:\\xff:pins\" 1").unwrap();
    let ran = ran_with(&[], &["list", "--redis", &other.address()]);
    assert!(ran.code == 2 && ran.err.contains("something other than sessions"), "{}", ran.err);
    assert!(ran.err.contains("berth:session:shop/web/{shop/web}:pins") && !ran.err.contains("\x1b[31m"), "{}", ran.err);
}

#[test]
fn tls_and_clusters_are_asked_as_proxies_ask_them() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let redises = [("rediss", Redis::start_tls().unwrap()), ("redis+cluster", Redis::start_cluster().unwrap())];
    for (scheme, redis) in redises {
        let url = format!("{scheme}://{}", redis.address());
        let sessions = sessions(&url, redis.ca(), naming(&["10.0.0.1:8080".to_owned()]));
        let running = runtime.spawn(Arc::clone(&sessions).run());
        until("a store that is connected", || sessions.readiness() == Readiness::Ready);
        let key = sessions.key(b"one");
        let pin = sessions.pin(&key, PodId(0), PathTag::default(), PinMode::First);
        assert_eq!(runtime.block_on(pin), PinOutcome::Pinned);

        let asked = |arguments: &[&str]| {
            let mut command = command(arguments);
            command.env("BERTH_REDIS", &url);
            if let Some(ca) = redis.ca() {
                command.env("BERTH_REDIS_CA", ca);
            }
            ran(&mut command, "")
        };
        let all = asked(&["list"]);
        if redis.ca().is_none() {
            assert!(all.code == 2 && all.err.contains("--server NAMESPACE/NAME"), "{}", all.err);
        }
        let listed = asked(&["list", "--server", "shop/web"]);
        assert!(listed.code == 0 && listed.out.contains(&key.to_hex()[..8]), "{} {}", listed.out, listed.err);
        let evicted = asked(&["evict", "one", "--server", "shop/web"]);
        assert!(evicted.code == 0 && evicted.out.starts_with("evicted shop/web "), "{} {}", evicted.out, evicted.err);
        until("an eviction that is heard of", || runtime.block_on(sessions.find(&key)) == Found::Unknown);
        running.abort();
    }
}
