//! What can be shown of the registration, the definitions and the certificates without a cluster: by running the
//! program, and comparing what it prints with the files that `kubectl apply -k` takes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test asserts, in its helpers too")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// A directory that is gone when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
    command.args(args);
    command
}

fn berth(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

/// Standard output of a run that ends with 0.
fn printed(args: &[&str]) -> String {
    let output = berth(args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn shipped(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("webhook-config").join(file)).unwrap()
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

/// Takes the clientConfig out of each webhook.
fn client_configs(configuration: &mut Value) -> Vec<Value> {
    let webhooks = configuration["webhooks"].as_array_mut().unwrap();
    webhooks.iter_mut().map(|webhook| webhook["clientConfig"].take()).collect()
}

fn ca(scratch: &Scratch) -> String {
    printed(&["certs", &scratch.path("dev")]);
    scratch.path("dev/ca.crt")
}

#[test]
fn printed_and_shipped_registrations_differ_in_the_client_config_only() {
    let scratch = Scratch::new("printed");
    let ca = ca(&scratch);
    let mut printed = documents(&printed(&["webhook-config", "--ca-file", &ca]));
    assert_eq!(printed.len(), 2);
    for (printed, file) in printed.iter_mut().zip(["mutating.yaml", "validating.yaml"]) {
        let mut shipped = yaml(&shipped(file));
        let (ours, theirs) = (client_configs(printed), client_configs(&mut shipped));
        assert_eq!(*printed, shipped);
        // And there in the CA only, since the default is the Service that is shipped.
        for (mut ours, theirs) in ours.into_iter().zip(theirs) {
            let bundle = ours.as_object_mut().unwrap().remove("caBundle").unwrap();
            assert!(bundle.as_str().unwrap().starts_with("LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t"));
            assert_eq!(ours, theirs);
        }
    }
}

#[test]
fn the_url_and_the_scale_policy_go_where_they_belong() {
    let scratch = Scratch::new("url");
    let ca = ca(&scratch);
    let list: Value = serde_json::from_str(&printed(&[
        "webhook-config",
        "--url",
        "https://192.0.2.7:9443",
        "--ca-file",
        &ca,
        "--scale-failure-policy",
        "fail",
        "-o",
        "json",
    ]))
    .unwrap();
    assert_eq!(list["kind"], "List");
    let urls: Vec<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|item| item["webhooks"].as_array().unwrap())
        .map(|webhook| {
            (webhook["name"].clone(), webhook["clientConfig"]["url"].clone(), webhook["failurePolicy"].clone())
        })
        .collect();
    let (mutate, validate) = ("https://192.0.2.7:9443/mutate", "https://192.0.2.7:9443/validate");
    assert_eq!(
        json!(urls),
        json!([
            ["mutate.berth.dev", mutate, "Fail"],
            ["validate.berth.dev", validate, "Fail"],
            ["resources.berth.dev", validate, "Fail"],
            ["scale.berth.dev", validate, "Fail"],
        ])
    );
}

/// Both webhooks have to see the same workloads, or one of them judges what the other has not wired.
#[test]
fn mutation_and_validation_cover_the_same_workloads() {
    let (mutating, validating) = (yaml(&shipped("mutating.yaml")), yaml(&shipped("validating.yaml")));
    for field in ["rules", "matchConditions", "namespaceSelector", "failurePolicy", "timeoutSeconds"] {
        assert_eq!(mutating["webhooks"][0][field], validating["webhooks"][0][field], "{field}");
    }
}

#[test]
fn a_private_key_is_not_published_as_the_ca() {
    let scratch = Scratch::new("key");
    ca(&scratch);
    let output = berth(&["webhook-config", "--ca-file", &scratch.path("dev/ca.key")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    assert!(stderr(&output).contains("private key"), "{}", stderr(&output));
}

#[test]
fn unreadable_input_and_wrong_usage_exit_with_2_and_say_what_to_do() {
    for (args, expected) in [
        (&["webhook-config", "--ca-file", "/nonexistent/ca.crt"][..], "help: give the CA's certificate"),
        (&["webhook-config", "--ca-file", "x", "--service", "nonsense"], "expected NAMESPACE/NAME"),
        (&["webhook-config", "--ca-file", "x", "--url", "http://h"], "expected https://"),
        (&["webhook-config", "--ca-file", "x", "--url", "https://h", "--service", "a/b"], "cannot be used with"),
        (&["certs"], "DIR"),
        (&["certs", "check", "/nonexistent"], "cannot read /nonexistent"),
        (&["nonsense"], "unrecognized subcommand"),
    ] {
        let output = berth(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let text = stderr(&output);
        assert!(text.starts_with("error: ") && text.contains(expected), "{args:?}: {text}");
        assert!(!text.contains('\x1b'), "colours in a pipe: {text}");
    }
}

#[test]
fn crds_prints_the_shipped_files() {
    let expected = format!("{}---\n{}", shipped("crds/mcpservers.yaml"), shipped("crds/virtualmcpservers.yaml"));
    assert_eq!(printed(&["crds"]), expected);
}

#[test]
fn a_closed_pipe_ends_the_program_in_silence() {
    for args in [&["crds"][..], &["completions", "bash"], &["--help"]] {
        let mut child = command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // What is read is less than what is printed, so that the rest hits the closed pipe or its buffer.
        let mut line = String::new();
        BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{args:?}");
    }
    // A pipe that nobody ever read from.
    let mut child = command(&["crds"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}

#[test]
fn both_versions_of_a_definition_are_the_same_and_can_be_scaled() {
    for (definition, plural) in documents(&printed(&["crds"])).iter().zip(["mcpservers", "virtualmcpservers"]) {
        assert_eq!(definition["metadata"]["name"], format!("{plural}.toolhive.stacklok.dev"));
        let versions = definition["spec"]["versions"].as_array().unwrap();
        let served: Vec<_> =
            versions.iter().map(|v| (v["name"].clone(), v["served"].clone(), v["storage"].clone())).collect();
        assert_eq!(json!(served), json!([["v1beta1", true, true], ["v1alpha1", true, false]]));
        assert_eq!(versions[0]["schema"], versions[1]["schema"]);
        for version in versions {
            assert_eq!(
                version["subresources"],
                json!({"status": {}, "scale": {
                    "specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas",
                    "labelSelectorPath": ".status.selector",
                }})
            );
        }
    }
}

/// A range or an enum here is checked before Berth is asked, and says less than Berth does.
#[test]
fn the_schema_leaves_to_berth_what_berth_refuses_with_a_better_sentence() {
    for definition in documents(&printed(&["crds"])) {
        let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        let storage = &spec["sessionStorage"];
        assert!(storage["required"].is_null() && storage["properties"]["passwordRef"]["required"].is_null());
        let fields = [&spec["replicas"], &spec["backendReplicas"]]
            .into_iter()
            .chain(storage["properties"].as_object().unwrap().values());
        for field in fields {
            for keyword in ["minimum", "maximum", "enum", "minLength", "pattern"] {
                assert!(field[keyword].is_null(), "{keyword} in {field}");
            }
        }
    }
}

#[test]
fn certificates_are_made_checked_and_kept() {
    let scratch = Scratch::new("certs");
    let dir = scratch.path("dev");
    printed(&["certs", &dir]);
    let content = |name: &str| fs::read_to_string(Path::new(&dir).join(name)).unwrap();
    let first = ["ca.crt", "ca.key", "tls.crt", "tls.key"].map(content);

    let mut left: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap()).collect();
    left.sort_by_key(fs::DirEntry::file_name);
    let modes: Vec<_> = left
        .iter()
        .map(|file| (file.file_name().into_string().unwrap(), file.metadata().unwrap().permissions().mode() & 0o777))
        .collect();
    let name = str::to_owned;
    assert_eq!(
        modes,
        [(name("ca.crt"), 0o644), (name("ca.key"), 0o600), (name("tls.crt"), 0o644), (name("tls.key"), 0o600)]
    );

    let checked = printed(&["certs", "check", &dir, "--dns-name", "berth-webhook.berth-system.svc", "--ip", "::1"]);
    assert!(checked.contains("localhost, 127.0.0.1, ::1, berth-webhook.berth-system.svc"), "{checked}");

    let refused = berth(&["certs", &dir]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("exists") && stderr(&refused).contains("--force"), "{}", stderr(&refused));
    assert_eq!(["ca.crt", "ca.key", "tls.crt", "tls.key"].map(content), first);

    printed(&["certs", &dir, "--force", "--keep-ca"]);
    assert_eq!(["ca.crt", "ca.key"].map(content)[..], first[..2]);
    assert_ne!(content("tls.crt"), first[2]);
    printed(&["certs", "check", &dir]);

    printed(&["certs", &dir, "--force"]);
    assert_ne!(content("ca.crt"), first[0]);
    printed(&["certs", "check", &dir]);
}

#[test]
fn a_check_exits_with_1_and_says_what_is_wrong() {
    let scratch = Scratch::new("check");
    let (dir, other) = (scratch.path("dev"), scratch.path("other"));
    printed(&["certs", &dir, "--days", "10", "--dns-name", "berth.example"]);
    printed(&["certs", &other]);
    let findings = |args: &[&str]| {
        let output = berth(&[&["certs", "check", &dir], args].concat());
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(findings(&[]).contains("CN=berth-webhook expires at"));
    assert!(findings(&["--within", "0", "--dns-name", "localhost"]).contains("not valid for localhost"));

    fs::copy(Path::new(&other).join("tls.key"), Path::new(&dir).join("tls.key")).unwrap();
    assert!(findings(&["--within", "0"]).contains("private key does not belong"));
    fs::copy(Path::new(&other).join("ca.crt"), Path::new(&dir).join("ca.crt")).unwrap();
    assert!(findings(&["--within", "0"]).contains("the CA did not sign"));
}

#[test]
fn each_shell_gets_completions_for_each_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]);
        for word in ["webhook-config", "crds", "certs", "scale-failure-policy"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}
