//! The environment entries that Berth gives a container, and the record of them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::admission::draft::Draft;
use crate::admission::template::{self, Container};
use crate::admission::write::Write;
use crate::policy::names::{GENERATION_ENV, INJECTED_ENV, OWN_ENV, PASSWORD_ENV, THV_OPERATOR};
use crate::policy::{Resolved, Role, ScalingPolicy};

const RECORD: [&str; 3] = ["metadata", "annotations", INJECTED_ENV];

/// What Berth added: container and entry name.
type Record = BTreeSet<(String, String)>;

/// Gives the policy's container its entries, and takes away what Berth once added and the policy does not ask for any more.
pub(super) fn apply(
    write: &Write<'_, '_>,
    resolved: &Resolved<'_>,
    container: Option<&Container>,
    draft: &mut Draft,
    warnings: &mut Vec<String>,
) {
    let wanted = wanted(resolved);
    if resolved.role.is_owned() && write.new.metadata.is_managed_by(THV_OPERATOR) {
        // It compares env in order with what it would write itself, and would write for ever.
        if let Some(container) = container {
            warn_of_missing(container, &wanted, draft, warnings);
        }
        return;
    }
    let mut record = read_record(draft.get(&RECORD));
    let kept = |container_name: &str, name: &str| {
        container.is_some_and(|container| container.name == container_name)
            && wanted.iter().any(|(wanted, _)| *wanted == name)
    };
    for (container_name, name) in record.clone() {
        if !kept(&container_name, &name) {
            remove_own(write, &container_name, &name, draft);
            record.remove(&(container_name, name));
        }
    }
    if let Some(container) = container {
        for (name, entry) in &wanted {
            if ensure(container, name, entry, &resolved.parsed.policy, draft, warnings) {
                record.insert((container.name.clone(), (*name).to_owned()));
            }
        }
    }
    write_record(&record, draft);
}

/// Takes away everything that Berth added.
pub(super) fn remove_all(write: &Write<'_, '_>, draft: &mut Draft) {
    for (container, name) in read_record(draft.get(&RECORD)) {
        remove_own(write, &container, &name, draft);
    }
    write_record(&Record::new(), draft);
}

/// The entries that a workload's policy asks for.
fn wanted(resolved: &Resolved<'_>) -> Vec<(&'static str, Value)> {
    let password = resolved.parsed.policy.storage.redis().and_then(|redis| redis.password.as_ref());
    let password = password.map(|secret| (PASSWORD_ENV, template::password_entry(secret)));
    let generation = (GENERATION_ENV, template::generation_entry());
    match resolved.role {
        Role::Annotated | Role::McpServerProxy => password.into_iter().chain([generation]).collect(),
        Role::VirtualMcpServer => password.into_iter().collect(),
        // The container is the user's; the proxy holds the password.
        Role::McpServerBackend => Vec::new(),
    }
}

/// Makes `entry` the only one of its name. Says whether anything was written.
fn ensure(
    container: &Container,
    name: &str,
    entry: &Value,
    policy: &ScalingPolicy,
    draft: &mut Draft,
    warnings: &mut Vec<String>,
) -> bool {
    let index = container.index.to_string();
    let path = ["spec", "template", "spec", "containers", &index, "env"];
    let template = draft.get(&["spec", "template"]);
    let present = template::env_named(template, container.index, name);
    if name == PASSWORD_ENV
        && present.iter().any(|(_, entry)| template::is_plain(entry))
        && let Some(secret) = policy.storage.redis().and_then(|redis| redis.password.as_ref())
    {
        warnings.push(format!(
            "container {}: the plain {PASSWORD_ENV} was replaced by a reference to key {} of Secret {}; take it out of the \
             manifest, and change the password, since it was readable",
            container.name, secret.key, secret.name
        ));
    }
    let Some(((first, value), rest)) = present.split_first() else {
        draft.push(&path, entry.clone());
        return true;
    };
    let (first, differs) = (*first, *value != entry);
    let duplicates: Vec<usize> = rest.iter().map(|(at, _)| *at).collect();
    // From the end, so that the places of the others hold.
    for at in duplicates.into_iter().rev() {
        draft.remove(&[&path[..], &[&at.to_string()]].concat());
    }
    if differs {
        draft.set(&[&path[..], &[&first.to_string()]].concat(), entry.clone());
    }
    differs
}

/// Removes an entry that Berth added, unless somebody has made it their own since.
fn remove_own(write: &Write<'_, '_>, container: &str, name: &str, draft: &mut Draft) {
    let template = draft.get(&["spec", "template"]);
    let Some(index) = template::container_index(template, container) else { return };
    let before = template::container_index(write.old_template(), container)
        .and_then(|old| template::env_named(write.old_template(), old, name).first().map(|(_, entry)| *entry));
    let own = |entry: &Value| template::has_own_form(entry) && (write.old.is_none() || before == Some(entry));
    let found = template::env_named(template, index, name).into_iter().find(|(_, entry)| own(entry)).map(|(at, _)| at);
    let Some(at) = found else { return };
    let (index, at) = (index.to_string(), at.to_string());
    let path = ["spec", "template", "spec", "containers", &index, "env", &at];
    let last = template::env(draft.get(&["spec", "template"]), index.parse().unwrap_or_default()).len() == 1;
    // The API server stores no empty list; leaving one would be a change that no write asked for.
    draft.remove(if last { path.get(..6).unwrap_or(&path) } else { &path });
}

fn warn_of_missing(container: &Container, wanted: &[(&str, Value)], draft: &Draft, warnings: &mut Vec<String>) {
    let template = draft.get(&["spec", "template"]);
    for (name, _) in wanted.iter().filter(|(name, _)| template::env_named(template, container.index, name).is_empty()) {
        let version = if *name == PASSWORD_ENV { "0.28.0" } else { "0.29.0" };
        warnings.push(format!(
            "container {}: {name} is missing, and Berth leaves env that ToolHive's operator writes alone; ToolHive {version} \
             and later set it",
            container.name
        ));
    }
}

fn read_record(value: &Value) -> Record {
    let text = value.as_str().unwrap_or_default();
    let pairs = text.split(',').filter_map(|item| item.split_once('/'));
    pairs
        .filter(|(_, name)| OWN_ENV.contains(name))
        .map(|(container, name)| (container.to_owned(), name.to_owned()))
        .collect()
}

fn write_record(record: &Record, draft: &mut Draft) {
    if record.is_empty() {
        draft.remove(&RECORD);
        return;
    }
    let text = record.iter().map(|(container, name)| format!("{container}/{name}")).collect::<Vec<_>>().join(",");
    draft.set(&RECORD, json!(text));
}
