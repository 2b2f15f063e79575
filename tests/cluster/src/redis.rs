//! Real Redis servers on loopback: one, a master with a replica and a Sentinel, or a Cluster of one node.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::certificates::Authority;
use crate::installed::installed;
use crate::ports::free_ports;
use crate::run_dir::RunDir;
use crate::{Error, Process, Result, wait_for};

/// How long a server may take to answer after its start.
const START: Duration = Duration::from_secs(10);
/// How long one reply may take.
const REPLY: Duration = Duration::from_secs(5);

/// A server of one's own, without persistence; it ends when dropped.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    arguments: Vec<String>,
    process: Option<Process>,
    ca: Option<PathBuf>,
    // After the process, which writes there.
    dir: RunDir,
}

impl Redis {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// When there is no `redis-server`, or it does not answer.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts one with more arguments, as in `["--requirepass", "secret"]`.
    ///
    /// # Errors
    /// When there is no `redis-server`, or it does not answer.
    pub fn start_with(arguments: &[&str]) -> Result<Self> {
        let [port] = free_ports()?;
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let mut redis = Self { port, arguments, process: None, ca: None, dir: RunDir::new()? };
        redis.run()?;
        Ok(redis)
    }

    /// Starts one that speaks TLS alone, with a certificate for `localhost` and 127.0.0.1.
    ///
    /// # Errors
    /// When there is no `redis-server`, or it does not answer.
    pub fn start_tls() -> Result<Self> {
        let [port] = free_ports()?;
        let dir = RunDir::new()?;
        let ca = dir.path().join("ca.crt");
        let authority = Authority::new("redis", ca.clone())?;
        let (certificate, key) = authority.server("redis", &["localhost", "127.0.0.1"])?.write(dir.path(), "redis")?;
        let mut arguments = vec!["--tls-port".to_owned(), port.to_string(), "--tls-auth-clients".into(), "no".into()];
        for (option, file) in [("--tls-cert-file", &certificate), ("--tls-key-file", &key), ("--tls-ca-cert-file", &ca)]
        {
            arguments.extend([option.to_owned(), file.display().to_string()]);
        }
        let mut redis = Self { port, arguments, process: None, ca: Some(ca), dir };
        redis.run()?;
        Ok(redis)
    }

    /// Starts one that is the only node of a Cluster, with all its slots.
    ///
    /// # Errors
    /// When there is no `redis-server`, or the Cluster does not come up.
    pub fn start_cluster() -> Result<Self> {
        let [bus] = free_ports()?;
        let bus = bus.to_string();
        let redis = Self::start_with(&[
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            &bus,
            "--cluster-announce-ip",
            "127.0.0.1",
        ])?;
        redis.command("CLUSTER ADDSLOTSRANGE 0 16383")?;
        wait_for("a Cluster that is up", START, || {
            Ok(redis.command("CLUSTER INFO")?.contains("cluster_state:ok").then_some(()))
        })?;
        Ok(redis)
    }

    /// Its port of 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The PEM file of the authority that signed its certificate, where it speaks TLS.
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// Kills it (SIGKILL); nothing answers on its port then.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// Starts it again on the same port after [`Redis::kill`], empty.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn run(&mut self) -> Result<()> {
        let port = if self.ca.is_some() { "0".to_owned() } else { self.port.to_string() };
        let dir = self.dir.path().display().to_string();
        let mut arguments = vec!["--port", &port, "--bind", "127.0.0.1", "--dir", &dir, "--save", ""];
        arguments.extend(self.arguments.iter().map(String::as_str));
        let mut process = server(self.dir.path(), "redis", &arguments)?;
        let tls = self.ca.is_some();
        let port = self.port;
        wait_for("an answer of redis-server", START, || match process.exit_status()? {
            Some(status) => Err(Error::new(format!("redis-server ended: {status}\n{}", process.log_tail()))),
            // What TLS servers say is not looked at here.
            None if tls => Ok(TcpStream::connect(("127.0.0.1", port)).ok().map(drop)),
            None => Ok(reply(port, "PING").ok().map(drop)),
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Stops it (SIGSTOP): it accepts connections and answers nothing, until [`Redis::wake`].
    ///
    /// # Errors
    /// When its state cannot be asked.
    pub fn hang(&mut self) -> Result<()> {
        self.signal("STOP")?;
        let Some(process) = &self.process else { return Ok(()) };
        let status = PathBuf::from(format!("/proc/{}/stat", process.pid()));
        wait_for("a stopped process", START, || {
            let stat = fs::read_to_string(&status).map_err(Error::at("read", &status))?;
            // The state stands behind the name, which is in brackets.
            Ok(stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')).then_some(()))
        })
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// When its state cannot be asked.
    pub fn wake(&mut self) -> Result<()> {
        self.signal("CONT")
    }

    fn signal(&mut self, signal: &str) -> Result<()> {
        self.process.as_mut().map_or(Ok(()), |process| process.signal(signal))
    }

    /// Sends one inline command without a password, and returns the (start of the) reply as it comes.
    ///
    /// # Errors
    /// When there is no reply, or it is an error.
    pub fn command(&self, line: &str) -> Result<String> {
        command(self.port, line)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // One that hangs would not see that it should end.
        let _ = self.wake();
        if let Some(process) = &mut self.process {
            let _ = process.kill();
        }
    }
}

/// A master, its replica, and a Sentinel that watches them as `mymaster`; all end when dropped.
#[derive(Debug)]
pub struct Sentinel {
    port: u16,
    ports: [u16; 2],
    servers: [Option<Process>; 2],
    _sentinel: Process,
    // After the processes, which write there.
    _dir: RunDir,
}

impl Sentinel {
    /// Starts all three, and waits until the Sentinel knows the replica.
    ///
    /// # Errors
    /// When there is no `redis-server`, or they do not find each other.
    pub fn start() -> Result<Self> {
        let [port, master_port, replica_port] = free_ports()?;
        let dir = RunDir::new()?;
        let start = |name: &str, port: u16, more: &[&str]| {
            let data = dir.path().join(name);
            fs::create_dir(&data).map_err(Error::at("make", &data))?;
            let (port_text, data_text) = (port.to_string(), data.display().to_string());
            let mut arguments = vec!["--port", &port_text, "--bind", "127.0.0.1", "--dir", &data_text, "--save", ""];
            arguments.extend(["--repl-diskless-sync-delay", "0"]);
            arguments.extend(more);
            let process = server(dir.path(), name, &arguments)?;
            wait_for("an answer of redis-server", START, || Ok(reply(port, "PING").ok()))?;
            Ok::<_, Error>(process)
        };
        let master = start("master", master_port, &[])?;
        let master_address = format!("127.0.0.1 {master_port}");
        let replica = start("replica", replica_port, &["--replicaof", &master_address])?;
        let config = dir.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor mymaster {master_address} 1\n\
             sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 2000\n",
            dir.path().display()
        );
        fs::write(&config, text).map_err(Error::at("write", &config))?;
        let sentinel = server(dir.path(), "sentinel", &[&config.display().to_string(), "--sentinel"])?;
        wait_for("a replica that the Sentinel knows", START, || {
            let known =
                command(port, "SENTINEL replicas mymaster").is_ok_and(|reply| reply.contains("master-link-status"));
            let synchronized = command(replica_port, "INFO replication")?.contains("master_link_status:up");
            Ok((known && synchronized).then_some(()))
        })?;
        let servers = [Some(master), Some(replica)];
        Ok(Self { port, ports: [master_port, replica_port], servers, _sentinel: sentinel, _dir: dir })
    }

    /// `127.0.0.1:PORT` of the Sentinel.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Kills the first master, and waits until the replica is the master.
    ///
    /// # Errors
    /// When it does not become the master within half a minute.
    pub fn fail_over(&mut self) -> Result<()> {
        let [master, _] = &mut self.servers;
        if let Some(mut master) = master.take() {
            master.kill()?;
        }
        let [_, replica] = self.ports;
        wait_for("a failover", Duration::from_secs(30), || {
            // The Sentinel ends all connections to a server that it promotes.
            Ok(command(replica, "INFO replication").is_ok_and(|reply| reply.contains("role:master")).then_some(()))
        })
    }
}

fn server(dir: &Path, name: &str, arguments: &[&str]) -> Result<Process> {
    Process::start(dir, name, &installed("redis-server", "redis-server")?, arguments, &[])
}

fn command(port: u16, line: &str) -> Result<String> {
    let reply = reply(port, line)?;
    if reply.starts_with('-') {
        return Err(Error::new(format!("{line}: {}", reply.trim())));
    }
    Ok(reply)
}

/// The reply, whatever it is; a server that asks for a password has answered too.
fn reply(port: u16, line: &str) -> Result<String> {
    let failed = |cause: std::io::Error| Error::new(format!("cannot ask the Redis on port {port}: {cause}"));
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), REPLY).map_err(failed)?;
    stream.set_read_timeout(Some(REPLY)).map_err(failed)?;
    stream.write_all(format!("{line}\r\n").as_bytes()).map_err(failed)?;
    // The end of what is asked ends the connection, after the reply; Sentinels know no QUIT.
    stream.shutdown(Shutdown::Write).map_err(failed)?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).map_err(failed)?;
    if reply.is_empty() {
        return Err(Error::new(format!("the Redis on port {port} closed the connection without an answer")));
    }
    Ok(String::from_utf8_lossy(&reply).into_owned())
}
