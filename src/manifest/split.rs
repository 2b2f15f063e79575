//! Splits a stream of YAML into its documents without touching a byte.

/// One stretch of the input: at most one document, with the separator, comments and blank lines that come before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Its exact text. All pieces, one after the other, are the input.
    pub text: &'a str,
    /// Number of its first line in the input, from 1.
    pub line: usize,
}

/// Splits at lines that begin with `---`, and after lines that begin with `...`.
///
/// A line is enough to go by: YAML allows neither marker at the beginning of a line inside a document, not even in
/// quotes. Directives (`%YAML`) belong to the document that follows them.
#[must_use]
pub fn split(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut current = Current::default();
    let (mut at, mut number) = (0, 1);
    for line in lines(text) {
        let content = if at == 0 { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line };
        if is_marker(content, "---") {
            // Nothing but a prologue so far: this is the marker that the prologue waits for.
            if !(current.prologue && current.directive) && at > current.start {
                pieces.push(Piece { text: &text[current.start..at], line: current.line });
                current = Current { start: at, line: number, ..Current::default() };
            }
            current.prologue = false;
        } else if is_marker(content, "...") {
            let end = at + line.len();
            pieces.push(Piece { text: &text[current.start..end], line: current.line });
            current = Current { start: end, line: number + 1, ..Current::default() };
        } else if content.starts_with('%') && current.prologue {
            current.directive = true;
        } else if !is_blank_or_comment(content) {
            current.prologue = false;
        }
        at += line.len();
        number += 1;
    }
    if at > current.start {
        pieces.push(Piece { text: &text[current.start..], line: current.line });
    }
    pieces
}

/// The piece that is being read.
struct Current {
    start: usize,
    line: usize,
    /// Only directives, comments and blank lines so far, and no marker.
    prologue: bool,
    directive: bool,
}

impl Default for Current {
    fn default() -> Self {
        Self { start: 0, line: 1, prologue: true, directive: false }
    }
}

/// Lines with their ends, which YAML lets be `\n`, `\r\n` or `\r`.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = match rest.find(['\n', '\r']) {
            None if rest.is_empty() => return None,
            None => rest.len(),
            Some(at) if rest[at..].starts_with("\r\n") => at + 2,
            Some(at) => at + 1,
        };
        let (line, after) = rest.split_at(end);
        rest = after;
        Some(line)
    })
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']))
}

fn is_blank_or_comment(line: &str) -> bool {
    let content = line.trim_start();
    content.is_empty() || content.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<(usize, &str)> {
        split(text).into_iter().map(|piece| (piece.line, piece.text)).collect()
    }

    #[test]
    fn documents_are_split_at_their_markers() {
        assert_eq!(texts(""), []);
        assert_eq!(texts("a: 1"), [(1, "a: 1")]);
        assert_eq!(texts("a: 1\n---\nb: 2\n"), [(1, "a: 1\n"), (2, "---\nb: 2\n")]);
        assert_eq!(texts("---\r\na: 1\r\n--- # next\r\nb: 2"), [(1, "---\r\na: 1\r\n"), (3, "--- # next\r\nb: 2")]);
        assert_eq!(texts("# top\n---\na: 1\n"), [(1, "# top\n"), (2, "---\na: 1\n")]);
        assert_eq!(texts("\u{feff}---\na: 1\n"), [(1, "\u{feff}---\na: 1\n")]);
        assert_eq!(texts("a: 1\n---\n---\n"), [(1, "a: 1\n"), (2, "---\n"), (3, "---\n")]);
        assert_eq!(texts("a: 1\n...\n# tail\n"), [(1, "a: 1\n...\n"), (3, "# tail\n")]);
    }

    #[test]
    fn directives_stay_with_their_document() {
        assert_eq!(
            texts("%YAML 1.2\n---\na: 1\n...\n%YAML 1.2\n---\nb: 2\n"),
            [(1, "%YAML 1.2\n---\na: 1\n...\n"), (5, "%YAML 1.2\n---\nb: 2\n")]
        );
    }

    #[test]
    fn what_only_looks_like_a_marker_does_not_split() {
        for text in ["a: |\n  ---\n  b\n", "---a\n", "a: b\n ---\n", "----\n", "a: ---\n", "....\n"] {
            assert_eq!(texts(text), [(1, text)]);
        }
    }

    proptest::proptest! {
        #[test]
        fn the_pieces_are_the_input(text in "(---|\\.\\.\\.|%YAML 1\\.2|# c|a: 1|  b|\\PC{0,3}|\u{feff}|[ \t]|\r\n|\n|\r){0,40}") {
            let pieces = split(&text);
            proptest::prop_assert_eq!(pieces.iter().map(|piece| piece.text).collect::<String>(), text.clone());
            let mut line = 1;
            for piece in pieces {
                proptest::prop_assert!(!piece.text.is_empty());
                proptest::prop_assert_eq!(piece.line, line);
                line += lines(piece.text).count();
            }
        }
    }
}
