//! A Go module of this directory, built once into the user's cache, for every process that asks.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::kubectl::run_to_end;
use crate::{Error, Result, wait_for};

const BUILD_BOUND: Duration = Duration::from_secs(3600);
const REPORT_EVERY: Duration = Duration::from_secs(15);

/// What is built, and how.
#[derive(Debug)]
pub(crate) struct GoModule {
    /// The name of its binary.
    pub(crate) name: &'static str,
    /// Its directory beside `src/`.
    pub(crate) directory: &'static str,
    /// For people, as in `Kubernetes v1.34.4`.
    pub(crate) title: &'static str,
    /// How long a build takes when nothing is cached, for people.
    pub(crate) takes: &'static str,
    /// The package that is built, as the module's directory sees it.
    pub(crate) package: &'static str,
    /// Names under which its binary is called.
    pub(crate) programs: &'static [&'static str],
    /// `VARIABLE=VALUE` of the linker's `-X`, separated by spaces: what releases are built with.
    pub(crate) variables: &'static str,
    /// The content of its files, and whatever else makes another binary.
    pub(crate) sources: &'static [&'static str],
    /// Its version.
    pub(crate) version: &'static str,
}

impl GoModule {
    /// The directory with its programs.
    ///
    /// # Errors
    /// When Go is missing, or the build fails.
    pub(crate) fn built(&self) -> Result<PathBuf> {
        let cache = cache()?;
        let mut hasher = DefaultHasher::new();
        (self.sources, self.version).hash(&mut hasher);
        let done = cache.join(format!("{}-{:016x}", self.name, hasher.finish()));
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
            self.build(&cache, &done)?;
        }
        Ok(done)
    }

    /// Builds aside and renames, so that a build that is interrupted leaves nothing half done in place.
    fn build(&self, cache: &Path, done: &Path) -> Result<()> {
        for entry in fs::read_dir(cache).map_err(Error::at("read", cache))?.flatten() {
            if entry.file_name().to_string_lossy().ends_with(".building") {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let aside = cache.join(format!("{}.building", process::id()));
        fs::create_dir_all(&aside).map_err(Error::at("make", &aside))?;
        self.go_build(&aside.join(self.name))?;
        for program in self.programs.iter().filter(|program| **program != self.name) {
            let link = aside.join(program);
            symlink(self.name, &link).map_err(Error::at("make", &link))?;
        }
        fs::rename(&aside, done).map_err(Error::at("make", done))
    }

    fn go_build(&self, output: &Path) -> Result<()> {
        let title = self.title;
        let variables = self.variables.split_whitespace().map(|variable| format!(" -X {variable}")).collect::<String>();
        let start = Instant::now();
        eprintln!("building {title} for the tests, once: {} when nothing is cached", self.takes);
        let mut go = Command::new("go")
            .args(["build", "-trimpath", "-mod=readonly", "-buildvcs=false", "-ldflags"])
            .arg(format!("-s -w{variables}"))
            .arg("-o")
            .arg(output)
            .arg(self.package)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(self.directory))
            // Static, so that it also runs in images without a libc.
            .env("CGO_ENABLED", "0")
            .env("GOWORK", "off")
            .env_remove("GOFLAGS")
            .stdin(Stdio::null())
            .spawn()
            .map_err(|cause| {
                Error::new(format!(
                    "cannot run go, which builds the test cluster: {cause}; install Go 1.24 or newer \
                     (https://go.dev/doc/install), or set KUBEBUILDER_ASSETS to a directory with the programs"
                ))
            })?;
        let mut reported = Duration::ZERO;
        let ended = wait_for("the end of go build", BUILD_BOUND, || {
            if start.elapsed() - reported >= REPORT_EVERY {
                reported = start.elapsed();
                eprintln!("building {title}: {} s", reported.as_secs());
            }
            go.try_wait().map_err(|cause| Error::new(format!("cannot wait for go: {cause}")))
        });
        if ended.is_err() {
            let _ = go.kill();
            let _ = go.wait();
        }
        if !ended?.success() {
            return Err(Error::new(format!("go build of {title} failed; what it printed is above")));
        }
        eprintln!("built {title} in {} s", start.elapsed().as_secs());
        Ok(())
    }
}

/// The directory with the files of `package`, a module that the one in the directory `name` beside `src/` requires:
/// downloaded once, and checked against that one's go.sum.
///
/// # Errors
/// When Go is missing, or the download fails.
pub fn module_files(name: &str, package: &str) -> Result<PathBuf> {
    let mut go = Command::new("go");
    go.args(["mod", "download", "-json", package]);
    go.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).env("GOWORK", "off").env_remove("GOFLAGS");
    let text = run_to_end(go, &format!("go mod download {package}"), "")?.ok()?;
    let module: Value = serde_json::from_str(&text).map_err(|cause| Error::new(format!("{cause} in: {text}")))?;
    let directory = module["Dir"].as_str().map(PathBuf::from);
    directory.ok_or_else(|| Error::new(format!("go mod download {package} gave no directory: {text}")))
}

/// `berth-test` in the user's cache directory: outside the tree, so that cleaning keeps it.
///
/// # Errors
/// When the environment does not say where that is.
pub fn cache() -> Result<PathBuf> {
    let from = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    from("XDG_CACHE_HOME")
        .or_else(|| from("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("berth-test"))
        .ok_or_else(|| Error::new("neither XDG_CACHE_HOME nor HOME is set; set one of them to an absolute path"))
}
