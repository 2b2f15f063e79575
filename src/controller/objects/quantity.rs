//! Quantities of Kubernetes, as in `resources.requests.cpu: 500m`.
//!
//! An API server answers a patch with a quantity that is none by a 500, as if it were in trouble, and names no field.

use serde_json::{Map, Value};

use super::refusal::Refusal;

/// The same JSON with each quantity as text: the API takes numbers too, and its types in this program text alone. `key` is the
/// field that it stands in.
pub(super) fn with_quantities(value: &Value, key: &str, path: &str) -> Result<Value, Refusal> {
    match value {
        Value::Object(map) => {
            let field = |(name, value): (&String, &Value)| {
                let path = format!("{path}.{name}");
                let value = match (key, name.as_str(), value) {
                    ("resources", "limits" | "requests", value) => quantities(value, &path)?,
                    ("emptyDir", "sizeLimit", value) | ("resourceFieldRef", "divisor", value) => {
                        quantity(value, &path)?
                    }
                    (_, name, value) => with_quantities(value, name, &path)?,
                };
                Ok((name.clone(), value))
            };
            Ok(Value::Object(map.iter().map(field).collect::<Result<Map<_, _>, _>>()?))
        }
        Value::Array(list) => {
            let entry = |(at, value): (usize, &Value)| with_quantities(value, key, &format!("{path}[{at}]"));
            list.iter().enumerate().map(entry).collect()
        }
        other => Ok(other.clone()),
    }
}

/// The same for an object of nothing but quantities.
pub(super) fn quantities(value: &Value, path: &str) -> Result<Value, Refusal> {
    let Value::Object(all) = value else { return Ok(value.clone()) };
    let each = |(name, value): (&String, &Value)| Ok((name.clone(), quantity(value, &format!("{path}.{name}"))?));
    Ok(Value::Object(all.iter().map(each).collect::<Result<Map<_, _>, _>>()?))
}

/// What is of another type is refused by who reads it. Kubernetes, too, looks at a text without the space around it.
fn quantity(value: &Value, path: &str) -> Result<Value, Refusal> {
    match value {
        Value::Number(number) => Ok(Value::String(number.to_string())),
        Value::String(text) if !is_quantity(text.trim()) => {
            Err(Refusal::invalid(path, format!("{text:?} is no quantity; write one as in 500m, 2, 256Mi or 1Gi")))
        }
        Value::String(text) => Ok(Value::String(text.trim().to_owned())),
        other => Ok(other.clone()),
    }
}

/// Whether Kubernetes takes it: a decimal number with a suffix of powers of 1000 or 1024, or with an exponent. One without
/// digits, such as `m`, Kubernetes takes for 0, which nobody means.
fn is_quantity(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let suffix = unsigned.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = unsigned.strip_suffix(suffix).unwrap_or_default();
    let is_number = number.contains(|c: char| c.is_ascii_digit()) && number.matches('.').count() <= 1;
    let is_suffix = match suffix {
        "" | "n" | "u" | "m" | "k" | "M" | "G" | "T" | "P" | "E" => true,
        "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei" => true,
        _ => suffix.strip_prefix(['e', 'E']).is_some_and(|exponent| exponent.parse::<i64>().is_ok()),
    };
    is_number && is_suffix
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_quantity_is_what_kubernetes_takes() {
        for text in [
            "0", "1", "500m", "1.5", "1.", ".5Gi", "+1Ki", "-1", "100n", "3u", "2k", "1E", "1e3", "1E-3", "1e+3", "7Ei",
        ] {
            assert!(is_quantity(text), "{text}");
        }
        for text in [
            "", "abc", "much", "m", ".", "1.2.3", "1 Gi", "1gb", "1GB", "1K", "1mi", "1e", "1e1.5", "--1", "1,5", "é",
            "1é",
        ] {
            assert!(!is_quantity(text), "{text}");
        }
    }

    #[test]
    fn only_quantities_are_looked_at() {
        let value =
            json!({"limits": {"cpu": 2, "memory": " 1Gi "}, "requests": {"cpu": 0.5}, "claims": [{"name": "limits"}]});
        let expected = json!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "0.5"}, "claims": [{"name": "limits"}]});
        assert_eq!(with_quantities(&value, "resources", "r"), Ok(expected));
        let labels = json!({"limits": "high", "requests": "x", "sizeLimit": "y", "divisor": "z", "resources": "none"});
        assert_eq!(with_quantities(&labels, "nodeSelector", "n"), Ok(labels.clone()));
        for (value, key, path) in [
            (json!({"requests": {"cpu": "abc"}}), "resources", "p.requests.cpu"),
            (json!([{"resources": {"limits": {"cpu": "abc"}}}]), "containers", "p[0].resources.limits.cpu"),
            (json!([{"emptyDir": {"sizeLimit": "abc"}}]), "volumes", "p[0].emptyDir.sizeLimit"),
            (json!({"resourceFieldRef": {"divisor": "abc"}}), "valueFrom", "p.resourceFieldRef.divisor"),
        ] {
            let refusal = with_quantities(&value, key, "p").unwrap_err();
            assert!(refusal.message.starts_with(&format!("{path}: \"abc\" is no quantity")), "{}", refusal.message);
        }
    }
}
