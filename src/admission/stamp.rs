//! The generation stamp of a pod template: reading it, and which one a write ends up with.
//!
//! Both webhooks and the controller take their stamps from here. Pure.

use serde_json::Value;

use crate::policy::names;

/// The stamp that stands in a pod template; what does not parse, or is negative, counts as absent.
#[must_use]
pub fn of_template(template: &Value) -> Option<i64> {
    parse(template.get("metadata")?.get("annotations")?.get(names::STAMP)?)
}

fn parse(value: &Value) -> Option<i64> {
    let text = value.as_str()?;
    text.parse().ok().filter(|stamp| *stamp >= 0 && !text.starts_with('+'))
}

/// What is to become of the stamp that a write carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The template shall carry this one.
    Stamp(i64),
    /// The write was made from an older state than the live object, which carries this stamp.
    Stale {
        /// The live object's stamp.
        live: i64,
    },
}

/// The stamp of a workload that an MCPServer controls.
///
/// `given` is the write's own, `live` that of the object as it is stored (`None` when it is new, or belonged to an
/// MCPServer of another uid), `generation` the MCPServer's. The writer that builds the template moves the stamp; here a
/// missing one is filled in, one above the generation is brought down to it, and a lower one than the live is stale.
#[must_use]
pub fn of_mcpserver(given: Option<i64>, live: Option<i64>, generation: i64) -> Decision {
    // A manifest that was never in a cluster has generation 0; the API server starts at 1.
    let generation = generation.max(1);
    // A live stamp above the generation is a stray; judged by it, no writer could ever write again.
    let live = live.map(|live| live.min(generation));
    match (given, live) {
        (None, None) => Decision::Stamp(generation),
        (None, Some(live)) => Decision::Stamp(live),
        (Some(given), Some(live)) if given < live => Decision::Stale { live },
        (Some(given), _) => Decision::Stamp(given.min(generation)),
    }
}

/// The stamp of an annotated workload: a counter of the changes of its pod template, which nothing can lower.
#[must_use]
pub fn of_annotated(given: Option<i64>, live: Option<i64>, template_changed: bool) -> i64 {
    let floor = match live {
        None => 1,
        Some(live) if template_changed => live.saturating_add(1),
        Some(live) => live,
    };
    given.map_or(floor, |given| given.max(floor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn reading() {
        let of = |stamp: Value| {
            let template = json!({"metadata": {"annotations": {"toolhive.stacklok.dev/mcpserver-generation": stamp}}});
            of_template(&template)
        };
        assert_eq!(of(json!("7")), Some(7));
        assert_eq!(of(json!("0")), Some(0));
        for odd in
            [json!("-1"), json!("+1"), json!("x"), json!(""), json!("99999999999999999999"), json!(7), json!(null)]
        {
            assert_eq!(of(odd.clone()), None, "{odd}");
        }
        for odd in
            [json!({}), json!({"metadata": null}), json!({"metadata": {"annotations": null}}), json!([]), json!("x")]
        {
            assert_eq!(of_template(&odd), None, "{odd}");
        }
    }

    #[test]
    fn the_mcpservers_table() {
        use Decision::{Stale, Stamp};
        assert_eq!(of_mcpserver(None, None, 4), Stamp(4), "created without one");
        assert_eq!(
            of_mcpserver(None, Some(3), 4),
            Stamp(3),
            "an unrelated write after a change of the CR moves nothing"
        );
        assert_eq!(of_mcpserver(Some(4), Some(3), 4), Stamp(4), "the writer moves it");
        assert_eq!(of_mcpserver(Some(3), Some(3), 4), Stamp(3), "equal passes");
        assert_eq!(of_mcpserver(Some(2), Some(3), 4), Stale { live: 3 }, "lower is refused");
        assert_eq!(of_mcpserver(Some(999_999), Some(3), 4), Stamp(4), "a stray one comes down");
        assert_eq!(of_mcpserver(Some(4), Some(999_999), 4), Stamp(4), "a stray one that got in shuts nobody out");
        assert_eq!(of_mcpserver(Some(2), None, 4), Stamp(2), "a recreated CR starts anew");
        assert_eq!(of_mcpserver(None, None, 0), Stamp(1), "a manifest that was never in a cluster");
    }

    #[test]
    fn the_counter_saturates() {
        assert_eq!(of_annotated(None, Some(i64::MAX), true), i64::MAX);
    }

    proptest! {
        #[test]
        fn a_stamp_never_falls(given: Option<u32>, live: Option<u32>, generation in 0..100_i64, changed: bool) {
            let (given, live) = (given.map(i64::from), live.map(i64::from));
            let counter = of_annotated(given, live, changed);
            prop_assert!(counter >= live.unwrap_or(1));
            if changed && let Some(live) = live {
                prop_assert!(counter > live);
            }
            if let Decision::Stamp(stamp) = of_mcpserver(given, live, generation) {
                prop_assert!(stamp >= live.unwrap_or(0).min(generation));
                // Deciding on what was decided changes nothing.
                prop_assert_eq!(of_mcpserver(Some(stamp), live, generation), Decision::Stamp(stamp));
            }
            prop_assert_eq!(of_annotated(Some(counter), live, changed), counter);
        }
    }
}
