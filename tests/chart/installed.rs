//! The chart in a real API server: install, upgrade, uninstall, as its README says.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use berth_test_cluster::{ControlPlane, ControlPlaneOptions, Helm, Kubectl, Output};
use serde_json::{Value, json};

use crate::support::{file, root};

/// What the chart makes in any mode, as kubectl names it.
const MADE: [&str; 13] = [
    "serviceaccount/berth",
    "clusterrole/berth-webhook",
    "clusterrolebinding/berth-webhook",
    "clusterrole/berth-controller",
    "clusterrolebinding/berth-controller",
    "role/berth-controller",
    "rolebinding/berth-controller",
    "service/berth-webhook",
    "deployment/berth",
    "poddisruptionbudget/berth",
    "mutatingwebhookconfiguration/berth",
    "validatingwebhookconfiguration/berth",
    "crd/mcpservers.toolhive.stacklok.dev",
];
const CRDS: &str = "crd/mcpservers.toolhive.stacklok.dev";

/// A cluster, and a reader of the README in a copy of the tree that has the chart only.
struct Reader {
    directory: PathBuf,
    helm: Helm,
    kubectl: Kubectl,
    _cluster: ControlPlane,
}

impl Reader {
    fn new() -> Self {
        let cluster = ControlPlane::start_own(&ControlPlaneOptions::default()).unwrap();
        let directory = cluster.dir().join("reader");
        fs::create_dir_all(&directory).unwrap();
        symlink(root().join("charts"), directory.join("charts")).unwrap();
        fs::write(directory.join("values.yaml"), example()).unwrap();
        let helm = Helm::in_cluster(&cluster).unwrap().in_directory(&directory);
        let kubectl = cluster.kubectl().in_namespace("berth-system");
        Self { directory, helm, kubectl, _cluster: cluster }
    }

    /// Runs a command of the README, as it stands there.
    fn documented(&self, command: &str) -> Output {
        let readme = file("charts/berth/README.md");
        assert!(readme.lines().any(|line| line.strip_prefix("    ") == Some(command)), "the README has no `{command}`");
        let words: Vec<_> = command.split(' ').collect();
        match words[0] {
            "helm" => self.helm.run(&words[1..]).unwrap(),
            "kubectl" => {
                let rest: Vec<_> = words[1..].iter().map(|word| self.with_directory(word)).collect();
                let rest: Vec<_> = rest.iter().map(String::as_str).collect();
                self.kubectl.run(&rest).unwrap()
            }
            _ => panic!("`{command}` is no command of Helm or kubectl"),
        }
    }

    /// kubectl has no directory of its own here; files are named with theirs.
    fn with_directory(&self, word: &str) -> String {
        match word.split_once("=dev/") {
            Some((flag, name)) => format!("{flag}={}", self.directory.join("dev").join(name).display()),
            None => word.to_owned(),
        }
    }

    /// The certificate, its namespace and its Secret, as the README makes them.
    fn certify(&self) {
        let mut berth = Command::new(env!("CARGO_BIN_EXE_berth"));
        assert!(berth.args(["certs", "dev"]).current_dir(&self.directory).output().unwrap().status.success());
        for command in [
            "kubectl create namespace berth-system",
            "kubectl -n berth-system create secret tls berth-webhook-tls --cert=dev/tls.crt --key=dev/tls.key",
        ] {
            self.documented(command).ok().unwrap();
        }
    }

    fn install(&self) -> Output {
        self.documented(INSTALL)
    }

    /// An object, with the version that every write of it moves.
    fn stored(&self, what: &str) -> Value {
        self.kubectl.get_json(what).unwrap()
    }

    fn versions(&self) -> Vec<(String, Value)> {
        let all = MADE.into_iter().chain(["secret/berth-webhook-tls", "crd/virtualmcpservers.toolhive.stacklok.dev"]);
        all.map(|what| (what.to_owned(), self.stored(what)["metadata"]["resourceVersion"].clone())).collect()
    }

    fn create(&self, object: &Value) -> Output {
        let kubectl = self.kubectl.in_namespace("default");
        kubectl.run_with_stdin(&["create", "--validate=strict", "-f", "-"], &object.to_string()).unwrap()
    }
}

const INSTALL: &str =
    "helm install berth charts/berth -n berth-system -f values.yaml --set-file certificates.caBundle=dev/ca.crt";
const UPGRADE: &str =
    "helm upgrade berth charts/berth -n berth-system -f values.yaml --set-file certificates.caBundle=dev/ca.crt";
const UNINSTALL: &str = "helm uninstall berth -n berth-system";

/// The values that the README shows.
fn example() -> String {
    let readme = file("charts/berth/README.md");
    let block = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    block.expect("the README shows values").to_owned()
}

/// One resource, in a namespace that Berth, which does not run here, is asked about; so it has to be there before.
fn server() -> Value {
    json!({
        "apiVersion": "toolhive.stacklok.dev/v1beta1", "kind": "MCPServer",
        "metadata": {"name": "kept"},
        "spec": {"image": "example", "transport": "streamable-http"},
    })
}

#[test]
fn install_upgrade_uninstall_and_install_again() {
    let reader = Reader::new();
    reader.certify();
    let installed = reader.install();
    assert_eq!(installed.stderr, "", "warnings");
    let notes = installed.ok().unwrap();
    for expected in [
        "kubectl -n berth-system rollout status deployment/berth",
        "the Secret berth-webhook-tls is there",
        "berth-webhook.berth-system.svc",
        "Not in kube-system, berth-system: what is written there, the webhook never sees.",
        "everybody's,\npass unseen after 2 s; nothing else depends on it",
    ] {
        assert!(notes.contains(expected), "{expected} is not in {notes}");
    }

    // Registered with the CA of the certificate that the Secret has.
    let ca = reader.kubectl.run(&["get", "mutatingwebhookconfiguration/berth", "-o", CA_BUNDLE]).unwrap().ok().unwrap();
    assert_eq!(ca, fs::read_to_string(reader.directory.join("dev/ca.crt")).unwrap());
    // What the restricted level forbids shows on pods only.
    let level = ["label", "namespace", "berth-system", "pod-security.kubernetes.io/enforce=restricted"];
    reader.kubectl.run(&level).unwrap().ok().unwrap();
    let mut pod = reader.stored("deployment/berth")["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("berth");
    let accepted = reader.kubectl.run_with_stdin(&["create", "--dry-run=server", "-f", "-"], &pod.to_string()).unwrap();
    accepted.ok().unwrap();

    // An upgrade that changes nothing writes nothing: no certificate, no registration, no Deployment.
    let before = reader.versions();
    let upgraded = reader.documented(UPGRADE);
    assert_eq!(upgraded.stderr, "", "warnings");
    upgraded.ok().unwrap();
    assert_eq!(reader.versions(), before);

    // Nobody answers here, so Berth is not to be asked about the resource that is to outlive the release.
    let aside = [UPGRADE, "--set", "webhook.excludedNamespaces={default}"].join(" ");
    let words: Vec<_> = aside.split(' ').skip(1).collect();
    reader.helm.run(&words).unwrap().ok().unwrap();
    let moved: Vec<_> = reader.versions().into_iter().zip(before).filter(|(now, then)| now != then).collect();
    let moved: Vec<_> = moved.into_iter().map(|((what, _), _)| what).collect();
    assert_eq!(moved, ["mutatingwebhookconfiguration/berth", "validatingwebhookconfiguration/berth"]);
    berth_test_cluster::wait_for("a namespace that Berth is not asked about", BOUND, || {
        Ok(reader.create(&server()).success().then_some(()))
    })
    .unwrap();

    let uid = |what: &str| reader.stored(what)["metadata"]["uid"].clone();
    let kept = reader.kubectl.in_namespace("default");
    let kept = || kept.get_json("mcpserver/kept").unwrap()["metadata"]["uid"].clone();
    let (definition, resource, secret) = (uid(CRDS), kept(), uid("secret/berth-webhook-tls"));
    reader.documented(UNINSTALL).ok().unwrap();
    for gone in MADE.iter().filter(|what| **what != CRDS) {
        let found = reader.kubectl.run(&["get", gone, "--ignore-not-found", "-o", "name"]).unwrap().ok().unwrap();
        assert_eq!(found, "", "{gone}");
    }
    assert_eq!((uid(CRDS), kept(), uid("secret/berth-webhook-tls")), (definition.clone(), resource.clone(), secret));

    // It takes up again what it left.
    reader.install().ok().unwrap();
    assert_eq!((uid(CRDS), kept()), (definition, resource));

    // And all of it goes when that is wanted.
    reader.documented(UNINSTALL).ok().unwrap();
    let all = "kubectl delete crd mcpservers.toolhive.stacklok.dev virtualmcpservers.toolhive.stacklok.dev";
    reader.documented(all).ok().unwrap();
    let found = reader.kubectl.run(&["get", "crd", "-o", "name"]).unwrap().ok().unwrap();
    assert_eq!(found, "");
}

const CA_BUNDLE: &str = "go-template={{(index .webhooks 0).clientConfig.caBundle | base64decode}}";
const BOUND: std::time::Duration = std::time::Duration::from_secs(30);

#[test]
fn an_upgrade_brings_the_definitions_along() {
    let reader = Reader::new();
    reader.certify();
    reader.install().ok().unwrap();
    // The next version's chart: one more column.
    let next = reader.directory.join("next");
    copy(&root().join("charts/berth"), &next);
    let path = next.join("files/crds/mcpservers.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let column = "- {name: Image, type: string, jsonPath: .spec.image}";
    let age = "- {name: Age,";
    assert_eq!(text.matches(age).count(), 1);
    fs::write(&path, text.replace(age, &format!("{column}\n        {age}"))).unwrap();
    let command = UPGRADE.replace("charts/berth", "next");
    let words: Vec<_> = command.split(' ').skip(1).collect();
    reader.helm.run(&words).unwrap().ok().unwrap();
    let columns = &reader.stored(CRDS)["spec"]["versions"][0]["additionalPrinterColumns"];
    assert!(columns.as_array().unwrap().iter().any(|column| column["name"] == "Image"), "{columns}");
}

/// As beside ToolHive.
#[test]
fn definitions_of_others_are_left_alone() {
    let reader = Reader::new();
    reader.certify();
    let definitions = root().join("webhook-config/crds").display().to_string();
    reader.kubectl.run(&["apply", "-k", &definitions]).unwrap().ok().unwrap();
    let version = || reader.stored(CRDS)["metadata"]["resourceVersion"].clone();
    let before = version();

    let refused = reader.install();
    assert!(!refused.success());
    let expected = "the definition mcpservers.toolhive.stacklok.dev is there already and is not of this release (it is \
                    of none): keep it with crds.install=false, as beside ToolHive";
    assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    let made = reader.kubectl.run(&["get", "deployment,service,serviceaccount", "-o", "name"]).unwrap().ok().unwrap();
    assert!(!made.contains("berth"), "{made}");

    let accepted = reader.documented(&format!("{INSTALL} --set crds.install=false"));
    assert_eq!(accepted.stderr, "");
    accepted.ok().unwrap();
    assert_eq!(version(), before);
    reader.documented(UNINSTALL).ok().unwrap();
    assert_eq!(version(), before);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
