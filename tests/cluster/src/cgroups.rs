//! The control groups of a node's containers.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

const BASE: &str = "/sys/fs/cgroup";

/// Under this group of every hierarchy are the groups of nodes, each called as its run's directory.
const ALL: &str = "berth-test";

/// The group of the node whose files are in `dir`, as the kubelet names it.
fn name(dir: &Path) -> String {
    format!("/{ALL}/{}", dir.file_name().unwrap_or_default().to_string_lossy())
}

/// Makes the group of a node in every hierarchy, and gives its name.
pub(crate) fn make(dir: &Path) -> Result<String> {
    let name = name(dir);
    for group in groups(&name) {
        fs::create_dir_all(&group).map_err(Error::at("make", &group))?;
    }
    if is_version_2() {
        // A group has the controllers that those above it pass on.
        for above in [BASE.to_owned(), format!("{BASE}/{ALL}")] {
            let control = Path::new(&above).join("cgroup.subtree_control");
            fs::write(&control, "+cpu +cpuset +memory +pids").map_err(Error::at("write", &control))?;
        }
    }
    Ok(name)
}

/// Removes the group of a node that has ended; one that still has processes stays.
pub(crate) fn remove(dir: &Path) {
    for group in groups(&name(dir)).into_iter().filter(|group| group.is_dir()) {
        remove_tree(&group);
        // The last one takes what they had in common.
        let _ = group.parent().map(fs::remove_dir);
    }
}

/// Removes the groups of nodes whose directory in `base` is gone.
pub(crate) fn remove_all_without_directory(base: &Path) {
    for all in groups(ALL) {
        let names = fs::read_dir(&all).into_iter().flatten().flatten().map(|entry| entry.path());
        for dir in names.filter(|path| path.is_dir()).filter_map(|path| path.file_name().map(|name| base.join(name))) {
            if !dir.exists() {
                remove(&dir);
            }
        }
    }
}

/// The directory of a group in each hierarchy: version 2 has one for all, version 1 one a controller.
fn groups(name: &str) -> Vec<PathBuf> {
    let base = Path::new(BASE);
    let hierarchies = if is_version_2() {
        vec![base.to_owned()]
    } else {
        let entries = fs::read_dir(base).into_iter().flatten().flatten();
        // A controller that shares its hierarchy is a link to it.
        entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
    };
    hierarchies.iter().map(|hierarchy| hierarchy.join(name.trim_start_matches('/'))).collect()
}

fn is_version_2() -> bool {
    Path::new(BASE).join("cgroup.controllers").exists()
}

/// Groups go from the leaves up; the files in them are the kernel's.
fn remove_tree(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}
