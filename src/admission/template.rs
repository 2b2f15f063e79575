//! Finding one's way in a pod template of whatever shape.

use serde_json::{Value, json};

use crate::policy::names::{
    DEFAULT_CONTAINER, GENERATION_ENV, PASSWORD_ENV, STAMP_FIELD_PATH, TOOLHIVE_CONTAINER, VMCP_CONTAINER,
};
use crate::policy::{CodeWord, CrKind, Problem, SecretRef, annotation_path, names};

const CONTAINERS: &str = "spec.template.spec.containers";

/// The container that holds the sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Container {
    pub(super) index: usize,
    pub(super) name: String,
}

/// Finds the policy's container: the one that the policy names, else the one that a custom resource's kind implies, else
/// kubectl's default container, else the only one.
pub(super) fn container(template: &Value, named: Option<&str>, owner: Option<CrKind>) -> Result<Container, Problem> {
    check_shape(template)?;
    let names = container_names(template);
    let at = |wanted: &str| names.iter().position(|name| *name == wanted);
    let found = |index: usize| Container { index, name: names.get(index).copied().unwrap_or_default().to_owned() };
    if let Some(named) = named {
        return at(named).map(found).ok_or_else(|| {
            let detail = format!("no container of the pod template has this name; name one of {}", list(&names));
            Problem::invalid(CodeWord::InvalidPolicy, annotation_path(names::CONTAINER), named, detail)
        });
    }
    let implied = owner.map(|kind| match kind {
        CrKind::McpServer => TOOLHIVE_CONTAINER,
        CrKind::VirtualMcpServer => VMCP_CONTAINER,
    });
    let default =
        template.pointer("/metadata/annotations").and_then(|all| all.get(DEFAULT_CONTAINER)).and_then(Value::as_str);
    match implied.and_then(at).or_else(|| default.and_then(at)) {
        Some(index) => Ok(found(index)),
        None if names.len() == 1 => Ok(found(0)),
        None => Err(nameless(&names, implied)),
    }
}

/// Nothing says which container it is. `implied` is the name that a custom resource's kind goes by; nobody follows the
/// annotations of its workloads.
fn nameless(names: &[&str], implied: Option<&str>) -> Problem {
    let (field, rest) = match implied {
        None => (annotation_path(names::CONTAINER), "name the container that holds the sessions".to_owned()),
        Some(implied) => (
            CONTAINERS.to_owned(),
            format!(
                "call the container that holds the sessions {implied}, or name it in the pod template's annotation \
                 {DEFAULT_CONTAINER}"
            ),
        ),
    };
    Problem::required(CodeWord::InvalidPolicy, field, format!("the pod template has {}; {rest}", list(names)))
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "no containers".to_owned() } else { format!("the containers {}", names.join(", ")) }
}

/// Refuses templates in which one could not even look, so that everything after this may.
fn check_shape(template: &Value) -> Result<(), Problem> {
    let wrong = |field: &str, value: &Value, what: &str| {
        let shown = if value.is_object() || value.is_array() { Value::Null } else { value.clone() };
        Err(Problem::invalid(CodeWord::InvalidPolicy, field, shown, format!("it must be {what}")))
    };
    for (pointer, field) in
        [("/metadata", "spec.template.metadata"), ("/metadata/annotations", "spec.template.metadata.annotations")]
    {
        match template.pointer(pointer) {
            None | Some(Value::Null | Value::Object(_)) => {}
            Some(other) => return wrong(field, other, "an object"),
        }
    }
    let Some(containers) = template.pointer("/spec/containers").and_then(Value::as_array) else {
        return Err(Problem::required(CodeWord::InvalidPolicy, CONTAINERS, "a pod template needs containers"));
    };
    for (index, container) in containers.iter().enumerate() {
        if container.get("name").and_then(Value::as_str).is_none() {
            return wrong(
                &format!("{CONTAINERS}[{index}].name"),
                container.get("name").unwrap_or(&Value::Null),
                "a name",
            );
        }
        match container.get("env") {
            None | Some(Value::Null | Value::Array(_)) => {}
            Some(other) => return wrong(&format!("{CONTAINERS}[{index}].env"), other, "a list"),
        }
    }
    Ok(())
}

fn container_names(template: &Value) -> Vec<&str> {
    let containers = template.pointer("/spec/containers").and_then(Value::as_array);
    containers.into_iter().flatten().map(|c| c.get("name").and_then(Value::as_str).unwrap_or_default()).collect()
}

/// The index of a container of this name.
pub(super) fn container_index(template: &Value, name: &str) -> Option<usize> {
    container_names(template).iter().position(|known| *known == name)
}

/// The env entries of one container.
pub(super) fn env(template: &Value, container: usize) -> &[Value] {
    let entries = template.pointer("/spec/containers").and_then(|all| all.get(container)).and_then(|c| c.get("env"));
    entries.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Where entries of this name stand among a container's env, and what they are.
pub(super) fn env_named<'t>(template: &'t Value, container: usize, name: &str) -> Vec<(usize, &'t Value)> {
    let named = |entry: &Value| entry.get("name").and_then(Value::as_str) == Some(name);
    env(template, container).iter().enumerate().filter(|(_, entry)| named(entry)).collect()
}

/// Whether an env entry holds text in the clear. An empty one holds nothing.
pub(super) fn is_plain(entry: &Value) -> bool {
    entry.get("value").is_some_and(|value| !value.is_null() && value != "")
}

/// The entry that gives a container the Redis password.
pub(crate) fn password_entry(secret: &SecretRef) -> Value {
    json!({"name": PASSWORD_ENV, "valueFrom": {"secretKeyRef": {"name": secret.name, "key": secret.key}}})
}

/// The entry that gives a container its own stamp.
pub(crate) fn generation_entry() -> Value {
    // With apiVersion written out: the API server fills it in, and an entry without it would look like drift for ever.
    json!({"name": GENERATION_ENV, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": STAMP_FIELD_PATH}}})
}

/// Whether an entry has the form of those that Berth writes.
pub(super) fn has_own_form(entry: &Value) -> bool {
    let from = entry.get("valueFrom");
    match entry.get("name").and_then(Value::as_str) {
        Some(PASSWORD_ENV) => from.and_then(|from| from.get("secretKeyRef")).is_some(),
        Some(GENERATION_ENV) => {
            from.and_then(|from| from.pointer("/fieldRef/fieldPath")).and_then(Value::as_str) == Some(STAMP_FIELD_PATH)
        }
        _ => false,
    }
}

/// The template without its stamp, for telling whether anything else changed.
pub(super) fn without_stamp(mut template: Value) -> Value {
    let annotations = template.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    if let Some(annotations) = annotations {
        annotations.remove(names::STAMP);
        // A map that held nothing but the stamp is no other template than one without a map.
        if annotations.is_empty()
            && let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.remove("annotations");
        }
    }
    template
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(names: &[&str], default: Option<&str>) -> Value {
        let containers: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
        let annotations = default.map(|name| json!({ DEFAULT_CONTAINER: name }));
        json!({"metadata": {"annotations": annotations}, "spec": {"containers": containers}})
    }

    #[test]
    fn the_container_is_found_in_order() {
        let found = |t: &Value, named, owner| container(t, named, owner).map(|c| c.name);
        let two = template(&["app", "sidecar"], None);
        assert_eq!(found(&two, Some("sidecar"), None), Ok("sidecar".into()));
        assert_eq!(found(&template(&["app", "sidecar"], Some("sidecar")), None, None), Ok("sidecar".into()));
        assert_eq!(found(&template(&["app"], None), None, None), Ok("app".into()));
        assert_eq!(
            found(&template(&["x", "toolhive"], Some("x")), None, Some(CrKind::McpServer)),
            Ok("toolhive".into())
        );
        assert_eq!(found(&template(&["x", "vmcp"], None), None, Some(CrKind::VirtualMcpServer)), Ok("vmcp".into()));
        let ambiguous = found(&two, None, None).unwrap_err();
        assert!(ambiguous.detail.contains("app, sidecar"), "{}", ambiguous.detail);
        assert_eq!(ambiguous.field, "metadata.annotations[berth.dev/container]");
        let owned = found(&two, None, Some(CrKind::McpServer)).unwrap_err();
        assert_eq!(owned.field, "spec.template.spec.containers", "that annotation is not followed here");
        for advice in ["toolhive", DEFAULT_CONTAINER] {
            assert!(owned.detail.contains(advice), "{}", owned.detail);
        }
        let unknown = found(&two, Some("db"), None).unwrap_err();
        assert!(unknown.message().contains("app, sidecar"), "{}", unknown.message());
    }

    #[test]
    fn odd_templates_are_problems_not_panics() {
        for odd in [
            Value::Null,
            json!("x"),
            json!({}),
            json!({"spec": {"containers": {}}}),
            json!({"spec": {"containers": []}}),
            json!({"spec": {"containers": ["x"]}}),
            json!({"spec": {"containers": [{"name": 3}]}}),
            json!({"spec": {"containers": [{"name": "a", "env": "x"}]}}),
            json!({"metadata": "x", "spec": {"containers": [{"name": "a"}]}}),
            json!({"metadata": {"annotations": []}, "spec": {"containers": [{"name": "a"}]}}),
        ] {
            let problem = container(&odd, None, None).expect_err(&odd.to_string());
            assert_eq!(problem.word, CodeWord::InvalidPolicy);
        }
    }
}
