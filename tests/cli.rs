//! The commands that work on manifests, as their users run them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test asserts, in its helpers too")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

/// A directory of its own, gone at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("cli-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

fn berth(directory: &Directory, arguments: &[&str], input: &[u8]) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_berth"))
        .args(arguments)
        .current_dir(&directory.0)
        .env_remove("BERTH_DEFAULT_SESSION_STORAGE")
        .env("KUBECONFIG", "/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The process may end without reading.
    let _ = child.stdin.take().unwrap().write_all(input);
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: status.code().expect("no signal"), out: text(stdout), err: text(stderr) }
}

fn on_stdin(arguments: &[&str], input: &str) -> Ran {
    berth(&Directory::new(), arguments, input.as_bytes())
}

const WEB: &str = "\
# The shop's front.
apiVersion: apps/v1
kind: Deployment # not a StatefulSet
metadata:
  name: web
  annotations:
    berth.dev/inject: enabled # yes
    berth.dev/replicas: \"3\"
    berth.dev/session-provider: redis
    berth.dev/session-address: redis:6379
    berth.dev/session-password-secret: redis/password
spec:
  # which pods
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
      - name: web
        image: 'web:1' # pinned
";

const WIRED: &str = "\
# The shop's front.
apiVersion: apps/v1
kind: Deployment # not a StatefulSet
metadata:
  name: web
  annotations:
    berth.dev/inject: enabled # yes
    berth.dev/injected-env: web/THV_MCPSERVER_GENERATION,web/THV_SESSION_REDIS_PASSWORD
    berth.dev/replicas: \"3\"
    berth.dev/session-provider: redis
    berth.dev/session-address: redis:6379
    berth.dev/session-password-secret: redis/password
spec:
  replicas: 3
  # which pods
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
      annotations:
        toolhive.stacklok.dev/mcpserver-generation: \"1\"
    spec:
      containers:
      - name: web
        image: 'web:1' # pinned
        env:
        - name: THV_SESSION_REDIS_PASSWORD
          valueFrom:
            secretKeyRef:
              name: redis
              key: password
        - name: THV_MCPSERVER_GENERATION
          valueFrom:
            fieldRef:
              apiVersion: v1
              fieldPath: metadata.annotations['toolhive.stacklok.dev/mcpserver-generation']
      terminationGracePeriodSeconds: 30
";

const BYSTANDER: &str = "---\n# nobody's\napiVersion: v1\nkind: Service\nmetadata: {name: web,   labels: {a: b}}\n\n\n";

/// A deployment that keeps sessions in memory, and wants three.
const FORGETFUL: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: forgetful
  annotations:
    berth.dev/inject: enabled
    berth.dev/replicas: \"3\"
spec:
  template:
    spec:
      containers:
      - name: web
";

#[test]
fn a_flags_variable_takes_the_usual_words() {
    let directory = Directory::new();
    let serve = |no_controller: &str, no_webhook: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
        command.args(["serve", "--tls-dir", "nowhere"]).current_dir(&directory.0).env("KUBECONFIG", "nowhere/config");
        command.env("BERTH_NO_CONTROLLER", no_controller).env("BERTH_NO_WEBHOOK", no_webhook);
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    for (value, set) in [("1", true), ("true", true), ("yes", true), ("0", false), ("false", false), ("", false)] {
        let told = serve(value, "1");
        assert_eq!(told.contains("nothing left to serve"), set, "{value:?}: {told}");
        let told = serve("1", value);
        assert_eq!(told.contains("nothing left to serve"), set, "{value:?}: {told}");
        let told = serve("0", value);
        assert_eq!(told.contains("cannot read nowhere/tls.crt"), !set, "without a webhook, no certificate: {told}");
    }
}

#[test]
fn a_resync_is_switched_off_by_0_and_is_never_a_loop() {
    let serve = |resync: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
        command.args(["serve", "--no-webhook", "--no-controller", "--controller-resync", resync]);
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    for (resync, taken) in [("0", true), ("0s", true), ("100ms", true), ("10m", true), ("1ms", false), ("-1s", false)] {
        let told = serve(resync);
        assert_eq!(told.contains("nothing left to serve"), taken, "{resync}: {told}");
    }
    assert!(serve("99ms").contains("it must be 0, for never, or 100ms and more"), "{}", serve("99ms"));
}

#[test]
fn mutate_changes_only_what_it_must() {
    let ran = on_stdin(&["mutate", "-f", "-"], &format!("{WEB}{BYSTANDER}"));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(ran.out, format!("{WIRED}{BYSTANDER}"));
    let again = on_stdin(&["mutate", "-f", "-"], &ran.out);
    assert_eq!(again.out, ran.out, "what is wired already is left alone");
}

#[test]
fn mutate_gives_back_what_is_not_berths_byte_for_byte() {
    for text in [
        "",
        "# only a comment",
        "\u{feff}# bom\r\na: 1\r\n---\r\n---\r\n# tail\r\n",
        "---\nkind: ConfigMap\napiVersion: v1\ndata:\n  a: |+\n    x\n\n\n...\n%YAML 1.2\n---\nb: &x [*y]\n"
            .replace("*y", "1")
            .as_str(),
        "{\"kind\": \"Pod\", \"apiVersion\": \"v1\"}\n\t{\"kind\": \"Pod\", \"apiVersion\": \"v1\"}",
        "- a\n- b   # list",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: other}\nspec: {replicas: 7}",
    ] {
        let ran = on_stdin(&["mutate", "-f", "-"], text);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, text, ""));
    }
}

#[test]
fn mutate_keeps_line_ends_and_the_form_of_json() {
    let crlf = on_stdin(&["mutate", "-f", "-"], &WEB.replace('\n', "\r\n"));
    assert_eq!(crlf.out, WIRED.replace('\n', "\r\n"));

    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "annotations":
        {"berth.dev/inject": "enabled", "berth.dev/replicas": "1"}}, "spec": {"template": {"spec": {"containers": [{"name": "web"}]}}}});
    let pretty = format!("{object:#}\n");
    let ran = on_stdin(&["mutate", "-f", "-"], &pretty);
    assert_eq!(
        ran.json()["spec"]["template"]["metadata"]["annotations"]["toolhive.stacklok.dev/mcpserver-generation"],
        "1"
    );
    // Nothing of the old text is gone but line ends' neighbours: a comma where something follows.
    let kept = pretty
        .lines()
        .filter(|line| ran.out.lines().any(|new| new.trim_end_matches(',') == line.trim_end_matches(',')));
    assert_eq!(kept.count(), pretty.lines().count(), "{}", ran.out);
}

/// Everything that people do to YAML: indentation of their own, comments everywhere, aliases, values that are not there.
const ODD: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
    name: odd
    annotations: &shared
        \"berth.dev/inject\": \"enabled\"   # quoted
        # last
spec:
    replicas:
    template:
        spec:
            containers:
                # the only one
                - &main
                  name: app

                  command:
                      - |+
                        # not a comment

                  env:
                      - name: A   # first
                        value: \"1\"

                      # old
                      - name: THV_MCPSERVER_GENERATION
                        value: \"7\"
                      # tail of the env
                # tail of the containers
        metadata:
            annotations: *shared   # the same
    # tail of the spec
# end";

#[test]
fn mutate_finds_its_way_in_odd_layouts() {
    let ran = on_stdin(&["mutate", "-f", "-"], ODD);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "nothing is written anew");
    let expected = ODD
        .replace("# quoted\n", "# quoted\n        berth.dev/injected-env: app/THV_MCPSERVER_GENERATION\n")
        .replace(
            "                        value: \"7\"\n",
            "                        valueFrom:
                            fieldRef:
                                apiVersion: v1
                                fieldPath: metadata.annotations['toolhive.stacklok.dev/mcpserver-generation']\n",
        )
        .replace(
            "                # tail of the containers\n",
            "                # tail of the containers\n            terminationGracePeriodSeconds: 30\n",
        )
        .replace(
            "annotations: *shared   # the same\n",
            "annotations:   # the same
                berth.dev/inject: enabled
                toolhive.stacklok.dev/mcpserver-generation: \"1\"\n",
        );
    assert_eq!(ran.out, expected);
}

#[test]
fn mutate_says_when_comments_are_lost() {
    // The annotations are changed in one place, and stand in two.
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: # of both\n  name: x\n  annotations: &a\n    berth.dev/inject: enabled\n\
                spec:\n  selector: *a\n  template: {spec: {containers: [{name: app}]}}\n";
    let ran = on_stdin(&["mutate", "-f", "-"], text);
    assert_eq!(ran.code, 0);
    assert!(ran.err.starts_with("<stdin>:1 was written anew"), "{}", ran.err);
    assert!(ran.out.contains("\n  selector:\n    berth.dev/inject: enabled\n"), "{}", ran.out);
}

#[test]
fn mutate_reads_directories_and_several_files_as_one_stream() {
    let directory = Directory::new();
    directory.file("k8s/b/web.yml", WEB);
    directory.file("k8s/a.yaml", "kind: A");
    directory.file("k8s/c.json", "{\"kind\": \"C\"}\n");
    directory.file("k8s/notes.txt", "kind: [");
    let ran = berth(&directory, &["mutate", "-f", "k8s", "-f", "-"], BYSTANDER.as_bytes());
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.out, format!("kind: A\n---\n{WIRED}---\n{{\"kind\": \"C\"}}\n{BYSTANDER}"));
}

#[test]
fn mutate_shows_a_diff_and_writes_back() {
    let directory = Directory::new();
    let web = directory.file("web.yaml", WEB);
    directory.file("other.yaml", BYSTANDER);
    let ran = berth(&directory, &["mutate", "-f", ".", "--diff"], b"");
    assert_eq!(ran.code, 0, "a diff is no finding: {}", ran.err);
    assert!(ran.out.starts_with("--- a/./web.yaml\n+++ b/./web.yaml\n@@ "), "{}", ran.out);
    assert!(ran.out.contains("\n+  replicas: 3\n   # which pods\n"), "{}", ran.out);
    assert!(!ran.out.contains("other.yaml") && !ran.out.contains('\u{1b}'), "{}", ran.out);

    let ran = berth(&directory, &["mutate", "-f", ".", "--in-place"], b"");
    assert_eq!((ran.code, ran.out.as_str()), (0, "./web.yaml\n"), "{}", ran.err);
    assert_eq!(fs::read_to_string(&web).unwrap(), WIRED);
    let ran = berth(&directory, &["mutate", "-f", ".", "--in-place"], b"");
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 2, "no temporary file is left");
}

#[test]
fn mutate_prints_objects_for_machines() {
    let ran = on_stdin(&["mutate", "-f", "-", "-o", "json"], &format!("{WEB}{BYSTANDER}"));
    let list = ran.json();
    assert_eq!(list["items"][0]["spec"]["replicas"], 3);
    assert_eq!(list["items"][1]["kind"], "Service");
    let yaml = on_stdin(&["mutate", "-f", "-", "-o", "yaml"], WEB);
    assert!(yaml.out.contains("replicas: 3") && !yaml.out.contains('#'), "{}", yaml.out);
}

#[test]
fn mutate_leaves_a_refused_object_as_it_is_and_says_why() {
    let input = format!("{FORGETFUL}---\n{WEB}");
    let ran = on_stdin(&["mutate", "-f", "-"], &input);
    assert_eq!(ran.code, 1);
    assert_eq!(ran.out, format!("{FORGETFUL}---\n{WIRED}"));
    assert_eq!(
        ran.err,
        "<stdin>:7 Deployment/forgetful SessionStorageMissingForReplicas spec.replicas: Invalid value: 3: sessions are kept in \
         memory; set the session provider to redis, or keep replicas at 1 or 0\n"
    );
}

#[test]
fn items_of_a_list_are_objects_like_any_other() {
    let indented = |text: &str| text.lines().skip(1).map(|line| format!("  {line}\n")).collect::<String>();
    let list = |text: &str| {
        let items = indented(text).replacen("  apiVersion", "- apiVersion", 1);
        format!("apiVersion: v1\nkind: List\nitems:\n- {{apiVersion: v1, kind: Pod}} # first\n{items}")
    };
    let ran = on_stdin(&["mutate", "-f", "-"], &list(WEB));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(ran.out, list(WIRED));
    let ran = on_stdin(&["validate", "-f", "-"], &list(&format!("\n{FORGETFUL}")));
    assert!(ran.out.starts_with("<stdin>:11 Deployment/forgetful SessionStorageMissingForReplicas "), "{}", ran.out);
}

#[test]
fn a_custom_resource_in_the_same_input_is_the_policy_of_its_workloads() {
    let owned = |api_version: &str, kind: &str, name: &str| {
        format!(
            "apiVersion: apps/v1\nkind: {kind}\nmetadata:\n  name: {name}\n  ownerReferences:\n  - {{apiVersion: {api_version}, kind: \
             MCPServer, name: {name}, uid: 7, controller: true}}\nspec:\n  serviceName: mcp-{name}-headless\n  template: {{spec: \
             {{containers: [{{name: toolhive}}]}}}}\n"
        )
        .replace("uid: 7", "uid: \"7\"")
    };
    let api_version = "toolhive.stacklok.dev/v1beta1";
    let server = "apiVersion: toolhive.stacklok.dev/v1beta1\nkind: MCPServer\nmetadata: {name: fetch}\nspec:\n  transport: sse\n  \
                  replicas: 2\n  sessionStorage: {provider: redis, address: \"redis:6379\"}\n";
    let deployment = owned(api_version, "Deployment", "fetch");

    let alone = on_stdin(&["mutate", "-f", "-"], &deployment);
    assert_eq!((alone.code, alone.out.as_str()), (0, deployment.as_str()), "without its resource it is nobody's");

    let both = on_stdin(&["mutate", "-f", "-", "-o", "json"], &format!("{deployment}---\n{server}"));
    let wired = &both.json()["items"][0];
    assert_eq!(wired["spec"]["replicas"], 2);
    assert_eq!(wired["spec"]["template"]["metadata"]["annotations"]["toolhive.stacklok.dev/mcpserver-generation"], "1");

    let elsewhere = format!("{deployment}---\n{}", server.replace("name: fetch", "name: fetch, namespace: other"));
    let ran = on_stdin(&["mutate", "-f", "-"], &elsewhere);
    assert_eq!(ran.out, elsewhere, "an owner is in its object's own namespace");
    let ran = on_stdin(&["mutate", "-f", "-", "-n", "other"], &elsewhere);
    assert_ne!(ran.out, elsewhere, "-n says which namespace is meant");

    let other_uid = format!("{deployment}---\n{}", server.replace("name: fetch", "name: fetch, uid: \"8\""));
    assert_eq!(on_stdin(&["mutate", "-f", "-"], &other_uid).out, other_uid, "a namesake is no owner");
}

#[test]
fn validate_names_the_line_of_the_field_at_fault() {
    let directory = Directory::new();
    directory.file(
        "all.yaml",
        "\
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: memory}
spec:
  transport: sse
  replicas: 3
---
apiVersion: toolhive.stacklok.dev/v1alpha1
kind: MCPServer
metadata: {name: stdio}
spec:
  backendReplicas: 2
---
apiVersion: toolhive.stacklok.dev/v1beta1
kind: VirtualMCPServer
metadata: {name: lost}
spec:
  sessionStorage:
    provider: redis
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: plain
  annotations:
    berth.dev/inject: enabled
spec:
  template:
    spec:
      containers:
      - name: web
        env:
        - name: THV_SESSION_REDIS_PASSWORD
          value: hunter2
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: wrong
  annotations:
    berth.dev/inject: enabled
    berth.dev/session-ttl: soon
spec:
  serviceName: wrong
  template: {spec: {containers: [{name: web}]}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: plain}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: plain}
  maxReplicas: 4
",
    );
    let ran = berth(&directory, &["validate", "-f", "all.yaml"], b"");
    assert_eq!((ran.code, ran.err.as_str()), (1, ""));
    let begins: Vec<_> = ran.out.lines().map(|line| line.split(' ').take(4).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        begins,
        [
            "all.yaml:6 MCPServer/memory SessionStorageMissingForReplicas spec.replicas:",
            "all.yaml:12 MCPServer/stdio StdioTransportCapAt1 spec.backendReplicas:",
            "all.yaml:18 VirtualMCPServer/lost SessionStorageAddressMissing spec.sessionStorage.address:",
            "all.yaml:34 Deployment/plain PlaintextPassword spec.template.spec.containers[0].env[0].value:",
            "all.yaml:42 StatefulSet/wrong InvalidPolicy metadata.annotations[berth.dev/session-ttl]:",
            "all.yaml:44 StatefulSet/wrong warning spec.serviceName:",
            "all.yaml:52 HorizontalPodAutoscaler/plain SessionStorageMissingForReplicas spec.maxReplicas:",
        ],
        "{}",
        ran.out
    );
    assert!(!ran.out.contains("hunter2"), "a password is not repeated");
    assert!(!ran.out.contains("[berth:"), "the code word stands once on a line");
}

#[test]
fn validate_reports_for_machines() {
    let ran = on_stdin(&["validate", "-f", "-", "-o", "json"], FORGETFUL);
    assert_eq!(ran.code, 1);
    let report = ran.json();
    assert_eq!(report["summary"], json!({"files": 1, "objects": 1, "problems": 1, "warnings": 0}));
    let finding = &report["findings"][0];
    for (key, value) in [
        ("severity", json!("error")),
        ("file", json!("<stdin>")),
        ("line", json!(7)),
        ("kind", json!("Deployment")),
        ("namespace", json!("default")),
        ("name", json!("forgetful")),
        ("code", json!("SessionStorageMissingForReplicas")),
        ("field", json!("spec.replicas")),
    ] {
        assert_eq!(finding[key], value, "{key}");
    }
}

#[test]
fn warnings_are_no_findings() {
    let input = WEB.replace("kind: Deployment", "kind: StatefulSet");
    let ran = on_stdin(&["validate", "-f", "-"], &input);
    assert_eq!(ran.code, 0);
    assert!(ran.out.contains(" StatefulSet/web warning spec.serviceName"), "{}", ran.out);
    let ran = on_stdin(&["validate", "-f", "-"], WEB);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", ""));
}

#[test]
fn the_default_session_storage_stands_in() {
    let server = "apiVersion: toolhive.stacklok.dev/v1beta1\nkind: MCPServer\nmetadata: {name: x}\nspec: {transport: sse, replicas: 2}\n";
    assert_eq!(on_stdin(&["validate", "-f", "-"], server).code, 1);
    assert_eq!(on_stdin(&["validate", "-f", "-", "--default-session-storage", "redis://r:6379"], server).code, 0);
    assert_eq!(on_stdin(&["validate", "-f", "-", "--default-session-storage", "nowhere"], server).code, 2);
}

#[test]
fn input_that_cannot_be_read_is_named_with_its_line() {
    let directory = Directory::new();
    directory.file("broken.yaml", "kind: A\n---\nkind: B\nspec: a: b\n");
    directory.file("twice.yaml", "kind: A\nspec: 1\nspec: 2\n");
    directory.file("latin.yaml", b"kind: A\nname: caf\xe9\n");
    directory.file("bomb.yaml", {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..15 {
            let below = format!("*a{}", level - 1);
            text.push_str(&format!("a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(", ")));
        }
        text
    });
    directory.file("empty/readme.md", "");
    for (arguments, part) in [
        (&["validate", "-f", "broken.yaml"][..], "error: broken.yaml:4: "),
        (&["mutate", "-f", "twice.yaml"], "error: twice.yaml:3: key \"spec\" is given twice"),
        (&["mutate", "-f", "latin.yaml"], "error: latin.yaml:2: this is not UTF-8"),
        (&["mutate", "-f", "bomb.yaml"], "aliases"),
        (&["validate", "-f", "missing.yaml"], "error: cannot read missing.yaml: "),
        (&["validate", "-f", "empty"], "error: empty holds no *.yaml"),
        (&["validate"], "--filename"),
        (&["mutate", "-f", "-", "--in-place"], "standard input cannot be changed"),
    ] {
        let ran = berth(&directory, arguments, b"kind: A");
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.err);
        assert!(ran.err.contains(part) && ran.out.is_empty(), "{arguments:?}: {}", ran.err);
    }
}

#[test]
fn a_closed_pipe_ends_in_silence() {
    let directory = Directory::new();
    let big = format!("{BYSTANDER}# {}\n", "x".repeat(100)).repeat(5000);
    directory.file("big.yaml", big);
    let mut child = Command::new(env!("CARGO_BIN_EXE_berth"))
        .args(["mutate", "-f", "big.yaml"])
        .current_dir(&directory.0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert!(ended.stderr.is_empty(), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn the_examples_do_what_they_say() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let example = |name: &str| examples.join(name).display().to_string();
    let directory = Directory::new();
    let ran = berth(&directory, &["validate", "-f", &example("wired.yaml")], b"");
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
    let ran = berth(&directory, &["validate", "-f", &example("refused.yaml")], b"");
    let refused: Vec<_> =
        ran.out.lines().map(|line| line.split(' ').skip(1).take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        refused,
        [
            "Deployment/chat SessionStorageMissingForReplicas",
            "HorizontalPodAutoscaler/chat SessionStorageMissingForReplicas",
            "MCPServer/sqlite StdioTransportCapAt1",
            "VirtualMCPServer/gateway SessionStorageAddressMissing",
            "Deployment/leaky PlaintextPassword",
            "Deployment/typo InvalidPolicy",
        ]
    );
}

#[test]
fn every_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = berth(&Directory::new(), &["completions", shell], b"");
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{shell}");
        for word in ["sessions", "evict", "dry-run", "webhook-config"] {
            assert!(ran.out.contains(word), "{shell} does not complete {word}");
        }
    }
    let script = berth(&Directory::new(), &["completions", "bash"], b"").out;
    let complete =
        format!("{script}\nCOMP_WORDS=(berth sess); COMP_CWORD=1; _berth berth sess berth; echo \"${{COMPREPLY[@]}}\"");
    let completed = Command::new("bash").args(["-c", &complete]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&completed.stdout).trim(), "sessions");
}

#[test]
fn the_version_is_told() {
    let ran = berth(&Directory::new(), &["--version"], b"");
    assert_eq!((ran.code, ran.out.trim()), (0, concat!("berth ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn the_demo_shows_every_rule_and_ends_when_asked_to() {
    let ran = berth(&Directory::new(), &["demo", "--once"], b"");
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    for word in berth::policy::CodeWord::ALL {
        assert!(ran.out.contains(&format!("[berth:{word}]")), "{word} is missing:\n{}", ran.out);
    }
    for part in
        ["+   replicas: 3\n", "+       terminationGracePeriodSeconds: 60\n", "allowed, nothing to change", " p99 "]
    {
        assert!(ran.out.contains(part), "{part:?} is missing:\n{}", ran.out);
    }
    // Four calls through both replicas; two through the one that is left; then its server is killed and comes back.
    let calls: Vec<_> = (ran.out.lines().map(str::trim))
        .filter(|line| ["initialize  → ", "tools/call  → "].iter().any(|start| line.starts_with(start)))
        .collect();
    let holder = calls.get(1).and_then(|line| line.split_once("✓ ")?.1.split(':').next()).unwrap_or_default();
    let other = |line: &str| line.starts_with("tools/call  → B  ✓ notes-") && !line.contains(holder);
    let expected: [&dyn Fn(&str) -> bool; 17] = [
        &|line| line.starts_with("initialize  → A  ✓ "),
        &|line| line.starts_with(&format!("tools/call  → B  ✓ {holder}: call 1 ")),
        &|line| line.starts_with(&format!("tools/call  → A  ✓ {holder}: call 2 ")),
        &|line| line.starts_with(&format!("tools/call  → B  ✓ {holder}: call 3 ")),
        &|line| line.starts_with(&format!("tools/call  → A  ✓ {holder}: call 4 ")),
        &|line| line.starts_with("tools/call  → notes-0  "),
        &|line| line.starts_with("tools/call  → notes-1  "),
        &|line| line.starts_with("tools/call  → notes-2  "),
        &|line| line.starts_with(&format!("tools/call  → B  ✓ {holder}: call 6 ")),
        &|line| line.starts_with(&format!("tools/call  → B  ✓ {holder}: call 7 ")),
        &|line| line.starts_with("tools/call  → B  ! an error; the session is kept:"),
        &other,
        &|line| line.starts_with("tools/call  → B  ! 404: "),
        &|line| line.starts_with("initialize  → B  ✓ "),
        &|line| line.starts_with("tools/call  → B  ✓ notes-") && line.contains(": call 1 "),
        &|line| line.starts_with("tools/call  → A  ✓ notes-") && line.contains(": call 2 "),
        &|line| line.starts_with("tools/call  → B  ✓ notes-") && line.contains(": call 3 "),
    ];
    assert_eq!(calls.len(), expected.len(), "{}", ran.out);
    for (line, expected) in calls.iter().zip(expected) {
        assert!(expected(line), "{line:?} is not as expected:\n{}", ran.out);
    }
    assert_eq!(calls.iter().filter(|line| line.contains("✗ 404")).count(), 2, "two servers do not know it");
    assert!(ran.out.contains("the server that holds this session cannot be reached"), "{}", ran.out);
    for line in ran.out.lines() {
        assert!(line.chars().count() <= 80, "wider than a terminal: {line}");
    }
    assert!(!ran.out.contains('\u{1b}'), "no colours in a pipe");
    assert!(!ran.out.contains("correct-horse"), "the password of the example is not repeated");
}

#[test]
fn the_demo_serves_until_it_is_interrupted_and_its_addresses_work() {
    let mut child =
        Command::new(env!("CARGO_BIN_EXE_berth")).arg("demo").stdout(Stdio::piped()).spawn().expect("the demo starts");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let mut proxies = Vec::new();
    let curl = lines.by_ref().map(Result::unwrap).find(|line| {
        proxies
            .extend(line.trim().strip_prefix("http://").and_then(|rest| rest.strip_suffix("/mcp")).map(str::to_owned));
        line.starts_with("curl ")
    });
    let greeted: Vec<_> = proxies.iter().map(|address| initialize(address)).collect();
    let answered = curl.as_ref().map(|curl| Command::new("sh").args(["-c", curl]).output().unwrap());
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let rest: Vec<_> = lines.map(Result::unwrap).collect();
    let ended = child.wait().unwrap();
    assert!(interrupted.success());
    assert_eq!(ended.code(), Some(0));
    assert!(rest.iter().all(String::is_empty), "{rest:?}");
    let answered = answered.expect("the demo prints a curl line");
    let text = String::from_utf8_lossy(&answered.stdout);
    assert!(text.contains("[berth:SessionStorageMissingForReplicas]"), "{curl:?}: {text}");
    assert_eq!(greeted.len(), 2, "both replicas");
    for answer in greeted {
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("mcp-session-id: "), "{answer}");
    }
}

/// What an MCP server answers to a client that starts a session.
fn initialize(address: &str) -> String {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#;
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nAccept: application/json, \
         text/event-stream\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    answer
}

#[test]
fn an_address_that_is_taken_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ran = berth(&Directory::new(), &["demo", "--once", "--listen", &address], b"");
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("--listen"), "{}", ran.err);
}

#[test]
fn explain_says_where_each_value_comes_from() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/wired.yaml").display().to_string();
    let directory = Directory::new();
    let explain = |object: &str| {
        let ran = berth(&directory, &["explain", "-f", &examples, object, "-o", "json"], b"");
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        assert_eq!(ran.json().as_array().unwrap().len(), 1);
        ran.json()[0].clone()
    };
    let setting = |explained: &Value, name: &str| {
        let settings = explained["settings"].as_array().unwrap().clone();
        let found = settings.into_iter().find(|setting| setting["name"] == name).unwrap();
        (found["value"].clone(), found["from"].clone())
    };
    let field = |object: &str, field: &str| json!({"source": "field", "object": object, "field": field});

    let notes = explain("deployment/notes");
    assert_eq!(notes["standing"]["policy"], "annotations");
    let replicas = field("Deployment/notes", "metadata.annotations[berth.dev/replicas]");
    assert_eq!(setting(&notes, "replicas"), (json!(3), replicas));
    assert_eq!(setting(&notes, "transport"), (json!("streamable-http"), json!({"source": "default"})));
    assert_eq!(setting(&notes, "container"), (json!("notes"), json!({"source": "default"})));
    let change = json!({"field": "spec.replicas", "from": null, "to": 3});
    assert!(notes["changes"].as_array().unwrap().contains(&change), "{notes:#}");

    let backend = explain("sts/fetch");
    assert_eq!(backend["standing"], json!({"policy": "custom-resource", "owner": "MCPServer/fetch"}));
    assert_eq!(setting(&backend, "replicas"), (json!(3), field("MCPServer/fetch", "spec.backendReplicas")));
    let grace = field("MCPServer/fetch", "metadata.annotations[berth.dev/termination-grace-period-seconds]");
    assert_eq!(setting(&backend, "grace period (s)"), (json!(60), grace));
    let codes: Vec<_> = backend["rules"].as_array().unwrap().iter().filter_map(|rule| rule["code"].as_str()).collect();
    assert_eq!(codes, ["StaleGeneration"]);

    let server = explain("mcpserver/fetch");
    assert_eq!(server["standing"]["policy"], "itself");
    assert_eq!(setting(&server, "backend replicas").0, 3);
}

#[test]
fn explain_tells_the_default_storage_and_the_unreadable_apart() {
    let server =
        "apiVersion: toolhive.stacklok.dev/v1beta1\nkind: MCPServer\nmetadata: {name: x}\nspec: {transport: sse}\n";
    let ran = on_stdin(&["explain", "-f", "-", "--default-session-storage", "r:6379"], server);
    assert_eq!(ran.code, 0);
    let line = |part: &str| ran.out.lines().find(|line| line.contains(part)).unwrap_or_default().to_owned();
    assert!(line("session storage").ends_with("--default-session-storage"), "{}", ran.out);
    assert!(line("address").contains("r:6379"), "{}", ran.out);

    let typo = FORGETFUL.replace("\"3\"", "three");
    let ran = on_stdin(&["explain", "-f", "-"], &typo);
    assert_eq!(ran.code, 1, "it would be refused");
    assert!(ran.out.contains("replicas          unreadable"), "{}", ran.out);
    assert!(ran.out.contains("[berth:InvalidPolicy]"), "{}", ran.out);
}

#[test]
fn explain_says_why_an_object_is_not_berths() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: other}\nspec: {}\n";
    let ran = on_stdin(&["explain", "-f", "-"], text);
    assert_eq!(ran.code, 0);
    assert!(ran.out.contains("Berth leaves it alone: it has no annotation berth.dev/inject: enabled"), "{}", ran.out);
    let ran = on_stdin(&["explain", "-f", "-", "deployment/missing"], text);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("Deployment/missing is not in the input"), "{}", ran.err);
    assert_eq!(on_stdin(&["explain"], "").code, 2);
    assert_eq!(on_stdin(&["explain", "pod/x"], "").code, 2);
    let ran = on_stdin(&["explain", "deployment/x"], "");
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("help: set KUBECONFIG"), "{}", ran.err);
}

#[test]
fn what_stands_where_nobody_reads_it_is_told() {
    let annotated = |on_workload: &str, on_template: &str| {
        format!(
            "apiVersion: apps/v1\nkind: StatefulSet\nmetadata:\n  name: web\n  annotations:\n    a: b\n{on_workload}spec:\n  \
             template:\n    metadata:\n      annotations:\n        a: b\n{on_template}    spec: {{containers: [{{name: web}}]}}\n"
        )
    };
    let ran = on_stdin(&["validate", "-f", "-"], &annotated("    berth.dev/replicas: \"3\"\n", ""));
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (
            0,
            "<stdin>:7 StatefulSet/web warning metadata.annotations[berth.dev/replicas]: it means nothing without \
             berth.dev/inject: enabled beside it; Berth leaves the StatefulSet alone\n"
        )
    );
    let ran = on_stdin(&["validate", "-f", "-"], &annotated("", "        berth.dev/inject: enabled\n"));
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (
            0,
            "<stdin>:12 StatefulSet/web warning spec.template.metadata.annotations[berth.dev/inject]: it means nothing on a \
             pod template; write it under metadata.annotations of the StatefulSet\n"
        )
    );
    // What opted out, or belongs to a custom resource, or only carries Berth's own records, says all that it has to.
    for on_workload in [
        "    berth.dev/inject: disabled\n    berth.dev/replicas: \"3\"\n",
        "    berth.dev/injected-env: web/A\n",
        "  ownerReferences:\n  - {apiVersion: toolhive.stacklok.dev/v1beta1, kind: MCPServer, name: web, uid: a, controller: true}\n",
    ] {
        let ran = on_stdin(&["validate", "-f", "-"], &annotated(on_workload, ""));
        assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{on_workload}");
    }
    let typo = annotated("    berth.dev/inject: enabled\n    berth.dev/replica: \"1\"\n", "");
    let ran = on_stdin(&["validate", "-f", "-"], &typo);
    let expected =
        "<stdin>:8 StatefulSet/web warning metadata.annotations[berth.dev/replica]: means nothing on a StatefulSet; ";
    assert!(ran.out.starts_with(expected), "{}", ran.out);
}

#[test]
fn what_berths_controller_would_not_build_is_a_problem_where_it_is_asked_for() {
    let server = |class: &str, spec: &str| {
        format!(
            "apiVersion: toolhive.stacklok.dev/v1beta1\nkind: MCPServer\nmetadata:\n  name: web\n  annotations: {{{class}}}\nspec:\n  \
             image: web\n{spec}"
        )
    };
    let guarded = "  transport: sse\n  oidcConfig: {type: inline}\n";
    let ran = on_stdin(&["validate", "-f", "-"], &server("berth.dev/class: berth", guarded));
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.out.starts_with("<stdin>:9 MCPServer/web UnsupportedField spec.oidcConfig: "), "{}", ran.out);
    assert!(ran.out.ends_with("(Berth's controller builds nothing for it)\n"), "{}", ran.out);
    assert!(ran.err.is_empty(), "{}", ran.err);

    let silent = on_stdin(&["explain", "-f", "-"], &server("berth.dev/class: berth", ""));
    assert_eq!(silent.code, 1, "{}", silent.out);
    let told = "  what no write of it is told\n    spec.transport: Berth does not proxy servers on stdio";
    assert!(silent.out.contains(told) && silent.out.contains(" [TransportUnsupported]\n"), "{}", silent.out);

    // Of what ToolHive's operator builds, only the webhook has something to say.
    for class in ["", "berth.dev/class: other"] {
        let ran = on_stdin(&["validate", "-f", "-"], &server(class, guarded));
        assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{class}");
    }
    let ran = on_stdin(
        &["validate", "-f", "-"],
        &server("berth.dev/class: berth", "  transport: sse\n  telemetry: {endpoint: a}\n"),
    );
    assert_eq!(ran.code, 0, "{}", ran.out);
    assert!(ran.out.starts_with("<stdin>:9 MCPServer/web warning spec.telemetry: has no effect"), "{}", ran.out);
    let whole = server("berth.dev/class: berth", "  transport: sse\n");
    assert_eq!(on_stdin(&["validate", "-f", "-"], &whole).out, "");
}

#[test]
fn a_workload_without_a_spec_is_refused_and_nothing_more() {
    for spec in ["", "spec:\n"] {
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, annotations: {{berth.dev/inject: enabled}}}}\n{spec}"
        );
        let ran = on_stdin(&["validate", "-f", "-"], &format!("{text}---\n{FORGETFUL}"));
        assert_eq!(ran.code, 1, "{}", ran.err);
        let expected = "Deployment/web InvalidPolicy spec.template.spec.containers: Required value: ";
        assert!(ran.out.contains(expected) && ran.out.contains("Deployment/forgetful"), "{}", ran.out);
        assert_eq!(on_stdin(&["mutate", "-f", "-"], &text).out, text);
    }
}

#[test]
fn a_list_of_one_kind_holds_objects_that_need_not_name_it() {
    let list = json!({"apiVersion": "apps/v1", "kind": "DeploymentList", "items": [
        {"metadata": {"name": "web", "annotations": {"berth.dev/inject": "enabled", "berth.dev/replicas": "3"}},
         "spec": {"template": {"spec": {"containers": [{"name": "web"}]}}}},
    ]});
    let ran = on_stdin(&["validate", "-f", "-"], &list.to_string());
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("Deployment/web SessionStorageMissingForReplicas"), "{}", ran.out);
}

#[test]
fn input_that_cannot_be_read_so_says_how_it_can() {
    let ran = on_stdin(&["validate", "-f", "-", "-f", "-"], FORGETFUL);
    assert_eq!((ran.code, ran.err.as_str()), (2, "error: standard input is named twice, and can be read once\n"));
    let ran = on_stdin(&["validate", "-f", "-"], "kind: Deployment\nmetadata:\n  name: {{ .Release.Name }}\n");
    assert_eq!(ran.code, 2);
    assert!(
        ran.err.ends_with("rendered first, as in: helm template NAME CHART | berth validate -f -\n"),
        "{}",
        ran.err
    );
}

#[test]
fn settings_that_no_cluster_could_use_are_refused_at_the_start() {
    let serve = |variable: &str, value: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
        command.args(["serve", "--no-webhook", "--no-controller"]).env(variable, value);
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    for (variable, value, part) in [
        ("BERTH_PROXY_IMAGE", "", "a value is required for '--proxy-image <IMAGE>'"),
        ("BERTH_VMCP_IMAGE", "", "a value is required for '--vmcp-image <IMAGE>'"),
        ("BERTH_CLUSTER_DOMAIN", "", "it must be a DNS domain, as in cluster.local"),
        ("BERTH_CLUSTER_DOMAIN", "cluster.local.", "it must be a DNS domain, as in cluster.local"),
        ("BERTH_CLUSTER_DOMAIN", "k8s.example", "nothing left to serve"),
    ] {
        let told = serve(variable, value);
        assert!(told.contains(part), "{variable}={value}: {told}");
    }
}

#[test]
fn an_address_that_no_proxy_could_use_is_refused() {
    for (address, part) in
        [("redis+sentinel://a:26379", "it does not name the master"), ("redis://a:6379/x", "no number of a database")]
    {
        let text = WEB.replace("redis:6379", address);
        let ran = on_stdin(&["validate", "-f", "-"], &text);
        assert!(ran.code == 1 && ran.out.contains(part), "{address}: {}", ran.out);
    }
}
