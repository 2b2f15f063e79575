//! The pages of docs/, followed by a reader: from top to bottom, in the order of the index, in one namespace. Manifests are
//! applied, commands of kubectl run, and for resources that ask for Berth's controller there is what it builds.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use berth::policy::CrKind;
use berth_test_cluster::{Error, Result, module_files, wait_for};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::built::{apply, objects_of};
use crate::context::{Context, Namespace, trial};

/// Installs Berth, as `registration` does on control planes of its own.
const INSTALLS: &str = "kubectl apply -k ";

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![trial(ctx, "documents::every_page_can_be_followed", pages_can_be_followed)]
}

/// One thing that a page asks of its reader.
#[derive(Debug)]
enum Step {
    Manifest(Value),
    Kubectl(Vec<String>),
}

fn pages_can_be_followed(ctx: &Context, ns: &Namespace) -> std::result::Result<(), Failed> {
    // KEDA itself is not there, but what its API server would refuse is refused; what it does not know gives a warning.
    let keda = module_files("keda", "github.com/kedacore/keda/v2")?.join("config/crd/bases/keda.sh_scaledobjects.yaml");
    if ns.kubectl.run(&["get", "crd/scaledobjects.keda.sh", "--ignore-not-found", "-o", "name"])?.ok()?.is_empty() {
        ctx.cluster().apply_file(&keda)?;
    }
    ns.kubectl.run(&["wait", "--for=condition=Established", "crd/scaledobjects.keda.sh", "--timeout=60s"])?.ok()?;
    let mut counts = (0, 0);
    for page in index() {
        for step in steps(&page) {
            match step {
                Step::Manifest(object) => {
                    counts.0 += 1;
                    follow_manifest(ns, &page, &object)?;
                }
                Step::Kubectl(arguments) => {
                    counts.1 += 1;
                    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                    ns.kubectl.run(&arguments)?.ok().map_err(|error| format!("{page}: {error}"))?;
                }
            }
        }
    }
    assert!(counts.0 > 8 && counts.1 > 8, "is the way to find manifests and commands still right? {counts:?}");
    the_server_was_moved_over(ns)?;
    autoscalers_are_judged(ns)?;
    Ok(())
}

fn follow_manifest(ns: &Namespace, page: &str, object: &Value) -> Result<()> {
    let written = ns.kubectl.apply_yaml(&object.to_string())?;
    assert_eq!(written.stderr, "", "{page}");
    written.ok()?;
    let kind = object["kind"].as_str().and_then(CrKind::from_kind);
    if let (Some(kind), Some("berth")) = (kind, object["metadata"]["annotations"]["berth.dev/class"].as_str()) {
        for built in objects_of(ns, kind, object["metadata"]["name"].as_str().unwrap())? {
            apply(ns, &built)?;
        }
    }
    Ok(())
}

/// The page says to delete what ToolHive built for `sample`, and no more: its pods live, and are adopted.
fn the_server_was_moved_over(ns: &Namespace) -> Result<()> {
    for gone in ["deployment/sample", "statefulset/sample", "service/mcp-sample", "configmap/sample-runconfig"] {
        let found = ns.kubectl.run(&["get", gone, "--ignore-not-found", "-o", "name"])?.ok()?;
        assert_eq!(found, "", "{gone} is still there");
    }
    let build =
        || objects_of(ns, CrKind::McpServer, "sample")?.iter().try_for_each(|object| apply(ns, object).map(|_| ()));
    // Without a node, pods never run; that there is one is enough.
    let pod = |owner: &str| {
        wait_for(&format!("a pod of {owner}"), Duration::from_secs(60), || {
            let pod = ns.kubectl.run(&["get", "pod", "sample-0", "-o", "json"])?.ok().ok();
            let pod: Option<Value> = pod.and_then(|text| serde_json::from_str(&text).ok());
            Ok(pod.filter(|pod| pod["metadata"]["ownerReferences"][0]["uid"] == owner))
        })
    };
    let uid =
        || Ok::<_, Error>(ns.kubectl.get_json("statefulset/sample")?["metadata"]["uid"].as_str().unwrap().to_owned());
    build()?;
    let (before, old) = (pod(&uid()?)?, uid()?);
    for step in steps("without-toolhive.md") {
        if let Step::Kubectl(arguments) = step {
            ns.kubectl.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?.ok()?;
        }
    }
    build()?;
    assert_ne!(uid()?, old);
    assert_eq!(pod(&uid()?)?["metadata"]["uid"], before["metadata"]["uid"], "the pod was replaced");
    Ok(())
}

/// What KEDA makes of its object is an autoscaler like any other; with sessions in memory it is refused.
fn autoscalers_are_judged(ns: &Namespace) -> Result<()> {
    let autoscaler = |target: &str| {
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": format!("keda-hpa-{target}")},
            "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}, "maxReplicas": 10},
        })
    };
    ns.kubectl.apply_yaml(&autoscaler("scaled").to_string())?.ok()?;
    let refused = ns.kubectl.apply_yaml(&autoscaler("writes-files").to_string())?;
    assert!(refused.stderr.contains("[berth:SessionStorageMissingForReplicas]"), "{}", refused.stderr);
    Ok(())
}

fn docs() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

/// The pages, in the order of the index, which has every one.
fn index() -> Vec<String> {
    let text = fs::read_to_string(docs().join("README.md")).unwrap();
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let pages: Vec<String> = links.filter(|link| !link.contains('/')).map(str::to_owned).collect();
    for entry in fs::read_dir(docs()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "README.md" || pages.contains(&name), "docs/README.md does not name {name}");
    }
    pages
}

fn steps(page: &str) -> Vec<Step> {
    let text = fs::read_to_string(docs().join(page)).unwrap();
    let mut steps = Vec::new();
    let mut block: Option<(&str, String)> = None;
    for line in text.lines() {
        match (&mut block, line.strip_prefix("```")) {
            (Some((language, yaml)), Some(_)) => {
                let documents = yaml.split("---\n").filter(|_| *language == "yaml");
                steps.extend(documents.map(|document| Step::Manifest(serde_saphyr::from_str(document).unwrap())));
                block = None;
            }
            (Some((_, yaml)), None) => *yaml = format!("{yaml}{line}\n"),
            (None, Some(language)) => block = Some((language, String::new())),
            (None, None) => steps.extend(command(line)),
        }
    }
    steps
}

/// A command, as a shell splits it. Other programs than kubectl would have to be named here first.
fn command(line: &str) -> Option<Step> {
    let command = line.strip_prefix("    ").filter(|line| !line.starts_with([' ', '-', '{']))?;
    if command.starts_with(INSTALLS) {
        return None;
    }
    let arguments = command.strip_prefix("kubectl ").unwrap_or_else(|| panic!("nothing tries `{command}`"));
    Some(Step::Kubectl(arguments.split_whitespace().map(|word| word.trim_matches('\'').to_owned()).collect()))
}
