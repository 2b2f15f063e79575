//! Whether everything that was applied is still ours.
//!
//! Values are not compared: the API server writes some in another form (quantities, defaults inside lists), and other
//! webhooks may change some (the registry of an image), so that they would differ for ever. Who changes a field of ours
//! becomes its owner, and it leaves our managed fields; that is what is looked for.

use serde_json::Value;

/// Whether `fields` (a `fieldsV1`) has every field of an object that was applied.
pub(in crate::controller) fn covers(fields: &Value, applied: &Value) -> bool {
    let Some(parts) = applied.as_object() else { return false };
    parts.iter().all(|(key, part)| match (key.as_str(), part.as_object()) {
        ("apiVersion" | "kind", _) => true,
        // Names an object, and nobody owns it.
        ("metadata", Some(metadata)) => {
            let own = metadata.iter().filter(|(key, _)| !matches!(key.as_str(), "name" | "namespace"));
            own.into_iter().all(|(key, value)| field(&fields["f:metadata"], key, value))
        }
        _ => field(fields, key, part),
    })
}

fn field(fields: &Value, key: &str, value: &Value) -> bool {
    fields.get(format!("f:{key}")).is_some_and(|fields| node(fields, value))
}

fn node(fields: &Value, value: &Value) -> bool {
    let Some(parts) = fields.as_object() else { return false };
    match value {
        // One value as a whole: a scalar, what Kubernetes calls atomic, or something empty.
        _ if parts.is_empty() => true,
        Value::Object(map) => map.iter().all(|(key, value)| field(fields, key, value)),
        Value::Array(items) => items.iter().all(|item| {
            parts.iter().any(|(key, fields)| is_key_of(key, item) && (!item.is_object() || node(fields, item)))
        }),
        _ => true,
    }
}

/// Whether this is the key of a list's item: `k:` and the fields by which the list is a map, or `v:` and the item itself.
pub(super) fn is_key_of(key: &str, item: &Value) -> bool {
    match key.split_once(':') {
        Some(("k", fields)) => serde_json::from_str::<Value>(fields).is_ok_and(|fields| {
            let fields = fields.as_object();
            // A part of the key that was not written has its default there.
            fields.is_some_and(|fields| {
                item.is_object() && fields.iter().all(|(name, part)| item.get(name).is_none_or(|value| value == part))
            })
        }),
        Some(("v", value)) => serde_json::from_str::<Value>(value).is_ok_and(|value| value == *item),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// As an API server wrote it, shortened.
    fn fields() -> Value {
        json!({
            "f:metadata": {"f:labels": {"f:app": {}}, "f:ownerReferences": {"k:{\"uid\":\"u\"}": {}}},
            "f:spec": {
                "f:replicas": {},
                "f:selector": {},
                "f:template": {"f:spec": {
                    "f:containers": {"k:{\"name\":\"mcp\"}": {
                        ".": {}, "f:name": {}, "f:image": {}, "f:args": {},
                        "f:env": {"k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}},
                        "f:ports": {"k:{\"containerPort\":8080,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                    }},
                    "f:volumes": {"k:{\"name\":\"tmp\"}": {".": {}, "f:name": {}, "f:emptyDir": {}}},
                }},
            },
        })
    }

    fn applied() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "n", "namespace": "ns", "labels": {"app": "a"}, "ownerReferences": [{"uid": "u", "name": "n"}]},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "a"}},
                "template": {"spec": {
                    "containers": [{"name": "mcp", "image": "i", "args": ["x"], "env": [{"name": "A", "value": "1"}],
                        "ports": [{"containerPort": 8080}]}],
                    "volumes": [{"name": "tmp", "emptyDir": {}}],
                }},
            },
        })
    }

    /// Without a field, and what holds nothing else then, as API servers write it.
    fn without(mut fields: Value, path: &str) -> Value {
        let (parent, key) = path.rsplit_once('/').unwrap();
        let rest = fields.pointer_mut(parent).and_then(Value::as_object_mut).unwrap();
        assert!(rest.remove(key).is_some(), "{path}");
        if rest.is_empty() && !parent.is_empty() { without(fields, parent) } else { fields }
    }

    #[test]
    fn what_is_still_ours_is_covered() {
        assert!(covers(&fields(), &applied()));
        // What others added, or own with us, is no matter.
        let mut fields = fields();
        fields["f:spec"]["f:template"]["f:spec"]["f:hostNetwork"] = json!({});
        assert!(covers(&fields, &applied()));
    }

    #[test]
    fn what_another_took_over_is_not() {
        for taken in [
            "/f:spec/f:replicas",
            "/f:spec/f:selector",
            "/f:metadata/f:labels/f:app",
            "/f:metadata/f:ownerReferences/k:{\"uid\":\"u\"}",
            "/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"mcp\"}/f:image",
            "/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"mcp\"}",
            "/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"mcp\"}/f:env/k:{\"name\":\"A\"}/f:value",
            "/f:spec/f:template/f:spec/f:volumes/k:{\"name\":\"tmp\"}/f:emptyDir",
        ] {
            let fields = without(fields(), taken);
            assert!(!covers(&fields, &applied()), "{taken}");
        }
        assert!(!covers(&json!({}), &applied()));
        assert!(!covers(&Value::Null, &applied()));
    }

    #[test]
    fn a_list_item_of_which_only_the_place_is_ours_is_not() {
        let mut fields = fields();
        let container = "/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"mcp\"}";
        *fields.pointer_mut(container).unwrap() = json!({".": {}});
        assert!(!covers(&fields, &applied()));
    }

    proptest! {
        #[test]
        fn anything_is_read(text in r#"\{("f:(spec|metadata)":(\{\}|[0-9]|"x"|\[\]|null)){0,1}\}"#, key in ".{0,12}") {
            if let Ok(fields) = serde_json::from_str::<Value>(&text) {
                let _ = covers(&fields, &applied());
            }
            let _ = is_key_of(&key, &json!({"name": "x"}));
        }
    }
}
