//! A load of small requests over keep-alive connections from one thread, closed (each connection asks again at once) or
//! open (requests are due at a rate, and the time counts from when they were due, so that a stall is felt by all that wait).

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use super::message::{self, Answer};
use crate::Result;
use crate::statistics::percentile;

/// How long an answer may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer.
const ANSWER: usize = 4096;

/// How fast requests come.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// As fast as answers do.
    Full,
    /// So many a second, whatever the answers do.
    PerSecond(f64),
}

/// When a load is over.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    After(Duration),
    Requests(usize),
}

/// What came of a load.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Measured {
    pub(crate) requests: usize,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Connections to one address.
#[derive(Debug)]
pub(crate) struct Load {
    connections: Vec<Connection>,
    epoll: OwnedFd,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
    /// When the request under way was due.
    due: Option<Instant>,
}

impl Load {
    /// Opens `count` connections.
    pub(crate) fn connect(address: SocketAddr, count: usize) -> Result<Self> {
        // Or the kernel may wake us 50 µs late.
        std::fs::write("/proc/self/timerslack_ns", "1")?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(count);
        for index in 0..count {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, &stream, EventData::new_u64(index as u64), EventFlags::IN)?;
            connections.push(Connection { stream, answer: Vec::with_capacity(ANSWER), due: None });
        }
        Ok(Self { connections, epoll })
    }

    /// Sends `requests` in turns until the end, and shows each answer to `check`.
    pub(crate) fn run(
        &mut self,
        requests: &[Vec<u8>],
        pace: Pace,
        end: End,
        mut check: impl FnMut(&Answer<'_>) -> Result<()>,
    ) -> Result<Measured> {
        let begun = Instant::now();
        let mut source = requests.iter().cycle();
        let (mut sent, mut latencies) = (0, Vec::<f64>::new());
        let mut idle: VecDeque<usize> = (0..self.connections.len()).collect();
        let mut events = Vec::<Event>::with_capacity(self.connections.len());
        let is_over = |sent: usize, now: Instant| match end {
            End::After(time) => now.duration_since(begun) >= time,
            End::Requests(count) => sent >= count,
        };
        loop {
            let mut now = Instant::now();
            let due = |sent: usize| match pace {
                Pace::Full => now,
                Pace::PerSecond(rate) => begun + Duration::from_secs_f64(sent as f64 / rate),
            };
            while !is_over(sent, now) && due(sent) <= now {
                let Some(index) = idle.pop_front() else { break };
                let request = source.next().ok_or("there are no requests to send")?;
                self.connections[index].send(request, due(sent))?;
                sent += 1;
            }
            if idle.len() == self.connections.len() && is_over(sent, now) {
                break;
            }
            let wait = match pace {
                Pace::PerSecond(_) if !idle.is_empty() && !is_over(sent, now) => {
                    due(sent).saturating_duration_since(now)
                }
                _ => PATIENCE,
            };
            events.clear();
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&Timespec::try_from(wait)?))?;
            if events.is_empty() && wait == PATIENCE {
                return Err(format!("no answer within {PATIENCE:?}").into());
            }
            now = Instant::now();
            for event in &events {
                // It came from an index.
                let index = { event.data }.u64() as usize;
                let connection = &mut self.connections[index];
                if let Some(due) = connection.receive(&mut check)? {
                    latencies.push(now.duration_since(due).as_secs_f64() * 1e6);
                    idle.push_back(index);
                }
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        Ok(Measured {
            requests: latencies.len(),
            per_second: latencies.len() as f64 / seconds,
            p50_us: percentile(&mut latencies, 0.5),
            p99_us: percentile(&mut latencies, 0.99),
        })
    }
}

impl Connection {
    fn send(&mut self, request: &[u8], due: Instant) -> Result<()> {
        // Requests are far smaller than a socket's buffer.
        if self.stream.write(request)? != request.len() {
            return Err("a request did not fit into the socket's buffer".into());
        }
        self.due = Some(due);
        Ok(())
    }

    /// Reads; when the answer is complete, gives when its request was due.
    fn receive(&mut self, check: &mut impl FnMut(&Answer<'_>) -> Result<()>) -> Result<Option<Instant>> {
        let mut buffer = [0; ANSWER];
        let n = match self.stream.read(&mut buffer) {
            Ok(0) => return Err("a connection was closed".into()),
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        self.answer.extend_from_slice(&buffer[..n]);
        let Some(answer) = message::read(&self.answer)? else { return Ok(None) };
        check(&answer)?;
        self.answer.clear();
        Ok(Some(self.due.take().ok_or("an answer came without a request")?))
    }
}
