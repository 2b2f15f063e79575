//! Container images made without a daemon: an archive as `docker save` writes it, around programs of this machine.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::installed::installed;
use crate::kubectl::run_to_end;
use crate::{Error, Result};

/// An image: a name, files, and the command that it runs.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    files: Vec<(PathBuf, PathBuf)>,
    links: Vec<(String, String)>,
    texts: Vec<(String, String)>,
    entrypoint: Vec<String>,
}

impl Image {
    /// One program, which the image runs; it stands in `/usr/bin` under its own name.
    pub fn of_program(name: &str, program: &Path) -> Self {
        let inside = Path::new("/usr/bin").join(program.file_name().unwrap_or_default());
        let entrypoint = vec![inside.display().to_string()];
        let files = vec![(program.to_owned(), inside)];
        Self { name: name.to_owned(), files, links: Vec::new(), texts: Vec::new(), entrypoint }
    }

    /// The same with another command.
    pub fn entrypoint(mut self, command: &[&str]) -> Self {
        self.entrypoint = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// The same with a symbolic link at `path`.
    pub(crate) fn link(mut self, path: &str, target: &str) -> Self {
        self.links.push((path.to_owned(), target.to_owned()));
        self
    }

    /// The same with a file of this machine at `path`.
    pub fn file(mut self, source: &Path, path: &str) -> Self {
        self.files.push((source.to_owned(), PathBuf::from(path)));
        self
    }

    /// The same with a file of text at `path`.
    pub fn text(mut self, path: &str, text: &str) -> Self {
        self.texts.push((path.to_owned(), text.to_owned()));
        self
    }

    /// As in `berth:0.1.0`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes the archive into `dir`. Programs that are not static bring their libraries along.
    ///
    /// # Errors
    /// When a file cannot be read, or `tar` fails.
    pub fn write(&self, dir: &Path) -> Result<PathBuf> {
        let file_name: String = self.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let work = dir.join(format!("image-{file_name}"));
        let root = work.join("root");
        make_dir(&root)?;
        for (source, inside) in &self.files {
            copy(source, &root, inside)?;
            let strip = Command::new(installed("strip", "binutils")?).arg(place(&root, inside)?).output();
            // What it does not know is no program, and stays as it is.
            strip.map_err(Error::at("strip", source))?;
            for library in libraries(source)? {
                copy(&library, &root, &library)?;
            }
        }
        for (path, target) in &self.links {
            let link = place(&root, Path::new(path))?;
            std::os::unix::fs::symlink(target, &link).map_err(Error::at("make", &link))?;
        }
        for (path, text) in &self.texts {
            write(&place(&root, Path::new(path))?, text)?;
        }
        make_dir(&root.join("tmp"))?;
        make_dir(&root.join("etc"))?;
        write(&root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\nnobody:x:65532:65532:nobody:/:/bin/sh\n")?;
        write(&root.join("etc/nsswitch.conf"), "hosts: files dns\n")?;
        let layer = work.join("layer.tar");
        tar(&layer, &root, &["."])?;
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": {"Entrypoint": self.entrypoint, "Env": ["PATH=/usr/bin:/bin"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer)?)]},
        });
        write(&work.join("config.json"), &config.to_string())?;
        let repository = if self.name.contains('/') { self.name.clone() } else { format!("library/{}", self.name) };
        let tag = format!("docker.io/{repository}");
        let manifest = json!([{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]);
        write(&work.join("manifest.json"), &manifest.to_string())?;
        let archive = dir.join(format!("{file_name}.tar"));
        tar(&archive, &work, &["manifest.json", "config.json", "layer.tar"])?;
        fs::remove_dir_all(&work).map_err(Error::at("remove", &work))?;
        Ok(archive)
    }
}

/// Directories that everybody may enter, as in any image.
fn make_dir(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(Error::at("make", path))
}

/// The place of a file of the image, its directory made.
fn place(root: &Path, inside: &Path) -> Result<PathBuf> {
    let path = root.join(inside.strip_prefix("/").unwrap_or(inside));
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    Ok(path)
}

fn copy(source: &Path, root: &Path, inside: &Path) -> Result<()> {
    fs::copy(source, place(root, inside)?).map_err(Error::at("copy", source))?;
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::at("write", path))
}

/// The shared libraries of a program, its loader among them; none of a static one.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output =
        Command::new(installed("ldd", "libc-bin")?).arg(program).output().map_err(Error::at("run", program))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(missing) = text.lines().find(|line| line.contains("not found")) {
        return Err(Error::new(format!("{} does not run here either: {}", program.display(), missing.trim())));
    }
    // `NAME => PATH (ADDRESS)`, or `PATH (ADDRESS)` for the loader.
    let paths = text.lines().filter_map(|line| {
        let line = line.trim();
        let path = line.split_once(" => ").map_or(line, |(_, path)| path).split(' ').next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    });
    Ok(paths.collect())
}

fn tar(archive: &Path, dir: &Path, files: &[&str]) -> Result<()> {
    let mut command = Command::new(installed("tar", "tar")?);
    // The same files make the same archive, whoever's they are.
    command.args(["--create", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"]);
    command.args(["--mode=a+rX,u+w", "--file"]).arg(archive).arg("--directory").arg(dir).args(files);
    run_to_end(command, "tar", "")?.ok()?;
    Ok(())
}

fn sha256(file: &Path) -> Result<String> {
    let mut command = Command::new(installed("sha256sum", "coreutils")?);
    command.arg(file);
    let text = run_to_end(command, "sha256sum", "")?.ok()?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}
