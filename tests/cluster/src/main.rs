//! `berth-test-cluster up`: a control plane to play with, until Ctrl-C.

use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use berth_test_cluster::{
    Berth, BerthOptions, Binaries, ControlPlane, ControlPlaneOptions, Error, Installation, Node, Result, Stage,
    apply_crds, busybox_image, redis_image, relay,
};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "\
Usage: berth-test-cluster up [--berth PROGRAM | --alone]
       berth-test-cluster up --node [--alone]
       berth-test-cluster build
       berth-test-cluster relay

up     starts a Kubernetes control plane on loopback (etcd, kube-apiserver,
       kube-controller-manager), applies Berth's CRDs, runs Berth and registers it, prints a line
       `export KUBECONFIG=…` when all is ready, and ends it at Ctrl-C
build  builds the programs of the test cluster, unless that has been done
relay  connects whoever asks for it, in a pod of a cluster that was there before

  --node            a whole node with pods, Services and DNS instead; Berth installed by its chart, two
                    Redis, and an MCPServer `sample`, whose endpoint is printed
  --berth PROGRAM   the berth to run; without it, the one beside this program
  --alone           no Berth, the control plane or node only; of a node, also the lines that let the suites
                    run on it as on any cluster
";

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["build"] => build(),
        ["relay"] => relay(),
        ["up"] => beside("berth").and_then(|program| up(Some(program))),
        ["up", "--berth", program] => up(Some(PathBuf::from(program))),
        ["up", "--alone"] => up(None),
        ["up", "--node"] => node(false),
        ["up", "--node", "--alone"] => node(true),
        ["-h" | "--help" | "help"] => {
            print!("{USAGE}");
            Ok(())
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<()> {
    let binaries = Binaries::ensure()?;
    for name in Binaries::names() {
        eprintln!("{}", binaries.program(name)?.display());
    }
    Ok(())
}

/// A program in the directory of this one, which is where Cargo puts all of the workspace's.
fn beside(name: &str) -> Result<PathBuf> {
    let me = env::current_exe().map_err(|cause| Error::new(format!("cannot tell where this program is: {cause}")))?;
    let program = me.with_file_name(name);
    if !program.exists() {
        return Err(Error::new(format!("there is no {}; run: cargo build --bin {name}", program.display())));
    }
    Ok(program)
}

fn up(berth: Option<PathBuf>) -> Result<()> {
    eprintln!("starting a control plane");
    let cluster = ControlPlane::start(&ControlPlaneOptions { controller_manager: true, audit: true })?;
    let mut berth = match berth {
        None => None,
        Some(program) => {
            apply_crds(&cluster, &program)?;
            Some(Berth::start(&cluster, BerthOptions::new(program))?)
        }
    };
    if let Some(berth) = &berth {
        eprintln!("Berth is registered at {}, its metrics are at http://{}/metrics", berth.url(), berth.admin());
    }
    eprintln!("logs are in {}; Ctrl-C ends everything", cluster.dir().display());
    eprintln!("a kubectl of the same version is {}", cluster.kubectl().program().display());
    stay_until_signal(&format!("export KUBECONFIG={}", cluster.kubeconfig().display()), berth.as_mut())
}

/// One node, with Berth, the stores and a server called `sample` unless it is to be alone.
fn node(alone: bool) -> Result<()> {
    eprintln!("starting a cluster of one node");
    let node = Node::start()?;
    let mut lines = format!("export KUBECONFIG={}", node.kubectl().kubeconfig().display());
    if alone {
        node.load(&busybox_image()?)?;
        node.load(&redis_image()?)?;
        // What the suites need to run on it, as on any cluster that is there.
        lines.push_str(&format!("\nexport BERTH_TEST_LOAD_IMAGE='{}'", node.load_command()));
        if let Some(log) = node.cluster().audit_log() {
            lines.push_str(&format!("\nexport BERTH_TEST_AUDIT_LOG={}", log.display()));
        }
    }
    let stage = Stage::from(node);
    if !alone {
        let programs = beside("berth")?;
        let programs = programs.parent().unwrap_or(&programs);
        eprintln!("installing Berth and Redis");
        Installation::new(&stage, programs, &[])?;
        let endpoint = stage.sample("default")?;
        // Beside the line that scripts wait for, and before it.
        tell(&format!("the MCPServer sample answers MCP at http://{endpoint}/mcp"));
    }
    eprintln!("logs are in {}; Ctrl-C ends everything", stage.cluster().dir().display());
    eprintln!("a kubectl of the same version is {}", stage.kubectl().program().display());
    stay_until_signal(&lines, None)
}

/// Prints to a reader, who may leave when he has read as much as he wants: the cluster stays all the same.
fn tell(lines: &str) {
    let _ = writeln!(io::stdout(), "{lines}");
}

/// Prints what a reader waits for, and stays until a signal asks for the end.
fn stay_until_signal(ready: &str, berth: Option<&mut Berth>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| Error::new(format!("cannot wait for signals: {cause}")))?;
    runtime.block_on(stay(ready, berth))
}

/// Until a signal asks for the end, or Berth has ended.
async fn stay(ready: &str, mut berth: Option<&mut Berth>) -> Result<()> {
    let on = |kind| signal(kind).map_err(|cause| Error::new(format!("cannot wait for signals: {cause}")));
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut terminate = on(SignalKind::terminate())?;
    let mut hangup = on(SignalKind::hangup())?;
    // Whoever reads it may send one at once.
    tell(ready);
    let mut look = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
            _ = look.tick() => {}
        }
        if let Some(berth) = &mut berth
            && let Some(status) = berth.process().exit_status()?
        {
            return Err(Error::new(format!("berth serve ended with {status}:\n{}", berth.process().log_tail())));
        }
    }
}
