//! What the chart renders, beside what the repository installs with kustomize and what the program itself prints.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use berth::registration::{CRDS, Endpoint, FailurePolicy, Registration};
use berth_test_cluster::Binaries;
use serde_json::{Value, json};

use crate::support::{CERT_MANAGER, Desk, documents, file, find, key, root, without_release, yaml};

fn keyed(objects: Vec<Value>) -> BTreeMap<String, Value> {
    objects.into_iter().map(|object| (key(&object), without_release(object))).collect()
}

fn kustomized(directory: &str) -> Vec<Value> {
    let kubectl = Binaries::find().program("kubectl").unwrap();
    let output = Command::new(kubectl).arg("kustomize").arg(root().join(directory)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    documents(&String::from_utf8(output.stdout).unwrap())
}

/// Each object as a whole: webhooks with rules and matchConditions, rights, the Deployment, the definitions, certificates.
#[test]
fn the_chart_makes_what_kustomize_makes() {
    let mut ours = keyed(Desk::new().objects(&["--set", CERT_MANAGER]));
    let mut theirs = keyed(kustomized("certs/cert-manager"));
    theirs.extend(keyed(kustomized("webhook-config/crds")));
    // Helm makes it, with --create-namespace.
    theirs.remove("Namespace/berth-system").unwrap();
    assert!(theirs.len() >= 14, "{:?}", theirs.keys());
    for (name, theirs) in theirs {
        let ours = ours.remove(&name).unwrap_or_else(|| panic!("the chart has no {name}"));
        assert_eq!(ours, theirs, "{name}");
    }
    assert!(ours.is_empty(), "the chart has more: {:?}", ours.keys());
}

#[test]
fn registrations_are_the_ones_that_the_program_prints() {
    let desk = Desk::new();
    for (namespace, on_scale_failure) in [("berth-system", FailurePolicy::Ignore), ("mcp", FailurePolicy::Fail)] {
        let policy = format!("webhook.scaleFailurePolicy={on_scale_failure}");
        let objects = desk.objects(&["--namespace", namespace, "--set", &policy]);
        let endpoint = Endpoint::service(&format!("{namespace}/berth-webhook")).unwrap();
        let expected = Registration::new(&endpoint, desk.ca().as_bytes(), on_scale_failure).unwrap();
        for (name, expected) in [
            ("MutatingWebhookConfiguration/berth", json!(expected.mutating)),
            ("ValidatingWebhookConfiguration/berth", json!(expected.validating)),
        ] {
            let ours = without_release(find(&objects, name).clone());
            assert_eq!(ours["webhooks"], expected["webhooks"], "{name} in {namespace}");
        }
    }
}

#[test]
fn definitions_are_copies_of_the_shipped_ones() {
    for (name, shipped) in ["mcpservers.yaml", "virtualmcpservers.yaml"].into_iter().zip(CRDS) {
        assert_eq!(
            file(&format!("charts/berth/files/crds/{name}")),
            shipped,
            "run: cp webhook-config/crds/{name} charts/berth/files/crds/"
        );
    }
    assert_eq!(fs::read_dir(root().join("charts/berth/files/crds")).unwrap().count(), CRDS.len());
}

#[test]
fn one_release_has_one_number() {
    let chart = yaml(&file("charts/berth/Chart.yaml"));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!((&chart["version"], &chart["appVersion"]), (&json!(version), &json!(version)));
    let kustomization = yaml(&file("webhook-config/kustomization.yaml"));
    assert_eq!(kustomization["images"][0]["newTag"], version);
    assert!(file("webhook-config/deployment.yaml").contains(&format!("\"berth-proxy:{version}\"")));
}

#[test]
fn lint_has_nothing_to_say_but_of_an_icon() {
    let desk = Desk::new();
    let chart = root().join("charts/berth").display().to_string();
    let printed = desk.run(&["lint", "--strict", &chart, "--set", CERT_MANAGER]).ok().unwrap();
    let said: Vec<_> = printed.lines().filter(|line| line.starts_with('[')).collect();
    assert_eq!(said, ["[INFO] Chart.yaml: icon is recommended"]);
}

/// Each combination of values that changes what the program is started with.
#[test]
fn the_program_takes_the_arguments() {
    let desk = Desk::new();
    for more in [
        &[][..],
        &["--set", "defaultSessionStorage=redis://redis.mcp:6379"],
        &["--set", "controller.enabled=false"],
        &["--set", "controller.scope=all,controller.clusterDomain=k8s.example,images.workloadPullPolicy=Always"],
        &["--set", "extraArgs={--log-format=json,--lame-duck=1s}"],
    ] {
        let objects = desk.objects(more);
        let container = &find(&objects, "Deployment/berth")["spec"]["template"]["spec"]["containers"][0];
        let arguments = container["args"].as_array().unwrap();
        let arguments: Vec<&str> = arguments.iter().map(|word| word.as_str().unwrap()).collect();
        let variables = container["env"].as_array().into_iter().flatten();
        let variables = variables.map(|entry| (entry["name"].as_str().unwrap(), entry["value"].as_str().unwrap()));
        // It reads them all before it helps.
        let mut berth = Command::new(env!("CARGO_BIN_EXE_berth"));
        let output = berth.args(&arguments).arg("--help").envs(variables).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn names_follow_the_release_and_stay_valid() {
    let desk = Desk::new();
    let long = "a-release-with-a-name-of-fifty-three-characters-12345";
    let chart = root().join("charts/berth").display().to_string();
    for (release, more, expected) in [
        ("berth", "", "berth"),
        ("my-berth", "", "my-berth"),
        ("mcp", "", "mcp-berth"),
        ("mcp", "nameOverride=wiring", "mcp-wiring"),
        ("mcp", "fullnameOverride=harbour", "harbour"),
        // A Service's name has no dots and begins with a letter.
        ("my.berth", "", "my-berth"),
        ("42", "", "berth-42-berth"),
        (long, "", &long[..40]),
        ("abcdefghijklmnopqrstuvwxyz-abcdefghijk--berth", "", "abcdefghijklmnopqrstuvwxyz-abcdefghijk"),
    ] {
        let arguments = ["template", release, &chart, "-n", "2024", "--set", CERT_MANAGER, "--set", more];
        let objects = documents(&desk.run(&arguments).ok().unwrap());
        let service = find(&objects, &format!("Service/{expected}-webhook"));
        let registration = find(&objects, &format!("MutatingWebhookConfiguration/{expected}"));
        assert_eq!(registration["webhooks"][0]["clientConfig"]["service"]["name"], service["metadata"]["name"]);
        let certificate = find(&objects, &format!("Certificate/{expected}-webhook"));
        assert_eq!(certificate["spec"]["dnsNames"], json!([format!("{expected}-webhook.2024.svc")]));
        let deployment = find(&objects, &format!("Deployment/{expected}"));
        let pod = &deployment["spec"]["template"];
        assert_eq!(pod["spec"]["volumes"][0]["secret"]["secretName"], certificate["spec"]["secretName"]);
        assert_eq!(deployment["spec"]["selector"]["matchLabels"], pod["metadata"]["labels"]);
        assert_eq!(service["spec"]["selector"], pod["metadata"]["labels"]);
        let binding = find(&objects, &format!("ClusterRoleBinding/{expected}-webhook"));
        let subject =
            json!([{"kind": "ServiceAccount", "name": pod["spec"]["serviceAccountName"], "namespace": "2024"}]);
        assert_eq!(binding["subjects"], subject);
        find(&objects, &format!("ClusterRole/{}", binding["roleRef"]["name"].as_str().unwrap()));
        for name in objects.iter().map(|object| object["metadata"]["name"].as_str().unwrap()) {
            assert!(name.len() <= 63 && !name.ends_with('-'), "{name}");
        }
        // What looks like a number is text all the same.
        let texts = objects.iter().flat_map(|object| {
            let metadata = &object["metadata"];
            let labels = metadata["labels"].as_object().unwrap().values();
            labels.chain(metadata.get("namespace")).chain(object.pointer("/webhooks/0/clientConfig/service/namespace"))
        });
        assert!(texts.into_iter().all(Value::is_string), "{release}: {objects:?}");
    }
}
