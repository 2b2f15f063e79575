//! A patch, as people read changes.

use json_patch::PatchOperation;
use serde_json::Value;

use super::explain::Change;
use crate::policy::names::PASSWORD_ENV;

/// What a patch changes in an object, one line for each thing.
pub(super) fn of_patch(patch: &[PatchOperation], before: &Value) -> Vec<Change> {
    let changes = patch.iter().map(|operation| {
        let path = operation.path();
        let to = match operation {
            PatchOperation::Add(add) => add.value.clone(),
            PatchOperation::Replace(replace) => replace.value.clone(),
            _ => Value::Null,
        };
        let from = before.pointer(path.as_str()).cloned().unwrap_or(Value::Null);
        let (field, to) = unfold(field(path.as_str()), to);
        Change { field, from: hidden(from), to: hidden(to) }
    });
    changes.collect()
}

/// Takes parents that come with their only child, and items of lists that have a name, into the path.
fn unfold(field: String, value: Value) -> (String, Value) {
    match value {
        Value::Object(map) if map.len() == 1 && !is_entry(&map) => {
            let mut field = field;
            let mut value = Value::Null;
            for (key, only) in map {
                push_key(&mut field, &key);
                value = only;
            }
            unfold(field, value)
        }
        Value::Array(mut items) if items.len() == 1 && items.first().is_some_and(|item| item["name"].is_string()) => {
            unfold(format!("{field}[-]"), items.remove(0))
        }
        Value::Object(mut map) if field.ends_with("[-]") && is_entry(&map) => {
            let name = map.remove("name").unwrap_or_default();
            let list = field.trim_end_matches("[-]");
            unfold(format!("{list}[{}]", name.as_str().unwrap_or_default()), Value::Object(map))
        }
        other => (field, other),
    }
}

/// Whether a map is an item of a list that goes by its name.
fn is_entry(map: &serde_json::Map<String, Value>) -> bool {
    map.get("name").is_some_and(Value::is_string)
}

/// A value without the password that may stand in it.
fn hidden(mut value: Value) -> Value {
    if value.get("name").is_some_and(|name| name == PASSWORD_ENV)
        && let Some(password) = value.get_mut("value")
    {
        *password = "(hidden)".into();
    }
    value
}

/// A JSON pointer in the form that the API server writes paths in.
fn field(pointer: &str) -> String {
    let mut field = String::new();
    for token in pointer.split('/').skip(1) {
        push_key(&mut field, &token.replace("~1", "/").replace("~0", "~"));
    }
    field
}

fn push_key(field: &mut String, key: &str) {
    if key.contains(['.', '/']) || key == "-" || key.bytes().all(|byte| byte.is_ascii_digit()) {
        field.push_str(&format!("[{key}]"));
    } else {
        field.push_str(if field.is_empty() { "" } else { "." });
        field.push_str(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines(patch: Value, before: &Value) -> Vec<(String, Value, Value)> {
        let patch: Vec<PatchOperation> = serde_json::from_value(patch).unwrap();
        of_patch(&patch, before).into_iter().map(|change| (change.field, change.from, change.to)).collect()
    }

    #[test]
    fn what_comes_with_its_parents_is_named_by_its_whole_path() {
        let made = lines(
            json!([
                {"op": "add", "path": "/spec/template/metadata", "value": {"annotations": {"a.b/c": "1"}}},
                {"op": "add", "path": "/spec/containers/0/env", "value": [{"name": "X", "valueFrom": {"fieldRef": {"a": 1, "b": 2}}}]},
                {"op": "add", "path": "/spec/containers/0/env/-", "value": {"name": "Y", "value": "1"}},
                {"op": "replace", "path": "/spec/replicas", "value": 3},
                {"op": "remove", "path": "/metadata/annotations/a.b~1d"},
            ]),
            &json!({"spec": {"replicas": 1}, "metadata": {"annotations": {"a.b/d": "x"}}}),
        );
        let expected = [
            ("spec.template.metadata.annotations[a.b/c]", Value::Null, json!("1")),
            ("spec.containers[0].env[X].valueFrom.fieldRef", Value::Null, json!({"a": 1, "b": 2})),
            ("spec.containers[0].env[Y].value", Value::Null, json!("1")),
            ("spec.replicas", json!(1), json!(3)),
            ("metadata.annotations[a.b/d]", json!("x"), Value::Null),
        ];
        assert_eq!(made, expected.map(|(field, from, to)| (field.to_owned(), from, to)));
    }

    #[test]
    fn a_password_that_is_replaced_is_not_repeated() {
        let before = json!({"env": [{"name": "THV_SESSION_REDIS_PASSWORD", "value": "hunter2"}]});
        let made = lines(
            json!([{"op": "replace", "path": "/env/0", "value": {"name": "THV_SESSION_REDIS_PASSWORD"}}]),
            &before,
        );
        assert!(!format!("{made:?}").contains("hunter2"), "{made:?}");
    }
}
