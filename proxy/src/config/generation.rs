//! Which generation of its resource a proxy serves. Pure.

/// The environment variable through which a pod learns its own stamp.
pub const GENERATION_ENV: &str = "THV_MCPSERVER_GENERATION";

/// What to tell of an override.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// It is used in place of the file's value.
    TakesEffect {
        /// The file's value.
        file: Option<i64>,
        /// The one that counts.
        pod: i64,
    },
    /// It is no generation, and the file's value is used. For a warning.
    Ignored {
        /// What it is.
        text: String,
    },
}

/// The generation that counts, and what to tell.
///
/// | variable | generation | told |
/// |---|---|---|
/// | absent or empty | the file's | nothing |
/// | a number above 0 | that | where it differs from the file's |
/// | `0` | 0: a value like any other | where it differs from the file's |
/// | no number | the file's | a warning |
/// | negative | the file's | a warning |
#[must_use]
pub fn effective(file: Option<i64>, variable: Option<&str>) -> (Option<i64>, Option<Remark>) {
    let Some(text) = variable.filter(|text| !text.is_empty()) else { return (file, None) };
    // Plain digits: Rust's parser takes a plus sign too, which no writer of the stamp uses.
    let number = text.parse::<i64>().ok().filter(|number| *number >= 0 && !text.starts_with(['+', '-']));
    match number {
        None => (file, Some(Remark::Ignored { text: text.chars().take(40).collect() })),
        Some(pod) if file == Some(pod) => (file, None),
        Some(pod) => (Some(pod), Some(Remark::TakesEffect { file, pod })),
    }
}

/// Whether a configuration is of a newer generation than the pod: the pod is about to be replaced then, and must not
/// take what was made for its successor.
#[must_use]
pub fn is_newer(configuration: Option<i64>, pod: Option<i64>) -> bool {
    matches!((configuration, pod), (Some(configuration), Some(pod)) if configuration > pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_five_cases() {
        let ignored = |text: &str| Some(Remark::Ignored { text: text.into() });
        let takes_effect = |file, pod| Some(Remark::TakesEffect { file, pod });
        for (variable, generation, remark) in [
            (None, Some(5), None),
            (Some(""), Some(5), None),
            (Some("7"), Some(7), takes_effect(Some(5), 7)),
            (Some("5"), Some(5), None),
            (Some("0"), Some(0), takes_effect(Some(5), 0)),
            (Some("seven"), Some(5), ignored("seven")),
            (Some("+7"), Some(5), ignored("+7")),
            (Some(" 7"), Some(5), ignored(" 7")),
            (Some("99999999999999999999"), Some(5), ignored("99999999999999999999")),
            (Some("-1"), Some(5), ignored("-1")),
            (Some("-0"), Some(5), ignored("-0")),
        ] {
            assert_eq!(effective(Some(5), variable), (generation, remark), "{variable:?}");
        }
        assert_eq!(effective(None, Some("0")), (Some(0), takes_effect(None, 0)));
        assert_eq!(effective(None, Some("x")), (None, ignored("x")));
    }

    #[test]
    fn only_a_known_higher_number_is_newer() {
        assert!(is_newer(Some(6), Some(5)));
        for (configuration, pod) in [(Some(5), Some(5)), (Some(4), Some(5)), (None, Some(5)), (Some(6), None)] {
            assert!(!is_newer(configuration, pod));
        }
    }
}
