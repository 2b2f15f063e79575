//! Which session a user means.

use std::io;

use berth_proxy::session::Hasher;

use super::super::CliError;
use super::row::Row;

/// Digits of a hash that are enough to ask for it.
const FEWEST_DIGITS: usize = 4;

/// What somebody calls a session: its id, or digits from the beginning of its hash.
///
/// An id is a secret: this is never printed, in no error either.
#[derive(Clone)]
pub(super) struct Name(String);

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Name")
    }
}

impl std::str::FromStr for Name {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl Name {
    /// The names themselves: `-` stands for the lines of standard input, which no other user of the machine can see.
    pub(super) fn read(names: Vec<Self>) -> Result<Vec<Self>, CliError> {
        let mut all = Vec::new();
        for name in names {
            if name.0 == "-" {
                for line in io::stdin().lines() {
                    let line = line.map_err(|error| CliError::new(format!("cannot read standard input: {error}")))?;
                    let line = line.trim();
                    if !line.is_empty() {
                        all.push(Self(line.to_owned()));
                    }
                }
            } else {
                all.push(name);
            }
        }
        Ok(all)
    }

    /// The sessions that it may mean: those with this id, else those whose hash starts so.
    pub(super) fn matches<'a>(&self, rows: &'a [Row]) -> Vec<&'a Row> {
        let by_id: Vec<_> = rows
            .chunk_by(|a, b| a.server == b.server)
            .filter_map(|of_server| {
                let key = Hasher::new(&of_server.first()?.server).session(self.0.as_bytes());
                of_server.iter().find(|row| row.session.key == key)
            })
            .collect();
        let digits = self.0.to_ascii_lowercase();
        if !by_id.is_empty() || digits.len() < FEWEST_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return by_id;
        }
        rows.iter().filter(|row| row.session.key.to_hex().starts_with(&digits)).collect()
    }

    /// The one session that it means; `None` where there is none.
    ///
    /// # Errors
    /// It may be several.
    pub(super) fn one<'a>(&self, rows: &'a [Row]) -> Result<Option<&'a Row>, CliError> {
        match self.matches(rows).as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            several => {
                let told: Vec<_> =
                    several.iter().take(5).map(|row| format!("{} {}", row.server, row.session.key.to_hex())).collect();
                let more = if several.len() > told.len() { ", …" } else { "" };
                let message = format!("that is {} sessions: {}{more}", several.len(), told.join(", "));
                Err(CliError::new(message).help("give more digits of the hash, or --server NAMESPACE/NAME"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::row::tests::row;
    use super::*;

    #[test]
    fn an_id_that_looks_like_a_hash_is_an_id_first() {
        let mut rows = vec![row("web", "one", Some("web-0"))];
        let hash = rows[0].session.key.to_hex();
        assert_eq!(Name(hash.clone()).one(&rows).unwrap(), Some(&rows[0]));
        rows.push(row("web", &hash, Some("web-1")));
        assert_eq!(Name(hash).one(&rows).unwrap(), Some(&rows[1]));
    }

    #[test]
    fn the_same_id_on_two_servers_is_two_sessions() {
        let rows = [row("api", "one", Some("api-0")), row("web", "one", Some("web-0"))];
        let error = Name("one".into()).one(&rows).unwrap_err().to_string();
        assert!(error.contains("2 sessions: shop/api ") && !error.contains("one"), "{error}");
    }

    #[test]
    fn nothing_is_shown_of_a_name() {
        assert_eq!(format!("{:?}", Name("secret".into())), "Name");
    }

    proptest! {
        #[test]
        fn a_session_is_found_by_its_id_and_by_its_hash(ids in proptest::collection::hash_set("\\PC{1,40}", 1..20), digits in 4usize..=32) {
            let rows: Vec<_> = ids.iter().map(|id| row("web", id, Some("web-0"))).collect();
            for (id, row) in ids.iter().zip(&rows) {
                prop_assert_eq!(Name(id.clone()).matches(&rows), [row]);
                let hex = row.session.key.to_hex();
                prop_assert!(Name(hex[..digits].to_owned()).matches(&rows).contains(&row));
                prop_assert_eq!(Name(hex.to_ascii_uppercase()).matches(&rows), [row]);
            }
        }

        #[test]
        fn any_name_is_answered(name in "\\PC{0,40}|[0-9a-f]{0,40}") {
            let rows = [row("web", "one", None)];
            prop_assert!(Name(name).matches(&rows).len() <= 1);
        }
    }
}
