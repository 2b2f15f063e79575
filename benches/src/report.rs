//! The tables, in Markdown.

use std::fmt;

use crate::AdmissionArguments;
use crate::candidate::Kind;
use crate::creates::{CLIENTS, Created, Guard};
use crate::load::{CONNECTIONS, Measured};
use crate::resources::Memory;
use crate::reviews::Row;
use crate::statistics::median;
use berth_bench::fixtures::Fixture;

/// Memory at three points of a webhook's life.
pub(crate) struct MemoryFigures {
    pub(crate) idle: Vec<(Kind, Memory)>,
    pub(crate) watching: Vec<(Kind, Memory)>,
    pub(crate) after_load: Vec<(Kind, Memory)>,
}

/// All that a run measured.
pub(crate) struct Figures<'a> {
    pub(crate) arguments: &'a AdmissionArguments,
    pub(crate) fixtures: &'a [Fixture],
    pub(crate) reviews: &'a [Row],
    pub(crate) memory: &'a MemoryFigures,
    pub(crate) creates: &'a [Created],
}

impl fmt::Display for Figures<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AdmissionArguments { rounds, seconds, creates, .. } = self.arguments;
        writeln!(
            f,
            "Medians of {rounds} interleaved rounds. The webhook by itself, over TLS, {CONNECTIONS} keep-alive HTTP/1.1 \
             connections, {seconds} s a round; CPU is utime + stime of the webhook's process:\n"
        )?;
        self.reviews(f)?;
        writeln!(f, "\nResident memory (of it heap and stacks), MB:\n")?;
        self.memory(f)?;
        writeln!(
            f,
            "\nCreates of a Deployment through kube-apiserver, {creates} a round, p50 (p99) in ms; CPU in ms a create, of \
             the API server + of the webhook:\n"
        )?;
        self.creates(f)
    }
}

impl Figures<'_> {
    fn reviews(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| review | | reviews/s | p50 ms | p99 ms | CPU µs a review | Go's CPU / Berth's |")?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        for (index, fixture) in self.fixtures.iter().enumerate() {
            let of = |kind: Kind, field: fn(&Measured) -> f64| {
                median(self.reviews.iter().filter(|row| row.0 == index && row.1 == kind).map(|row| field(&row.2)))
            };
            let ratio = of(Kind::Go, |it| it.cpu_us) / of(Kind::Berth, |it| it.cpu_us);
            for kind in Kind::ALL {
                let (name, ratio) = match kind {
                    Kind::Berth => (fixture.name, format!("**{ratio:.1}**")),
                    Kind::Go => ("", String::new()),
                };
                writeln!(
                    f,
                    "| {name} | {} | {:.0} | {:.2} | {:.2} | {:.1} | {ratio} |",
                    kind.name(),
                    of(kind, |it| it.reviews_per_second),
                    of(kind, |it| it.p50_ms),
                    of(kind, |it| it.p99_ms),
                    of(kind, |it| it.cpu_us),
                )?;
            }
        }
        Ok(())
    }

    fn memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| | idle | {} custom resources watched | after load |", self.arguments.custom_resources)?;
        writeln!(f, "|---|---|---|---|")?;
        let points = [&self.memory.idle, &self.memory.watching, &self.memory.after_load];
        let of = |held: &[(Kind, Memory)], kind: Kind, field: fn(&Memory) -> f64| {
            median(held.iter().filter(|it| it.0 == kind).map(|it| field(&it.1)))
        };
        for kind in Kind::ALL {
            write!(f, "| {} |", kind.name())?;
            for held in points {
                write!(f, " {:.1} ({:.1}) |", of(held, kind, |it| it.resident), of(held, kind, |it| it.anonymous))?;
            }
            writeln!(f)?;
        }
        write!(f, "| Go / Berth |")?;
        for held in points {
            let ratio = of(held, Kind::Go, |it| it.resident) / of(held, Kind::Berth, |it| it.resident);
            write!(f, " **{ratio:.1}** |")?;
        }
        writeln!(f)
    }

    fn creates(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "|")?;
        for clients in CLIENTS {
            let plural = if clients == 1 { "" } else { "s" };
            write!(f, " | {clients} client{plural} | CPU")?;
        }
        writeln!(f, " |\n|---|{}", "---|".repeat(2 * CLIENTS.len()))?;
        for guard in Guard::ALL {
            write!(f, "| {} |", guard.name())?;
            for clients in CLIENTS {
                let of = |field: fn(&Created) -> f64| {
                    let rows = self.creates.iter().filter(|it| it.guard == guard && it.clients == clients);
                    median(rows.map(field))
                };
                write!(
                    f,
                    " {:.2} ({:.1}) | {:.2} + {:.2} |",
                    of(|it| it.p50_ms),
                    of(|it| it.p99_ms),
                    of(|it| it.api_server_ms),
                    of(|it| it.webhook_ms),
                )?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
