//! `tests/kind/run` and its cluster, tried without docker: what it says when something is missing, what it runs in which
//! order, and that it deletes what it has made, however it ends. That the suites run on a cluster that is there is shown
//! by `tests/node/there.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test asserts, in its helpers too")]

use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use berth_test_cluster::wait_for;
use serde_json::Value;

const BOUND: Duration = Duration::from_secs(30);

/// Programs that only write down how they were called.
const STAND_INS: [(&str, &str); 5] = [
    ("docker", "case \"$1\" in network) echo 'fd00::1 172.18.0.1 ' ;; esac; [ ! -e \"$ROOT/docker-is-down\" ]"),
    (
        "kind",
        "case \"$1 $2\" in 'get clusters') cat \"$ROOT/clusters\" ;; *) echo \"kind $*\" >>\"$ROOT/calls\" ;; esac",
    ),
    ("kubectl", ":"),
    ("go", ":"),
    (
        "cargo",
        "echo \"cargo $*\" >>\"$ROOT/calls\"
         env | grep -e '^BERTH_TEST' -e '^KUBEBUILDER' >\"$ROOT/environment\"
         if [ -e \"$ROOT/endless\" ]; then sleep 60 & echo $! >\"$ROOT/pid\"; wait; fi
         case \"$*\" in *admission*) [ ! -e \"$ROOT/admission-fails\" ] ;; esac",
    ),
];
/// What the script itself needs.
const TOOLS: [&str; 10] = ["bash", "cat", "dirname", "env", "grep", "ln", "mkdir", "rm", "sh", "sleep"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The script in a directory of its own, with a `PATH` of stand-ins. It goes when the test ends.
struct Desk {
    path: PathBuf,
}

impl Desk {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kind-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        let programs = path.join("programs");
        fs::create_dir_all(&programs).unwrap();
        fs::create_dir_all(path.join("tests/kind")).unwrap();
        for file in ["tests/kind/run", "tests/kind/cluster.yaml"] {
            fs::copy(root().join(file), path.join(file)).unwrap();
        }
        fs::write(path.join("clusters"), "another\n").unwrap();
        fs::write(path.join("calls"), "").unwrap();
        for tool in TOOLS {
            let all = env::var_os("PATH").unwrap();
            let found = env::split_paths(&all).map(|dir| dir.join(tool)).find(|path| path.exists());
            symlink(found.unwrap(), programs.join(tool)).unwrap();
        }
        for (name, script) in STAND_INS {
            let program = programs.join(name);
            fs::write(&program, format!("#!/usr/bin/env sh\n{script}\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { path }
    }

    /// Makes a file that a stand-in looks at.
    fn with(self, file: &str, text: &str) -> Self {
        fs::write(self.path.join(file), text).unwrap();
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path.join("tests/kind/run"));
        command.args(arguments).env_clear().env("PATH", self.path.join("programs")).env("ROOT", &self.path);
        command
    }

    /// The script as a terminal starts it. Whoever runs the tests in the background may have them ignore Ctrl-C, and a
    /// shell cannot undo that.
    fn with_signals(&self) -> Command {
        let mut command = Command::new("env");
        command.args(["-i", "--default-signal=INT,TERM"]);
        command.arg(format!("PATH={}", self.path.join("programs").display()));
        command.arg(format!("ROOT={}", self.path.display())).arg(self.path.join("tests/kind/run"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.path.join(file)).unwrap_or_default()
    }

    /// What was called, its directory apart.
    fn calls(&self) -> Vec<String> {
        self.text("calls").replace(&format!("{}/", self.path.display()), "").lines().map(str::to_owned).collect()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn error(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

const CREATE: &str = "kind create cluster --config tests/kind/cluster.yaml --name berth-test --kubeconfig target/kind/kubeconfig --wait 120s";
const SUITES: [&str; 3] = [
    "cargo test --locked --package berth-test-cluster --test control_plane",
    "cargo test --locked --test admission",
    "cargo test --locked --test node",
];
const DELETE: &str = "kind delete cluster --name berth-test --kubeconfig target/kind/kubeconfig";

#[test]
fn help_is_there_and_what_is_missing_is_said_in_a_line() {
    let help = Command::new(root().join("tests/kind/run")).arg("--help").output().unwrap();
    assert!(help.status.success());
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(text.starts_with("Usage: tests/kind/run [--keep]\n"), "{text}");
    let desk = Desk::new("missing");
    assert_eq!(desk.run(&["--nonsense"]).status.code(), Some(2));

    for (program, fix) in [
        ("go", "install Go 1.24"),
        ("cargo", "https://rustup.rs"),
        ("kubectl", "https://kubernetes.io/"),
        ("kind", "go install sigs.k8s.io/kind@"),
        ("docker", "https://docs.docker.com/"),
    ] {
        fs::remove_file(desk.path.join("programs").join(program)).unwrap();
        let output = desk.run(&[]);
        let said = error(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with(&format!("tests/kind/run: {program} is missing; ")) && said.contains(fix), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let down = Desk::new("down").with("docker-is-down", "");
    let output = down.run(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        error(&output),
        "tests/kind/run: docker does not answer; start it, as in: sudo systemctl start docker\n"
    );
    assert_eq!(desk.calls().len() + down.calls().len(), 0);
}

#[test]
fn every_suite_runs_on_the_new_cluster_and_then_it_is_deleted() {
    let desk = Desk::new("whole");
    let output = desk.run(&[]);
    assert!(output.status.success(), "{}", error(&output));
    assert_eq!(desk.calls(), [&[CREATE], &SUITES[..], &[DELETE]].concat());
    let environment = desk.text("environment");
    let kind = desk.path.join("target/kind");
    for line in [
        format!("BERTH_TEST_KUBECONFIG={}/kubeconfig", kind.display()),
        format!("BERTH_TEST_AUDIT_LOG={}/audit.log", kind.display()),
        "BERTH_TEST_LOAD_IMAGE=kind load image-archive --name berth-test".to_owned(),
        "BERTH_TEST_WEBHOOK_HOST=172.18.0.1".to_owned(),
        format!("KUBEBUILDER_ASSETS={}/programs", kind.display()),
    ] {
        assert!(environment.lines().any(|given| given == line), "{line}: {environment}");
    }
    assert_eq!(fs::read_link(kind.join("programs/kubectl")).unwrap(), desk.path.join("programs/kubectl"));

    // A failure holds nothing up, and shows.
    let desk = Desk::new("failing").with("admission-fails", "");
    let output = desk.run(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(error(&output).ends_with("tests/kind/run: failed: --test admission\n"), "{}", error(&output));
    assert_eq!(desk.calls(), [&[CREATE], &SUITES[..], &[DELETE]].concat());
}

#[test]
fn a_cluster_stays_that_was_there_or_that_is_to_be_kept() {
    let desk = Desk::new("kept");
    assert!(desk.run(&["--keep"]).status.success());
    assert_eq!(desk.calls(), [&[CREATE], &SUITES[..]].concat());

    let desk = desk.with("calls", "").with("clusters", "another\nberth-test\n");
    let output = desk.run(&[]);
    assert!(output.status.success(), "{}", error(&output));
    let export = "kind export kubeconfig --name berth-test --kubeconfig target/kind/kubeconfig";
    assert_eq!(desk.calls(), [&[export], &SUITES[..]].concat());

    // That of another checkout writes its log there.
    fs::remove_file(desk.path.join("target/kind/audit.log")).unwrap();
    let output = desk.run(&[]);
    assert!(error(&output).contains("kind delete cluster --name berth-test"), "{}", error(&output));
}

/// A child that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_signal_ends_the_suite_and_deletes_the_cluster() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let desk = Desk::new(signal).with("endless", "");
        let mut script = Running(desk.with_signals().stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
        let pid = wait_for("a suite that runs", BOUND, || Ok(desk.text("pid").trim().parse::<u32>().ok())).unwrap();
        let alive = || Path::new(&format!("/proc/{pid}")).exists();
        assert!(alive());
        let kill = format!("kill -s {signal} {}", script.0.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let status = wait_for("the end of the script", BOUND, || Ok(script.0.try_wait().unwrap())).unwrap();
        assert_eq!(status.code(), Some(code));
        assert_eq!(desk.calls(), [CREATE, SUITES[0], DELETE]);
        wait_for("the end of what the suite ran", BOUND, || Ok((!alive()).then_some(()))).unwrap();
    }
}

#[test]
fn the_clusters_audit_log_is_where_the_script_looks_and_is_written_by_our_policy() {
    let text = fs::read_to_string(root().join("tests/kind/cluster.yaml")).unwrap();
    let cluster: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!((&cluster["kind"], &cluster["name"]), (&"Cluster".into(), &"berth-test".into()));
    let node = &cluster["nodes"][0];
    assert!(node["image"].as_str().unwrap().starts_with("kindest/node:v1.34."), "{}", node["image"]);
    let patch: Value = serde_saphyr::from_str(node["kubeadmConfigPatches"][0].as_str().unwrap()).unwrap();
    let api_server = &patch["apiServer"];
    let argument = |name: &str| Path::new(api_server["extraArgs"][name].as_str().unwrap()).to_owned();
    let (policy, log) = (argument("audit-policy-file"), argument("audit-log-path"));

    // From this machine into the node, and from there into the API server's pod.
    let mounts = node["extraMounts"].as_array().unwrap();
    let from = |inside: &Path| {
        let mount = mounts.iter().find(|mount| mount["containerPath"] == inside.to_str().unwrap()).unwrap();
        Path::new(mount["hostPath"].as_str().unwrap())
    };
    assert_eq!(from(log.parent().unwrap()).join(log.file_name().unwrap()), Path::new("target/kind/audit.log"));
    for path in [&*policy, log.parent().unwrap()] {
        let path = path.to_str().unwrap();
        let volumes = api_server["extraVolumes"].as_array().unwrap();
        let is_it = |volume: &&Value| volume["hostPath"] == path && volume["mountPath"] == path;
        assert!(volumes.iter().any(|volume| is_it(&volume)), "{path}");
    }

    // The file that the tests' own API servers are given.
    let ours = "tests/cluster/src/audit-policy.yaml";
    assert_eq!(from(&policy), Path::new(ours));
    let components = fs::read_to_string(root().join("tests/cluster/src/components.rs")).unwrap();
    assert!(components.contains("AUDIT_POLICY: &str = include_str!(\"audit-policy.yaml\")"));
    let policy: Value = serde_saphyr::from_str(&fs::read_to_string(root().join(ours)).unwrap()).unwrap();
    assert_eq!(policy["rules"], serde_json::json!([{"level": "Metadata"}]));
}
