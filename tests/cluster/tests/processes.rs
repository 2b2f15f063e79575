//! Nothing outlives the process that started it.

#![expect(clippy::expect_used, reason = "clippy.toml lets functions marked as tests assert, not their helpers")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use berth_test_cluster::{Process, wait_for};

const BOUND: Duration = Duration::from_secs(60);

fn exists(pid: u32) -> bool {
    // A zombie that nobody has waited for yet has ended all the same.
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(") ").next().is_some_and(|fields| !fields.is_empty() && !fields.starts_with('Z'))
}

/// `berth-test-cluster up`, ready, and the pids of all that it started.
fn up() -> (Child, PathBuf, Vec<u32>) {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_berth-test-cluster"))
        .args(["up", "--alone"])
        .env_remove("KUBECONFIG")
        .env_remove("BERTH_TEST_KUBECONFIG")
        .env_remove("BERTH_TEST_KEEP")
        .stdout(Stdio::piped())
        .spawn()
        .expect("start the owner");
    let mut line = String::new();
    BufReader::new(owner.stdout.take().expect("stdout")).read_line(&mut line).expect("a line");
    let kubeconfig = line.trim().strip_prefix("export KUBECONFIG=").expect("the line that says it is ready");
    let dir = Path::new(kubeconfig).parent().expect("a directory").to_owned();
    let pids: Vec<u32> = fs::read_dir(&dir)
        .expect("run directory")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pid"))
        .map(|path| fs::read_to_string(path).expect("pid file").trim().parse().expect("pid"))
        .collect();
    assert_eq!(pids.len(), 3, "etcd, kube-apiserver, kube-controller-manager");
    assert!(pids.iter().all(|&pid| exists(pid)));
    (owner, dir, pids)
}

fn signal(name: &str, process: &Child) {
    let script = format!("kill -s {name} {}", process.id());
    assert!(Command::new("sh").args(["-c", &script]).status().expect("sh").success());
}

fn gone(pids: &[u32]) {
    wait_for("the end of all children", BOUND, || Ok((!pids.iter().any(|&pid| exists(pid))).then_some(())))
        .expect("children end with their owner");
}

#[test]
fn a_killed_owner_takes_its_children_with_it_and_the_next_run_cleans_up() {
    let (mut owner, dir, pids) = up();
    owner.kill().expect("SIGKILL");
    owner.wait().expect("wait");
    gone(&pids);

    let (mut next, ..) = up();
    assert!(!dir.exists(), "what the killed run left is removed");
    signal("TERM", &next);
    next.wait().expect("wait");
}

#[test]
fn an_owner_that_is_asked_to_end_leaves_nothing() {
    let (mut owner, dir, pids) = up();
    signal("INT", &owner);
    assert!(owner.wait().expect("wait").success());
    gone(&pids);
    assert!(!dir.exists());
}

#[test]
fn a_process_can_be_stopped_killed_and_asked_how_it_ended() {
    let dir = std::env::temp_dir().join(format!("berth-test-processes-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("directory");
    let sh = |script: &str| {
        let arguments = ["-c", script, "sh"];
        Process::start(&dir, "sh", Path::new("/bin/sh"), arguments, &[]).expect("start")
    };

    let mut polite = sh("trap 'echo bye; exit 7' TERM; while :; do sleep 0.05; done");
    assert!(exists(polite.pid()));
    assert_eq!(polite.exit_status().expect("state"), None);
    // A shell that has not come to its trap yet ends by the signal itself.
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(polite.stop(BOUND).expect("stop").code(), Some(7));
    assert_eq!(polite.log_tail(), "bye");

    let mut stubborn = sh("trap '' TERM; while :; do sleep 0.05; done");
    std::thread::sleep(Duration::from_millis(200));
    assert!(stubborn.stop(Duration::from_millis(200)).is_err(), "it runs on");
    assert_eq!(stubborn.kill().expect("kill").code(), Some(128 + 9));
    assert!(!exists(stubborn.pid()));

    let pid = sh("sleep 1000").pid();
    gone(&[pid]);
    fs::remove_dir_all(&dir).expect("clean up");
}
