//! What a process used, from `/proc`.

use std::fs;

use crate::Result;

/// Ticks of `utime` and `stime` a second: fixed at 100 in what Linux tells programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time of the process in µs, all its threads, also those that have ended: utime + stime of
/// `/proc/PID/stat`, which the kernel scales so that the sum is what the scheduler measured.
pub(crate) fn cpu_us(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path)?;
    // The name in parentheses may hold spaces; field 3 follows the last one.
    let (_, fields) = stat.rsplit_once(')').ok_or_else(|| format!("{path} has no name"))?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks =
        |index: usize| -> Result<f64> { Ok(fields.get(index).ok_or_else(|| format!("{path} is short"))?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) * 1e6 / TICKS_PER_SECOND)
}

/// CPU time of the process in µs as its scheduler statistics have it, to the nanosecond: of the threads that run now.
pub(crate) fn scheduled_us(pid: u32) -> Result<f64> {
    let mut nanoseconds = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path().join("schedstat");
        let text = fs::read_to_string(&path)?;
        let first = text.split_whitespace().next().ok_or_else(|| format!("{} is empty", path.display()))?;
        nanoseconds += first.parse::<f64>()?;
    }
    Ok(nanoseconds / 1e3)
}

/// Resident memory in MB (10⁶ bytes): everything, and the part that is no file's (heap and stacks).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    pub(crate) resident: f64,
    pub(crate) anonymous: f64,
}

/// Resident memory of the process: `VmRSS` and `RssAnon` of `/proc/PID/status`.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path)?;
    let megabytes = |name: &str| -> Result<f64> {
        let line =
            status.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| format!("{path} lacks {name}"))?;
        let kib: f64 = line.trim_end_matches("kB").trim().parse()?;
        Ok(kib * 1024.0 / 1e6)
    };
    Ok(Memory { resident: megabytes("VmRSS:")?, anonymous: megabytes("RssAnon:")? })
}
