//! Helm on the chart, and objects in a form that compares.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use berth::certs::Authority;
use berth_test_cluster::{Helm, Output};
use serde_json::{Map, Value};

pub(crate) const CERT_MANAGER: &str = "certificates.certManager.enabled=true";

static DESKS: AtomicU32 = AtomicU32::new(0);

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn file(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub(crate) fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

pub(crate) fn documents(text: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// A directory with a CA's certificate, and Helm. It is gone when the test ends.
pub(crate) struct Desk {
    path: PathBuf,
    helm: Helm,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let number = DESKS.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chart-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        let authority = Authority::new(Duration::from_secs(3600)).unwrap();
        fs::write(path.join("ca.crt"), authority.pem()).unwrap();
        let helm = Helm::alone(&path).unwrap();
        Self { path, helm }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    pub(crate) fn ca(&self) -> String {
        fs::read_to_string(self.path.join("ca.crt")).unwrap()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.helm.run(arguments).unwrap()
    }

    /// `helm template` of release `berth` in `berth-system` with an existing Secret, unless `arguments` say otherwise.
    pub(crate) fn template(&self, arguments: &[&str]) -> Output {
        let chart = root().join("charts/berth").display().to_string();
        let ca = format!("certificates.caBundle={}", self.path("ca.crt"));
        let mut all = vec!["template", "berth", &chart, "--namespace", "berth-system"];
        if !arguments.contains(&CERT_MANAGER) {
            all.extend(["--set", "certificates.existingSecret=berth-webhook-tls", "--set-file", &ca]);
        }
        all.extend(arguments);
        self.run(&all)
    }

    /// The objects of a rendering that has to succeed.
    pub(crate) fn objects(&self, arguments: &[&str]) -> Vec<Value> {
        documents(&self.template(arguments).ok().unwrap())
    }

    /// What Helm says of a rendering that has to fail.
    pub(crate) fn refusal(&self, arguments: &[&str]) -> String {
        let output = self.template(arguments);
        assert!(!output.success(), "{arguments:?} was rendered");
        output.stderr
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// `KIND/NAME` of an object.
pub(crate) fn key(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

pub(crate) fn find<'a>(objects: &'a [Value], wanted: &str) -> &'a Value {
    objects.iter().find(|object| key(object) == wanted).unwrap_or_else(|| {
        panic!("no {wanted} in {:?}", objects.iter().map(key).collect::<Vec<_>>());
    })
}

/// Takes out what says that Helm made it, wherever it stands: the labels of a release, in selectors too.
pub(crate) fn without_release(mut value: Value) -> Value {
    strip(&mut value);
    value
}

fn strip(value: &mut Value) {
    const OF_A_RELEASE: [&str; 5] = [
        "app.kubernetes.io/instance",
        "app.kubernetes.io/version",
        "app.kubernetes.io/managed-by",
        "helm.sh/chart",
        "helm.sh/resource-policy",
    ];
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !OF_A_RELEASE.contains(&name.as_str()));
            fields.values_mut().for_each(strip);
            if fields.get("annotations").is_some_and(|annotations| *annotations == Value::Object(Map::new())) {
                fields.remove("annotations");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}
