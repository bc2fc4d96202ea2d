//! The certificate that the server shows: read at the start, and again when it was replaced, without a restart.
//!
//! Connections that are there go on. What cannot be used is told in the log, and the one before stays.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Result;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use super::certificates;
use crate::exit::Failure;

/// How often it is looked whether the files were replaced.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// What tells one content of a file from another without reading it.
type Stamp = Option<(u64, i64, i64, u64)>;

/// A certificate with its key, and the files that it came from.
#[derive(Debug)]
pub struct Shown {
    certificate: PathBuf,
    key: PathBuf,
    now: RwLock<Arc<CertifiedKey>>,
    seen: Mutex<[Stamp; 2]>,
}

impl Shown {
    /// Reads both files.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self> {
        let seen = [stamp(certificate), stamp(key)];
        let now = RwLock::new(Arc::new(pair(certificate, key)?));
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), now, seen: Mutex::new(seen) })
    }

    /// Reads both files again. If they cannot be used, what was shown before is still shown.
    pub fn reload(&self) -> Result<()> {
        let seen = [stamp(&self.certificate), stamp(&self.key)];
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        let new = Arc::new(pair(&self.certificate, &self.key)?);
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Whether a file was replaced since it was read, or since it was found to be of no use.
    pub fn is_replaced(&self) -> bool {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
            != [stamp(&self.certificate), stamp(&self.key)]
    }

    /// The same, and tells the log.
    pub fn reload_and_tell(&self) {
        match self.reload() {
            Ok(()) => tracing::info!(file = %self.certificate.display(), "certificate read anew"),
            Err(error) => tracing::error!("the certificate stays as it was: {error:#}"),
        }
    }

    /// Looks for new files until the process ends.
    pub async fn follow(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            if self.is_replaced() {
                self.reload_and_tell();
            }
        }
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn stamp(file: &Path) -> Stamp {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len()))
}

fn pair(certificate: &Path, key: &Path) -> Result<CertifiedKey> {
    let chain = certificates(certificate)?;
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|e| Failure::usage(format!("no private key can be read in {}: {e}", key.display())))?;
    let provider = CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()));
    CertifiedKey::from_der(chain, secret, &provider).map_err(|e| {
        let (certificate, key) = (certificate.display(), key.display());
        Failure::usage(format!("certificate {certificate} and key {key} cannot be used: {e}")).into()
    })
}

#[cfg(test)]
mod tests {
    use super::super::{install_provider, write_self_signed};
    use super::*;

    #[test]
    fn a_new_certificate_is_shown_once_it_is_whole_and_until_then_the_one_before() {
        install_provider();
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
        let (new_certificate, new_key) = (directory.path().join("c2.pem"), directory.path().join("k2.pem"));
        write_self_signed(&certificate, &key).unwrap();
        write_self_signed(&new_certificate, &new_key).unwrap();
        let shown = Shown::read(&certificate, &key).unwrap();
        let leaf = || shown.now.read().unwrap().cert[0].clone();
        let (old, new) = (leaf(), certificates(&new_certificate).unwrap()[0].clone());
        assert!(!shown.is_replaced());

        fs::rename(&new_certificate, &certificate).unwrap();
        assert!(shown.is_replaced());
        let refused = shown.reload().unwrap_err().to_string();
        assert!(refused.contains("cannot be used"), "{refused}");
        assert_eq!(leaf(), old, "a certificate without its key is not shown");
        assert!(!shown.is_replaced(), "told once");

        fs::rename(&new_key, &key).unwrap();
        assert!(shown.is_replaced());
        shown.reload().unwrap();
        assert_eq!(leaf(), new);

        fs::write(&certificate, "torn").unwrap();
        assert!(shown.is_replaced() && shown.reload().is_err());
        fs::remove_file(&certificate).unwrap();
        assert!(shown.is_replaced() && shown.reload().is_err());
        assert_eq!(leaf(), new);
    }
}
