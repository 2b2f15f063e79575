//! What the documents say, tried: every command in them is run here, or is named beside the test that runs it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test asserts, in its helpers too")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const DOCUMENTS: [&str; 4] = ["README.md", "certs/README.md", "charts/berth/README.md", "webhook-config/README.md"];

/// Commands that need a cluster or are tests themselves, and what runs them: a file, and a text that stands in it.
const TRIED_ELSEWHERE: &[(&str, &str, &str)] = &[
    ("tests/run", ".ci/run", "tests/run"),
    ("tests/run cluster", "tests/cluster/tests/processes.rs", "export KUBECONFIG="),
    ("tests/run cluster --node", "tests/node/sessions.rs", "fn sample("),
    ("tests/kind/run", "tests/kind/main.rs", "fn every_suite_runs_on_the_new_cluster"),
    ("kubectl apply -k webhook-config/crds", "tests/admission/registration.rs", "webhook-config/crds"),
    ("kubectl apply -k certs/cert-manager", "tests/admission/registration.rs", "certs/cert-manager"),
    ("kubectl apply -k certs/files", "tests/admission/registration.rs", "certs/files"),
    ("berth serve --tls-dir dev --no-controller", "tests/cluster/src/berth.rs", "--no-controller"),
    ("kubectl delete -k webhook-config", "tests/admission/registration.rs", "webhook-config"),
    (
        "kubectl delete mutatingwebhookconfiguration,validatingwebhookconfiguration berth",
        "tests/admission/registration.rs",
        "mutatingwebhookconfiguration.admissionregistration",
    ),
    ("berth sessions list --redis localhost:6379 --watch", "tests/sessions.rs", "\"--watch\""),
    ("berth sessions evict --redis localhost:6379 --pod web-2", "tests/sessions.rs", "\"evict\", \"--pod\""),
    ("cargo run --release -- demo", "tests/cli.rs", "\"demo\", \"--once\""),
    (
        "berth webhook-config --url https://192.0.2.7:9443 --ca-file dev/ca.crt | kubectl apply -f -",
        "tests/cluster/src/berth.rs",
        "webhook-config",
    ),
    (
        "berth webhook-config --scale-failure-policy fail --ca-file ca.crt | kubectl apply -f -",
        "tests/registration.rs",
        "scale-failure-policy",
    ),
    (
        "helm install berth charts/berth -n berth-system --create-namespace --set certificates.certManager.enabled=true",
        "tests/chart/cert_manager.rs",
        "helm install berth ",
    ),
    (
        "helm install berth charts/berth -n berth-system -f values.yaml --set-file certificates.caBundle=dev/ca.crt",
        "tests/chart/installed.rs",
        "\"helm install berth ",
    ),
    (
        "helm install berth charts/berth -n berth-system -f values.yaml --set-file certificates.caBundle=dev/ca.crt --set \
         crds.install=false",
        "tests/chart/installed.rs",
        "crds.install=false",
    ),
    (
        "helm upgrade berth charts/berth -n berth-system -f values.yaml --set-file certificates.caBundle=dev/ca.crt",
        "tests/chart/installed.rs",
        "\"helm upgrade berth ",
    ),
    ("helm uninstall berth -n berth-system", "tests/chart/installed.rs", "\"helm uninstall berth "),
    ("kubectl create namespace berth-system", "tests/chart/installed.rs", "kubectl create namespace berth-system"),
    (
        "kubectl -n berth-system create secret tls berth-webhook-tls --cert=dev/tls.crt --key=dev/tls.key",
        "tests/chart/installed.rs",
        "create secret tls",
    ),
    (
        "kubectl delete crd mcpservers.toolhive.stacklok.dev virtualmcpservers.toolhive.stacklok.dev",
        "tests/chart/installed.rs",
        "kubectl delete crd ",
    ),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// The commands of a document: indented lines that start with one of our programs, without their comments.
fn commands(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("    "));
    let commands = lines.filter(|line| {
        ["berth ", "helm ", "kubectl ", "tests/", "cargo "].iter().any(|program| line.starts_with(program))
    });
    let without_comment = |line: &str| {
        line.split(" #").next().unwrap_or_default().split(", or").next().unwrap_or_default().trim().to_owned()
    };
    commands.flat_map(|line| without_comment(line).split(" && ").map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// A directory like a reader's: the manifest of README.md in `manifests/`, a certificate in `dev/`.
struct Desk(PathBuf);

impl Desk {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("readme-{name}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("manifests")).unwrap();
        fs::create_dir_all(path.join("certs/files")).unwrap();
        fs::write(path.join("manifests/web.yaml"), example()).unwrap();
        let desk = Self(path);
        assert!(desk.berth("certs dev").status.success());
        fs::copy(desk.0.join("dev/ca.crt"), desk.0.join("ca.crt")).unwrap();
        desk
    }

    fn berth(&self, arguments: &str) -> Output {
        let arguments = arguments.split_whitespace();
        Command::new(env!("CARGO_BIN_EXE_berth")).args(arguments).current_dir(&self.0).output().unwrap()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The manifest that README.md shows.
fn example() -> String {
    let text = document("README.md");
    text.split("```yaml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("README.md shows a manifest")
        .to_owned()
}

#[test]
fn every_command_of_the_documents_is_tried() {
    for name in DOCUMENTS {
        // A document is read from its beginning: certs/README.md checks the certificate that it made before.
        let desk = Desk::new(&name.replace('/', "-"));
        let commands = commands(&document(name));
        assert!(!commands.is_empty(), "{name} shows no commands; is the way to find them still right?");
        for command in commands {
            if let Some((_, file, text)) = TRIED_ELSEWHERE.iter().find(|(known, _, _)| *known == command) {
                assert!(document(file).contains(text), "{name}: {command}: {file} does not try it");
                continue;
            }
            let Some(arguments) = command.strip_prefix("berth ") else {
                panic!("{name}: nothing tries `{command}`; name its test in TRIED_ELSEWHERE");
            };
            // `berth certs dev` was run already, to have a certificate for the rest.
            let arguments =
                if arguments.starts_with("certs dev") { format!("{arguments} --force") } else { arguments.to_owned() };
            let output = desk.berth(&arguments);
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}: `{command}` ended with {:?}: {error}", output.status.code());
        }
    }
}

#[test]
fn the_example_is_wired_as_it_is_told() {
    let desk = Desk::new("example");
    let output = desk.berth("mutate -f manifests/");
    let made = String::from_utf8(output.stdout).unwrap();
    for part in [
        "replicas: 3",
        "terminationGracePeriodSeconds: 30",
        "name: THV_SESSION_REDIS_PASSWORD",
        "secretKeyRef:",
        "toolhive.stacklok.dev/mcpserver-generation: \"1\"",
    ] {
        assert!(made.contains(part), "{part} is missing in\n{made}");
    }
}

#[test]
fn without_a_session_provider_it_is_refused_as_it_is_told() {
    let desk = Desk::new("refusal");
    let manifest: String =
        example().split_inclusive('\n').filter(|line| !line.contains("berth.dev/session-")).collect();
    fs::write(desk.0.join("manifests/web.yaml"), manifest).unwrap();
    let output = desk.berth("validate -f manifests/");
    assert_eq!(output.status.code(), Some(1));
    let found = String::from_utf8(output.stdout).unwrap();
    let readme = document("README.md").split_whitespace().collect::<Vec<_>>().join(" ");
    let sentence = "sessions are kept in memory; set the session provider to redis, or keep replicas at 1 or 0";
    assert!(found.contains(sentence), "{found}");
    assert!(
        readme
            .contains(&format!("spec.replicas: Invalid value: 3: {sentence} [berth:SessionStorageMissingForReplicas]"))
    );
}

#[test]
fn every_annotation_and_code_word_is_documented() {
    let readme = document("README.md");
    let code_words = document("docs/code-words.md");
    for word in berth::policy::CodeWord::ALL {
        assert!(readme.contains(&format!("`{word}`")), "{word}");
        assert!(code_words.contains(&format!("\n| `{word}` |")), "{word}");
    }
    for reason in berth::controller::objects::Reason::ALL {
        assert!(code_words.contains(&format!("\n| `{reason}` |")), "{reason}");
    }
    use berth::policy::names;
    for annotation in [
        names::INJECT,
        names::REPLICAS,
        names::SESSION_PROVIDER,
        names::SESSION_ADDRESS,
        names::SESSION_DB,
        names::SESSION_KEY_PREFIX,
        names::SESSION_PASSWORD_SECRET,
        names::TRANSPORT,
        names::GRACE_PERIOD,
        names::CONTAINER,
        names::SESSION_CACHE_SIZE,
        names::SESSION_TTL,
    ] {
        assert!(readme.contains(&format!("`{annotation}`")), "{annotation}");
    }
}
