//! Paths of fields, as problems carry them.

/// One step into an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// A field, `spec`.
    Field(&'a str),
    /// What stands in brackets: an index of a list, a key of a map, or the name of a list's item.
    Bracket(&'a str),
}

/// Takes `spec.template.metadata.annotations[a.b/c]` apart.
pub(super) fn steps(path: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if let Some(inner) = rest.strip_prefix('[') {
            let (key, after) = inner.split_once(']').unwrap_or((inner, ""));
            steps.push(Step::Bracket(key));
            rest = after;
        } else {
            let (field, after) = rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len()));
            if !field.is_empty() {
                steps.push(Step::Field(field));
            }
            rest = after;
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use Step::{Bracket, Field};

    #[test]
    fn brackets_may_hold_dots() {
        assert_eq!(steps("spec.replicas"), [Field("spec"), Field("replicas")]);
        assert_eq!(
            steps("metadata.annotations[berth.dev/replicas]"),
            [Field("metadata"), Field("annotations"), Bracket("berth.dev/replicas")]
        );
        assert_eq!(steps("a[0].b[1][x]"), [Field("a"), Bracket("0"), Field("b"), Bracket("1"), Bracket("x")]);
    }

    proptest::proptest! {
        #[test]
        fn no_path_hangs_or_panics(path in "[a.\\[\\]é]{0,20}") {
            let _ = steps(&path);
        }
    }
}
