//! Changes a document in its text: what does not change stays byte for byte, comments and the order of keys included.

use granit_parser::ScalarStyle;
use serde_json::{Map, Value};
use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::document::Rewritten;
use super::emit::{Style, block, entry, flow, flow_key, json};
use super::scalar::{quoted, write_string};
use super::text::{Edits, Text};
use super::tree::{Kind, NodeId, Tree};

/// The text of a document with `wanted` in place of the nodes that it names.
///
/// Small changes are made in the text. Where that is not possible (a change below an alias, for one), the document is
/// written anew: its order of keys stays, its comments are lost.
pub(super) fn rewrite(text: &str, tree: &Tree, wanted: &[(NodeId, Value)]) -> Result<Rewritten, String> {
    let root = expected(tree, wanted)?;
    let edited = Editor::new(text, tree).edited(wanted);
    if let Some(text) = edited.filter(|edited| reads_as(edited, &root)) {
        return Ok(Rewritten { text, lost_comments: false });
    }
    let anew = Editor::new(text, tree).anew(&root);
    if !reads_as(&anew, &root) {
        return Err("the result cannot be written as YAML".to_owned());
    }
    // A `#` in a value looks like one too; then the note is about nothing, which harms nobody.
    let lost_comments = text[tree.node(tree.root()).span.clone()].contains('#');
    Ok(Rewritten { text: anew, lost_comments })
}

fn reads_as(text: &str, value: &Value) -> bool {
    matches!(Tree::parse(text), Ok(Some(tree)) if tree.value().as_ref() == Ok(value))
}

/// The whole document with the wanted values in it.
fn expected(tree: &Tree, wanted: &[(NodeId, Value)]) -> Result<Value, String> {
    let mut root = tree.value().map_err(|fault| fault.message)?;
    for (id, value) in wanted {
        let place = tree.place(&mut root, *id).ok_or("the object is not part of its document")?;
        *place = value.clone();
    }
    Ok(root)
}

struct Editor<'a> {
    text: Text<'a>,
    tree: &'a Tree,
    style: Style,
    json: bool,
    edits: Edits,
}

/// This change cannot be made in the text alone.
struct Unsupported;

type Edited = Result<(), Unsupported>;

impl<'a> Editor<'a> {
    fn new(text: &'a str, tree: &'a Tree) -> Self {
        let eol = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let json = text[tree.node(tree.root()).span.clone()].starts_with(['{', '[']);
        let style = Style { eol, ..Style::default() };
        let editor = Self { text: Text(text), tree, style, json, edits: Edits::default() };
        let column = |key: NodeId| tree.node(key).column;
        let list_indent =
            tree.lists().find_map(|(key, item)| editor.text.column(editor.dash(item)?).checked_sub(column(key)));
        let step = tree.blocks().find_map(|(key, first)| column(first).checked_sub(column(key)));
        let style = Style {
            eol,
            list_indent: list_indent.unwrap_or(style.list_indent),
            step: step.filter(|step| *step > 0).unwrap_or(style.step),
        };
        Self { style, ..editor }
    }

    fn edited(mut self, wanted: &[(NodeId, Value)]) -> Option<String> {
        for (id, value) in wanted {
            self.node(*id, value, 0).ok()?;
        }
        self.edits.apply(self.text)
    }

    fn anew(&self, root: &Value) -> String {
        let node = self.tree.node(self.tree.root());
        let body = match self.json {
            true => json(root, 0, 2, self.style.eol),
            false => block(root, 0, self.style, Some((self.tree, self.tree.root()))),
        };
        // An anchor or tag of the root goes too: what it stood for is written out.
        format!("{}{body}{}", &self.text.0[..node.span.start], &self.text.0[node.span.end..])
    }

    fn node(&mut self, id: NodeId, new: &Value, parent_indent: usize) -> Edited {
        let node = self.tree.node(id);
        match (&node.kind, new) {
            (Kind::Mapping { flow, entries }, Value::Object(map)) if !entries.is_empty() && !map.is_empty() => {
                self.mapping(id, *flow, entries, map)
            }
            (Kind::Sequence { flow, items }, Value::Array(new)) if !items.is_empty() && !new.is_empty() => {
                self.sequence(id, *flow, items, new)
            }
            _ => self.replace(id, new, parent_indent),
        }
    }

    /// Edits only where something changes.
    fn changed(&mut self, id: NodeId, new: &Value, parent_indent: usize) -> Edited {
        match self.tree.subtree(id) {
            Some(old) if old == *new => Ok(()),
            Some(_) => self.node(id, new, parent_indent),
            None => Err(Unsupported),
        }
    }

    fn mapping(&mut self, id: NodeId, flow: bool, entries: &[(NodeId, NodeId)], new: &Map<String, Value>) -> Edited {
        let indent = self.tree.node(entries[0].0).column;
        let mut missing: Vec<_> = new.iter().collect();
        let mut kept = Vec::new();
        for (at, (key, value)) in entries.iter().enumerate() {
            // A merge key is no key of the result.
            let Some(name) = self.tree.key(*key).filter(|name| name != "<<") else { continue };
            match new.get(&name) {
                Some(wanted) => {
                    self.changed(*value, wanted, indent)?;
                    kept.push((*key, *value));
                }
                None if flow => self.remove_flow(entries, at),
                None => self.remove_entry(entries, at)?,
            }
            missing.retain(|(wanted, _)| **wanted != name);
        }
        if missing.is_empty() {
            return Ok(());
        }
        if kept.is_empty() {
            return Err(Unsupported);
        }
        let merged = self.tree.subtree(id).ok_or(Unsupported)?;
        for (name, value) in missing.into_iter().filter(|(name, value)| merged.get(name.as_str()) != Some(*value)) {
            match flow {
                true => self.insert_flow(id, &kept, |editor, indent, step| {
                    format!("{}: {}", flow_key(name, editor.json), editor.flow_value(value, indent, step))
                }),
                false => self.insert_entry(&kept, name, value),
            }
        }
        Ok(())
    }

    /// A new key goes where the reader looks for it: a single value (and metadata) after the last key that sorts before
    /// it, a collection at the end.
    fn insert_entry(&mut self, entries: &[(NodeId, NodeId)], name: &str, value: &Value) {
        let first = self.tree.node(entries[0].0);
        let indent = first.column;
        let text = entry(name, value, indent, self.style);
        let at_the_end = (value.is_object() || value.is_array()) && name != "metadata";
        let before = |(key, _): &&(NodeId, NodeId)| self.tree.key(*key).is_some_and(|key| key.as_str() < name);
        let previous = if at_the_end { entries.last() } else { entries.iter().rfind(before) };
        match previous {
            Some((_, value)) => self.insert_line(self.tree.node(*value).span.end, indent, &text),
            // `- name: web`: what names an item stays first.
            None if !self.text.begins_line(first.span.start) => {
                let value = entries[0].1;
                self.insert_line(self.tree.node(value).span.end, indent, &text);
            }
            None => {
                let at = self.text.above_comments(self.text.line_start(first.span.start), indent);
                self.edits.insert(at, format!("{}{text}{}", " ".repeat(indent), self.style.eol));
            }
        }
    }

    /// A line after the one that `end` stands on.
    fn insert_line(&mut self, end: usize, indent: usize, text: &str) {
        let at = self.text.below_comments(self.text.line_end(end), indent);
        self.edits.insert(at, format!("{}{}{text}", self.style.eol, " ".repeat(indent)));
    }

    fn remove_entry(&mut self, entries: &[(NodeId, NodeId)], at: usize) -> Edited {
        let (key, value) = entries[at];
        let start = self.tree.node(key).span.start;
        if self.text.begins_line(start) {
            self.edits.remove(self.text.lines(self.text.line_start(start), self.tree.node(value).span.end));
            return Ok(());
        }
        let (next, _) = entries.get(at + 1).ok_or(Unsupported)?;
        self.edits.remove(start..self.tree.node(*next).span.start);
        Ok(())
    }

    fn sequence(&mut self, id: NodeId, flow: bool, items: &[NodeId], new: &[Value]) -> Edited {
        let old =
            items.iter().map(|item| self.tree.subtree(*item).ok_or(Unsupported)).collect::<Result<Vec<_>, _>>()?;
        let pairs: Vec<_> = items.iter().map(|item| (*item, *item)).collect();
        let text = |values: &[Value]| values.iter().map(Value::to_string).collect::<Vec<_>>();
        for operation in capture_diff_slices(Algorithm::Myers, &text(&old), &text(new)) {
            let (gone, come) = match operation {
                DiffOp::Equal { .. } => continue,
                DiffOp::Delete { old_index, old_len, .. } => (old_index..old_index + old_len, 0..0),
                DiffOp::Insert { old_index, new_index, new_len } => {
                    (old_index..old_index, new_index..new_index + new_len)
                }
                DiffOp::Replace { old_index, old_len, new_index, new_len } => {
                    (old_index..old_index + old_len, new_index..new_index + new_len)
                }
            };
            let paired = gone.len().min(come.len());
            for (old, new) in items[gone.start..].iter().zip(&new[come.start..]).take(paired) {
                self.node(*old, new, self.tree.node(*old).column)?;
            }
            for (at, item) in items.iter().enumerate().take(gone.end).skip(gone.start + paired) {
                match flow {
                    true => self.remove_flow(&pairs, at),
                    false => self.remove_item(*item)?,
                }
            }
            for value in &new[come.start + paired..come.end] {
                match flow {
                    true => self.insert_flow(id, &pairs, |editor, indent, step| editor.flow_value(value, indent, step)),
                    false => self.insert_item(items, gone.end, value)?,
                }
            }
        }
        Ok(())
    }

    fn remove_item(&mut self, item: NodeId) -> Edited {
        let dash = self.dash(item).ok_or(Unsupported)?;
        if !self.text.begins_line(dash) {
            return Err(Unsupported);
        }
        self.edits.remove(self.text.lines(self.text.line_start(dash), self.tree.node(item).span.end));
        Ok(())
    }

    fn insert_item(&mut self, items: &[NodeId], before: usize, value: &Value) -> Edited {
        let dash = self.dash(items[0]).ok_or(Unsupported)?;
        let column = self.text.column(dash);
        let text = format!("- {}", block(value, column + 2, self.style, None));
        match before.checked_sub(1).and_then(|previous| items.get(previous)) {
            Some(previous) => self.insert_line(self.tree.node(*previous).span.end, column, &text),
            None => {
                let at = self.text.above_comments(self.text.line_start(dash), column);
                self.edits.insert(at, format!("{}{text}{}", " ".repeat(column), self.style.eol));
            }
        }
        Ok(())
    }

    /// Another entry of a collection in brackets, after the last one, on a line of its own where that one has its own.
    fn insert_flow(&mut self, id: NodeId, kept: &[(NodeId, NodeId)], text: impl Fn(&Self, usize, usize) -> String) {
        let node = self.tree.node(id);
        let Some((key, value)) = kept.last() else { return };
        let (key, end) = (self.tree.node(*key), self.tree.node(*value).span.end);
        let inserted = if key.line > node.line {
            let indent = self.text.indentation(key.span.start);
            let step = indent.len().checked_sub(self.text.indentation(node.span.start).len()).filter(|step| *step > 0);
            format!(",{}{indent}{}", self.style.eol, text(self, indent.len(), step.unwrap_or(2)))
        } else {
            format!(", {}", text(self, 0, 0))
        };
        self.edits.insert(end, inserted);
    }

    fn flow_value(&self, value: &Value, indent: usize, step: usize) -> String {
        match step {
            0 => flow(value, self.json),
            _ => json(value, indent, step, self.style.eol),
        }
    }

    fn remove_flow(&mut self, entries: &[(NodeId, NodeId)], at: usize) {
        let start = self.tree.node(entries[at].0).span.start;
        let end = self.tree.node(entries[at].1).span.end;
        let range = match (entries.get(at + 1), at.checked_sub(1)) {
            (Some((next, _)), _) => start..self.tree.node(*next).span.start,
            (None, Some(previous)) => self.tree.node(entries[previous].1).span.end..end,
            (None, None) => start..end,
        };
        self.edits.remove(range);
    }

    fn replace(&mut self, id: NodeId, new: &Value, parent_indent: usize) -> Edited {
        let node = self.tree.node(id);
        let span = node.span.clone();
        let in_flow = self.tree.in_flow(id);
        let is_collection = matches!(new, Value::Object(map) if !map.is_empty())
            || matches!(new, Value::Array(list) if !list.is_empty());
        let old = &self.text.0[span.clone()];
        let text = match (&node.kind, new) {
            _ if self.json || in_flow => flow(new, self.json),
            (Kind::Scalar { style: ScalarStyle::DoubleQuoted, .. }, Value::String(text)) => quoted(text),
            (Kind::Scalar { style: ScalarStyle::SingleQuoted, .. }, Value::String(text))
                if !text.contains(char::is_control) =>
            {
                format!("'{}'", text.replace('\'', "''"))
            }
            (Kind::Mapping { flow: false, .. } | Kind::Sequence { flow: false, .. }, _) => {
                block(new, node.column, self.style, Some((self.tree, id)))
            }
            (_, Value::String(text)) => write_string(text, false),
            _ if is_collection => {
                let step = if new.is_array() { self.style.list_indent } else { self.style.step };
                let indent = parent_indent + step;
                let gap = trailing_blanks(&self.text.0[..span.start]);
                // A comment stays with its key.
                self.edits.remove(span.start - gap..span.end);
                self.insert_line(span.end, indent, &block(new, indent, self.style, Some((self.tree, id))));
                return Ok(());
            }
            _ => flow(new, false),
        };
        // `key:` with nothing after it has no space either.
        let gap = if old.is_empty() && !self.text.0[..span.start].ends_with([' ', '\t', '\n']) { " " } else { "" };
        self.edits.replace(span, format!("{gap}{text}"));
        Ok(())
    }

    /// Where the dash of a block sequence's item stands.
    fn dash(&self, item: NodeId) -> Option<usize> {
        let before = self.text.0[..self.tree.node(item).span.start].trim_end();
        before.ends_with('-').then(|| before.len() - 1)
    }
}

/// Blanks at the end of a text.
fn trailing_blanks(text: &str) -> usize {
    text.len() - text.trim_end_matches([' ', '\t']).len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Sets a field (`None` removes it) and shows the new text.
    fn edit(text: &str, change: impl FnOnce(&mut Value)) -> String {
        let tree = Tree::parse(text).unwrap().unwrap();
        let mut value = tree.value().unwrap();
        change(&mut value);
        rewrite(text, &tree, &[(tree.root(), value)]).unwrap().text
    }

    const WEB: &str = "\
# The shop's front.
kind: Deployment # apps/v1
metadata:
  name: web
  labels: {app: web}

  # Berth
  annotations:
    berth.dev/inject: enabled # yes!
spec:
  # which pods
  selector: {matchLabels: {app: web}}
  template:
    spec:
      containers:
        - name: app
          image: \"web:1\"
          env:
            # level
            - name: LOG
              value: info # loud
            - {name: A, value: b}
        - name: side
# end
";

    #[test]
    fn small_changes_leave_the_rest_as_it_is() {
        let edited = edit(WEB, |value| {
            value["spec"]["replicas"] = json!(3);
            value["metadata"]["annotations"]["berth.dev/injected-env"] = json!("app/P");
            let pod = &mut value["spec"]["template"]["spec"];
            pod["terminationGracePeriodSeconds"] = json!(30);
            pod["containers"][0]["env"].as_array_mut().unwrap().push(json!({"name": "P", "valueFrom": {"k": ["1"]}}));
            pod["containers"][1]["env"] = json!([{"name": "Q", "value": "3"}]);
            value["spec"]["template"]["metadata"] = json!({"annotations": {"a/b": "1"}});
        });
        let expected = WEB
            .replace("enabled # yes!\n", "enabled # yes!\n    berth.dev/injected-env: app/P\n")
            .replace("  # which pods\n", "  replicas: 3\n  # which pods\n")
            .replace(
                "            - {name: A, value: b}\n",
                "            - {name: A, value: b}\n            - name: P\n              valueFrom:\n                k:\n                  - \"1\"\n",
            )
            .replace(
                "        - name: side\n",
                "        - name: side\n          env:\n            - name: Q\n              value: \"3\"\n      terminationGracePeriodSeconds: 30\n",
            )
            .replace("  template:\n", "  template:\n    metadata:\n      annotations:\n        a/b: \"1\"\n");
        assert_eq!(edited, expected);
    }

    #[test]
    fn removing_takes_whole_lines() {
        let edited = edit(WEB, |value| {
            let app = &mut value["spec"]["template"]["spec"]["containers"][0];
            app["env"].as_array_mut().unwrap().remove(0);
            app.as_object_mut().unwrap().remove("image");
            value["metadata"].as_object_mut().unwrap().remove("annotations");
        });
        let expected = WEB
            .replace("  annotations:\n    berth.dev/inject: enabled # yes!\n", "")
            .replace("          image: \"web:1\"\n", "")
            .replace("            - name: LOG\n              value: info # loud\n", "");
        assert_eq!(edited, expected);
    }

    #[test]
    fn scalars_are_replaced_in_their_quotes() {
        assert_eq!(
            edit("a: 'x' # c\nb: \"y\"\nc: z\nd: 1\ne:\n", |value| {
                *value = json!({"a": "it's", "b": "2", "c": "3", "d": 4, "e": 5});
            }),
            "a: 'it''s' # c\nb: \"2\"\nc: \"3\"\nd: 4\ne: 5\n"
        );
    }

    #[test]
    fn line_ends_and_missing_last_line_ends_stay() {
        assert_eq!(
            edit("a: 1\r\nb:\r\n- x", |value| {
                value["b"] = json!(["x", {"k": "v", "l": 1}]);
                value["c"] = json!({"d": 1});
            }),
            "a: 1\r\nb:\r\n- x\r\n- k: v\r\n  l: 1\r\nc:\r\n  d: 1"
        );
    }

    #[test]
    fn empty_collections_open_up() {
        assert_eq!(
            edit("a: {}\nb:\nc: [] # c\n", |value| *value = json!({"a": {"x": 1}, "b": {"k": 2}, "c": [3]})),
            "a:\n  x: 1\nb:\n  k: 2\nc: # c\n- 3\n"
        );
    }

    #[test]
    fn json_stays_json() {
        let text =
            "{\n    \"kind\": \"X\",\n    \"spec\": {\n        \"list\": [\n            1\n        ]\n    }\n}\n";
        let edited = edit(text, |value| {
            value["spec"]["a"] = json!({"b": "c"});
            value["spec"]["list"] = json!([1, 2]);
        });
        let expected = text
            .replace("            1\n", "            1,\n            2\n")
            .replace("        ]\n", "        ],\n        \"a\": {\n            \"b\": \"c\"\n        }\n");
        assert_eq!(edited, expected);
        assert!(serde_json::from_str::<Value>(&edited).is_ok());
        assert_eq!(edit("{\"a\":1}", |value| value["b"] = json!("x")), "{\"a\":1, \"b\": \"x\"}");
    }

    #[test]
    fn what_stands_for_something_else_is_written_out_where_it_changes() {
        let text = "# top\nb: &x\n  z: 1\n  a: 2\nc: *x\n# end\n";
        let changed = edit(text, |value| value["c"]["z"] = json!(9));
        assert_eq!(changed, "# top\nb: &x\n  z: 1\n  a: 2\nc:\n  z: 9\n  a: 2\n# end\n");
        // The anchor's other use must not change with it: the document is written anew.
        let changed = edit(text, |value| value["b"]["z"] = json!(9));
        assert_eq!(changed, "# top\nb:\n  z: 9\n  a: 2\nc:\n  z: 1\n  a: 2\n# end\n");
    }

    #[test]
    fn lines_go_and_come_at_the_same_place() {
        let text = "a:\n    - k: 1\n      # old\n      v: 2\n# end\n";
        let changed = edit(text, |value| *value = json!({"a": [{"k": 1, "w": {"x": 3}}], "b": {"c": 4}}));
        assert_eq!(changed, "a:\n    - k: 1\n      w:\n        x: 3\n      # old\nb:\n  c: 4\n# end\n");
        let kept = "s: |+\n  text\n\n\nt: 1\n";
        assert_eq!(edit(kept, |value| value["s2"] = json!(3)), "s: |+\n  text\n\n\ns2: 3\nt: 1\n");
    }

    fn values() -> impl proptest::strategy::Strategy<Value = Value> {
        use proptest::prelude::*;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "\\PC{0,6}|yes|1|a: b|\n|[a-c]{0,3}".prop_map(Value::from),
        ];
        let branch = leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-e]|[0-9]|\\PC{1,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        });
        proptest::collection::btree_map("[a-d]", branch, 1..4).prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    proptest::proptest! {
        #[test]
        fn any_value_becomes_any_other(old in values(), new in values(), list_indent in 0..3_usize, as_json: bool, crlf: bool) {
            let style = Style { step: 2, eol: if crlf { "\r\n" } else { "\n" }, list_indent };
            let text = if as_json { json(&old, 0, 2, style.eol) } else { block(&old, 0, style, None) };
            let tree = Tree::parse(&text).unwrap().unwrap();
            proptest::prop_assert_eq!(tree.value().unwrap(), old);
            // `rewrite` reads its result back, so that an answer is the right one.
            proptest::prop_assert!(rewrite(&text, &tree, &[(tree.root(), new)]).is_ok());
        }
    }
}
