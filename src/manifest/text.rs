//! Lines of a text, and changes to it.

use std::ops::Range;

/// A text that is about to be changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a>(pub(super) &'a str);

impl<'a> Text<'a> {
    pub(super) fn line_start(self, at: usize) -> usize {
        self.0[..at].rfind('\n').map_or(0, |newline| newline + 1)
    }

    /// The end of a line's content, before its line end.
    pub(super) fn line_end(self, at: usize) -> usize {
        let end = self.0[at..].find('\n').map_or(self.0.len(), |newline| at + newline);
        if self.0[at..end].ends_with('\r') { end - 1 } else { end }
    }

    /// The lines from the one that `start` begins to the one that `end` stands on, with their line ends.
    pub(super) fn lines(self, start: usize, end: usize) -> Range<usize> {
        start..self.0[end..].find('\n').map_or(self.0.len(), |newline| end + newline + 1)
    }

    /// Characters before a place on its line.
    pub(super) fn column(self, at: usize) -> usize {
        self.0[self.line_start(at)..at].chars().count()
    }

    /// The blanks that a line begins with.
    pub(super) fn indentation(self, at: usize) -> &'a str {
        let line = &self.0[self.line_start(at)..];
        &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
    }

    /// Whether only blanks stand before a place on its line.
    pub(super) fn begins_line(self, at: usize) -> bool {
        self.0[self.line_start(at)..at].trim().is_empty()
    }

    /// The start of the comment lines that stand right above a line, at its own indentation: they speak of it.
    pub(super) fn above_comments(self, line: usize, indent: usize) -> usize {
        let mut at = line;
        while at > 0 {
            let above = self.line_start(at - 1);
            let content = self.0[above..at].trim_start();
            if !content.starts_with('#') || at - above - content.len() != indent {
                break;
            }
            at = above;
        }
        at
    }

    /// The end of the comment lines below a line that stand further in than `indent`: they speak of what is above them.
    pub(super) fn below_comments(self, line_end: usize, indent: usize) -> usize {
        let mut found = line_end;
        let mut at = line_end;
        while let Some(newline) = self.0[at..].find('\n') {
            let start = at + newline + 1;
            let end = self.line_end(start);
            let content = self.0[start..end].trim_start();
            if content.starts_with('#') && end - start - content.len() > indent {
                found = end;
            } else if !content.is_empty() || end == self.0.len() {
                break;
            }
            at = end;
        }
        found
    }
}

/// Changes to a text, in the order in which they were thought of.
#[derive(Debug, Default)]
pub(super) struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    pub(super) fn replace(&mut self, range: Range<usize>, text: impl Into<String>) {
        self.0.push((range, text.into()));
    }

    pub(super) fn insert(&mut self, at: usize, text: impl Into<String>) {
        self.replace(at..at, text);
    }

    pub(super) fn remove(&mut self, range: Range<usize>) {
        self.replace(range, "");
    }

    /// The changed text; `None` when two changes are about the same place.
    pub(super) fn apply(mut self, text: Text<'_>) -> Option<String> {
        self.leave_removed_lines(text);
        // What is inserted where something else is replaced comes before it.
        self.0.sort_by_key(|(range, _)| (range.start, !range.is_empty()));
        let mut out = String::with_capacity(text.0.len() + 1024);
        let mut at = 0;
        for (range, replacement) in &self.0 {
            out.push_str(text.0.get(at..range.start)?);
            out.push_str(replacement);
            at = range.end;
        }
        out.push_str(text.0.get(at..)?);
        Some(out)
    }

    /// A line may be inserted after one that goes: then it belongs after the one before that.
    fn leave_removed_lines(&mut self, text: Text<'_>) {
        let is_whole_lines = |range: &Range<usize>| range.start > 0 && text.0[..range.start].ends_with('\n');
        let removed = self.0.iter().filter(|(range, new)| new.is_empty() && is_whole_lines(range));
        let mut removed: Vec<_> = removed.map(|(range, _)| range.clone()).collect();
        // From the end, since lines that go may follow each other.
        removed.sort_by_key(|range| std::cmp::Reverse(range.start));
        for gone in removed {
            for (range, _) in self.0.iter_mut().filter(|(range, _)| range.is_empty() && gone.contains(&range.start)) {
                let before = text.line_end(text.line_start(gone.start - 1));
                *range = before..before;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_follow_a_removed_one_follow_the_one_before() {
        let text = Text("a\r\nb\r\nc\r\nd\r\n");
        let mut edits = Edits::default();
        edits.remove(text.lines(3, 3));
        edits.remove(text.lines(6, 6));
        edits.insert(text.line_end(6), "\r\nx");
        edits.insert(text.line_end(0), "\r\ny");
        assert_eq!(edits.apply(text).as_deref(), Some("a\r\nx\r\ny\r\nd\r\n"));
    }

    #[test]
    fn two_changes_of_one_place_are_none() {
        let mut edits = Edits::default();
        edits.replace(1..3, "x");
        edits.replace(2..4, "y");
        assert_eq!(edits.apply(Text("abcdef")), None);
    }
}
