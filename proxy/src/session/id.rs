//! Keys of sessions: what stands for a session id everywhere but in the request itself.

use std::fmt;

use ring::digest::{Context, SHA256};

/// Which server's sessions these are. Two servers that share a store never see each other's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Namespace of the server; `-` outside Kubernetes.
    pub namespace: String,
    /// Name of the server.
    pub name: String,
}

impl Identity {
    /// The server of this namespace and name; `None` where one of them is none: letters, digits, `-`, `.` and `_`, at
    /// least one.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Option<Self> {
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let is_name = |text: &str| !text.is_empty() && text.chars().all(valid);
        let both = is_name(namespace) && is_name(name);
        both.then(|| Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// 128 bits of SHA-256 over the server's identity and a session id: all that is kept, stored or logged of an id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(pub(crate) [u8; 16]);

impl SessionKey {
    /// Reads the 32 hexadecimal digits that [`SessionKey::to_hex`] writes.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let plain = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let number = plain.then(|| u128::from_str_radix(text, 16).ok()).flatten()?;
        Some(Self(number.to_be_bytes()))
    }

    /// 32 lower-case hexadecimal digits, as the store has it.
    #[must_use]
    pub fn to_hex(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }
}

/// The first 8 digits, for logs.
impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{:08x}", u32::from_be_bytes([a, b, c, d]))
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey({self})")
    }
}

/// 32 bits that stand for the path that made a session. Paths come from clients and may hold secrets, so no path is kept;
/// all that is ever asked is whether another request has the same one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathTag(pub(crate) u32);

impl PathTag {
    /// 8 lower-case hexadecimal digits, as the store has it.
    #[must_use]
    pub fn to_hex(self) -> String {
        format!("{:08x}", self.0)
    }

    /// Reads what [`PathTag::to_hex`] writes.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let plain = text.len() == 8 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        plain.then(|| u32::from_str_radix(text, 16).ok()).flatten().map(Self)
    }
}

/// Makes keys for one server. The identity fills SHA-256's first block, so that a key costs one block in most cases.
#[derive(Clone)]
pub struct Hasher {
    sessions: Context,
    paths: Context,
}

impl Hasher {
    /// A hasher for the sessions of this server.
    #[must_use]
    pub fn new(identity: &Identity) -> Self {
        let start = |what: &str| {
            let name = ring::digest::digest(&SHA256, format!("{what}\0{identity}").as_bytes());
            let mut context = Context::new(&SHA256);
            context.update(name.as_ref());
            context.update(&[0; 32]);
            context
        };
        Self { sessions: start("session"), paths: start("path") }
    }

    /// The key of a session id, whatever its bytes.
    #[must_use]
    pub fn session(&self, id: &[u8]) -> SessionKey {
        SessionKey(first(self.sessions.clone(), id))
    }

    /// The tag of a path, without its query.
    #[must_use]
    pub fn path(&self, path: &str) -> PathTag {
        PathTag(u32::from_be_bytes(first(self.paths.clone(), path.as_bytes())))
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

/// The first N bytes of a digest, N at most 32.
fn first<const N: usize>(mut context: Context, data: &[u8]) -> [u8; N] {
    context.update(data);
    let digest = context.finish();
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hasher(namespace: &str, name: &str) -> Hasher {
        Hasher::new(&Identity { namespace: namespace.into(), name: name.into() })
    }

    #[test]
    fn another_server_gives_the_same_id_another_key() {
        let key = hasher("team", "web").session(b"1234");
        assert_eq!(key, hasher("team", "web").session(b"1234"));
        assert_ne!(key, hasher("team", "api").session(b"1234"));
        assert_ne!(key, hasher("other", "web").session(b"1234"));
        assert_ne!(key, hasher("team", "web").session(b"12345"));
    }

    #[test]
    fn logs_show_eight_digits_and_never_the_id() {
        let key = hasher("team", "web").session(b"top-secret");
        assert_eq!(format!("{key}"), key.to_hex()[..8]);
        assert_eq!(format!("{key:?}"), format!("SessionKey({})", &key.to_hex()[..8]));
    }

    proptest! {
        #[test]
        fn hexadecimal_round_trips(id in proptest::collection::vec(any::<u8>(), 0..200), path in "/\\PC{0,40}") {
            let hasher = hasher("team", "web");
            let key = hasher.session(&id);
            prop_assert_eq!(SessionKey::from_hex(&key.to_hex()), Some(key));
            let tag = hasher.path(&path);
            prop_assert_eq!(PathTag::from_hex(&tag.to_hex()), Some(tag));
        }

        #[test]
        fn only_what_was_written_is_read(text in "\\PC{0,40}|[0-9a-fA-F+]{32}|[0-9a-f+]{8}") {
            prop_assert!(SessionKey::from_hex(&text).is_none_or(|key| key.to_hex() == text));
            prop_assert!(PathTag::from_hex(&text).is_none_or(|tag| tag.to_hex() == text));
        }
    }
}
