//! The whole comparison of admission, in order.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use berth_test_cluster::{ControlPlane, ControlPlaneOptions};
use serde_json::{Value, json};
use tokio::runtime::Builder;

use crate::candidate::{Candidate, Certificates, Kind, Surroundings};
use crate::creates::{self, Setting};
use crate::report::{Figures, MemoryFigures};
use crate::resources::Memory;
use crate::{AdmissionArguments, Result, memory, reviews};
use berth_bench::fixtures::{self, NAMESPACE, Owner};

/// MutatingAdmissionPolicy is beta in 1.34, and off unless both are said.
const API_SERVER: [&str; 2] =
    ["--feature-gates=MutatingAdmissionPolicy=true", "--runtime-config=admissionregistration.k8s.io/v1beta1=true"];

/// Runs everything and prints the tables on standard output.
pub(crate) fn run(arguments: &AdmissionArguments) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    eprintln!("starting a control plane");
    let control_plane = ControlPlane::start_with(&ControlPlaneOptions::default(), &API_SERVER)?;
    let kubectl = control_plane.kubectl();
    kubectl.run(&["create", "namespace", NAMESPACE])?.ok()?;
    kubectl.apply_yaml(&custom_resource_definitions(&arguments.berth)?)?.ok()?;
    for kind in ["mcpservers", "virtualmcpservers"] {
        let crd = format!("crd/{kind}.toolhive.stacklok.dev");
        kubectl.run(&["wait", "--for=condition=Established", &crd, "--timeout=30s"])?.ok()?;
    }
    let directory = control_plane.dir().join("webhooks");
    fs::create_dir_all(&directory)?;
    let certificates = Certificates::make(&directory)?;
    let with = Surroundings {
        berth: &arguments.berth,
        peer: &arguments.peer,
        kubeconfig: control_plane.kubeconfig(),
        certificates: &certificates,
        dir: &directory,
    };

    eprintln!("memory: just started");
    let idle = memory::after_start(&with, 3)?;
    eprintln!("memory: with {} custom resources", arguments.custom_resources);
    let owner = create_custom_resources(&control_plane, arguments.custom_resources)?;
    let watching = memory::after_start(&with, 3)?;

    let candidates = Kind::ALL.map(|kind| Candidate::start(kind, &with)).into_iter().collect::<Result<Vec<_>>>()?;
    let fixtures = fixtures::all(&owner);
    reviews::agree(&runtime, &candidates, &certificates, &fixtures)?;
    let plan = (arguments.rounds, arguments.time());
    let reviews = reviews::measure(&runtime, &candidates, &certificates, &fixtures, plan)?;
    let after_load = memory_of(&candidates)?;

    let setting = Setting {
        control_plane: &control_plane,
        candidates: &candidates,
        berth: &arguments.berth,
        ca_file: &certificates.ca_file,
        cel: &arguments.cel,
    };
    let creates = creates::measure(&runtime, &setting, arguments.rounds, arguments.creates)?;
    for candidate in candidates {
        candidate.stop()?;
    }
    let memory = MemoryFigures { idle, watching, after_load };
    let figures = Figures { arguments, fixtures: &fixtures, reviews: &reviews, memory: &memory, creates: &creates };
    print!("{figures}");
    Ok(())
}

/// The CRDs that Berth ships.
fn custom_resource_definitions(berth: &Path) -> Result<String> {
    let output = Command::new(berth).arg("crds").output()?;
    if !output.status.success() {
        return Err(format!("berth crds: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Creates the custom resources, and gives one that can own a workload.
fn create_custom_resources(control_plane: &ControlPlane, count: usize) -> Result<Owner> {
    let items: Vec<Value> = (0..count.max(2)).map(fixtures::mcp_server).collect();
    for chunk in items.chunks(250) {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": chunk });
        control_plane.kubectl().run_with_stdin(&["create", "-f", "-"], &list.to_string())?.ok()?;
    }
    let one = control_plane.kubectl().in_namespace(NAMESPACE).get_json("mcpserver/server-0001")?;
    let text = |field: &str| one["metadata"][field].as_str().map(String::from).ok_or("a stored object lacks its uid");
    Ok(Owner { name: text("name")?, uid: text("uid")? })
}

/// What each webhook holds once the load is over and had time to settle.
fn memory_of(candidates: &[Candidate]) -> Result<Vec<(Kind, Memory)>> {
    thread::sleep(memory::SETTLE);
    candidates.iter().map(|candidate| Ok((candidate.kind, candidate.memory()?))).collect()
}
