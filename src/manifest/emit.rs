//! Writes values as YAML, in the form that the rest of a document has.

use serde_json::{Map, Value};

use super::scalar::{quoted, write_string};
use super::tree::{NodeId, Tree};

/// How a document is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// Line end.
    pub(super) eol: &'static str,
    /// How much further than its key a list stands: kubectl writes 0, many people 2.
    pub(super) list_indent: usize,
    /// How much further than its key a mapping stands.
    pub(super) step: usize,
}

impl Default for Style {
    fn default() -> Self {
        Self { eol: "\n", list_indent: 0, step: 2 }
    }
}

/// A value in block form. The first line begins where the caller stands, the others at column `indent`. Keys come in
/// the order of `order`, where that is a mapping that has them; new ones after them, sorted.
pub(super) fn block(value: &Value, indent: usize, style: Style, order: Option<(&Tree, NodeId)>) -> String {
    let mut out = String::new();
    Emitter { style, out: &mut out }.node(value, indent, order);
    out
}

/// `key: value`, the value in block form where it is a collection.
pub(super) fn entry(key: &str, value: &Value, indent: usize, style: Style) -> String {
    let mut out = String::new();
    Emitter { style, out: &mut out }.entry(key, value, indent, None);
    out
}

/// A value on one line, in the form that is both YAML and JSON.
pub(super) fn flow(value: &Value, json: bool) -> String {
    match value {
        Value::String(text) if !json => write_string(text, true),
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(|item| flow(item, json)).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) => {
            let entries = ordered(map, &[]);
            let entries = entries.map(|(key, value)| format!("{}: {}", flow_key(key, json), flow(value, json)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

pub(super) fn flow_key(key: &str, json: bool) -> String {
    if json { quoted(key) } else { write_string(key, true) }
}

/// A value over several lines as JSON; lines but the first begin at column `indent`.
pub(super) fn json(value: &Value, indent: usize, step: usize, eol: &str) -> String {
    let inner = " ".repeat(indent + step);
    let close = format!("{eol}{}", " ".repeat(indent));
    let separator = format!(",{eol}{inner}");
    match value {
        Value::Array(items) if !items.is_empty() => {
            let items: Vec<_> = items.iter().map(|item| json(item, indent + step, step, eol)).collect();
            format!("[{eol}{inner}{}{close}]", items.join(&separator))
        }
        Value::Object(map) if !map.is_empty() => {
            let entries = ordered(map, &[]);
            let entries =
                entries.map(|(key, value)| format!("{}: {}", quoted(key), json(value, indent + step, step, eol)));
            format!("{{{eol}{inner}{}{close}}}", entries.collect::<Vec<_>>().join(&separator))
        }
        _ => flow(value, true),
    }
}

/// The entries of a mapping in the order of `known`; the others after them, what names a thing first, as people write it.
fn ordered<'m>(map: &'m Map<String, Value>, known: &[String]) -> impl Iterator<Item = (&'m String, &'m Value)> {
    let place = |key: &str| known.iter().position(|known| known == key).unwrap_or(known.len());
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(key, _)| (place(key), key.as_str() != "name"));
    entries.into_iter()
}

struct Emitter<'a> {
    style: Style,
    out: &'a mut String,
}

impl Emitter<'_> {
    fn new_line(&mut self, indent: usize) {
        self.out.push_str(self.style.eol);
        self.out.push_str(&" ".repeat(indent));
    }

    fn node(&mut self, value: &Value, indent: usize, order: Option<(&Tree, NodeId)>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                let known = order.map(|(tree, id)| tree.keys(id)).unwrap_or_default();
                for (at, (key, value)) in ordered(map, &known).enumerate() {
                    if at > 0 {
                        self.new_line(indent);
                    }
                    let below = order.and_then(|(tree, id)| Some((tree, tree.entry(id, key)?.1)));
                    self.entry(key, value, indent, below);
                }
            }
            Value::Array(items) if !items.is_empty() => {
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        self.new_line(indent);
                    }
                    self.out.push_str("- ");
                    let below = order.and_then(|(tree, id)| Some((tree, *tree.items(id).get(at)?)));
                    self.node(item, indent + 2, below);
                }
            }
            Value::String(text) => self.out.push_str(&write_string(text, false)),
            _ => self.out.push_str(&flow(value, false)),
        }
    }

    fn entry(&mut self, key: &str, value: &Value, indent: usize, order: Option<(&Tree, NodeId)>) {
        self.out.push_str(&write_string(key, false));
        self.out.push(':');
        let inner = match value {
            Value::Object(map) if !map.is_empty() => Some(indent + self.style.step),
            Value::Array(items) if !items.is_empty() => Some(indent + self.style.list_indent),
            _ => None,
        };
        match inner {
            Some(inner) => {
                self.new_line(inner);
                self.node(value, inner, order);
            }
            None => {
                self.out.push(' ');
                self.node(value, indent, order);
            }
        }
    }
}
