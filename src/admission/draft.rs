//! An object being changed: every change is made in memory and written down as one operation of a JSON patch.

use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation};
use jsonptr::{PointerBuf, Token};
use serde_json::{Map, Value};

/// The parts of an object that may change, and the changes so far.
#[derive(Debug)]
pub(super) struct Draft {
    object: Value,
    operations: Vec<PatchOperation>,
}

impl Draft {
    /// Starts from the parts of an object that may change, at their own places.
    pub(super) fn new(object: Value) -> Self {
        Self { object, operations: Vec::new() }
    }

    /// What stands at a path now; null when nothing does.
    pub(super) fn get(&self, path: &[&str]) -> &Value {
        path.iter().try_fold(&self.object, |value, key| child(value, key)).unwrap_or(&Value::Null)
    }

    /// Makes the value at a path of object keys this one. Parents that are missing come in the same operation.
    pub(super) fn set(&mut self, path: &[&str], value: Value) {
        let depth = self.existing_depth(path);
        let Some((missing, rest)) = path.get(depth..).and_then(<[_]>::split_first) else {
            self.replace(path, value);
            return;
        };
        let value = rest.iter().rev().fold(value, |inner, key| {
            let mut object = Map::new();
            object.insert((*key).to_owned(), inner);
            Value::Object(object)
        });
        let existing = path.get(..depth).unwrap_or_default();
        let Some(parent) = self.get_mut(existing).and_then(Value::as_object_mut) else { return };
        parent.insert((*missing).to_owned(), value.clone());
        let path = pointer(path.get(..=depth).unwrap_or_default());
        self.operations.push(PatchOperation::Add(AddOperation { path, value }));
    }

    /// Adds to the end of the list at a path; a list that is missing is made by the same operation.
    pub(super) fn push(&mut self, path: &[&str], value: Value) {
        let Some(list) = self.get_mut(path).and_then(Value::as_array_mut) else {
            self.set(path, Value::Array(vec![value]));
            return;
        };
        list.push(value.clone());
        let path = pointer(&[path, &["-"]].concat());
        self.operations.push(PatchOperation::Add(AddOperation { path, value }));
    }

    /// Removes what stands at a path, if anything does.
    pub(super) fn remove(&mut self, path: &[&str]) {
        let Some((last, parent)) = path.split_last() else { return };
        let removed = match self.get_mut(parent) {
            Some(Value::Object(object)) => object.remove(*last).is_some(),
            Some(Value::Array(list)) => match last.parse::<usize>() {
                Ok(index) if index < list.len() => {
                    list.remove(index);
                    true
                }
                _ => false,
            },
            _ => false,
        };
        if removed {
            self.operations.push(PatchOperation::Remove(RemoveOperation { path: pointer(path) }));
        }
    }

    /// The changes, in order.
    pub(super) fn into_patch(self) -> Patch {
        Patch(self.operations)
    }

    fn replace(&mut self, path: &[&str], value: Value) {
        let Some(slot) = self.get_mut(path) else { return };
        if *slot == value {
            return;
        }
        slot.clone_from(&value);
        self.operations.push(PatchOperation::Replace(ReplaceOperation { path: pointer(path), value }));
    }

    /// How much of a path is there. A null is as good as missing: adding over it is allowed, going into it is not.
    fn existing_depth(&self, path: &[&str]) -> usize {
        let mut value = &self.object;
        for (depth, key) in path.iter().enumerate() {
            match child(value, key) {
                None | Some(Value::Null) => return depth,
                Some(next) => value = next,
            }
        }
        path.len()
    }

    fn get_mut(&mut self, path: &[&str]) -> Option<&mut Value> {
        path.iter().try_fold(&mut self.object, |value, key| match value {
            Value::Object(object) => object.get_mut(*key),
            Value::Array(list) => list.get_mut(key.parse::<usize>().ok()?),
            _ => None,
        })
    }
}

fn child<'v>(value: &'v Value, key: &str) -> Option<&'v Value> {
    match value {
        Value::Object(object) => object.get(key),
        Value::Array(list) => list.get(key.parse::<usize>().ok()?),
        _ => None,
    }
}

/// Tokens of JSON pointers escape `/` and `~` by themselves.
fn pointer(path: &[&str]) -> PointerBuf {
    PointerBuf::from_tokens(path.iter().map(|key| Token::new(*key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// Makes the changes, checks that the patch makes the same of the original, and gives the patch.
    fn patch(original: Value, change: impl FnOnce(&mut Draft)) -> Value {
        let mut draft = Draft::new(original.clone());
        change(&mut draft);
        let made = draft.object.clone();
        let patch = draft.into_patch();
        let mut patched = original;
        json_patch::patch(&mut patched, &patch).unwrap();
        assert_eq!(patched, made);
        serde_json::to_value(patch).unwrap()
    }

    #[test]
    fn missing_parents_come_in_one_operation() {
        let made = patch(json!({"spec": {}}), |d| {
            d.set(&["spec", "template", "metadata", "annotations", "a/b~c"], json!("1"))
        });
        assert_eq!(
            made,
            json!([{"op": "add", "path": "/spec/template", "value": {"metadata": {"annotations": {"a/b~c": "1"}}}}])
        );
    }

    #[test]
    fn slashes_and_tildes_in_keys_are_escaped() {
        let made = patch(json!({"annotations": {"x": "y"}}), |d| d.set(&["annotations", "a/b~c"], json!("1")));
        assert_eq!(made, json!([{"op": "add", "path": "/annotations/a~1b~0c", "value": "1"}]));
    }

    #[test]
    fn a_null_is_as_good_as_missing() {
        let made = patch(json!({"annotations": null}), |d| d.set(&["annotations", "a"], json!("1")));
        assert_eq!(made, json!([{"op": "add", "path": "/annotations", "value": {"a": "1"}}]));
    }

    #[test]
    fn what_is_already_so_is_no_operation() {
        assert_eq!(patch(json!({"a": {"b": 1}}), |d| d.set(&["a", "b"], json!(1))), json!([]));
        assert_eq!(patch(json!({"a": [1]}), |d| d.remove(&["a", "5"])), json!([]));
        assert_eq!(patch(json!({}), |d| d.remove(&["a", "b"])), json!([]));
    }

    #[test]
    fn lists_grow_and_shrink() {
        let made = patch(json!({"env": [1, 2, 3]}), |d| {
            d.remove(&["env", "1"]);
            d.push(&["env"], json!(4));
            d.push(&["other"], json!(5));
            d.set(&["env", "0"], json!(0));
        });
        assert_eq!(
            made,
            json!([
                {"op": "remove", "path": "/env/1"},
                {"op": "add", "path": "/env/-", "value": 4},
                {"op": "add", "path": "/other", "value": [5]},
                {"op": "replace", "path": "/env/0", "value": 0},
            ])
        );
    }

    proptest! {
        #[test]
        fn any_sequence_patches_to_what_was_made(
            changes in prop::collection::vec((0..3_u8, prop::collection::vec("[ab/~]{1,2}", 1..4), 0..3_i32), 0..8)
        ) {
            patch(json!({"a": {"b": {}}, "b": [1, 2]}), |draft| {
                for (what, path, value) in &changes {
                    let path: Vec<&str> = path.iter().map(String::as_str).collect();
                    match what {
                        0 => draft.set(&path, json!(value)),
                        1 => draft.push(&path, json!(value)),
                        _ => draft.remove(&path),
                    }
                }
            });
        }
    }
}
