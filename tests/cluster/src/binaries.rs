//! The programs of a cluster: found, or built once from the Go module in `kube/` and cached.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Error, Result, wait_for};

const KUBERNETES: &str = "v1.34.4";
const PROGRAMS: [&str; 7] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet"];
const SOURCES: [&str; 3] =
    [include_str!("../kube/go.mod"), include_str!("../kube/go.sum"), include_str!("../kube/main.go")];
const BUILD_BOUND: Duration = Duration::from_secs(3600);
const REPORT_EVERY: Duration = Duration::from_secs(15);

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Binaries {
    assets: Option<PathBuf>,
}

impl Binaries {
    /// Makes sure of etcd, kube-apiserver and kubectl: takes them from `KUBEBUILDER_ASSETS`, or
    /// builds all programs of Kubernetes into the user's cache, once for every process that asks.
    /// A cold build takes 4 to 10 minutes and says so on standard error.
    ///
    /// # Errors
    /// When Go is missing, or the build fails.
    pub fn ensure() -> Result<Self> {
        let assets = env::var_os("KUBEBUILDER_ASSETS").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let binaries = Self { assets };
        for name in ["etcd", "kube-apiserver", "kubectl"] {
            binaries.program(name)?;
        }
        Ok(binaries)
    }

    /// One program by its name, as in `kube-apiserver`. What `KUBEBUILDER_ASSETS` does not have
    /// (envtest has no kube-controller-manager) is built.
    ///
    /// # Errors
    /// As [`Binaries::ensure`].
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        if let Some(found) = self.assets.as_ref().map(|dir| dir.join(name)).filter(|path| path.exists()) {
            return Ok(found);
        }
        Ok(built()?.join(name))
    }
}

/// The directory with the built programs.
fn built() -> Result<PathBuf> {
    let cache = cache()?;
    let mut hasher = DefaultHasher::new();
    (SOURCES, KUBERNETES).hash(&mut hasher);
    let done = cache.join(format!("kube-{:016x}", hasher.finish()));
    if done.exists() {
        return Ok(done);
    }
    fs::create_dir_all(&cache).map_err(Error::at("make", &cache))?;
    let lock = cache.join("lock");
    let file = File::create(&lock).map_err(Error::at("open", &lock))?;
    if file.try_lock().is_err() {
        eprintln!("waiting for another process that builds the test cluster");
        file.lock().map_err(Error::at("lock", &lock))?;
    }
    if !done.exists() {
        build(&cache, &done)?;
    }
    Ok(done)
}

/// `berth-test` in the user's cache directory: outside the tree, so that cleaning keeps it.
fn cache() -> Result<PathBuf> {
    let from = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    from("XDG_CACHE_HOME")
        .or_else(|| from("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("berth-test"))
        .ok_or_else(|| Error::new("neither XDG_CACHE_HOME nor HOME is set; set one of them to an absolute path"))
}

/// Builds aside and renames, so that a build that is interrupted leaves nothing half done in place.
fn build(cache: &Path, done: &Path) -> Result<()> {
    for entry in fs::read_dir(cache).map_err(Error::at("read", cache))?.flatten() {
        if entry.file_name().to_string_lossy().ends_with(".building") {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let aside = cache.join(format!("{}.building", process::id()));
    fs::create_dir_all(&aside).map_err(Error::at("make", &aside))?;
    go_build(&aside.join("kube"))?;
    for name in PROGRAMS {
        let link = aside.join(name);
        symlink("kube", &link).map_err(Error::at("make", &link))?;
    }
    fs::rename(&aside, done).map_err(Error::at("make", done))
}

fn go_build(output: &Path) -> Result<()> {
    let version = "k8s.io/component-base/version";
    let mut parts = KUBERNETES.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let start = Instant::now();
    eprintln!("building Kubernetes {KUBERNETES} for the tests, once: 4 to 10 minutes when nothing is cached");
    let mut go = Command::new("go")
        .args(["build", "-trimpath", "-mod=readonly", "-buildvcs=false", "-ldflags"])
        .arg(format!(
            "-s -w -X {version}.gitVersion={KUBERNETES} -X {version}.gitMajor={major} -X {version}.gitMinor={minor}"
        ))
        .arg("-o")
        .arg(output)
        .arg(".")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("kube"))
        // Static, so that it also runs in images without a libc.
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .env_remove("GOFLAGS")
        .stdin(Stdio::null())
        .spawn()
        .map_err(|cause| {
            Error::new(format!(
                "cannot run go, which builds the test cluster: {cause}; install Go 1.24 or newer \
                 (https://go.dev/doc/install), or set KUBEBUILDER_ASSETS to a directory with envtest's programs"
            ))
        })?;
    let mut reported = Duration::ZERO;
    let ended = wait_for("the end of go build", BUILD_BOUND, || {
        if start.elapsed() - reported >= REPORT_EVERY {
            reported = start.elapsed();
            eprintln!("building Kubernetes {KUBERNETES}: {} s", reported.as_secs());
        }
        go.try_wait().map_err(|cause| Error::new(format!("cannot wait for go: {cause}")))
    });
    if ended.is_err() {
        let _ = go.kill();
        let _ = go.wait();
    }
    if !ended?.success() {
        return Err(Error::new("go build of the test cluster failed; what it printed is above"));
    }
    eprintln!("built Kubernetes {KUBERNETES} in {} s", start.elapsed().as_secs());
    Ok(())
}
