//! The tables of the session proxy, in Markdown.

use std::fmt;

use super::ProxyArguments;
use super::calls;
use super::candidate::Kind;
use super::configuration::ANSWER_BODY;
use super::memory::PerSession;
use super::message::REQUEST_BODY;
use super::speed::{self, CONNECTIONS, Row, SESSIONS, SHARE};
use super::streams;
use crate::statistics::median;

pub(super) struct Speed<'a> {
    pub(super) arguments: &'a ProxyArguments,
    pub(super) speed: &'a speed::Speed,
}

impl Speed<'_> {
    fn of(&self, kind: Kind, field: fn(&Row) -> f64) -> f64 {
        median(self.speed.rows.iter().filter(|row| row.kind == kind).map(field))
    }

    /// The median over rounds of what is `kind`'s part of `other`'s within a round.
    fn ratio(&self, kind: Kind, other: Kind, field: fn(&Row) -> f64) -> f64 {
        let of = |kind| self.speed.rows.iter().filter(move |row| row.kind == kind).map(field);
        median(of(kind).zip(of(other)).map(|(mine, theirs)| mine / theirs))
    }
}

impl fmt::Display for Speed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProxyArguments { rounds, seconds, .. } = self.arguments;
        writeln!(
            f,
            "{SESSIONS} sessions, POST of {REQUEST_BODY} bytes, answers of {ANSWER_BODY}; medians of {rounds} interleaved \
             rounds, {seconds} s each. Highest rate and steady rate over {CONNECTIONS} keep-alive connections; the steady \
             rate is {:.0} a second, {:.0} % of HAProxy's highest, by an open load. CPU is µs of the proxy's process per \
             request (of the server's where there is no proxy):\n",
            self.speed.rate,
            SHARE * 100.0,
        )?;
        writeln!(
            f,
            "| | requests/s | CPU | steady rate: p50 ms | p99 ms | CPU | one connection: p50 µs | added to direct | CPU |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        let direct = self.of(Kind::Direct, |row| row.alone.load.p50_us);
        for kind in Kind::ALL {
            let alone = self.of(kind, |row| row.alone.load.p50_us);
            writeln!(
                f,
                "| {} | {:.0} | {:.2} | {:.3} | {:.3} | {:.2} | {alone:.1} | {:.1} | {:.2} |",
                kind.name(),
                self.of(kind, |row| row.highest.load.per_second),
                self.of(kind, |row| row.highest.cpu_us),
                self.of(kind, |row| row.steady.load.p50_us) / 1e3,
                self.of(kind, |row| row.steady.load.p99_us) / 1e3,
                self.of(kind, |row| row.steady.cpu_us),
                alone - direct,
                self.of(kind, |row| row.alone.cpu_us),
            )?;
        }
        for (kind, other) in [(Kind::Berth, Kind::HaProxy), (Kind::BerthRedis, Kind::Berth)] {
            let ratio = |field| self.ratio(kind, other, field);
            writeln!(
                f,
                "| {} / {} | **{:.2}** | **{:.2}** | **{:.2}** | **{:.2}** | **{:.2}** | **{:.2}** | | **{:.2}** |",
                kind.name(),
                other.name(),
                ratio(|row| row.highest.load.per_second),
                ratio(|row| row.highest.cpu_us),
                ratio(|row| row.steady.load.p50_us),
                ratio(|row| row.steady.load.p99_us),
                ratio(|row| row.steady.cpu_us),
                ratio(|row| row.alone.load.p50_us),
                ratio(|row| row.alone.cpu_us),
            )?;
        }
        writeln!(f)
    }
}

pub(super) struct Calls<'a>(pub(super) &'a [calls::Calls]);

impl fmt::Display for Calls<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "System calls per request at the highest rate, on a run of its own under strace:\n")?;
        writeln!(f, "| | all | of them |\n|---|---|---|")?;
        for calls::Calls { kind, all, by_name } in self.0 {
            let often = by_name.iter().filter(|(_, count)| *count >= 0.01);
            let names: Vec<_> = often.map(|(name, count)| format!("{name} {count:.2}")).collect();
            writeln!(f, "| {} | {all:.2} | {} |", kind.name(), names.join(", "))?;
        }
        Ok(())
    }
}

pub(super) struct Streams<'a> {
    pub(super) arguments: &'a ProxyArguments,
    pub(super) streams: &'a [streams::Streams],
}

impl fmt::Display for Streams<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProxyArguments { streams, stream_seconds, .. } = self.arguments;
        writeln!(
            f,
            "{streams} open streams with one event a second each, for {stream_seconds} s. Delay is from the server's write \
             to the client's read, first byte from the request to the first byte of the answer:\n"
        )?;
        writeln!(f, "| | events/s | delay p50 µs | p99 µs | first byte p50 µs | CPU µs per event | KB per stream |")?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        let number = |value: Option<f64>| value.map(|value| format!("{value:.1}")).unwrap_or_default();
        for row in self.streams {
            writeln!(
                f,
                "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {} | {} |",
                row.kind.name(),
                row.events_per_second,
                row.delay_p50_us,
                row.delay_p99_us,
                row.first_byte_p50_us,
                number(row.cpu_us),
                number(row.memory_kb),
            )?;
        }
        Ok(())
    }
}

pub(super) struct Memory<'a> {
    pub(super) arguments: &'a ProxyArguments,
    pub(super) memory: &'a [PerSession],
}

impl fmt::Display for Memory<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.arguments.sessions;
        writeln!(f, "Growth of resident memory per session in bytes (HAProxy's table for ids of up to 40 bytes):\n")?;
        let head: String = counts.iter().map(|count| format!(" {count} sessions |")).collect();
        writeln!(f, "| |{head}\n|---|{}", "---|".repeat(counts.len()))?;
        for PerSession { kind, bytes } in self.memory {
            let row: String = bytes.iter().map(|bytes| format!(" {bytes:.0} |")).collect();
            writeln!(f, "| {} |{row}", kind.name())?;
        }
        Ok(())
    }
}
