//! Of a pod template only what the rules look at. A template may be large, and most of it concerns nobody here: that is
//! skipped without being built.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::policy::names::{DEFAULT_CONTAINER, OWN_ENV, STAMP};

/// What is kept of a JSON value. What has another shape than expected is kept whole, for the rules to say so.
#[derive(Debug)]
enum Keep {
    /// All of it.
    Whole,
    /// These fields of an object.
    Fields(&'static [Field]),
    /// This of each element of a list.
    Each(&'static Keep),
    /// Of a list of env entries those that Berth writes, at their places; null stands for each other.
    OwnEnv,
}

type Field = (&'static str, Keep);

const ANNOTATIONS: Keep = Keep::Fields(&[(STAMP, Keep::Whole), (DEFAULT_CONTAINER, Keep::Whole)]);
const CONTAINER: Keep = Keep::Fields(&[("name", Keep::Whole), ("env", Keep::OwnEnv)]);
const TEMPLATE: Keep = Keep::Fields(&[
    ("metadata", Keep::Fields(&[("annotations", ANNOTATIONS)])),
    ("spec", Keep::Fields(&[("terminationGracePeriodSeconds", Keep::Whole), ("containers", Keep::Each(&CONTAINER))])),
]);

/// Reads a pod template.
pub(super) fn template(raw: &RawValue) -> Result<Value, serde_json::Error> {
    (&TEMPLATE).deserialize(&mut serde_json::Deserializer::from_str(raw.get()))
}

/// Whether two pod templates differ in what [`template`] leaves out. What cannot be read differs from everything.
pub(super) fn templates_differ_elsewhere(new: Option<&RawValue>, old: Option<&RawValue>) -> bool {
    differ_elsewhere(&TEMPLATE, new, old).unwrap_or(true)
}

fn differ_elsewhere(keep: &Keep, new: Option<&RawValue>, old: Option<&RawValue>) -> Result<bool, serde_json::Error> {
    if new.map(RawValue::get) == old.map(RawValue::get) {
        return Ok(false);
    }
    match keep {
        Keep::Whole => Ok(false),
        Keep::Fields(fields) => {
            let (new, old) = (members(new)?, members(old)?);
            let names: BTreeSet<&str> = new.keys().chain(old.keys()).map(String::as_str).collect();
            for name in names {
                let (new, old) = (new.get(name).copied(), old.get(name).copied());
                let differ = match fields.iter().find(|(kept, _)| *kept == name) {
                    Some((_, keep)) => differ_elsewhere(keep, new, old)?,
                    None => differ(new, old)?,
                };
                if differ {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Keep::Each(keep) => {
            let (new, old) = (elements(new)?, elements(old)?);
            for index in 0..new.len().max(old.len()) {
                if differ_elsewhere(keep, new.get(index).copied(), old.get(index).copied())? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Keep::OwnEnv => {
            let (new, old) = (foreign_env(new)?, foreign_env(old)?);
            for index in 0..new.len().max(old.len()) {
                if differ(new.get(index).copied(), old.get(index).copied())? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}

/// Whether two values differ; other text may still mean the same.
fn differ(new: Option<&RawValue>, old: Option<&RawValue>) -> Result<bool, serde_json::Error> {
    match (new.map(RawValue::get), old.map(RawValue::get)) {
        (Some(new), Some(old)) => {
            Ok(new != old && serde_json::from_str::<Value>(new)? != serde_json::from_str::<Value>(old)?)
        }
        (None, None) => Ok(false),
        _ => Ok(true),
    }
}

/// The fields of an object; of anything else none, since that is kept whole.
fn members(raw: Option<&RawValue>) -> Result<BTreeMap<String, &RawValue>, serde_json::Error> {
    match raw.map(RawValue::get) {
        Some(text) if text.starts_with('{') => serde_json::from_str(text),
        _ => Ok(BTreeMap::new()),
    }
}

/// The elements of a list; of anything else none, since that is kept whole.
fn elements(raw: Option<&RawValue>) -> Result<Vec<&RawValue>, serde_json::Error> {
    match raw.map(RawValue::get) {
        Some(text) if text.starts_with('[') => serde_json::from_str(text),
        _ => Ok(Vec::new()),
    }
}

/// The entries that are not Berth's, in order.
fn foreign_env(raw: Option<&RawValue>) -> Result<Vec<&RawValue>, serde_json::Error> {
    let mut entries = elements(raw)?;
    entries.retain(|entry| !is_own(entry));
    Ok(entries)
}

/// Whether an env entry has a name that Berth writes.
fn is_own(entry: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Entry<'a> {
        #[serde(borrow)]
        name: Cow<'a, str>,
    }
    // An entry of another shape has no name at all.
    serde_json::from_str::<Entry<'_>>(entry.get()).is_ok_and(|entry| OWN_ENV.contains(&&*entry.name))
}

impl<'de> DeserializeSeed<'de> for &'static Keep {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self {
            Keep::Whole => Value::deserialize(deserializer),
            Keep::Fields(_) | Keep::Each(_) | Keep::OwnEnv => deserializer.deserialize_any(Kept(self)),
        }
    }
}

/// Builds what is kept of a value.
struct Kept(&'static Keep);

impl<'de> Visitor<'de> for Kept {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let Keep::Fields(fields) = self.0 else { return Value::deserialize(MapAccessDeserializer::new(map)) };
        let mut object = Map::new();
        while let Some(field) = map.next_key_seed(FieldOf(fields))? {
            match field {
                Some((name, keep)) => {
                    object.insert((*name).to_owned(), map.next_value_seed(keep)?);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(object))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        match self.0 {
            Keep::Each(keep) => {
                while let Some(element) = list.next_element_seed(*keep)? {
                    elements.push(element);
                }
            }
            Keep::OwnEnv => {
                while let Some(entry) = list.next_element::<&RawValue>()? {
                    let own = is_own(entry).then(|| serde_json::from_str(entry.get())).transpose();
                    elements.push(own.map_err(A::Error::custom)?.unwrap_or_default());
                }
            }
            Keep::Whole | Keep::Fields(_) => return Value::deserialize(SeqAccessDeserializer::new(list)),
        }
        Ok(Value::Array(elements))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

/// Finds the field that a key names, if it is one that is kept.
struct FieldOf(&'static [Field]);

impl<'de> DeserializeSeed<'de> for FieldOf {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldOf {
    type Value = Option<&'static Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|(name, _)| *name == key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn raw(value: &Value) -> Box<RawValue> {
        RawValue::from_string(value.to_string()).unwrap()
    }

    fn read(value: &Value) -> Value {
        template(&raw(value)).unwrap()
    }

    fn sample() -> Value {
        json!({
            "metadata": {"labels": {"app": "web"}, "annotations": {"a": "b", STAMP: "3"}},
            "spec": {"terminationGracePeriodSeconds": 7, "volumes": [{"name": "v"}], "containers": [
                {"name": "app", "image": "app:1", "env": [
                    {"name": "A", "value": "1"},
                    {"name": OWN_ENV[0], "value": "secret"},
                    {"name": "B", "value": "2"},
                ]},
                {"name": "side", "image": "side:1"},
            ]},
        })
    }

    #[test]
    fn only_what_rules_look_at_is_built() {
        assert_eq!(
            read(&sample()),
            json!({
                "metadata": {"annotations": {STAMP: "3"}},
                "spec": {"terminationGracePeriodSeconds": 7, "containers": [
                    {"name": "app", "env": [null, {"name": OWN_ENV[0], "value": "secret"}, null]},
                    {"name": "side"},
                ]},
            })
        );
    }

    #[test]
    fn what_has_an_odd_shape_is_kept_for_the_rules_to_refuse() {
        for odd in [
            json!(null),
            json!("x"),
            json!([1, {"a": true}]),
            json!({"metadata": "x", "spec": [1.5]}),
            json!({"metadata": {"annotations": [-1]}, "spec": {"containers": {"name": "app"}}}),
            json!({"spec": {"containers": ["x", {"name": 3, "env": {"name": "A"}}]}}),
        ] {
            assert_eq!(read(&odd), odd);
        }
    }

    #[test]
    fn a_difference_elsewhere_is_found_wherever_it_is() {
        let old = sample();
        let differ = |change: &dyn Fn(&mut Value)| {
            let mut new = old.clone();
            change(&mut new);
            templates_differ_elsewhere(Some(&raw(&new)), Some(&raw(&old)))
        };
        assert!(differ(&|t| t["metadata"]["labels"]["app"] = json!("api")));
        assert!(differ(&|t| t["metadata"]["annotations"]["a"] = json!("c")));
        assert!(differ(&|t| t["spec"]["volumes"] = json!([])));
        assert!(differ(&|t| t["spec"]["containers"][1]["image"] = json!("side:2")));
        assert!(differ(&|t| t["spec"]["containers"][0]["env"][2]["value"] = json!("3")));
        assert!(differ(&|t| t["spec"]["containers"] = json!([])));
        assert!(differ(&|t| *t = Value::Null));
        assert!(!differ(&|t| t["metadata"]["annotations"][STAMP] = json!("4")));
        assert!(!differ(&|t| t["spec"]["containers"][0]["env"][1] = json!({"name": OWN_ENV[0]})));
    }

    #[test]
    fn other_letters_of_the_same_meaning_are_no_difference() {
        let text = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let old = text(r#"{"spec":{"a":"x","b":{"c":1,"d":2}}}"#);
        let new = text(r#"{ "spec": { "b": {"d": 2, "c": 1}, "a": "x" } }"#);
        assert!(!templates_differ_elsewhere(Some(&new), Some(&old)));
        let new = text(r#"{"spec":{"a":"x","b":{"c":1,"d":3}}}"#);
        assert!(templates_differ_elsewhere(Some(&new), Some(&old)));
    }

    /// Templates that resemble each other, odd ones among them.
    fn templates() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![Just(Value::Null), (0..2).prop_map(Value::from), "[xy]".prop_map(Value::from)];
        let entry = ("A|THV_SESSION_REDIS_PASSWORD|THV_MCPSERVER_GENERATION", scalar.clone())
            .prop_map(|(name, value)| json!({"name": name, "value": value}));
        let env = prop_oneof![scalar.clone(), prop::collection::vec(entry, 0..3).prop_map(Value::from)];
        let container = (scalar.clone(), scalar.clone(), env)
            .prop_map(|(name, image, env)| json!({"name": name, "image": image, "env": env}));
        let containers = prop_oneof![scalar.clone(), prop::collection::vec(container, 0..3).prop_map(Value::from)];
        let annotations = prop_oneof![
            scalar.clone(),
            ("a|toolhive.stacklok.dev/mcpserver-generation", scalar.clone())
                .prop_map(|(key, value)| json!({key: value})),
        ];
        (annotations, containers, scalar.clone(), scalar).prop_map(|(annotations, containers, grace, other)| {
            let spec = json!({"containers": containers, "terminationGracePeriodSeconds": grace, "other": other});
            json!({"metadata": {"annotations": annotations}, "spec": spec})
        })
    }

    proptest! {
        /// Two templates are the same just when both what is kept and what is left out are the same.
        #[test]
        fn nothing_is_lost_between_the_two_halves(new in templates(), old in templates()) {
            let elsewhere = templates_differ_elsewhere(Some(&raw(&new)), Some(&raw(&old)));
            prop_assert_eq!(new != old, elsewhere || read(&new) != read(&old));
        }
    }
}
