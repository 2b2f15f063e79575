//! One document as a tree that knows where in the text everything stands.

use std::collections::HashMap;
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle, Tag};
use serde_json::{Map, Value};

use super::path::{Step, steps};
use super::scalar::{key_text, resolve};

/// Nodes that one document may have once its aliases are followed: a few lines of aliases of aliases can stand for
/// billions. The largest object that etcd stores has a hundredth of this.
const MAX_NODES: usize = 500_000;

/// What is wrong with a document, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Line in the document, from 1.
    pub(super) line: usize,
    pub(super) message: String,
}

impl Fault {
    fn new(line: usize, message: impl Into<String>) -> Self {
        Self { line, message: message.into() }
    }
}

/// Position of a node in its [`Tree`].
pub(super) type NodeId = usize;

/// One document. All nodes are in one list, so that an alias is a number and nothing can go round in circles unseen.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    root: NodeId,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Bytes of its content, without trailing blank lines; anchor and tag included.
    pub(super) span: Range<usize>,
    /// Line on which it begins, from 1.
    pub(super) line: usize,
    /// Characters before it on that line.
    pub(super) column: usize,
    parent: Option<NodeId>,
}

#[derive(Debug)]
pub(super) enum Kind {
    Scalar { value: Value, style: ScalarStyle },
    Sequence { flow: bool, items: Vec<NodeId> },
    Mapping { flow: bool, entries: Vec<(NodeId, NodeId)> },
    Alias(NodeId),
}

impl Tree {
    /// Reads a text with at most one document; `None` when there is nothing but comments.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, Fault> {
        let options = granit_parser::options! { emit_comments: false, emit_anchor_events: true };
        let mut builder = Builder { text, ..Builder::default() };
        for event in Parser::new_from_str_with_options(text, options) {
            // Line and column are in the marker; the text that goes with them would repeat them.
            let (event, span) = event.map_err(|error| Fault::new(error.marker().line().max(1), error.info()))?;
            builder.take(event, span)?;
        }
        let Some(root) = builder.root else { return Ok(None) };
        Ok(Some(Self { nodes: builder.nodes, root }))
    }

    pub(super) fn root(&self) -> NodeId {
        self.root
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    /// The node itself, or the one that an alias stands for.
    pub(super) fn target(&self, id: NodeId) -> NodeId {
        match self.nodes[id].kind {
            Kind::Alias(target) => target,
            _ => id,
        }
    }

    /// A key's text.
    pub(super) fn key(&self, id: NodeId) -> Option<String> {
        match &self.nodes[self.target(id)].kind {
            Kind::Scalar { value, .. } => key_text(value),
            _ => None,
        }
    }

    /// The document as JSON.
    pub(super) fn value(&self) -> Result<Value, Fault> {
        let mut budget = MAX_NODES;
        self.value_of(self.root, &mut budget)
    }

    fn value_of(&self, id: NodeId, budget: &mut usize) -> Result<Value, Fault> {
        let node = &self.nodes[id];
        *budget = budget.checked_sub(1).ok_or_else(|| {
            Fault::new(node.line, format!("its aliases stand for more than {MAX_NODES} values; write them out"))
        })?;
        match &node.kind {
            Kind::Scalar { value, .. } => Ok(value.clone()),
            Kind::Alias(target) => self.value_of(*target, budget),
            Kind::Sequence { items, .. } => items.iter().map(|item| self.value_of(*item, budget)).collect(),
            Kind::Mapping { entries, .. } => self.mapping_of(entries, budget).map(Value::Object),
        }
    }

    fn mapping_of(&self, entries: &[(NodeId, NodeId)], budget: &mut usize) -> Result<Map<String, Value>, Fault> {
        let mut map = Map::new();
        let mut merged = Vec::new();
        for (key_id, value_id) in entries {
            let line = self.nodes[*key_id].line;
            if self.is_merge(*key_id) {
                merged.push((line, self.value_of(*value_id, budget)?));
                continue;
            }
            let key =
                self.key(*key_id).ok_or_else(|| Fault::new(line, "a key must be text; this one is a collection"))?;
            let value = self.value_of(*value_id, budget)?;
            if map.contains_key(&key) {
                // kubectl takes the last one, other tools the first: whatever is meant, somebody is surprised.
                return Err(Fault::new(line, format!("key {key:?} is given twice; remove one of the two")));
            }
            map.insert(key, value);
        }
        for (line, value) in merged {
            let sources = match value {
                Value::Array(sources) => sources,
                one => vec![one],
            };
            for source in sources {
                let Value::Object(source) = source else {
                    return Err(Fault::new(line, "<< merges mappings; this is none"));
                };
                // What stands in the mapping itself, or came earlier, goes first.
                for (key, value) in source {
                    map.entry(key).or_insert(value);
                }
            }
        }
        Ok(map)
    }

    fn is_merge(&self, key: NodeId) -> bool {
        matches!(&self.nodes[key].kind, Kind::Scalar { value: Value::String(text), style: ScalarStyle::Plain } if text == "<<")
    }

    /// The value of a key of a mapping.
    pub(super) fn entry(&self, id: NodeId, key: &str) -> Option<(NodeId, NodeId)> {
        let Kind::Mapping { entries, .. } = &self.nodes[self.target(id)].kind else { return None };
        entries.iter().find(|(known, _)| self.key(*known).as_deref() == Some(key)).copied()
    }

    /// The items of a sequence; none of anything else.
    pub(super) fn items(&self, id: NodeId) -> &[NodeId] {
        match &self.nodes[self.target(id)].kind {
            Kind::Sequence { items, .. } => items,
            _ => &[],
        }
    }

    /// A mapping's keys, in their order.
    pub(super) fn keys(&self, id: NodeId) -> Vec<String> {
        match &self.nodes[self.target(id)].kind {
            Kind::Mapping { entries, .. } => entries.iter().filter_map(|(key, _)| self.key(*key)).collect(),
            _ => Vec::new(),
        }
    }

    /// The value of one node; `None` when it cannot be read.
    pub(super) fn subtree(&self, id: NodeId) -> Option<Value> {
        let mut budget = MAX_NODES;
        self.value_of(id, &mut budget).ok()
    }

    /// Whether the node stands in brackets or braces.
    pub(super) fn in_flow(&self, id: NodeId) -> bool {
        let mut at = self.nodes[id].parent;
        while let Some(parent) = at {
            match self.nodes[parent].kind {
                Kind::Mapping { flow: true, .. } | Kind::Sequence { flow: true, .. } => return true,
                _ => at = self.nodes[parent].parent,
            }
        }
        false
    }

    /// Lists under a key, both in block form: the key and the first item of each.
    pub(super) fn lists(&self) -> impl Iterator<Item = (NodeId, NodeId)> {
        let entries = self.nodes.iter().filter_map(|node| match &node.kind {
            Kind::Mapping { flow: false, entries } => Some(entries),
            _ => None,
        });
        entries.flatten().filter_map(|(key, value)| match &self.nodes[*value].kind {
            Kind::Sequence { flow: false, items } => items.first().map(|item| (*key, *item)),
            _ => None,
        })
    }

    /// Mappings under a key, both in block form: the key and the first key of each.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (NodeId, NodeId)> {
        let entries = self.nodes.iter().filter_map(|node| match &node.kind {
            Kind::Mapping { flow: false, entries } => Some(entries),
            _ => None,
        });
        entries.flatten().filter_map(|(key, value)| match &self.nodes[*value].kind {
            Kind::Mapping { flow: false, entries } => entries.first().map(|(first, _)| (*key, *first)),
            _ => None,
        })
    }

    /// The place of a node in the value of the whole document.
    pub(super) fn place<'a>(&self, root: &'a mut Value, id: NodeId) -> Option<&'a mut Value> {
        let Some(parent) = self.nodes[id].parent else { return Some(root) };
        let outer = self.place(root, parent)?;
        match &self.nodes[parent].kind {
            Kind::Sequence { items, .. } => outer.get_mut(items.iter().position(|item| *item == id)?),
            Kind::Mapping { entries, .. } => {
                let (key, _) = entries.iter().find(|(_, value)| *value == id)?;
                outer.get_mut(&self.key(*key)?)
            }
            Kind::Scalar { .. } | Kind::Alias(_) => None,
        }
    }

    /// The line of a field below `from`: whether the field itself is there, or only its parent.
    pub(super) fn line_of(&self, from: NodeId, path: &str) -> (usize, bool) {
        let mut at = from;
        let mut line = self.nodes[from].line;
        for step in steps(path) {
            let next = match step {
                Step::Field(key) => self.entry(at, key),
                Step::Bracket(key) => self.entry(at, key).or_else(|| self.item(at, key).map(|item| (item, item))),
            };
            let Some((key, value)) = next else { return (line, false) };
            line = self.nodes[key].line;
            at = value;
        }
        (line, true)
    }

    fn item(&self, id: NodeId, key: &str) -> Option<NodeId> {
        let items = self.items(id);
        match key.parse::<usize>() {
            Ok(index) => items.get(index).copied(),
            Err(_) => items
                .iter()
                .copied()
                .find(|item| self.entry(*item, "name").is_some_and(|(_, name)| self.key(name).as_deref() == Some(key))),
        }
    }
}

#[derive(Default)]
struct Builder<'a> {
    text: &'a str,
    nodes: Vec<Node>,
    root: Option<NodeId>,
    /// Collections that are not closed yet, with the key that waits for its value.
    open: Vec<(NodeId, Option<NodeId>)>,
    anchors: HashMap<usize, NodeId>,
    last: NodeId,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref()).map_err(|message| Fault::new(line, message))?;
                self.add(Kind::Scalar { value, style }, span, anchor)?;
            }
            Event::SequenceStart(style, anchor, _) => {
                let kind = Kind::Sequence { flow: style == StructureStyle::Flow, items: Vec::new() };
                let id = self.add(kind, span, anchor)?;
                self.open.push((id, None));
            }
            Event::MappingStart(style, anchor, _) => {
                let kind = Kind::Mapping { flow: style == StructureStyle::Flow, entries: Vec::new() };
                let id = self.add(kind, span, anchor)?;
                self.open.push((id, None));
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(anchor) => {
                let target = self.anchors.get(&anchor).copied();
                let target = target.filter(|target| !self.open.iter().any(|(open, _)| open == target));
                let target = target.ok_or_else(|| Fault::new(line, "an alias stands for a value that contains it"))?;
                self.add(Kind::Alias(self.resolved(target)), span, 0)?;
            }
            // Comes right after its node, which begins where its anchor does.
            Event::Anchor(..) => {
                if let (Some(node), Some(start)) = (self.nodes.get_mut(self.last), span.start.byte_offset()) {
                    node.span.start = node.span.start.min(start);
                }
            }
            Event::UnresolvedAlias(name) => return Err(Fault::new(line, format!("there is no anchor {name:?}"))),
            _ => {}
        }
        Ok(())
    }

    fn resolved(&self, id: NodeId) -> NodeId {
        match self.nodes[id].kind {
            Kind::Alias(target) => target,
            _ => id,
        }
    }

    fn add(&mut self, kind: Kind, span: Span, anchor: usize) -> Result<NodeId, Fault> {
        let line = span.start.line();
        let mut range = span.byte_range().unwrap_or_default();
        if range.is_empty()
            && let Some((_, Some(key))) = self.open.last()
        {
            // A value that is not there stands behind its colon; the parser says so only of some.
            let after = &self.text[self.nodes[*key].span.end..];
            let blanks = after.len() - after.trim_start_matches([' ', '\t']).len();
            if after[blanks..].starts_with(':') {
                let at = self.nodes[*key].span.end + blanks + 1;
                range = range.start.max(at)..range.end.max(at);
            }
        }
        let content = self.text.get(range.clone()).unwrap_or_default();
        let end = match &kind {
            Kind::Scalar { value, style: ScalarStyle::Literal | ScalarStyle::Folded } => {
                // The blank lines at its end are its own only where it keeps them (`|+`).
                let keeps = value.as_str().is_some_and(|text| text.ends_with("\n\n") || text == "\n");
                let lines = content.trim_end_matches([' ', '\t']);
                let last = lines.strip_suffix('\n').unwrap_or(lines);
                range.start + if keeps { last.trim_end_matches('\r').len() } else { content.trim_end().len() }
            }
            _ => range.end,
        };
        let start = span.tag_start().and_then(|tag| tag.byte_offset()).map_or(range.start, |tag| tag.min(range.start));
        let id = self.nodes.len();
        let parent = self.open.last().map(|(parent, _)| *parent);
        self.nodes.push(Node { kind, span: start..end, line, column: span.start.col(), parent });
        self.last = id;
        if anchor > 0 {
            self.anchors.insert(anchor, id);
        }
        match self.open.last_mut() {
            None if self.root.is_some() => return Err(Fault::new(line, "a second document begins without a --- line")),
            None => self.root = Some(id),
            Some((parent, key)) => match (&mut self.nodes[*parent].kind, key.take()) {
                (Kind::Mapping { .. }, None) => *key = Some(id),
                (Kind::Mapping { entries, .. }, Some(key)) => entries.push((key, id)),
                (Kind::Sequence { items, .. }, _) => items.push(id),
                (Kind::Scalar { .. } | Kind::Alias(_), _) => {}
            },
        }
        Ok(id)
    }

    fn close(&mut self, span: Span) {
        let Some((id, _)) = self.open.pop() else { return };
        let last = match &self.nodes[id].kind {
            Kind::Mapping { flow: false, entries } => entries.last().map(|(_, value)| *value),
            Kind::Sequence { flow: false, items } => items.last().copied(),
            _ => None,
        };
        // A block collection ends in the parser's eyes where the next thing begins, comments included.
        let end = last.map(|last| self.nodes[last].span.end).or(span.end.byte_offset());
        if let Some(end) = end {
            self.nodes[id].span.end = end.max(self.nodes[id].span.start);
        }
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let plain = |text: &str| resolve(text);
    match tag.and_then(Tag::core_suffix) {
        Some("str" | "binary" | "timestamp") => Ok(text.into()),
        Some("null") => Ok(Value::Null),
        Some(wanted @ ("int" | "float" | "bool")) => plain(text).and_then(|value| match (wanted, &value) {
            ("bool", Value::Bool(_)) | ("int" | "float", Value::Number(_)) => Ok(value),
            _ => Err(format!("{text:?} is no !!{wanted}")),
        }),
        _ if style == ScalarStyle::Plain && tag.is_none() => plain(text),
        _ => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value(text: &str) -> Value {
        Tree::parse(text).unwrap().unwrap().value().unwrap()
    }

    fn fault(text: &str) -> Fault {
        match Tree::parse(text) {
            Err(fault) => fault,
            Ok(tree) => tree.unwrap().value().unwrap_err(),
        }
    }

    #[test]
    fn documents_are_read_as_kubectl_reads_them() {
        assert_eq!(
            value("a: &x {b: on, 1: 'yes'}\nc: *x\nd:\n  <<: *x\n  b: 2\ne: |\n  t\nf: !!str 3\ng:\n"),
            json!({"a": {"b": true, "1": "yes"}, "c": {"b": true, "1": "yes"}, "d": {"b": 2, "1": "yes"},
                "e": "t\n", "f": "3", "g": null})
        );
        assert_eq!(value("\u{feff}{\n\t\"a\": [\n\t\t1, \"\\u00e9\"\n\t]\n}\n"), json!({"a": [1, "é"]}));
        assert!(Tree::parse("# only\n\n").unwrap().is_none());
    }

    #[test]
    fn faults_have_lines() {
        for (text, line, part) in [
            ("a: 1\nb: c: d\n", 2, "mapping values"),
            ("a: 1\nb: 2\na: 3\n", 3, "\"a\" is given twice"),
            ("a:\n  - *x\n", 2, "anchor"),
            ("a: &x\n  b: *x\n", 2, "contains it"),
            ("a: .inf\n", 1, "no value of JSON"),
            ("? [a]\n: b\n", 1, "collection"),
            ("a:\n  b: [1\n", 2, "unclosed"),
            ("a: 1\nb:\n  <<: 3\n", 3, "merges"),
            ("a: !!int x\n", 1, "!!int"),
        ] {
            let fault = fault(text);
            assert_eq!(fault.line, line, "{text}: {fault:?}");
            assert!(fault.message.contains(part), "{text}: {fault:?}");
        }
    }

    #[test]
    fn aliases_of_aliases_are_bounded() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..20 {
            let below = format!("*a{}", level - 1);
            text.push_str(&format!("a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(", ")));
        }
        assert!(fault(&text).message.contains("more than 500000 values"));
        assert!(Tree::parse(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn fields_have_lines() {
        let tree = Tree::parse(
            "kind: X\nspec:\n  # why\n  replicas: 3\n  list:\n  - name: a\n    v: 1\n  - name: b\n    v: 2\n",
        )
        .unwrap()
        .unwrap();
        for (path, found) in [
            ("spec.replicas", (4, true)),
            ("spec.list[1].v", (9, true)),
            ("spec.list[b].v", (9, true)),
            ("spec.other", (2, false)),
            ("spec.list[7].v", (5, false)),
            ("", (1, true)),
            ("status.x", (1, false)),
        ] {
            assert_eq!(tree.line_of(tree.root(), path), found, "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "([a-c]: |- |&a |\\*a|\\{|\\}|\\[|\\]|, |\"|'|\\||>|!!int |<<: |\n {0,4}|#|\\PC|\t|\r\n){0,40}") {
            if let Ok(Some(tree)) = Tree::parse(&text) {
                let _ = tree.value();
                proptest::prop_assert!(tree.nodes.iter().all(|node| text.get(node.span.clone()).is_some()));
            }
        }
    }
}
