//! Addresses of session stores, as users write them.

use std::fmt;

/// How many servers stand behind an address, and who says which one to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single,
    /// Sentinels, which know the server that is the master of this name.
    Sentinel {
        /// The name of the master.
        master: String,
    },
    /// Nodes of a Redis Cluster.
    Cluster,
}

/// What to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// What the hosts are.
    pub topology: Topology,
    /// Whether to speak TLS.
    pub tls: bool,
    /// Host (IPv6 without brackets) and port of each; at least one.
    pub hosts: Vec<(String, u16)>,
    /// The database's number, where the address names one.
    pub db: Option<u32>,
}

/// How a Redis is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Plain,
    Url(&'static str),
}

/// URL schemes that name a Redis: one server, one server over TLS, Sentinel, Cluster.
const SCHEMES: [&str; 10] = [
    "redis",
    "rediss",
    "redis+sentinel",
    "rediss+sentinel",
    "redis-sentinel",
    "rediss-sentinel",
    "redis+cluster",
    "rediss+cluster",
    "redis-cluster",
    "rediss-cluster",
];

/// The address of a session store: `host:port`, or a Redis URL without credentials.
///
/// Sentinel and Cluster URLs may name several hosts, separated by commas; every host carries its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong and what to write instead, as the end of a sentence about the address.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(bad) = text.chars().find(|c| c.is_control() || c.is_whitespace()) {
            return Err(format!("it contains {bad:?}; write host:port or a redis:// URL"));
        }
        let (scheme, rest) = match text.split_once("://") {
            None => (Scheme::Plain, text),
            Some((scheme, rest)) => match SCHEMES.iter().find(|known| **known == scheme) {
                Some(known) => (Scheme::Url(known), rest),
                None => {
                    return Err(format!(
                        "{scheme:?} is no scheme of a Redis; write host:port, redis://, rediss://, redis+sentinel:// or \
                         redis+cluster://"
                    ));
                }
            },
        };
        let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (hosts, tail) = rest.split_at(authority_end);
        // A user name in an URL is a credential too: it names an ACL user. An `@` later on is part of no path we know.
        if rest.contains('@') {
            return Err("it carries credentials; name them in a Secret and refer to that".to_owned());
        }
        if !tail.is_empty() && scheme == Scheme::Plain {
            return Err("a path needs a redis:// URL; write host:port".to_owned());
        }
        if tail.to_ascii_lowercase().contains("password=") {
            return Err("it carries a password; name it in a Secret and refer to that".to_owned());
        }
        let several = matches!(scheme, Scheme::Url(known) if known.contains("sentinel") || known.contains("cluster"));
        for (at, host) in hosts.split(',').enumerate() {
            if at > 0 && !several {
                return Err("only sentinel and cluster URLs take several hosts".to_owned());
            }
            split_host_port(host, REDIS_PORT)?;
        }
        let address = Self(text.to_owned());
        address.endpoints()?;
        Ok(address)
    }

    /// What to connect to.
    ///
    /// # Errors
    /// What the path must say, as the end of a sentence about the address: a database's number, or for Sentinel the
    /// name of a master (and, after another slash, a number).
    pub fn endpoints(&self) -> Result<Endpoints, String> {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("redis", &self.0));
        let before_query = rest.find(['?', '#']).map_or(rest, |end| &rest[..end]);
        let (hosts, path) = before_query.split_once('/').unwrap_or((before_query, ""));
        let hosts =
            hosts.split(',').map(|host| split_host_port(host, REDIS_PORT).map(|(host, port)| (host.to_owned(), port)));
        let (topology, db) = if scheme.contains("sentinel") {
            let (master, db) = path.split_once('/').unwrap_or((path, ""));
            if master.is_empty() {
                return Err("it does not name the master; write …/NAME, usually /mymaster".to_owned());
            }
            (Topology::Sentinel { master: master.to_owned() }, db)
        } else if scheme.contains("cluster") {
            (Topology::Cluster, path)
        } else {
            (Topology::Single, path)
        };
        let number = |db: &str| db.parse().map_err(|_| format!("{db:?} is no number of a database"));
        let db = if db.is_empty() { None } else { Some(number(db)?) };
        Ok(Endpoints { topology, tls: scheme.starts_with("rediss"), hosts: hosts.collect::<Result<_, _>>()?, db })
    }

    /// The address as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What to write where a port is missing.
const REDIS_PORT: &str = "write host:port, usually port 6379";

/// Splits `host:port` or `[address]:port`; the host comes without brackets. `advice` is for text without a port.
pub(crate) fn split_host_port<'a>(text: &'a str, advice: &str) -> Result<(&'a str, u16), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']').ok_or("the bracket of its IPv6 address is not closed")?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| format!("{host:?} is no IPv6 address"))?;
            (host, rest.strip_prefix(':').ok_or("it has no port; write [address]:port")?)
        }
        None => {
            let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("it has no port; {advice}"))?;
            if host.contains(':') {
                return Err("an IPv6 address needs brackets; write [address]:port".to_owned());
            }
            let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            if host.is_empty() || host.len() > 253 || !host.chars().all(valid) {
                return Err(format!("{host:?} is no host name"));
            }
            (host, port)
        }
    };
    let number = port.parse::<u16>().ok().filter(|number| *number > 0 && !port.starts_with('+'));
    let number = number.ok_or_else(|| format!("{port:?} is no port of {host:?}; write a number from 1 to 65535"))?;
    Ok((host, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_form_is_read() {
        for text in [
            "redis:6379",
            "redis.default.svc.cluster.local:6379",
            "10.0.0.1:6379",
            "[::1]:6379",
            "redis://redis:6379",
            "redis://redis:6379/3",
            "rediss://redis.example:6380",
            "redis+sentinel://a:26379,b:26379,c:26379/mymaster",
            "redis+cluster://a:6379,b:6379",
        ] {
            assert_eq!(Address::parse(text).map(|a| a.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("", "no port"),
            ("redis", "no port"),
            ("redis://redis", "no port"),
            (":6379", "no host name"),
            ("redis:", "no port of"),
            ("redis:0", "1 to 65535"),
            ("redis:+1", "1 to 65535"),
            ("redis:65536", "1 to 65535"),
            ("redis:6379/0", "redis:// URL"),
            ("::1:6379", "brackets"),
            ("[::1:6379", "not closed"),
            ("redis://user:secret@redis:6379", "credentials"),
            ("redis://:secret@redis:6379", "credentials"),
            ("user@redis:6379", "credentials"),
            ("redis://redis:6379?password=x", "password"),
            ("http://redis:6379", "scheme"),
            ("redis://a:1,b:2", "several hosts"),
            ("redis+sentinel://a:1", "does not name the master"),
            ("redis://a:1/x", "no number of a database"),
            ("redis:6379\n", "contains"),
            ("re dis:6379", "contains"),
            ("rédis🦀:6379", "no host name"),
        ] {
            let error = Address::parse(text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn endpoints_are_what_the_address_says() {
        let read = |text: &str| Address::parse(text).and_then(|address| address.endpoints());
        let one = |host: &str, port| vec![(host.to_owned(), port)];
        let single = |hosts, tls, db| Ok(Endpoints { topology: Topology::Single, tls, hosts, db });
        assert_eq!(read("redis:6379"), single(one("redis", 6379), false, None));
        assert_eq!(read("redis://[::1]:6379/3"), single(one("::1", 6379), false, Some(3)));
        assert_eq!(read("rediss://redis:6380/?x=1"), single(one("redis", 6380), true, None));
        let several = vec![("a".to_owned(), 1), ("b".to_owned(), 2)];
        assert_eq!(
            read("rediss+sentinel://a:1,b:2/main/4"),
            Ok(Endpoints {
                topology: Topology::Sentinel { master: "main".into() },
                tls: true,
                hosts: several.clone(),
                db: Some(4)
            })
        );
        assert_eq!(
            read("redis-cluster://a:1,b:2"),
            Ok(Endpoints { topology: Topology::Cluster, tls: false, hosts: several, db: None })
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_what_passes_has_no_credentials(text in "\\PC{0,40}|(redis|rediss|http)://\\PC{0,30}") {
            if let Ok(address) = Address::parse(&text) {
                proptest::prop_assert!(!address.as_str().contains('@'));
                proptest::prop_assert!(address.endpoints().is_ok());
            }
        }
    }
}
