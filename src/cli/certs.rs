//! `berth certs`: a development CA and certificate, and what clients would object to in one.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls::pki_types::ServerName;

use super::{CliError, Outcome, Output};
use crate::certs::{Authority, Certificate, Material, Report, write_atomically};

const CA_CERT: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERT: &str = "tls.crt";
const KEY: &str = "tls.key";

const DAY: u64 = 24 * 60 * 60;
/// A CA is put in more places than a certificate, so it lives longer.
const CA_DAYS: u64 = 3650;

/// Make a development CA and a certificate in a directory, or check one.
///
/// Writes ca.crt, ca.key, tls.crt and tls.key. The certificate is for the names that are given, and no others; where none
/// is, for localhost, 127.0.0.1, ::1 and berth-webhook.berth-system.svc. certs/README.md says when to use cert-manager instead.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "EXAMPLES:
  # a certificate for this machine and for the Service in the cluster
  berth certs dev

  # a new certificate of the same CA, so that nothing has to be registered again
  berth certs dev --force --keep-ca

  # exit code 1 when it is no good, or expires within a month
  berth certs check dev --within 30 --dns-name berth-webhook.berth-system.svc")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Option<Action>,

    #[command(flatten)]
    make: Make,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Check(Check),
}

#[derive(Debug, clap::Args)]
struct Make {
    /// The directory to write to, made where it is missing
    #[arg(value_name = "DIR", required = true)]
    directory: Option<PathBuf>,

    /// DNS names and IP addresses that the certificate is for
    #[command(flatten)]
    names: Names,

    /// How long the certificate is valid
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=36_500))]
    days: u64,

    /// Replace files that are there
    #[arg(long)]
    force: bool,

    /// Issue with the CA that is in the directory
    #[arg(long)]
    keep_ca: bool,
}

#[derive(Debug, clap::Args)]
struct Names {
    /// A DNS name; repeatable
    #[arg(long = "dns-name", value_name = "NAME", value_parser = dns_name)]
    dns: Vec<String>,

    /// An IP address; repeatable
    #[arg(long = "ip", value_name = "ADDRESS")]
    ips: Vec<IpAddr>,
}

/// Check a certificate: dates, names, key and CA.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:
  berth certs check dev
  berth certs check /tls --within 30 --dns-name berth-webhook.berth-system.svc")]
struct Check {
    /// A directory with tls.crt, tls.key and perhaps ca.crt; or a PEM file
    #[arg(value_name = "DIR|FILE")]
    path: PathBuf,

    /// Names that it must be valid for
    #[command(flatten)]
    names: Names,

    /// Report a certificate that expires within so many days
    #[arg(long, value_name = "DAYS", default_value_t = 14, value_parser = clap::value_parser!(u64).range(0..=36_500))]
    within: u64,
}

impl Args {
    pub(super) fn run(self, out: &mut Output) -> Result<Outcome, CliError> {
        match (self.action, self.make.directory.clone()) {
            (Some(Action::Check(check)), _) => check.run(out),
            (None, Some(directory)) => self.make.run(&directory, out),
            // clap has seen to it that one of them is there.
            (None, None) => Err(CliError::new("neither a directory nor `check` was given")),
        }
    }
}

impl Make {
    fn run(self, directory: &Path, out: &mut Output) -> Result<Outcome, CliError> {
        let replaced: &[&str] = if self.keep_ca { &[CERT, KEY] } else { &[CA_CERT, CA_KEY, CERT, KEY] };
        if !self.force {
            // symlink_metadata: a dangling link is there too.
            let existing =
                replaced.iter().map(|name| directory.join(name)).find(|path| fs::symlink_metadata(path).is_ok());
            if let Some(path) = existing {
                return Err(CliError::new(format!("{} exists", path.display()))
                    .help("give another directory, or --force to replace what is there"));
            }
        }
        let authority = if self.keep_ca {
            read_authority(directory)?
        } else {
            Authority::new(Duration::from_secs(self.days.max(CA_DAYS) * DAY)).map_err(CliError::new)?
        };
        let leaf =
            authority.issue(&self.names.or_default(), Duration::from_secs(self.days * DAY)).map_err(CliError::new)?;

        fs::create_dir_all(directory).map_err(|error| unwritable(directory, &error))?;
        let write = |name: &str, content: &str, private: bool| {
            let path = directory.join(name);
            write_atomically(&path, content.as_bytes(), private).map_err(|error| unwritable(&path, &error))
        };
        if !self.keep_ca {
            write(CA_KEY, &authority.key_pem(), true)?;
            write(CA_CERT, authority.pem(), false)?;
        }
        write(KEY, &leaf.key_pem, true)?;
        write(CERT, &leaf.cert_pem, false)?;

        for name in replaced {
            writeln!(out, "wrote {}", directory.join(name).display())?;
        }
        writeln!(out, "next: berth webhook-config --ca-file {}", directory.join(CA_CERT).display())?;
        Ok(Outcome::Fine)
    }
}

impl Names {
    /// The names for this machine and for the Service of webhook-config/, unless others were given.
    fn or_default(self) -> Vec<String> {
        let given: Vec<_> = self.dns.into_iter().chain(self.ips.iter().map(ToString::to_string)).collect();
        if given.is_empty() {
            let service =
                format!("{}.{}.svc", crate::registration::DEFAULT_SERVICE, crate::registration::DEFAULT_NAMESPACE);
            ["localhost", "127.0.0.1", "::1", &service].map(str::to_owned).into()
        } else {
            given
        }
    }

    fn server_names(self) -> Result<Vec<ServerName<'static>>, CliError> {
        let dns = self.dns.into_iter().map(|name| {
            ServerName::try_from(name.clone()).map_err(|_| {
                CliError::new(format!("a client cannot ask for {name}"))
                    .help("give a name that the wildcard stands for")
            })
        });
        let ips = self.ips.into_iter().map(|ip| Ok(ServerName::from(ip)));
        dns.chain(ips).collect()
    }
}

impl Check {
    fn run(self, out: &mut Output) -> Result<Outcome, CliError> {
        let names = self.names.server_names()?;
        let (file, material) = read_material(&self.path)?;
        let soon = Duration::from_secs(self.within * DAY);
        let report = material
            .check(&names, SystemTime::now(), soon)
            .map_err(|error| CliError::new(format!("{}: {error}", file.display())))?;
        print_report(out, &report)?;
        for finding in &report.findings {
            writeln!(out, "{}: {finding}", file.display())?;
        }
        Ok(if report.findings.is_empty() { Outcome::Fine } else { Outcome::Findings })
    }
}

fn print_report(out: &mut Output, report: &Report) -> io::Result<()> {
    for certificate in &report.certificates {
        let Certificate { subject, issuer, names, not_before, not_after, is_authority } = certificate;
        writeln!(out, "{subject}{}", if *is_authority { " (CA)" } else { "" })?;
        writeln!(out, "  issuer  {issuer}")?;
        if !names.is_empty() {
            writeln!(out, "  names   {}", names.join(", "))?;
        }
        writeln!(out, "  valid   {not_before} to {not_after}")?;
    }
    if !report.has_key {
        writeln!(out, "no private key to compare")?;
    }
    if !report.has_authority {
        writeln!(out, "no CA to compare")?;
    }
    Ok(())
}

fn read_material(path: &Path) -> Result<(PathBuf, Material), CliError> {
    let is_directory = fs::metadata(path).map_err(|error| CliError::unreadable(path, error))?.is_dir();
    let (file, key, authorities) = if is_directory {
        let ca = path.join(CA_CERT);
        let authorities = match fs::read(&ca) {
            Ok(pem) => Some(pem),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(CliError::unreadable(&ca, error)),
        };
        (path.join(CERT), Some(read(&path.join(KEY))?), authorities)
    } else {
        (path.to_owned(), None, None)
    };
    let material = Material::parse(&read(&file)?, key.as_deref(), authorities.as_deref())
        .map_err(|error| CliError::new(format!("{}: {error}", path.display())))?;
    Ok((file, material))
}

fn read_authority(directory: &Path) -> Result<Authority, CliError> {
    let help = "leave out --keep-ca to make a new CA";
    let text = |name: &str| {
        let path = directory.join(name);
        fs::read_to_string(&path).map_err(|error| CliError::unreadable(&path, error).help(help))
    };
    Authority::from_pem(&text(CA_CERT)?, &text(CA_KEY)?)
        .map_err(|error| CliError::new(format!("{}: {error}", directory.display())).help(help))
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    fs::read(path).map_err(|error| CliError::unreadable(path, error))
}

fn unwritable(path: &Path, error: &io::Error) -> CliError {
    CliError::new(format!("cannot write {}: {error}", path.display())).help("give a directory that you may write to")
}

/// RFC 1123, with a wildcard as the first label allowed.
fn dns_name(text: &str) -> Result<String, &'static str> {
    if text.parse::<IpAddr>().is_ok() {
        return Err("an IP address: give it with --ip");
    }
    match ServerName::try_from(text.strip_prefix("*.").unwrap_or(text)) {
        Ok(ServerName::DnsName(_)) => Ok(text.to_owned()),
        _ => Err("not a DNS name"),
    }
}
