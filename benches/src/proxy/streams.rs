//! Many open streams of server-sent events, with one event a second each. Servers and clients are in this process, so
//! that an event can carry the time at which it was written.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::candidate::{Candidate, Kind, Size, Surroundings};
use super::{ProxyArguments, message};
use crate::statistics::percentile;
use crate::{Result, resources};

/// Between two events of a stream.
const PERIOD: Duration = Duration::from_secs(1);
/// How long anything may take that is not the load itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// One candidate.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) kind: Kind,
    /// From the request to the first byte of the answer, one stream after the other.
    pub(crate) first_byte_p50_us: f64,
    /// From when an event was written to when it was read.
    pub(crate) delay_p50_us: f64,
    pub(crate) delay_p99_us: f64,
    pub(crate) events_per_second: f64,
    /// Of the proxy; none where a server is asked directly.
    pub(crate) cpu_us: Option<f64>,
    /// Resident memory of the proxy for each open stream, in KB.
    pub(crate) memory_kb: Option<f64>,
}

/// All candidates in turns.
pub(crate) fn measure(with: &Surroundings<'_>, arguments: &ProxyArguments) -> Result<Vec<Streams>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let time = Duration::from_secs_f64(arguments.stream_seconds);
    runtime.block_on(async {
        let mut servers = Vec::new();
        for _ in 0..with.servers.len() {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            servers.push(listener.local_addr()?);
            tokio::spawn(serve_all(listener));
        }
        let servers = <[SocketAddr; 3]>::try_from(servers).map_err(|_| "there are not three servers")?;
        let mut measured = Vec::new();
        for kind in Kind::ALL {
            eprintln!("streams: {}", kind.name());
            let candidate = Candidate::start(kind, Size::default(), &Surroundings { servers, ..*with })?;
            measured.push(one(&candidate, arguments.streams, time).await?);
        }
        Ok(measured)
    })
}

async fn one(candidate: &Candidate, count: usize, time: Duration) -> Result<Streams> {
    let memory = || candidate.pid().map(|pid| Ok::<_, crate::Error>(resources::memory(pid)?.resident)).transpose();
    let cpu = || candidate.pid().map(resources::scheduled_us).transpose();
    let before = memory()?;
    let mut control = TcpStream::connect(candidate.address).await?;
    let delays = Arc::new(Mutex::new(Vec::<f64>::new()));
    let (mut first_bytes, mut readers) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let session = timeout(PATIENCE, initialize(&mut control)).await??;
        let mut stream = TcpStream::connect(candidate.address).await?;
        let asked = Instant::now();
        stream.write_all(&message::get(&session)).await?;
        timeout(PATIENCE, stream.readable()).await??;
        first_bytes.push(asked.elapsed().as_secs_f64() * 1e6);
        readers.push(tokio::spawn(read_events(stream, Arc::clone(&delays))));
    }
    // Until each has had an event.
    sleep(PERIOD * 2).await;
    let after = memory()?;
    delays.lock().unwrap_or_else(PoisonError::into_inner).clear();
    let cpu_before = cpu()?;
    sleep(time).await;
    let cpu_after = cpu()?;
    let mut delays = std::mem::take(&mut *delays.lock().unwrap_or_else(PoisonError::into_inner));
    for reader in readers {
        if reader.is_finished() {
            return Err(format!("{} ended a stream", candidate.kind.name()).into());
        }
        reader.abort();
    }
    let events = delays.len() as f64;
    Ok(Streams {
        kind: candidate.kind,
        first_byte_p50_us: percentile(&mut first_bytes, 0.5),
        delay_p50_us: percentile(&mut delays, 0.5),
        delay_p99_us: percentile(&mut delays, 0.99),
        events_per_second: events / time.as_secs_f64(),
        cpu_us: cpu_before.zip(cpu_after).map(|(before, after)| (after - before) / events),
        memory_kb: before.zip(after).map(|(before, after)| (after - before) * 1e3 / count as f64),
    })
}

/// Makes a session.
async fn initialize(control: &mut TcpStream) -> Result<String> {
    control.write_all(&message::post(None)).await?;
    let mut text = Vec::new();
    loop {
        if let Some(answer) = message::read(&text)? {
            return Ok(answer.session.to_owned());
        }
        if control.read_buf(&mut text).await? == 0 {
            return Err("the connection was closed before the answer".into());
        }
    }
}

/// µs since the first call.
fn now_us() -> f64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_secs_f64() * 1e6
}

/// Reads events for ever, and notes how long each was under way.
async fn read_events(mut stream: TcpStream, delays: Arc<Mutex<Vec<f64>>>) -> Result<()> {
    let mut text = Vec::new();
    while stream.read_buf(&mut text).await? > 0 {
        let now = now_us();
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            if let Some(written) = text[..end].strip_prefix(b"data: ") {
                let written: f64 = str::from_utf8(written)?.parse()?;
                delays.lock().unwrap_or_else(PoisonError::into_inner).push(now - written);
            }
            text.drain(..=end);
        }
    }
    Ok(())
}

async fn serve_all(listener: TcpListener) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        // A client that leaves ends its own connection only.
        tokio::spawn(serve(stream));
    }
}

/// A server of sessions: a POST makes one, a GET opens its stream.
async fn serve(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut text = Vec::new();
    loop {
        let Some(head) = text.windows(4).position(|end| end == b"\r\n\r\n") else {
            if stream.read_buf(&mut text).await? == 0 {
                return Ok(());
            }
            continue;
        };
        if text.starts_with(b"GET ") {
            return send_events(stream).await;
        }
        while text.len() < head + 4 + message::REQUEST_BODY {
            if stream.read_buf(&mut text).await? == 0 {
                return Ok(());
            }
        }
        text.drain(..head + 4 + message::REQUEST_BODY);
        let answer =
            format!("HTTP/1.1 200 OK\r\nMcp-Session-Id: {:032}\r\nContent-Length: 2\r\n\r\n{{}}", now_us() as u64);
        stream.write_all(answer.as_bytes()).await?;
    }
}

async fn send_events(mut stream: TcpStream) -> Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let event = format!("data: {}\n\n", now_us());
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
    }
}
