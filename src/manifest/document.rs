//! One document of a file, and the objects in it.

use serde_json::{Deserializer, Value};

use super::edit;
use super::split::{Piece, lines, split};
use super::tree::{Fault, NodeId, Tree};

/// One document, with the separator and comments before it.
#[derive(Debug)]
pub struct Document {
    text: String,
    line: usize,
    tree: Option<Tree>,
    objects: Vec<Object>,
}

/// One object of Kubernetes; a document of kind `List`, or `DeploymentList`, holds several.
#[derive(Clone, Debug)]
pub struct Object {
    /// The object as kubectl would send it.
    pub value: Value,
    node: NodeId,
}

/// A document after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// Its new text.
    pub text: String,
    /// Whether comments went missing, because the change could not be made in the text.
    pub lost_comments: bool,
}

impl Document {
    /// Reads every document of a file. Lines count from 1.
    pub(super) fn read_all(text: &str) -> Result<Vec<Self>, (usize, String)> {
        let mut documents = Vec::new();
        for piece in split(text).into_iter().flat_map(split_json) {
            let at = |fault: Fault| (piece.line + fault.line - 1, fault.message);
            let tree = Tree::parse(piece.text).map_err(at)?;
            let objects = tree.as_ref().map(objects).transpose().map_err(at)?.unwrap_or_default();
            documents.push(Self { text: piece.text.to_owned(), line: piece.line, tree, objects });
        }
        Ok(documents)
    }

    /// Its exact text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The objects in it; none in a document of comments, or of something that is no object of Kubernetes.
    #[must_use]
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// Line of an object's field in the file, or of the nearest parent that is there. The flag says which.
    #[must_use]
    pub fn line_of(&self, object: &Object, field: &str) -> (usize, bool) {
        let found = self.tree.as_ref().map(|tree| tree.line_of(object.node, field));
        found.map_or((self.line, false), |(line, exact)| (self.line + line - 1, exact))
    }

    /// The document with other values in place of some of its objects.
    ///
    /// # Errors
    /// When the result could not be written as YAML.
    pub fn rewrite(&self, changes: &[(&Object, Value)]) -> Result<Rewritten, String> {
        let Some(tree) = &self.tree else { return Err("the document is empty".to_owned()) };
        let wanted: Vec<_> = changes.iter().map(|(object, value)| (object.node, value.clone())).collect();
        edit::rewrite(&self.text, tree, &wanted)
    }
}

/// Takes several JSON values that follow each other without a separator apart, as kubectl does.
fn split_json(piece: Piece<'_>) -> Vec<Piece<'_>> {
    if !piece.text.trim_start_matches('\u{feff}').trim_start().starts_with('{') {
        return vec![piece];
    }
    let skipped = if piece.text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut values = Deserializer::from_str(&piece.text[skipped..]).into_iter::<serde::de::IgnoredAny>();
    let mut ends = Vec::new();
    while let Some(Ok(_)) = values.next() {
        ends.push(skipped + values.byte_offset());
    }
    // The last one takes what follows it. What is no JSON (after `---`, a comment, or in looser YAML) is one piece.
    ends.pop();
    let mut pieces = Vec::new();
    let (mut start, mut line) = (0, piece.line);
    for end in ends.into_iter().chain([piece.text.len()]) {
        let text = &piece.text[start..end];
        pieces.push(Piece { text, line });
        line += lines(text).filter(|line| line.ends_with(['\n', '\r'])).count();
        start = end;
    }
    pieces
}

fn objects(tree: &Tree) -> Result<Vec<Object>, Fault> {
    let value = tree.value()?;
    let listed = value.get("kind").and_then(Value::as_str).and_then(|kind| kind.strip_suffix("List"));
    if let Some(listed) = listed
        && let Some((_, items)) = tree.entry(tree.root(), "items")
    {
        let mut values = value.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        // What the API server lists by kind leaves out of each item what the list says of all.
        for item in values.iter_mut().filter_map(Value::as_object_mut).filter(|_| !listed.is_empty()) {
            item.entry("kind").or_insert_with(|| listed.into());
            item.entry("apiVersion").or_insert_with(|| value.get("apiVersion").cloned().unwrap_or_default());
        }
        let nodes = tree.items(items).iter().copied();
        return Ok(values.into_iter().zip(nodes).map(|(value, node)| Object { value, node }).collect());
    }
    // What has no kind is no object: a values file, a list, a lone string.
    let is_object = value.get("kind").is_some_and(Value::is_string);
    Ok(if is_object { vec![Object { value, node: tree.root() }] } else { Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Vec<Document> {
        let documents = Document::read_all(text).unwrap();
        assert_eq!(documents.iter().map(Document::text).collect::<String>(), text);
        documents
    }

    fn kinds(text: &str) -> Vec<String> {
        let documents = read(text);
        let objects = documents.iter().flat_map(Document::objects);
        objects.map(|object| object.value["kind"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn objects_are_found_wherever_they_stand() {
        assert_eq!(kinds("kind: A\n---\n# none\n---\nkind: B\n"), ["A", "B"]);
        assert_eq!(kinds("kind: List\nitems:\n- kind: A\n- {kind: B}\n"), ["A", "B"]);
        assert_eq!(kinds("kind: AList\nitems:\n- x: 1\n- {kind: B}\n"), ["A", "B"]);
        assert_eq!(kinds("kind: AList\n"), ["AList"]);
        assert_eq!(kinds("{\"kind\": \"A\"}\n{\"kind\": \"B\"} {\"kind\": \"C\"}\n"), ["A", "B", "C"]);
        assert_eq!(kinds("\u{feff}{\"kind\": \"A\"}{\"kind\": \"B\"}"), ["A", "B"]);
        assert_eq!(kinds("{kind: A}\n"), ["A"]);
        assert!(kinds("replicas: 3\n---\n- a\n---\ntext\n---\n").is_empty());
        assert!(kinds("").is_empty());
    }

    #[test]
    fn lines_count_through_the_whole_file() {
        let line = |text: &str, at: usize, field: &str| {
            let documents = read(text);
            documents[at].line_of(&documents[at].objects()[0], field)
        };
        let text = "kind: A\n---\n\nkind: B\nspec:\n  x: 1\n";
        assert_eq!(line(text, 1, ""), (4, true));
        assert_eq!(line(text, 1, "spec.x"), (6, true));
        assert_eq!(line(text, 1, "spec.y"), (5, false));
        assert_eq!(line("{\"kind\": \"C\"}\n{\n\"kind\": \"D\"}\n", 1, "kind"), (3, true));
    }

    #[test]
    fn faults_have_the_files_lines() {
        assert_eq!(Document::read_all("a: 1\n---\n\nb: c: d\n").unwrap_err().0, 4);
        assert_eq!(Document::read_all("a: 1\n---\na: 1\na: 2\n").unwrap_err().0, 4);
    }

    #[test]
    fn one_item_of_a_list_is_changed_in_its_place() {
        let documents = read("kind: List\nitems:\n- kind: A # first\n- kind: B\n  spec: {a: 1}\n");
        let second = &documents[0].objects()[1];
        let rewritten = documents[0].rewrite(&[(second, json!({"kind": "B", "spec": {"a": 1, "b": 2}}))]).unwrap();
        assert_eq!(rewritten.text, "kind: List\nitems:\n- kind: A # first\n- kind: B\n  spec: {a: 1, b: 2}\n");
        assert!(!rewritten.lost_comments);
    }

    proptest::proptest! {
        #[test]
        fn no_file_panics(text in "(---\n|kind: A\n|\\{\"kind\": \"A\"\\}|\n|kind: List\nitems:\n- |\\[|&a |\\*a|\\PC{0,3}){0,12}") {
            if let Ok(documents) = Document::read_all(&text) {
                proptest::prop_assert_eq!(documents.iter().map(Document::text).collect::<String>(), text);
            }
        }
    }
}
