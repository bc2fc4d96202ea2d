//! Certificates: a self-signed one for a new server, and the rustls configuration that the server speaks with; [`Shown`]
//! changes with its files.

mod shown;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::config::{Config, Tls, write_new};
use crate::exit::Failure;
use crate::words;
pub use shown::Shown;

/// Chooses the cipher library for the whole process; must run before anything speaks TLS.
pub fn install_provider() {
    // An error says that it is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// A certificate for this machine under all the names that it has here, and its key, both PEM.
pub fn self_signed() -> Result<(String, String)> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let host = words::host_name();
    if !host.is_empty() && !names.contains(&host) {
        names.push(host);
    }
    // A host name that is no DNS name must not cost us the certificate.
    let mut parameters = CertificateParams::new(names.clone())
        .or_else(|_| CertificateParams::new(names[..3].to_vec()))
        .context("cannot make a certificate")?;
    parameters.distinguished_name.push(DnType::CommonName, "Strongroom (self-signed)");
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().context("cannot make a key")?;
    let certificate = parameters.self_signed(&key).context("cannot sign the certificate")?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Makes both files, the key readable by its owner alone. Neither may exist.
pub fn write_self_signed(certificate_file: &Path, key_file: &Path) -> Result<()> {
    let (certificate, key) = self_signed()?;
    write_new(key_file, key.as_bytes(), 0o600)
        .with_context(|| format!("cannot write the key {}", key_file.display()))?;
    write_new(certificate_file, certificate.as_bytes(), 0o644)
        .with_context(|| format!("cannot write the certificate {}", certificate_file.display()))
}

/// What the server shows; `None` for plain HTTP. Makes the self-signed certificate where one is wanted.
pub fn shown(config: &Config) -> Result<Option<Arc<Shown>>> {
    let (certificate, key) = match &config.tls {
        Tls::Off => return Ok(None),
        Tls::Files { certificate, key } => (certificate, key),
        Tls::SelfSigned { certificate, key } => {
            // The certificate is made last. Without it, a key that is there was left by a start that was killed.
            if !certificate.exists() {
                make_kept(certificate, key)?;
            }
            (certificate, key)
        }
    };
    Ok(Some(Arc::new(Shown::read(certificate, key)?)))
}

fn make_kept(certificate: &Path, key: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if let Some(directory) = key.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let (certificate_text, key_text) = self_signed()?;
    for (file, text, mode) in [(key, key_text, 0o600), (certificate, certificate_text, 0o644)] {
        put_whole(file, text.as_bytes(), mode).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Writes a file that appears complete or not at all; one that is there is replaced.
fn put_whole(file: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let new = file.with_extension("pem.new");
    match std::fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => write_new(&new, content, mode)?,
    }
    std::fs::rename(&new, file)?;
    match file.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// What the server speaks with: TLS 1.2 and 1.3.
pub fn server_config(shown: Arc<Shown>) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(shown);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Reads certificate and key, for one that does not change.
#[cfg(test)]
pub fn load(certificate_file: &Path, key_file: &Path) -> Result<Arc<ServerConfig>> {
    Ok(server_config(Arc::new(Shown::read(certificate_file, key_file)?)))
}

/// The certificates of a PEM file, at least one.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let unreadable = |e: &dyn std::fmt::Display| {
        anyhow!(Failure::usage(format!("no certificate can be read in {}: {e}", file.display())))
    };
    let chain = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| unreadable(&e))?;
    if chain.is_empty() {
        return Err(unreadable(&"there is none"));
    }
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_without_its_certificate_is_made_anew_with_it() {
        install_provider();
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
        std::fs::write(&key, "torn").unwrap();
        std::fs::write(directory.path().join("c.pem.new"), "torn").unwrap();
        make_kept(&certificate, &key).unwrap();
        assert!(load(&certificate, &key).is_ok());
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn the_self_made_certificate_can_be_served_and_its_key_is_private() {
        install_provider();
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
        write_self_signed(&certificate, &key).unwrap();
        assert!(load(&certificate, &key).is_ok());
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write_self_signed(&certificate, &key).is_err(), "nothing is overwritten");
    }

    #[test]
    fn a_certificate_without_its_key_is_refused_by_name() {
        install_provider();
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
        write_self_signed(&certificate, &key).unwrap();
        std::fs::remove_file(&key).unwrap();
        let refused = load(&certificate, &key).unwrap_err().to_string();
        assert!(refused.contains("k.pem"), "{refused}");
    }
}
