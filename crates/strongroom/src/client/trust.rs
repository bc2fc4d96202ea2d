//! Whose certificate is believed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::Server;
use crate::tls;

/// Longer than any route needs; a machine that is off is told apart from one that works for long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// What a server's certificate must be signed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// An authority that this machine trusts.
    System,
    /// One of the certificates in this file, or the server's own; no other.
    Certificates(PathBuf),
}

impl Trust {
    /// Something that speaks to this server and believes no other certificate.
    pub fn agent(&self, server: &Server, timeout: Duration) -> Result<Agent> {
        let roots = match self {
            Self::System => RootCerts::PlatformVerifier,
            Self::Certificates(file) => {
                let trusted: Vec<_> = tls::certificates(file)?
                    .iter()
                    .map(|certificate| Certificate::from_der(certificate.as_ref()).to_owned())
                    .collect();
                RootCerts::new_with_certs(&trusted)
            }
        };
        let mut config = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            // Where a redirect leads nobody has logged in.
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(timeout));
        if server.is_here() {
            // No proxy of the environment stands between this machine and itself.
            config = config.proxy(None);
        }
        Ok(config.build().new_agent())
    }
}
