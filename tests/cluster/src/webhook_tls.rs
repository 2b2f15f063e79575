//! The webhook's certificates.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::berth::webhook_host;
use crate::certificates::{Authority, Certified};
use crate::run_dir::private_dir;
use crate::{Error, Result};

/// A directory with `tls.crt` and `tls.key` for the webhook, laid out as the kubelet mounts a
/// Secret: both are links into `..data`, which is a link itself and is swapped at once.
#[derive(Debug)]
pub struct WebhookTls {
    authority: Authority,
    dir: PathBuf,
    renewals: AtomicU32,
}

impl WebhookTls {
    /// Makes an authority (`dir`-ca.crt beside the directory) and a first certificate.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn new(dir: &Path) -> Result<Self> {
        private_dir(dir)?;
        let mut ca_file = dir.as_os_str().to_owned();
        ca_file.push("-ca.crt");
        let authority = Authority::new("berth-test-webhook", PathBuf::from(ca_file))?;
        let tls = Self { authority, dir: dir.to_owned(), renewals: AtomicU32::new(0) };
        tls.renew()?;
        for file in ["tls.crt", "tls.key"] {
            let link = dir.join(file);
            symlink(Path::new("..data").join(file), &link).map_err(Error::at("make", &link))?;
        }
        Ok(tls)
    }

    /// For `--tls-dir`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// For `--ca-file`.
    pub fn ca_file(&self) -> &Path {
        self.authority.file()
    }

    /// Puts a new certificate of the same authority, with a new key, in place.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn renew(&self) -> Result<()> {
        let version = format!("..{}", self.renewals.fetch_add(1, Ordering::Relaxed));
        let target = self.dir.join(&version);
        private_dir(&target)?;
        let host = webhook_host();
        let Certified { certificate, key } = self.authority.server("berth", &["127.0.0.1", "localhost", &host])?;
        for (file, text) in [("tls.crt", certificate), ("tls.key", key)] {
            fs::write(target.join(file), text).map_err(Error::at("write", &target))?;
        }
        let (next, data) = (self.dir.join("..data_tmp"), self.dir.join("..data"));
        let before = fs::read_link(&data).ok();
        symlink(&version, &next).map_err(Error::at("make", &next))?;
        fs::rename(&next, &data).map_err(Error::at("replace", &data))?;
        if let Some(before) = before {
            let before = self.dir.join(before);
            fs::remove_dir_all(&before).map_err(Error::at("remove", &before))?;
        }
        Ok(())
    }
}
