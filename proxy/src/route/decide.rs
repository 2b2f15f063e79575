//! Where a request goes: one [`Action`] for each row of the routing table.

use super::request::{Kind, Source};

/// What is known of the session that a request names. `P` names a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<P> {
    /// The request names none.
    NoSession,
    /// The local cache has its pin.
    Cached(P),
    /// The local cache has none; the store was not asked.
    NotCached,
    /// The store has its pin.
    Stored(P),
    /// The store answered that there is none.
    Unknown,
    /// It ended with its pod, and was unpinned.
    Ended,
    /// The store cannot say: dead, hung, or just emptied.
    StoreUnavailable,
}

/// What DNS says of the pinned pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In the last good answer.
    Present,
    /// Not in a good answer that was asked for after the pin was read.
    Gone,
    /// Not in the last good answer, which is older than the pin: proves nothing.
    Unproven,
}

/// What the body turned out to be, as far as it had to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// Not looked at.
    NotYet,
    /// A JSON-RPC `initialize`.
    Initialize,
    /// Anything else, or too large or too slow to tell.
    Other,
}

/// All that the decision takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts<P> {
    /// The method's meaning.
    pub kind: Kind,
    /// Where the session stood; `None` without one.
    pub source: Option<Source>,
    /// What is known of the session.
    pub known: Known<P>,
    /// How the pinned pod stands; of no meaning without one.
    pub standing: Standing,
    /// The body, as far as it was looked at.
    pub peek: Peek,
}

/// Why a request gets a 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// Whether the session exists cannot be said.
    Store,
    /// The pinned pod is not in DNS, and that proves nothing yet.
    PodUnproven,
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<P> {
    /// Asks the store for the pin, then decides again.
    LookUp,
    /// Reads the start of the body, then decides again.
    Peek,
    /// To the pinned pod.
    Forward(P),
    /// To the best pod; a session in the response is pinned before any of it is passed on.
    Place,
    /// As [`Action::Place`], without the ended session's header: the client starts anew.
    PlaceAnew,
    /// Pins the client's own id to the best pod, or follows the winner of a race, then goes there.
    Claim,
    /// Unpins, because the pod is gone with all its sessions, then decides again.
    Unpin(P),
    /// 404, JSON-RPC -32001: the client starts anew.
    SessionNotFound,
    /// 503 and `Retry-After`: the session may live on.
    Unavailable(Why),
}

/// The routing table.
pub fn decide<P: Copy>(facts: &Facts<P>) -> Action<P> {
    let Some(source) = facts.source else { return Action::Place };
    match facts.known {
        Known::NoSession => Action::Place,
        Known::Cached(pod) | Known::Stored(pod) => match facts.standing {
            Standing::Present => Action::Forward(pod),
            Standing::Gone => Action::Unpin(pod),
            Standing::Unproven => Action::Unavailable(Why::PodUnproven),
        },
        Known::NotCached => Action::LookUp,
        Known::StoreUnavailable => Action::Unavailable(Why::Store),
        Known::Unknown if source.is_named() => Action::Claim,
        // Clients that get a 404 for `initialize` fall back to the old transport.
        Known::Unknown | Known::Ended if facts.kind == Kind::Post && source == Source::Header => match facts.peek {
            Peek::NotYet => Action::Peek,
            Peek::Initialize => Action::PlaceAnew,
            Peek::Other => Action::SessionNotFound,
        },
        Known::Unknown | Known::Ended => Action::SessionNotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A POST with `Mcp-Session-Id`, its pod present, its body unread.
    fn post(known: Known<u8>) -> Facts<u8> {
        Facts { kind: Kind::Post, source: Some(Source::Header), known, standing: Standing::Present, peek: Peek::NotYet }
    }

    #[test]
    fn session_pinned_in_the_local_cache() {
        assert_eq!(decide(&post(Known::Cached(3))), Action::Forward(3));
    }

    #[test]
    fn not_in_the_cache() {
        assert_eq!(decide(&post(Known::NotCached)), Action::LookUp);
        assert_eq!(decide(&post(Known::Stored(4))), Action::Forward(4));
    }

    #[test]
    fn unknown() {
        let facts = post(Known::Unknown);
        assert_eq!(decide(&facts), Action::Peek);
        assert_eq!(decide(&Facts { peek: Peek::Other, ..facts }), Action::SessionNotFound);
        assert_eq!(decide(&Facts { peek: Peek::Initialize, ..facts }), Action::PlaceAnew);
        for kind in [Kind::Get, Kind::Delete, Kind::Other] {
            assert_eq!(decide(&Facts { kind, ..facts }), Action::SessionNotFound, "{kind:?}");
        }
        assert_eq!(decide(&Facts { source: Some(Source::Query), ..facts }), Action::SessionNotFound);
    }

    #[test]
    fn store_unreachable() {
        for source in [Source::Header, Source::Query, Source::NamedHeader, Source::NamedCookie] {
            let facts = Facts { source: Some(source), ..post(Known::StoreUnavailable) };
            assert_eq!(decide(&facts), Action::Unavailable(Why::Store), "{source:?}");
        }
    }

    #[test]
    fn no_session() {
        for kind in [Kind::Get, Kind::Post, Kind::Delete, Kind::Other] {
            let facts = Facts { kind, source: None, ..post(Known::NoSession) };
            assert_eq!(decide(&facts), Action::Place, "{kind:?}");
        }
    }

    #[test]
    fn pinned_pod_gone() {
        for known in [Known::Cached(3), Known::Stored(3)] {
            let facts = Facts { standing: Standing::Gone, ..post(known) };
            assert_eq!(decide(&facts), Action::Unpin(3));
            let facts = Facts { standing: Standing::Unproven, ..facts };
            assert_eq!(decide(&facts), Action::Unavailable(Why::PodUnproven));
        }
    }

    #[test]
    fn ended_with_its_pod() {
        let facts = post(Known::Ended);
        assert_eq!(decide(&facts), Action::Peek);
        assert_eq!(decide(&Facts { peek: Peek::Other, ..facts }), Action::SessionNotFound);
        assert_eq!(decide(&Facts { peek: Peek::Initialize, ..facts }), Action::PlaceAnew);
        assert_eq!(decide(&Facts { kind: Kind::Get, ..facts }), Action::SessionNotFound);
        for source in [Source::Query, Source::NamedHeader, Source::NamedCookie] {
            assert_eq!(decide(&Facts { source: Some(source), ..facts }), Action::SessionNotFound, "{source:?}");
        }
    }

    #[test]
    fn unknown_value_of_a_named_header_or_cookie() {
        for source in [Source::NamedHeader, Source::NamedCookie] {
            let facts = Facts { source: Some(source), ..post(Known::Unknown) };
            assert_eq!(decide(&facts), Action::Claim, "{source:?}");
        }
    }
}
