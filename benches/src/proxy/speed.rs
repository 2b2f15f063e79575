//! Small requests of many sessions: how many, how fast, at what cost.

use std::time::Duration;

use super::candidate::{Candidate, Kind};
use super::load::{End, Load, Measured, Pace};
use super::message;
use crate::statistics::median;
use crate::{Result, resources};

/// Keep-alive connections.
pub(crate) const CONNECTIONS: usize = 64;
/// Sessions, each issued by a server through the candidate.
pub(crate) const SESSIONS: usize = 1000;
/// The share of HAProxy's highest rate at which latency is looked at.
pub(crate) const SHARE: f64 = 0.6;
/// Rounds whose only purpose is to find HAProxy's highest rate.
const TRIALS: usize = 3;

/// A load, and what the process under test (the servers' where there is no proxy) was charged for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Costed {
    pub(crate) load: Measured,
    pub(crate) cpu_us: f64,
}

/// One candidate in one round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    /// 64 connections, each asks again at once.
    pub(crate) highest: Costed,
    /// 64 connections, at the rate for latency.
    pub(crate) steady: Costed,
    /// One connection.
    pub(crate) alone: Costed,
}

/// All rounds.
#[derive(Debug)]
pub(crate) struct Speed {
    /// Requests per second at which latency was looked at.
    pub(crate) rate: f64,
    pub(crate) rows: Vec<Row>,
}

/// Has the candidate issue sessions, and checks that each goes on where it began, with its own id. Returns the requests of
/// all sessions.
pub(crate) fn issue(candidate: &Candidate) -> Result<Vec<Vec<u8>>> {
    let mut load = Load::connect(candidate.address, CONNECTIONS)?;
    let mut issued = Vec::new();
    load.run(&[message::post(None)], Pace::Full, End::Requests(SESSIONS), |answer| {
        issued.push((answer.session.to_owned(), answer.body.to_owned()));
        Ok(())
    })?;
    let requests: Vec<_> = issued.iter().map(|(session, _)| message::post(Some(session))).collect();
    let homes: std::collections::HashMap<_, _> = issued.into_iter().collect();
    load.run(&requests, Pace::Full, End::Requests(SESSIONS * 2), |answer| {
        let home = homes.get(answer.session).ok_or("an answer has another session than its request")?;
        if candidate.kind.pins() && home != answer.body {
            return Err(format!("{} left the server of a session", candidate.kind.name()).into());
        }
        Ok(())
    })?;
    Ok(requests)
}

/// Rounds in which all candidates take turns.
pub(crate) fn measure(
    candidates: &[Candidate],
    sessions: &[Vec<Vec<u8>>],
    servers: u32,
    rounds: usize,
    time: Duration,
) -> Result<Speed> {
    let run = |candidate: &Candidate, requests: &[Vec<u8>], connections, pace| -> Result<Costed> {
        let pid = candidate.pid().unwrap_or(servers);
        let mut load = Load::connect(candidate.address, connections)?;
        // Connections to the servers open before the clock runs.
        load.run(requests, Pace::Full, End::Requests(connections * 20), |_| Ok(()))?;
        let before = resources::scheduled_us(pid)?;
        let load = load.run(requests, pace, End::After(time), |_| Ok(()))?;
        Ok(Costed { load, cpu_us: (resources::scheduled_us(pid)? - before) / load.requests as f64 })
    };
    let both = || candidates.iter().zip(sessions);
    let (haproxy, its_sessions) =
        both().find(|(candidate, _)| candidate.kind == Kind::HaProxy).ok_or("HAProxy is not among the candidates")?;
    let trials = (0..TRIALS).map(|_| run(haproxy, its_sessions, CONNECTIONS, Pace::Full));
    let rate = SHARE * median(trials.collect::<Result<Vec<_>>>()?.iter().map(|costed| costed.load.per_second));
    let mut rows = Vec::new();
    for round in 1..=rounds {
        eprintln!("speed: round {round} of {rounds}");
        for (candidate, requests) in both() {
            rows.push(Row {
                kind: candidate.kind,
                highest: run(candidate, requests, CONNECTIONS, Pace::Full)?,
                steady: run(candidate, requests, CONNECTIONS, Pace::PerSecond(rate))?,
                alone: run(candidate, requests, 1, Pace::Full)?,
            });
        }
    }
    Ok(Speed { rate, rows })
}
