//! The webhooks under test: started alike, watched alike.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_test_cluster::{Process, http_get, wait_for};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::Result;
use crate::load::Target;
use crate::resources::{self, Memory};

const READY: Duration = Duration::from_secs(30);

/// Which webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `berth serve --no-controller`.
    Berth,
    /// `benches/peers/webhook`.
    Go,
}

impl Kind {
    /// In the order of a round.
    pub(crate) const ALL: [Self; 2] = [Self::Berth, Self::Go];

    /// As the tables call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Berth => "Berth",
            Self::Go => "Go webhook",
        }
    }
}

/// A certificate for localhost, and the CA that signed it, as files.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// Holds `tls.crt` and `tls.key`.
    pub(crate) dir: PathBuf,
    pub(crate) ca_file: PathBuf,
    pub(crate) ca_pem: String,
}

impl Certificates {
    /// Makes them in `dir`.
    pub(crate) fn make(dir: &Path) -> Result<Self> {
        let tls = dir.join("tls");
        fs::create_dir_all(&tls)?;
        let ca_key = KeyPair::generate()?;
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key)?.pem();
        let key = KeyPair::generate()?;
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names)?.signed_by(&key, &Issuer::from_params(&ca, &ca_key))?;
        fs::write(tls.join("tls.crt"), certificate.pem())?;
        fs::write(tls.join("tls.key"), key.serialize_pem())?;
        let ca_file = dir.join("ca.crt");
        fs::write(&ca_file, &ca_pem)?;
        Ok(Self { dir: tls, ca_file, ca_pem })
    }
}

/// What both webhooks are started with.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) berth: &'a Path,
    pub(crate) peer: &'a Path,
    pub(crate) kubeconfig: &'a Path,
    pub(crate) certificates: &'a Certificates,
    /// For logs.
    pub(crate) dir: &'a Path,
}

/// A webhook that runs and is ready.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    process: Process,
}

impl Candidate {
    /// Starts it and waits until its caches are filled and it listens.
    pub(crate) fn start(kind: Kind, with: &Surroundings<'_>) -> Result<Self> {
        let (address, admin) = (free_address()?, free_address()?);
        let (program, name) = match kind {
            Kind::Berth => (with.berth, "berth"),
            Kind::Go => (with.peer, "peer"),
        };
        let mut arguments: Vec<String> = match kind {
            Kind::Berth => vec!["serve".into(), "--no-controller".into()],
            Kind::Go => Vec::new(),
        };
        let tls_dir = with.certificates.dir.display().to_string();
        for (flag, value) in [("--tls-dir", tls_dir), ("--listen", address.to_string()), ("--admin", admin.to_string())]
        {
            arguments.extend([flag.to_owned(), value]);
        }
        let environment = [("KUBECONFIG".to_owned(), with.kubeconfig.display().to_string())];
        let mut process = Process::start(with.dir, name, program, &arguments, &environment)?;
        let readiness = wait_for(&format!("a ready {}", kind.name()), READY, || {
            if process.exit_status()?.is_some() {
                return Err(berth_test_cluster::Error::new(format!("{name} ended: {}", process.log_tail())));
            }
            Ok(http_get(admin, "/readyz").ok().filter(|answer| answer.status == 200))
        });
        readiness.map_err(|error| format!("{error}\n{}", process.log_tail()))?;
        Ok(Self { kind, address, process })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it holds now.
    pub(crate) fn memory(&self) -> Result<Memory> {
        resources::memory(self.pid())
    }

    /// For the load generator.
    pub(crate) fn target(&self, certificates: &Certificates) -> Result<Target> {
        Target::new(self.address, &certificates.ca_pem)
    }

    /// Ends it and waits for the end.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.process.stop(READY)?;
        Ok(())
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
