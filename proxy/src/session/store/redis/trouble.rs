//! What is wrong with a Redis, for people. What a server repeats of a command is in none of it.

use redis::{ErrorKind, RedisError};

use crate::config::PASSWORD_ENV;

/// How the client describes a refused AUTH.
const WRONG_PASSWORD: &str = "Password authentication failed";
/// How servers refuse whatever comes without one.
const NO_PASSWORD: &str = "Authentication required";
/// How the client describes a refused SELECT.
const NO_DATABASE: &str = "Redis server refused to switch database";
/// What servers then say to a user that may not use the command; the client drops the code, NOPERM.
const NO_RIGHT: &str = "no permissions";

/// Why a server does not do what it is asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The password, or the user, is not the right one.
    WrongPassword,
    /// It asks for a password, and was given none.
    NoPassword,
    /// The user lacks the right to a command or a key.
    NoRight,
    /// It has no such database.
    NoDatabase,
    /// It answers with another error, of this code.
    Code(String),
    /// It is no Redis, or speaks in another way.
    NoRedis(String),
    /// It does not answer, or not in its part of a Cluster.
    Silent(String),
}

impl Trouble {
    pub(super) fn of(error: &RedisError) -> Self {
        let text = error.to_string();
        match (error.kind(), error.code()) {
            (_, Some("NOPERM")) => Self::NoRight,
            // Of a Cluster, and of a refused database, only the text has what a server said.
            _ if text.contains(WRONG_PASSWORD) || error.code() == Some("WRONGPASS") => Self::WrongPassword,
            _ if text.contains(NO_PASSWORD) || error.code() == Some("NOAUTH") => Self::NoPassword,
            _ if text.starts_with(NO_DATABASE) && text.contains(NO_RIGHT) => Self::NoRight,
            _ if text.starts_with(NO_DATABASE) => Self::NoDatabase,
            (ErrorKind::Parse | ErrorKind::RESP3NotSupported, _) => Self::NoRedis(text),
            (_, Some(code)) => Self::Code(code.to_owned()),
            _ => Self::Silent(text),
        }
    }

    /// What is wrong and, where it is known, what to do about it.
    pub(super) fn advice(&self) -> String {
        let todo = match self {
            Self::WrongPassword => format!("correct {PASSWORD_ENV}, or the Secret that it comes from, and restart"),
            Self::NoPassword => {
                format!("give it in {PASSWORD_ENV}; an MCPServer does so by spec.sessionStorage.passwordRef")
            }
            Self::NoRight => {
                "allow the user the server's keys, and the commands on hashes, sorted sets, sets and scripts, \
                              INFO and PEXPIRE, and SELECT where a database is named"
                    .to_owned()
            }
            Self::NoDatabase => "name one of its databases".to_owned(),
            Self::Code(_) | Self::NoRedis(_) | Self::Silent(_) => return self.to_string(),
        };
        format!("{self}; {todo}")
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WrongPassword => f.write_str("it refuses the password"),
            Self::NoPassword => f.write_str("it asks for a password"),
            Self::NoRight => f.write_str("it forbids its user what is needed"),
            Self::NoDatabase => f.write_str("it has no database of this number"),
            Self::Code(code) => write!(f, "it answers {code}"),
            Self::NoRedis(text) | Self::Silent(text) => f.write_str(text),
        }
    }
}
