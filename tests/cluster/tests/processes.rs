//! Nothing outlives the process that started it.

#![expect(clippy::expect_used, reason = "clippy.toml lets functions marked as tests assert, not their helpers")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use berth_test_cluster::{Process, wait_for};

const BOUND: Duration = Duration::from_secs(60);
const CONTROL_PLANE: [&str; 2] = ["up", "--alone"];

fn exists(pid: u32) -> bool {
    // A zombie that nobody has waited for yet has ended all the same.
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(") ").next().is_some_and(|fields| !fields.is_empty() && !fields.starts_with('Z'))
}

/// A process that is killed when the test ends before it has waited for its end.
struct Owner(Child);

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `berth-test-cluster up`, ready, and the pids of all that it started.
fn up(arguments: &[&str]) -> (Owner, PathBuf, Vec<u32>) {
    let mut owner = Owner(
        Command::new(env!("CARGO_BIN_EXE_berth-test-cluster"))
            .args(arguments)
            .env_remove("KUBECONFIG")
            .env_remove("BERTH_TEST_KUBECONFIG")
            .env_remove("BERTH_TEST_KEEP")
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the owner"),
    );
    let mut line = String::new();
    BufReader::new(owner.0.stdout.take().expect("stdout")).read_line(&mut line).expect("a line");
    let kubeconfig = line.trim().strip_prefix("export KUBECONFIG=").expect("the line that says it is ready");
    let dir = Path::new(kubeconfig).parent().expect("a directory").to_owned();
    let pids: Vec<u32> = fs::read_dir(&dir)
        .expect("run directory")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pid"))
        .map(|path| fs::read_to_string(path).expect("pid file").trim().parse().expect("pid"))
        .collect();
    assert!(pids.iter().all(|&pid| exists(pid)));
    (owner, dir, pids)
}

fn signal(name: &str, process: &Owner) {
    let script = format!("kill -s {name} {}", process.0.id());
    assert!(Command::new("sh").args(["-c", &script]).status().expect("sh").success());
}

fn gone(pids: &[u32]) {
    wait_for("the end of all children", BOUND, || Ok((!pids.iter().any(|&pid| exists(pid))).then_some(())))
        .expect("children end with their owner");
}

#[test]
fn a_killed_owner_takes_its_children_with_it_and_the_next_run_cleans_up() {
    let (mut owner, dir, pids) = up(&CONTROL_PLANE);
    assert_eq!(pids.len(), 3, "etcd, kube-apiserver, kube-controller-manager");
    owner.0.kill().expect("SIGKILL");
    owner.0.wait().expect("wait");
    gone(&pids);

    let (mut next, ..) = up(&CONTROL_PLANE);
    assert!(!dir.exists(), "what the killed run left is removed");
    signal("TERM", &next);
    next.0.wait().expect("wait");
}

#[test]
fn an_owner_that_is_asked_to_end_leaves_nothing() {
    let (mut owner, dir, pids) = up(&CONTROL_PLANE);
    signal("INT", &owner);
    assert!(owner.0.wait().expect("wait").success());
    gone(&pids);
    assert!(!dir.exists());
}

/// All processes that name a directory, those in namespaces and containers' shims among them.
fn processes_of(dir: &Path) -> Vec<String> {
    let dir = dir.display().to_string();
    let all = fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.path().join("cmdline"));
    let commands = all.filter_map(|file| fs::read(file).ok()).map(|text| String::from_utf8_lossy(&text).into_owned());
    commands.filter(|command| command.contains(&dir)).collect()
}

/// The control groups of a node's containers.
fn groups_of(dir: &Path) -> Vec<PathBuf> {
    let group = Path::new("berth-test").join(dir.file_name().expect("a name"));
    let hierarchies = fs::read_dir("/sys/fs/cgroup").expect("control groups").flatten().map(|entry| entry.path());
    let places = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).map(|hierarchy| hierarchy.join(&group));
    places.filter(|place| place.exists()).collect()
}

#[test]
fn nodes_live_side_by_side_and_leave_nothing_however_they_end() {
    let start = || std::thread::spawn(|| up(&["up", "--node", "--alone"]));
    let links = || fs::read_dir("/sys/class/net").expect("interfaces").count();
    let before = links();
    let (first, second) = (start(), start());
    let (mut killed, killed_dir, pids) = first.join().expect("a node");
    let (mut asked, asked_dir, asked_pids) = second.join().expect("another node");
    assert_eq!(links(), before, "no interface of the machine's own");
    assert!(!groups_of(&killed_dir).is_empty() && processes_of(&killed_dir).iter().any(|line| line.contains("shim")));

    killed.0.kill().expect("SIGKILL");
    killed.0.wait().expect("wait");
    gone(&pids);
    wait_for("the end of all that it had", BOUND, || Ok(processes_of(&killed_dir).is_empty().then_some(())))
        .expect("shims and containers end with their node");
    assert!(asked_pids.iter().all(|&pid| exists(pid)), "the other one goes on");

    signal("INT", &asked);
    assert!(asked.0.wait().expect("wait").success());
    gone(&asked_pids);
    assert!(!asked_dir.exists() && processes_of(&asked_dir).is_empty() && groups_of(&asked_dir).is_empty());

    let (mut next, ..) = up(&CONTROL_PLANE);
    assert!(!killed_dir.exists() && groups_of(&killed_dir).is_empty(), "what the killed one left is removed");
    signal("TERM", &next);
    next.0.wait().expect("wait");
}

#[test]
fn a_process_can_be_stopped_killed_and_asked_how_it_ended() {
    let dir = std::env::temp_dir().join(format!("berth-test-processes-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("directory");
    let sh = |name: &str, script: &str| {
        let arguments = ["-c", script, "sh"];
        Process::start(&dir, name, Path::new("/bin/sh"), arguments, &[]).expect("start")
    };
    // A shell that has not come to its trap yet ends by the signal itself.
    let set = |process: &Process| {
        wait_for("a shell with its trap", BOUND, || Ok((process.log_tail() == "set").then_some(()))).expect("set");
    };

    let mut polite = sh("polite", "trap 'echo bye; exit 7' TERM; echo set; while :; do sleep 0.05; done");
    assert!(exists(polite.pid()));
    assert_eq!(polite.exit_status().expect("state"), None);
    set(&polite);
    assert_eq!(polite.stop(BOUND).expect("stop").code(), Some(7));
    assert_eq!(polite.log_tail(), "set\nbye");

    let mut stubborn = sh("stubborn", "trap '' TERM; echo set; while :; do sleep 0.05; done");
    set(&stubborn);
    assert!(stubborn.stop(Duration::from_millis(200)).is_err(), "it runs on");
    assert_eq!(stubborn.kill().expect("kill").code(), Some(128 + 9));
    assert!(!exists(stubborn.pid()));

    let pid = sh("idle", "sleep 1000").pid();
    gone(&[pid]);
    fs::remove_dir_all(&dir).expect("clean up");
}
