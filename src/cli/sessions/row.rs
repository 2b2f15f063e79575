//! Sessions as they are shown.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_proxy::session::{Identity, InspectError, Inspector, StoredSession};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::filter::Wanted;

/// What stands for a value that cannot be told.
pub(super) const UNKNOWN: &str = "?";

/// A session of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) server: Identity,
    pub(super) session: StoredSession,
}

/// How many sessions a pod has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) server: Identity,
    /// `None` for sessions whose record cannot be read.
    pub(super) pod: Option<String>,
    pub(super) sessions: usize,
}

impl Row {
    /// Its pod; `None` where its record cannot be read.
    pub(super) fn pod(&self) -> Option<&str> {
        self.session.record.as_ref().map(|record| record.pod.as_str())
    }

    pub(super) fn age(&self, now: SystemTime) -> Option<Duration> {
        let pinned = Duration::from_secs(self.session.record.as_ref()?.pinned_at);
        now.duration_since(UNIX_EPOCH).ok()?.checked_sub(pinned)
    }

    /// The 8 digits that logs show too.
    pub(super) fn short(&self) -> String {
        self.session.key.to_string()
    }

    /// As one line names it.
    pub(super) fn line(&self) -> String {
        format!("{} {} on {}", self.server, self.short(), self.pod().unwrap_or(UNKNOWN))
    }

    pub(super) fn to_value(&self) -> Value {
        let record = self.session.record.as_ref();
        json!({
            "namespace": self.server.namespace,
            "server": self.server.name,
            "session": self.session.key.to_hex(),
            "pod": record.map(|record| &record.pod),
            "backendURL": record.map(|record| &record.backend_url),
            "pinnedAt": record.and_then(|record| timestamp(record.pinned_at)),
            "expiresInSeconds": self.session.expires_in.map(|left| left.as_secs()),
        })
    }

    /// By server, then pod (the tenth after the ninth), the oldest first.
    fn order(&self) -> impl Ord + use<> {
        let pod = self.pod().unwrap_or_default().to_owned();
        let pinned_at = self.session.record.as_ref().map(|record| record.pinned_at);
        (self.server.to_string(), pod.len(), pod, pinned_at, self.session.key)
    }
}

impl Count {
    pub(super) fn to_value(&self) -> Value {
        let Self { server, pod, sessions } = self;
        json!({"namespace": server.namespace, "server": server.name, "pod": pod, "sessions": sessions})
    }
}

/// Every session that is wanted, in order. Expired ones, which wait for their removal, are none.
pub(super) async fn read(inspector: &mut Inspector, wanted: &Wanted) -> Result<Vec<Row>, InspectError> {
    let servers = match wanted.server() {
        Some(server) => vec![server],
        None => inspector.servers().await?,
    };
    let mut rows = Vec::new();
    for server in servers.into_iter().filter(|server| wanted.takes_server(server)) {
        let mut cursor = 0;
        loop {
            let (some, next) = inspector.sessions(&server, cursor).await?;
            rows.extend(
                some.into_iter()
                    .filter(|session| session.expires_in.is_some() || session.record.is_none())
                    .map(|session| Row { server: server.clone(), session })
                    .filter(|row| wanted.takes(row)),
            );
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
    rows.sort_by_cached_key(Row::order);
    // Redis may tell of one twice.
    rows.dedup_by(|a, b| a.server == b.server && a.session.key == b.session.key);
    Ok(rows)
}

/// Sessions of each pod, in the order of the rows.
pub(super) fn counts(rows: &[Row]) -> Vec<Count> {
    rows.chunk_by(|a, b| a.server == b.server && a.pod() == b.pod())
        .filter_map(|chunk| {
            let first = chunk.first()?;
            let pod = first.pod().map(str::to_owned);
            Some(Count { server: first.server.clone(), pod, sessions: chunk.len() })
        })
        .collect()
}

/// RFC 3339, in UTC.
pub(super) fn timestamp(unix_seconds: u64) -> Option<String> {
    let seconds = i64::try_from(unix_seconds).ok()?;
    Timestamp::from_second(seconds).ok().map(|time| time.to_string())
}

/// The two largest units, as in `2h5m`.
pub(super) fn short_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let Some(first) = units.iter().position(|(size, _)| seconds >= *size) else { return "0s".to_owned() };
    let mut rest = seconds;
    let mut text = String::new();
    for (size, unit) in units.iter().skip(first).take(2) {
        if rest / size > 0 {
            text.push_str(&format!("{}{unit}", rest / size));
        }
        rest %= size;
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use berth_proxy::session::{Hasher, Shown};

    use super::*;

    pub(in super::super) fn row(name: &str, id: &str, pod: Option<&str>) -> Row {
        let server = Identity { namespace: "shop".into(), name: name.into() };
        let key = Hasher::new(&server).session(id.as_bytes());
        let record = pod.map(|pod| Shown { pod: pod.into(), backend_url: format!("http://{pod}"), pinned_at: 1000 });
        Row { server, session: StoredSession { key, record, expires_in: Some(Duration::from_secs(60)) } }
    }

    #[test]
    fn the_tenth_pod_comes_after_the_ninth() {
        let mut rows =
            ["web-10", "web-9", "web-2"].map(|pod| row("web", pod, Some(pod))).into_iter().collect::<Vec<_>>();
        rows.push(row("api", "x", Some("api-11")));
        rows.push(row("web", "again", Some("web-2")));
        rows.push(row("web", "unreadable", None));
        rows.sort_by_cached_key(Row::order);
        let told: Vec<_> = counts(&rows).into_iter().map(|count| (count.pod, count.sessions)).collect();
        let pod = |name: &str| Some(name.to_owned());
        assert_eq!(told, [(pod("api-11"), 1), (None, 1), (pod("web-2"), 2), (pod("web-9"), 1), (pod("web-10"), 1)]);
    }

    #[test]
    fn durations_are_short() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (125, "2m5s"), (7_199, "1h59m"), (7_200, "2h"), (90_061, "1d1h")]
        {
            assert_eq!(short_duration(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn what_no_clock_shows_is_no_time() {
        assert_eq!(timestamp(0).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(timestamp(u64::MAX), None);
        assert_eq!(row("web", "x", Some("web-0")).age(UNIX_EPOCH), None, "pinned in the future");
    }
}
