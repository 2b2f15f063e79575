//! System calls per request, on a run of its own: to watch them costs time.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use berth_test_cluster::Process;

use super::candidate::{Candidate, Kind, program};
use super::load::{End, Load, Pace};
use super::speed::CONNECTIONS;
use crate::Result;

const TIME: Duration = Duration::from_secs(2);
/// For strace to come and to go.
const SETTLE: Duration = Duration::from_millis(700);

/// System calls per request of one candidate.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) kind: Kind,
    pub(crate) all: f64,
    /// By name, the most frequent first.
    pub(crate) by_name: Vec<(String, f64)>,
}

/// Counts them for every proxy.
pub(crate) fn measure(candidates: &[Candidate], sessions: &[Vec<Vec<u8>>], dir: &Path) -> Result<Vec<Calls>> {
    let mut measured = Vec::new();
    for (candidate, requests) in candidates.iter().zip(sessions) {
        let Some(pid) = candidate.pid() else { continue };
        eprintln!("system calls: {}", candidate.kind.name());
        let file = dir.join(format!("{:?}.calls", candidate.kind));
        let arguments =
            ["-c".to_owned(), "-f".into(), "-o".into(), file.display().to_string(), "-p".into(), pid.to_string()];
        let mut load = Load::connect(candidate.address, CONNECTIONS)?;
        load.run(requests, Pace::Full, End::Requests(CONNECTIONS * 20), |_| Ok(()))?;
        let mut strace = Process::start(dir, "strace", &program("strace")?, &arguments, &[])?;
        thread::sleep(SETTLE);
        let load = load.run(requests, Pace::Full, End::After(TIME), |_| Ok(()))?;
        strace.signal("INT")?;
        thread::sleep(SETTLE);
        // Where it was ended by its signal, it has written its table before.
        let _ = strace.stop(SETTLE);
        let table = fs::read_to_string(&file).map_err(|error| format!("strace counted nothing: {error}"))?;
        let mut by_name: Vec<_> =
            counts(&table).map(|(name, count)| (name.to_owned(), count / load.requests as f64)).collect();
        by_name.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        measured.push(Calls { kind: candidate.kind, all: by_name.iter().map(|(_, count)| count).sum(), by_name });
    }
    Ok(measured)
}

/// Name and count of each call in strace's table: `% time, seconds, usecs/call, calls, errors, name`, errors often empty.
fn counts(table: &str) -> impl Iterator<Item = (&str, f64)> {
    table.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let name = *fields.last()?;
        let count = fields.get(3)?.parse().ok()?;
        (name != "total" && fields[0].parse::<f64>().is_ok()).then_some((name, count))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_with_and_without_errors() {
        let table = "% time     seconds  usecs/call     calls    errors syscall\n\
                     ------ ----------- ----------- --------- --------- ----------------\n \
                     60.00    0.100000          10     20000           sendto\n \
                     40.00    0.050000          10     21000      1000 recvfrom\n\
                     ------ ----------- ----------- --------- --------- ----------------\n\
                     100.00    0.150000          10     41000      1000 total\n";
        assert_eq!(counts(table).collect::<Vec<_>>(), [("sendto", 20000.0), ("recvfrom", 21000.0)]);
    }
}
