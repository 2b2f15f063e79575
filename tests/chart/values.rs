//! What values do, and which are refused, with which words.

use std::fs;

use serde_json::{Value, json};

use crate::support::{CERT_MANAGER, Desk, file, find, key, yaml};

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn values_go_where_they_belong() {
    let desk = Desk::new();
    let values = json!({
        "images": {
            "berth": {"repository": "registry.example:5000/a/berth", "tag": "2", "pullPolicy": "Always"},
            "proxy": {"repository": "registry.example/berth-proxy", "tag": "2", "digest": DIGEST},
            "vmcp": {"repository": "registry.example/vmcp", "tag": "v3"},
            "workloadPullPolicy": "Never",
        },
        "controller": {"scope": "all", "clusterDomain": "k8s.example"},
        "imagePullSecrets": [{"name": "registry"}],
        "replicas": 0,
        "resources": {"limits": {"memory": "1Gi"}},
        "defaultSessionStorage": "rediss://redis.mcp:6379",
        "webhook": {
            "excludedNamespaces": ["kube-system", "monitoring"],
            "namespaceSelector": {
                "matchLabels": {"mcp": "yes"},
                "matchExpressions": [{"key": "team", "operator": "In", "values": ["a"]}],
            },
        },
        "extraArgs": ["--log-format=json"],
        "extraEnv": [{"name": "RUST_LOG", "value": "debug"}],
        "serviceAccount": {"create": false, "name": "mine"},
        "rbac": {"create": false},
        "crds": {"install": false},
        "podDisruptionBudget": {"enabled": false},
        "podAnnotations": {"a": "1"},
        "podLabels": {"b": "2"},
        "priorityClassName": "",
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "c", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
    });
    let path = desk.path("values.json");
    fs::write(&path, values.to_string()).unwrap();
    let objects = desk.objects(&["-f", &path]);
    let kinds: Vec<_> = objects.iter().map(key).collect();
    assert_eq!(
        kinds,
        [
            "Service/berth-webhook",
            "Deployment/berth",
            "MutatingWebhookConfiguration/berth",
            "ValidatingWebhookConfiguration/berth",
        ]
    );
    let deployment = &find(&objects, "Deployment/berth")["spec"];
    assert_eq!(deployment["replicas"], 0);
    let template = &deployment["template"];
    assert_eq!(
        (&template["metadata"]["annotations"]["a"], &template["metadata"]["labels"]["b"]),
        (&json!("1"), &json!("2"))
    );
    let pod = &template["spec"];
    assert_eq!(pod["serviceAccountName"], "mine");
    for (field, value) in [
        ("imagePullSecrets", "imagePullSecrets"),
        ("nodeSelector", "nodeSelector"),
        ("tolerations", "tolerations"),
        ("affinity", "affinity"),
    ] {
        assert_eq!(pod[field], values[value], "{field}");
    }
    assert_eq!(pod["priorityClassName"], Value::Null);
    let container = &pod["containers"][0];
    assert_eq!(container["image"], "registry.example:5000/a/berth:2");
    assert_eq!(container["imagePullPolicy"], "Always");
    // Helm merges values: what is not said keeps its default.
    assert_eq!(container["resources"]["limits"], values["resources"]["limits"]);
    assert_eq!(
        container["env"],
        json!([
            {"name": "BERTH_PROXY_IMAGE", "value": format!("registry.example/berth-proxy@{DIGEST}")},
            {"name": "BERTH_VMCP_IMAGE", "value": "registry.example/vmcp:v3"},
            {"name": "BERTH_IMAGE_PULL_POLICY", "value": "Never"},
            {"name": "RUST_LOG", "value": "debug"},
        ])
    );
    let arguments = container["args"].as_array().unwrap();
    assert_eq!(
        arguments[arguments.len() - 4..],
        [
            "--controller-scope=all",
            "--cluster-domain=k8s.example",
            "--default-session-storage=rediss://redis.mcp:6379",
            "--log-format=json"
        ]
    );
    for configuration in ["MutatingWebhookConfiguration/berth", "ValidatingWebhookConfiguration/berth"] {
        for webhook in find(&objects, configuration)["webhooks"].as_array().unwrap() {
            assert_eq!(
                webhook["namespaceSelector"],
                json!({
                    "matchLabels": {"mcp": "yes"},
                    "matchExpressions": [
                        {"key": "kubernetes.io/metadata.name", "operator": "NotIn",
                         "values": ["kube-system", "berth-system", "monitoring"]},
                        {"key": "team", "operator": "In", "values": ["a"]},
                    ],
                })
            );
        }
    }
}

/// The webhook alone has the webhook's rights, and nothing of the controller's.
#[test]
fn without_the_controller_there_are_no_rights_to_write() {
    let objects = Desk::new().objects(&["--set", "controller.enabled=false"]);
    let roles: Vec<_> = objects.iter().filter(|object| object["rules"].is_array()).collect();
    assert_eq!(roles.iter().map(|role| key(role)).collect::<Vec<_>>(), ["ClusterRole/berth-webhook"]);
    for rule in roles[0]["rules"].as_array().unwrap() {
        let verbs = rule["verbs"].as_array().unwrap();
        assert!(verbs.iter().all(|verb| ["get", "list", "watch"].contains(&verb.as_str().unwrap())), "{rule}");
    }
    let container = &find(&objects, "Deployment/berth")["spec"]["template"]["spec"]["containers"][0];
    assert_eq!((&container["args"][3], &container["env"]), (&json!("--no-controller"), &Value::Null));
}

#[test]
fn an_issuer_that_is_there_takes_the_place_of_a_new_ca() {
    let issuer = "certificates.certManager.issuerRef.name=mine,certificates.certManager.issuerRef.kind=ClusterIssuer";
    let objects = Desk::new().objects(&["--set", CERT_MANAGER, "--set", issuer]);
    let made: Vec<_> = objects.iter().filter(|o| o["apiVersion"] == "cert-manager.io/v1").map(key).collect();
    assert_eq!(made, ["Certificate/berth-webhook"]);
    assert_eq!(
        find(&objects, "Certificate/berth-webhook")["spec"]["issuerRef"],
        json!({"group": "cert-manager.io", "kind": "ClusterIssuer", "name": "mine"})
    );
}

/// Each has one line that names the value.
#[test]
fn unknown_and_wrong_values_are_refused_by_name() {
    let desk = Desk::new();
    for (value, expected) in [
        ("replica=3", "at '': additional properties 'replica' not allowed"),
        ("webhook.failurePolicy=Fail", "at '/webhook': additional properties 'failurePolicy' not allowed"),
        ("webhook.scaleFailurePolicy=fail", "at '/webhook/scaleFailurePolicy': value must be one of 'Ignore', 'Fail'"),
        ("webhook.excludedNamespaces=a", "at '/webhook/excludedNamespaces': got string, want array"),
        ("webhook.excludedNamespaces={A}", "at '/webhook/excludedNamespaces/0': 'A' does not match pattern"),
        ("replicas=two", "at '/replicas': got string, want integer"),
        ("replicas=-1", "at '/replicas': minimum: got -1, want 0"),
        ("images.berth.tag=a:b", "at '/images/berth/tag': 'a:b' does not match pattern"),
        ("images.berth.repository=berth:1", "at '/images/berth/repository': 'berth:1' does not match pattern"),
        ("images.berth.pullPolicy=Sometimes", "at '/images/berth/pullPolicy': value must be one of 'Always', "),
        ("controller.scope=ALL", "at '/controller/scope': value must be one of 'annotated', 'all'"),
        ("controller.clusterDomain=a..b", "at '/controller/clusterDomain': 'a..b' does not match pattern"),
        ("images.workloadPullPolicy=never", "at '/images/workloadPullPolicy': value must be one of '', 'Always', "),
        ("images.nginx.tag=1", "at '/images': additional properties 'nginx' not allowed"),
        ("resources.memory=1Gi", "at '/resources': additional properties 'memory' not allowed"),
        ("crds.install=maybe", "at '/crds/install': got string, want boolean"),
        ("crds=false", "at '/crds': got boolean, want object"),
        (
            "certificates.certManager.duration=90d",
            "at '/certificates/certManager/duration': '90d' does not match pattern",
        ),
        ("certificates.secret=x", "at '/certificates': additional properties 'secret' not allowed"),
        ("defaultSessionStorage=redis://user:secret@redis:6379", "at '/defaultSessionStorage': "),
        ("podDisruptionBudget.maxUnavailable=half", "at '/podDisruptionBudget/maxUnavailable': 'half' does not match"),
        ("extraArgs=--log-format=json", "at '/extraArgs': got string, want array"),
        ("extraEnv[0].value=x", "at '/extraEnv/0': missing property 'name'"),
        ("extraEnv[0].name=A,extraEnv[0].value=1", "at '/extraEnv/0/value': got number, want string"),
        ("images.proxy.digest=sha256:1", "at '/images/proxy/digest': 'sha256:1' does not match pattern"),
        ("fullnameOverride=9berth", "at '/fullnameOverride': '9berth' does not match pattern"),
        (
            "webhook.namespaceSelector.matchExpressions[0].key=a,webhook.namespaceSelector.matchExpressions[0].operator=In",
            "at '/webhook/namespaceSelector/matchExpressions/0': missing property 'values'",
        ),
        (
            r"podLabels.app\.kubernetes\.io/name=x",
            "podLabels: the Deployment selects its pods by app.kubernetes.io/name; leave it out",
        ),
        // The program would not start with it.
        ("defaultSessionStorage=redis", "defaultSessionStorage: \"redis\" is no address; write host:port, or "),
        ("defaultSessionStorage=redis://a:1\\,b", "\"redis://a:1,b\" is no address"),
    ] {
        let refusal = desk.refusal(&["--set", value]);
        assert!(refusal.lines().any(|line| line.contains(expected)), "{value}: {refusal}");
    }
}

/// To Helm, `controller:` with nothing below it is a value that is taken away, its defaults too.
#[test]
fn what_is_emptied_is_refused_by_name_where_the_chart_needs_it() {
    let desk = Desk::new();
    for (value, path, name) in [
        ("certificates", "", "certificates"),
        ("certificates.certManager.issuerRef", "/certificates/certManager", "issuerRef"),
        ("images.proxy", "/images", "proxy"),
        ("images.vmcp.repository", "/images/vmcp", "repository"),
        ("replicas", "", "replicas"),
        ("controller", "", "controller"),
        ("controller.enabled", "/controller", "enabled"),
        ("webhook", "", "webhook"),
        ("webhook.excludedNamespaces", "/webhook", "excludedNamespaces"),
        ("serviceAccount", "", "serviceAccount"),
        ("rbac", "", "rbac"),
        ("crds", "", "crds"),
        ("podDisruptionBudget", "", "podDisruptionBudget"),
    ] {
        let refusal = desk.refusal(&["--set", CERT_MANAGER, "--set", &format!("{value}=null")]);
        assert!(refusal.contains(&format!("at '{path}': missing property '{name}'")), "{value}: {refusal}");
    }
    let rest = [
        "nameOverride",
        "imagePullSecrets",
        "resources",
        "defaultSessionStorage",
        "extraArgs",
        "extraEnv",
        "podAnnotations",
        "podLabels",
        "priorityClassName",
        "nodeSelector",
        "tolerations",
        "affinity",
        "images.proxy.tag",
    ];
    desk.objects(&["--set", &rest.map(|value| format!("{value}=null")).join(",")]);
}

/// What the program takes for a session store, the chart does.
#[test]
fn addresses_of_session_stores_are_the_programs() {
    let desk = Desk::new();
    for address in
        ["redis:6379", "[::1]:6379", "redis://a.b:1/3", "rediss+sentinel://a:1,b:2/main", "redis-cluster://a:1"]
    {
        berth::policy::Address::parse(address).unwrap();
        let values = desk.path("values.json");
        fs::write(&values, json!({"defaultSessionStorage": address}).to_string()).unwrap();
        desk.objects(&["-f", &values]);
    }
}

#[test]
fn certificates_that_cannot_work_are_refused_with_what_to_do() {
    let desk = Desk::new();
    // Files, since what --set-file says beats what --set says.
    let bundle = |name: &str, content: &str| {
        let path = desk.path(name);
        fs::write(&path, content).unwrap();
        format!("certificates.caBundle={path}")
    };
    let empty = bundle("empty", "");
    let base64 = bundle("base64", "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t");
    let key = bundle("key", &format!("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n{}", desk.ca()));
    for (arguments, expected) in [
        (
            &["--set", "certificates.existingSecret="][..],
            "certificates: choose one: certificates.certManager.enabled=true where cert-manager is installed; or \
             certificates.existingSecret=NAME, a Secret with tls.crt and tls.key for berth-webhook.berth-system.svc, and \
             --set-file certificates.caBundle=ca.crt",
        ),
        (
            &["--set", CERT_MANAGER, "--set", "certificates.existingSecret=mine"],
            "certificates: choose certManager.enabled, or existingSecret with caBundle, and not both",
        ),
        (
            &["--set", CERT_MANAGER, "--set", "certificates.certManager.duration=30m"],
            "certificates: certManager.renewBefore (720h) has to be shorter than certManager.duration (30m)",
        ),
        (
            &["--set-file", &empty],
            "certificates: with existingSecret, the API server needs the CA of its certificate: --set-file \
             certificates.caBundle=ca.crt",
        ),
        (&["--set-file", &base64], "certificates: caBundle is no PEM certificate"),
        (&["--set-file", &key], "certificates: caBundle holds a private key"),
    ] {
        let refusal = desk.refusal(arguments);
        assert!(refusal.contains(expected), "{arguments:?}: {refusal}");
    }
}

/// A value that exists in one of them only is either not documented or not checked.
#[test]
fn values_and_schema_have_the_same_names() {
    fn properties(schema: &Value, path: &str, found: &mut Vec<String>) {
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}/{name}");
            properties(schema, &path, found);
            found.push(path);
        }
    }
    let schema: Value = serde_json::from_str(&file("charts/berth/values.schema.json")).unwrap();
    let values = yaml(&file("charts/berth/values.yaml"));
    let mut named = Vec::new();
    properties(&schema, "", &mut named);
    // Set by Helm itself; and parts of what is empty by default, which comments tell of.
    let told = ["/global", "/certificates/certManager/issuerRef/", "/resources/claims", "/webhook/namespaceSelector/"];
    for path in named.iter().filter(|path| !told.iter().any(|told| path.starts_with(told))) {
        assert!(values.pointer(path).is_some(), "values.yaml has no {path}");
    }
}
