//! The chart beside a real cert-manager: who issues the certificate, who publishes its CA, and what an upgrade leaves.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use berth_test_cluster::{Binaries, ControlPlane, ControlPlaneOptions, Helm, Kubectl, Process, module_files, wait_for};
use serde_json::Value;

use crate::support::{file, root};

const BOUND: Duration = Duration::from_secs(120);
const INSTALL: &str =
    "helm install berth charts/berth -n berth-system --create-namespace --set certificates.certManager.enabled=true";
const REGISTRATIONS: [&str; 2] = ["mutatingwebhookconfiguration/berth", "validatingwebhookconfiguration/berth"];
/// What cert-manager and Helm both have a hand in.
const SHARED: [&str; 6] = [
    REGISTRATIONS[0],
    REGISTRATIONS[1],
    "secret/berth-webhook-tls",
    "secret/berth-ca",
    "certificate/berth-webhook",
    "certificate/berth-ca",
];

/// The definitions that cert-manager's module has, which are those of its chart.
fn definitions() -> String {
    let directory = module_files("cert-manager", "github.com/cert-manager/cert-manager").unwrap().join("deploy/crds");
    let mut all = String::new();
    for kind in ["certificates", "certificaterequests", "issuers", "clusterissuers", "orders", "challenges"] {
        let text = fs::read_to_string(directory.join(format!("crd-{kind}.yaml"))).unwrap();
        all.push_str("---\n");
        // Lines of its chart, which are labels only.
        text.lines().filter(|line| !line.contains("{{")).for_each(|line| {
            all.push_str(line);
            all.push('\n');
        });
    }
    all
}

struct World {
    _cert_manager: Process,
    helm: Helm,
    kubectl: Kubectl,
    directory: PathBuf,
    _cluster: ControlPlane,
}

impl World {
    fn new() -> Self {
        let cluster = ControlPlane::start_own(&ControlPlaneOptions::default()).unwrap();
        let kubectl = cluster.kubectl();
        kubectl.run_with_stdin(&["create", "-f", "-"], &definitions()).unwrap().ok().unwrap();
        let directory = cluster.dir().join("reader");
        fs::create_dir_all(&directory).unwrap();
        std::os::unix::fs::symlink(root().join("charts"), directory.join("charts")).unwrap();
        let program = Binaries::find().program("cert-manager").unwrap();
        let environment = [("KUBECONFIG".to_owned(), cluster.kubeconfig().display().to_string())];
        let arguments: [&str; 0] = [];
        Self {
            _cert_manager: Process::start(cluster.dir(), "cert-manager", &program, arguments, &environment).unwrap(),
            helm: Helm::in_cluster(&cluster).unwrap().in_directory(&directory),
            kubectl: kubectl.in_namespace("berth-system"),
            directory,
            _cluster: cluster,
        }
    }

    fn helm(&self, command: &str) {
        let words: Vec<_> = command.split(' ').skip(1).collect();
        let output = self.helm.run(&words).unwrap();
        assert_eq!(output.stderr, "", "warnings");
        output.ok().unwrap();
    }

    /// A file of the Secret.
    fn secret(&self, name: &str) -> Option<Vec<u8>> {
        let secret = self.kubectl.get_json("secret/berth-webhook-tls").ok()?;
        base64::engine::general_purpose::STANDARD.decode(secret["data"][name].as_str()?).ok()
    }

    fn webhooks(&self) -> Vec<Value> {
        let webhooks = |what: &&str| self.kubectl.get_json(what).unwrap()["webhooks"].as_array().unwrap().clone();
        REGISTRATIONS.iter().flat_map(webhooks).collect()
    }

    fn bundles(&self) -> Vec<Value> {
        self.webhooks().iter().map(|webhook| webhook["clientConfig"]["caBundle"].clone()).collect()
    }

    fn versions(&self) -> Vec<Value> {
        let version = |what: &str| self.kubectl.get_json(what).unwrap()["metadata"]["resourceVersion"].clone();
        SHARED.map(version).to_vec()
    }
}

#[test]
fn cert_manager_issues_publishes_and_is_left_alone_by_upgrades() {
    assert!(file("charts/berth/README.md").contains(&format!("    {INSTALL}\n")));
    let world = World::new();
    world.helm(INSTALL);

    let ca = wait_for("a certificate in the Secret", BOUND, || Ok(world.secret("ca.crt"))).unwrap();
    let ca_bundle = Value::from(base64::engine::general_purpose::STANDARD.encode(&ca));
    wait_for("its CA in both registrations", BOUND, || {
        Ok((world.bundles() == vec![ca_bundle.clone(); 4]).then_some(()))
    })
    .unwrap();
    // cert-manager 1.11 and older drop what they do not know, and with the conditions everybody's deploys depend on Berth.
    for webhook in &world.webhooks() {
        assert_eq!(webhook["matchConditions"][0]["name"], "not-being-deleted", "{webhook}");
    }
    // It is what the program would serve with, for the name that the API server calls.
    let tls = world.directory.join("tls");
    fs::create_dir_all(&tls).unwrap();
    for name in ["ca.crt", "tls.crt", "tls.key"] {
        fs::write(tls.join(name), world.secret(name).unwrap()).unwrap();
    }
    let mut check = Command::new(env!("CARGO_BIN_EXE_berth"));
    check.args(["certs", "check", "--dns-name", "berth-webhook.berth-system.svc"]).arg(&tls);
    let output = check.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));

    // Its status settles after its Secret is there.
    let settled =
        ["wait", "--for=condition=Ready", "--timeout=60s", "certificate/berth-webhook", "certificate/berth-ca"];
    world.kubectl.run(&settled).unwrap().ok().unwrap();
    let before = world.versions();
    world.helm(&INSTALL.replace("helm install", "helm upgrade").replace(" --create-namespace", ""));
    assert_eq!(world.versions(), before);
    assert_eq!(world.secret("ca.crt"), Some(ca));
    assert_eq!(world.bundles(), vec![ca_bundle; 4]);
}
