//! Whether a store is still the one that was known. Pure.

/// `P:state`, as read from Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// `None` where there is none: a new store, or one that was emptied.
    pub(super) epoch: Option<String>,
    /// Pins so far.
    pub(super) seq: u64,
    /// Deletions so far.
    pub(super) gone: u64,
    /// Unix ms until which lost pins are written back.
    pub(super) until: u64,
}

/// What a state means to a replica that knew another one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Nothing is missing.
    Same,
    /// Pins may have been lost, and nobody has said so yet.
    Lost,
    /// Another replica said that pins may have been lost, or this replica is new.
    Moved,
}

/// Compares a state to the one that was known *before it was asked for*: Redis answered the known one earlier, so whatever
/// counts up must not be lower now.
pub(super) fn judge(known: &State, seen: &State) -> Judgement {
    match (&known.epoch, &seen.epoch) {
        (_, None) => Judgement::Lost,
        (Some(known_epoch), Some(seen_epoch)) if known_epoch == seen_epoch => {
            if seen.seq < known.seq || seen.gone < known.gone { Judgement::Lost } else { Judgement::Same }
        }
        _ => Judgement::Moved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(epoch: Option<&str>, seq: u64, gone: u64) -> State {
        State { epoch: epoch.map(str::to_owned), seq, gone, until: 0 }
    }

    #[test]
    fn a_store_that_forgot_something_is_known_by_it() {
        let known = state(Some("a"), 10, 5);
        for (seen, what) in [
            (state(Some("a"), 10, 5), Judgement::Same),
            (state(Some("a"), 12, 6), Judgement::Same),
            (state(None, 0, 0), Judgement::Lost),
            (state(None, 12, 6), Judgement::Lost),
            (state(Some("a"), 9, 5), Judgement::Lost),
            (state(Some("a"), 11, 4), Judgement::Lost),
            (state(Some("b"), 12, 6), Judgement::Moved),
        ] {
            assert_eq!(judge(&known, &seen), what, "{seen:?}");
        }
        assert_eq!(judge(&state(None, 0, 0), &state(Some("a"), 1, 1)), Judgement::Moved);
        assert_eq!(judge(&state(None, 0, 0), &state(None, 0, 0)), Judgement::Lost);
    }
}
