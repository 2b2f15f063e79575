//! What is counted. Every label comes from a closed set, and each thread counts for itself.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::pods::Naming;
use crate::session::{Sessions, UnpinReason};

/// Makes a closed set of label values.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$item_doc])* $item,)+ }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$item),+];

            /// As metrics and logs name it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$item => $text,)+ }
            }
        }
    };
}

labels! {
    /// Which part of the routing table a request was.
    Route {
        /// Pinned, and in the local cache.
        Cached = "cached",
        /// Pinned, and looked up in the store.
        Stored = "stored",
        /// Without a session.
        Placed = "placed",
        /// An `initialize` that carried an ended session.
        PlacedAnew = "placed_anew",
        /// The first request of a session that the client named.
        Claimed = "claimed",
        /// Of a protocol revision without sessions.
        Sessionless = "sessionless",
        /// Of a session that nobody knows.
        Unknown = "unknown",
        /// Nothing could be said of its session.
        Unavailable = "unavailable",
        /// Malformed.
        Refused = "refused",
    }
}

labels! {
    /// Something that should be rare.
    Event {
        /// A connection was turned away at the limit.
        ConnectionLimit = "connection_limit",
        /// A head was too large, or had too many lines.
        HeadLimit = "head_limit",
        /// A head did not come in time.
        HeadTimeout = "head_timeout",
        /// An idle connection was closed.
        IdleTimeout = "idle_timeout",
        /// A body was larger than allowed.
        BodyLimit = "body_limit",
        /// A session was not kept since there are too many.
        SessionLimit = "session_limit",
        /// A pod did not accept a connection.
        PodRefused = "pod_refused",
        /// A pod fell silent.
        PodSilent = "pod_silent",
        /// A pod closed too early, or answered what is no HTTP.
        PodBroken = "pod_broken",
        /// A request was repeated over a new connection.
        Repeated = "repeated",
        /// A response named a session that it must not.
        SessionConflict = "session_conflict",
        /// A session whose pin could not be stored, or whose client left before, was deleted from its server.
        OrphanDeleted = "orphan_deleted",
        /// An event stream was ended by the drain.
        StreamDrained = "stream_drained",
        /// An event stream was closed since its session could not be pinned.
        StreamUnpinned = "stream_unpinned",
    }
}

/// Statuses that are told apart; all others count as the last of their hundred.
const STATUSES: [&str; 24] = [
    "101", "1xx", "200", "202", "204", "2xx", "304", "3xx", "400", "401", "403", "404", "405", "406", "409", "413",
    "429", "4xx", "500", "502", "503", "504", "5xx", "other",
];

fn status_index(status: u16) -> usize {
    match status {
        101 => 0,
        200 => 2,
        202 => 3,
        204 => 4,
        304 => 6,
        400 => 8,
        401 => 9,
        403 => 10,
        404 => 11,
        405 => 12,
        406 => 13,
        409 => 14,
        413 => 15,
        429 => 16,
        500 => 18,
        502 => 19,
        503 => 20,
        504 => 21,
        other => match other / 100 {
            1 => 1,
            2 => 5,
            3 => 7,
            4 => 17,
            5 => 22,
            _ => 23,
        },
    }
}

/// Upper bounds of the duration buckets, in microseconds: each about three times the last.
const BUCKETS: [u64; 12] =
    [100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 60_000_000];

/// The counts of one thread.
#[derive(Debug, Default)]
pub struct Counters {
    requests: [[AtomicU64; STATUSES.len()]; Route::ALL.len()],
    durations: [AtomicU64; BUCKETS.len() + 1],
    duration_sum: AtomicU64,
    events: [AtomicU64; Event::ALL.len()],
    in_flight: AtomicU64,
    connections: AtomicU64,
}

/// For what one thread writes: no read-modify-write is needed.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
}

impl Counters {
    /// The head of a response goes out.
    pub fn answered(&self, route: Route, status: u16, after: Duration) {
        add(&self.requests[route as usize][status_index(status)], 1);
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|bound| micros <= *bound).unwrap_or(BUCKETS.len());
        add(&self.durations[bucket], 1);
        add(&self.duration_sum, micros);
    }

    /// Something rare happened; also in the background, beside the thread that counts the rest.
    pub fn event(&self, event: Event) {
        self.events[event as usize].fetch_add(1, Relaxed);
    }

    /// How many requests are under way.
    pub fn set_in_flight(&self, n: usize) {
        self.in_flight.store(n as u64, Relaxed);
    }

    /// How many connections are open.
    pub fn set_connections(&self, n: usize) {
        self.connections.store(n as u64, Relaxed);
    }
}

/// All threads' counts.
#[derive(Debug)]
pub struct Metrics {
    threads: Vec<Arc<Counters>>,
}

impl Metrics {
    /// For so many threads.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self { threads: (0..threads).map(|_| Arc::default()).collect() }
    }

    /// The counters of one thread; of the first, if there are not so many.
    #[must_use]
    pub fn of(&self, thread: usize) -> Arc<Counters> {
        self.threads.get(thread).or(self.threads.first()).cloned().unwrap_or_default()
    }

    /// The sum of a counter over all threads.
    fn sum(&self, counter: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        self.threads.iter().map(|thread| counter(thread).load(Relaxed)).sum()
    }

    /// The Prometheus text form.
    #[must_use]
    pub fn render(&self, sessions: &Sessions, naming: &Naming) -> String {
        let mut text = String::with_capacity(8 * 1024);
        // Writing to a string cannot fail.
        let _ = self.write_requests(&mut text).and_then(|()| write_sessions(&mut text, sessions, naming));
        text
    }

    fn write_requests(&self, out: &mut String) -> fmt::Result {
        head(out, "requests_total", "counter", "Responses by part of the routing table and status.")?;
        for route in Route::ALL {
            for (at, status) in STATUSES.iter().enumerate() {
                let count = self.sum(|thread| &thread.requests[*route as usize][at]);
                if count > 0 {
                    let route = route.as_str();
                    writeln!(out, "berth_proxy_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}")?;
                }
            }
        }
        head(out, "request_duration_seconds", "histogram", "Time from the head of a request to that of its response.")?;
        let mut count = 0;
        for (at, bound) in BUCKETS.iter().enumerate() {
            count += self.sum(|thread| &thread.durations[at]);
            let bound = Duration::from_micros(*bound).as_secs_f64();
            writeln!(out, "berth_proxy_request_duration_seconds_bucket{{le=\"{bound}\"}} {count}")?;
        }
        count += self.sum(|thread| &thread.durations[BUCKETS.len()]);
        writeln!(out, "berth_proxy_request_duration_seconds_bucket{{le=\"+Inf\"}} {count}")?;
        let sum = Duration::from_micros(self.sum(|thread| &thread.duration_sum)).as_secs_f64();
        writeln!(out, "berth_proxy_request_duration_seconds_sum {sum}")?;
        writeln!(out, "berth_proxy_request_duration_seconds_count {count}")?;
        head(out, "requests_in_flight", "gauge", "Requests whose response is not complete.")?;
        writeln!(out, "berth_proxy_requests_in_flight {}", self.sum(|thread| &thread.in_flight))?;
        head(out, "connections", "gauge", "Open connections of clients.")?;
        writeln!(out, "berth_proxy_connections {}", self.sum(|thread| &thread.connections))?;
        head(out, "events_total", "counter", "Limits that were reached, and what went wrong with pods.")?;
        for event in Event::ALL {
            let count = self.sum(|thread| &thread.events[*event as usize]);
            writeln!(out, "berth_proxy_events_total{{event=\"{}\"}} {count}", event.as_str())?;
        }
        Ok(())
    }
}

fn write_sessions(out: &mut String, sessions: &Sessions, naming: &Naming) -> fmt::Result {
    head(out, "sessions", "gauge", "Sessions of each pod over all replicas, as of this replica's last pin.")?;
    for (pod, count) in sessions.counts().iter() {
        if naming.label(pod).is_some() {
            writeln!(out, "berth_proxy_sessions{{pod=\"{pod}\"}} {count}")?;
        }
    }
    let seen = sessions.statistics();
    head(out, "sessions_cached", "gauge", "Sessions in the local cache.")?;
    writeln!(out, "berth_proxy_sessions_cached {}", seen.cached)?;
    for (name, count, help) in [
        ("session_cache_hits_total", seen.hits, "Sessions found in the local cache."),
        ("session_cache_misses_total", seen.misses, "Sessions that the store was asked for."),
        ("store_errors_total", seen.store_errors, "Commands to the store that failed or timed out."),
        ("store_bad_records_total", seen.bad_records, "Records of the store that were ignored."),
    ] {
        head(out, name, "counter", help)?;
        writeln!(out, "berth_proxy_{name} {count}")?;
    }
    head(out, "unpins_total", "counter", "Sessions that were forgotten, by reason.")?;
    for (reason, count) in UnpinReason::ALL.iter().zip(seen.unpins) {
        writeln!(out, "berth_proxy_unpins_total{{reason=\"{}\"}} {count}", reason.as_str())?;
    }
    Ok(())
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(out, "# HELP berth_proxy_{name} {help}\n# TYPE berth_proxy_{name} {kind}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::Backend;
    use crate::session::{Identity, SessionSettings};

    #[test]
    fn every_status_counts_in_one_place() {
        for status in 0..=999 {
            let label = STATUSES[status_index(status)];
            let exact = label.parse() == Ok(status);
            let hundred = label.ends_with("xx") && label.starts_with(&(status / 100).to_string());
            assert!(exact || hundred || label == "other", "{status} counts as {label}");
        }
    }

    #[test]
    fn every_metric_is_documented() {
        let naming = Naming::Fixed(vec![Backend::parse("http://127.0.0.1:1").unwrap()]);
        let sessions = Sessions::in_memory(SessionSettings {
            identity: Identity::new("-", "web").unwrap(),
            naming: naming.clone(),
            ttl: Duration::from_secs(60),
            cache_size: 1,
            max_sessions: 1,
        });
        let text = Metrics::new(1).render(&sessions, &naming);
        let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/what-happens-when.md");
        let document = std::fs::read_to_string(document).unwrap();
        let metrics = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next());
        let labels = Route::ALL.iter().map(|route| route.as_str());
        let labels = labels.chain(UnpinReason::ALL.iter().map(|reason| reason.as_str()));
        for name in metrics.chain(labels) {
            assert!(document.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn threads_are_added_up() {
        let metrics = Metrics::new(2);
        for thread in [0, 1, 1] {
            metrics.of(thread).answered(Route::Cached, 200, Duration::from_millis(2));
        }
        let mut text = String::new();
        metrics.write_requests(&mut text).unwrap();
        assert!(text.contains("berth_proxy_requests_total{route=\"cached\",status=\"200\"} 3\n"), "{text}");
        assert!(text.contains("_bucket{le=\"0.001\"} 0\n") && text.contains("_bucket{le=\"0.003\"} 3\n"), "{text}");
    }
}
