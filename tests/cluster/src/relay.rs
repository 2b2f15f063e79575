//! Connections to addresses of a cluster, made by a program in one of its pods: from there, a Service is what it is to
//! clients of the cluster.
//!
//! `kubectl port-forward` carries them to the pod. It knows no half-closed connections, and a connection that breaks off
//! ends all that it carries; so the ends of both directions are told in frames, and the pod is the one that closes.
//!
//! A carrier begins with the address as a line, to which the pod answers [`ACCEPTED`] or [`REFUSED`]. Frames follow, both
//! ways: a length in two bytes, and that many bytes; or [`END`] or [`OVER`].

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use crate::{Error, Result};

/// The port that the program in the pod listens on, on loopback.
pub(crate) const PORT: u16 = 7777;

const CONNECT: Duration = Duration::from_secs(5);
/// For the first words of a carrier, and for its end when all has been said. A carrier that takes longer is taken for one
/// that leads nowhere, and with it all others; so this is for a machine that is very busy.
const WORDS: Duration = Duration::from_secs(60);
const LONGEST_ADDRESS: usize = 64;

const ACCEPTED: u8 = b'+';
const REFUSED: u8 = b'-';
/// The sender's side has ended, and takes more.
const END: u16 = 0;
/// The sender's side is through: after both ends, or because it broke.
const OVER: u16 = u16::MAX;

/// Listens on loopback, and connects to whatever its clients ask for. Does not return.
///
/// # Errors
/// When it cannot listen.
pub fn relay() -> Result<()> {
    let failed = |cause: io::Error| Error::new(format!("cannot listen on port {PORT} of loopback: {cause}"));
    listen(&TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).map_err(failed)?);
    Ok(())
}

fn listen(listener: &TcpListener) {
    for carrier in listener.incoming().flatten() {
        // What fails there is of that connection, and closes it.
        thread::spawn(move || serve(carrier));
    }
}

fn serve(mut carrier: TcpStream) -> io::Result<()> {
    carrier.set_read_timeout(Some(WORDS))?;
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < LONGEST_ADDRESS {
        carrier.read_exact(&mut byte)?;
        if byte == *b"\n" {
            break;
        }
        line.extend(byte);
    }
    let address = String::from_utf8_lossy(&line).parse::<SocketAddr>().map_err(io::Error::other);
    match address.and_then(|address| TcpStream::connect_timeout(&address, CONNECT)) {
        Ok(target) => {
            carrier.write_all(&[ACCEPTED])?;
            pass(&target, &carrier)
        }
        Err(error) => {
            eprintln!("{}: {error}", String::from_utf8_lossy(&line));
            carrier.write_all(&[REFUSED])
        }
    }
}

/// What asking for a connection came to.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Carries what [`pass`] gives it.
    Accepted(TcpStream),
    /// Nobody accepts connections at that address.
    Refused,
}

/// Asks for a connection to `target` on a new carrier.
///
/// # Errors
/// When the carrier does not lead to the pod.
pub(crate) fn ask(carrier: SocketAddr, target: SocketAddr) -> io::Result<Answer> {
    let mut carrier = TcpStream::connect_timeout(&carrier, CONNECT)?;
    carrier.set_read_timeout(Some(WORDS))?;
    carrier.write_all(format!("{target}\n").as_bytes())?;
    let mut answer = [0];
    carrier.read_exact(&mut answer)?;
    match answer[0] {
        ACCEPTED => Ok(Answer::Accepted(carrier)),
        REFUSED => Ok(Answer::Refused),
        _ => Err(io::Error::other("no answer of a relay")),
    }
}

/// Passes on what comes from `plain` and what comes for it, until both sides are through.
///
/// # Errors
/// When the carrier's options cannot be set.
pub(crate) fn pass(plain: &TcpStream, carrier: &TcpStream) -> io::Result<()> {
    for stream in [plain, carrier] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(None)?;
    }
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || give(plain, carrier, &told));
        take(plain, carrier, &tell);
    });
    Ok(())
}

/// Closes a carrier after the pod has; it does so once it has heard that this side is through.
pub(crate) fn close(mut carrier: TcpStream) {
    let _ = carrier.set_read_timeout(Some(WORDS));
    let _ = io::copy(&mut carrier, &mut io::sink());
}

/// From `plain` into frames; `told` when the other direction has ended.
fn give(plain: &TcpStream, carrier: &TcpStream, told: &Receiver<()>) {
    let (mut reader, mut writer) = (plain, carrier);
    let mut frame = vec![0; 16 * 1024];
    loop {
        match reader.read(&mut frame[2..]) {
            Ok(0) => {
                // It may still take what comes, for as long as something does.
                if writer.write_all(&END.to_be_bytes()).is_ok() {
                    let _ = told.recv();
                }
                break;
            }
            Ok(length) => {
                let header = u16::try_from(length).unwrap_or(OVER).to_be_bytes();
                frame[..2].copy_from_slice(&header);
                if writer.write_all(&frame[..2 + length]).is_err() {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let _ = writer.write_all(&OVER.to_be_bytes());
}

/// From frames to `plain`, until the other side is through.
fn take(plain: &TcpStream, carrier: &TcpStream, tell: &Sender<()>) {
    let (mut reader, mut writer) = (carrier, plain);
    let mut frame = Vec::new();
    let mut broken = false;
    // A carrier that breaks off is one that is through.
    while let Ok(length) = length(&mut reader) {
        match length {
            OVER => break,
            END => {
                let _ = plain.shutdown(Shutdown::Write);
                let _ = tell.send(());
            }
            length => {
                frame.resize(usize::from(length), 0);
                if reader.read_exact(&mut frame).is_err() {
                    break;
                }
                // What comes after it broke is read all the same, or the other side could not tell that it is through.
                if !broken && writer.write_all(&frame).is_err() {
                    broken = true;
                    let _ = plain.shutdown(Shutdown::Both);
                    let _ = tell.send(());
                }
            }
        }
    }
    let _ = plain.shutdown(Shutdown::Both);
    let _ = tell.send(());
}

fn length(reader: &mut impl Read) -> io::Result<u16> {
    let mut header = [0; 2];
    reader.read_exact(&mut header)?;
    Ok(u16::from_be_bytes(header))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
    use std::thread::{self, JoinHandle};
    use std::time::{Duration, Instant};

    use super::{Answer, ask, close, listen, pass};
    use crate::node::Forward;

    const SOON: Duration = Duration::from_secs(5);

    fn loopback() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    /// A port that leads to `target` by way of a relay.
    fn way(target: SocketAddr) -> Forward {
        let relay = loopback();
        let carrier = relay.local_addr().unwrap();
        thread::spawn(move || listen(&relay));
        Forward::start(move |client| {
            if let Answer::Accepted(carrier) = ask(carrier, target).unwrap() {
                pass(&client, &carrier).unwrap();
                drop(client);
                close(carrier);
            }
        })
        .unwrap()
    }

    /// A server of one connection, and a way to it.
    fn server<T: Send + 'static>(
        serve: impl FnOnce(TcpStream) -> T + Send + 'static,
    ) -> (JoinHandle<T>, TcpStream, Forward) {
        let listener = loopback();
        let way = way(listener.local_addr().unwrap());
        let served = thread::spawn(move || serve(listener.accept().unwrap().0));
        let client = TcpStream::connect(way.address()).unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        (served, client, way)
    }

    fn read_to_end(mut stream: &TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_client_that_has_said_all_is_answered() {
        let (served, mut client, _way) = server(|mut stream| {
            let text = read_to_end(&stream);
            stream.write_all(format!("you said {text}").as_bytes()).unwrap();
        });
        client.write_all(b"hello").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&client), "you said hello");
        served.join().unwrap();
    }

    #[test]
    fn a_server_that_has_said_all_is_told_more() {
        let (served, mut client, _way) = server(|mut stream| {
            stream.write_all(b"go on").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            read_to_end(&stream)
        });
        assert_eq!(read_to_end(&client), "go on");
        let more = "x".repeat(300_000);
        client.write_all(more.as_bytes()).unwrap();
        drop(client);
        assert_eq!(served.join().unwrap(), more);
    }

    #[test]
    fn a_stream_comes_as_it_is_written_and_its_server_hears_of_a_client_that_left() {
        let (served, mut client, _way) = server(|mut stream| {
            let start = Instant::now();
            while start.elapsed() < SOON {
                if stream.write_all(b"event\n").is_err() {
                    return true;
                }
                thread::sleep(Duration::from_millis(5));
            }
            false
        });
        let mut event = [0; 6];
        for _ in 0..20 {
            client.read_exact(&mut event).unwrap();
            assert_eq!(&event, b"event\n");
        }
        drop(client);
        assert!(served.join().unwrap(), "the server wrote on for nobody");
    }

    #[test]
    fn a_client_hears_of_a_server_that_broke_off_and_of_one_that_is_not_there() {
        let (served, mut client, _way) = server(drop);
        served.join().unwrap();
        client.write_all(b"hello").unwrap();
        assert_eq!(read_to_end(&client), "");

        let nobody = loopback().local_addr().unwrap();
        let way = way(nobody);
        let client = TcpStream::connect(way.address()).unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        assert_eq!(read_to_end(&client), "");
    }
}
