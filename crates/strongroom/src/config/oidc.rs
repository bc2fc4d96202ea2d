//! `[oidc]`: the provider through which people may sign in, checked; its secret and certificates are read when the
//! server starts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use secrecy::SecretString;
use ureq::http::Uri;

use super::meant::below;
use super::typed;
use crate::exit::Failure;
use crate::passcode::read_secret_file;
use crate::tls;

const CLOCK_SKEW_SECONDS: u64 = 60;
const CLOCK_SKEW_SECONDS_MAX: u64 = 300;

/// A checked provider.
#[derive(Clone, Debug)]
pub struct Oidc {
    settings: api::OidcSettings,
    secret: Option<Secret>,
    ca_file: Option<PathBuf>,
}

#[derive(Clone, Debug)]
enum Secret {
    File(PathBuf),
    Variable(String),
}

impl Oidc {
    /// What the provider calls itself.
    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// What the interface is told, with the secret and the certificates.
    pub fn settings(&self) -> Result<api::OidcSettings> {
        let client_secret = match &self.secret {
            None => None,
            Some(Secret::File(file)) => Some(read_secret_file(file)?),
            Some(Secret::Variable(name)) => match std::env::var(name) {
                Ok(text) if !text.is_empty() => Some(SecretString::from(text)),
                _ => {
                    let message =
                        format!("oidc.client_secret_env: there is no variable {name} with a secret");
                    return Err(Failure::usage(message).into());
                }
            },
        };
        let certificates = match &self.ca_file {
            None => None,
            Some(file) => Some(tls::certificates(file)?.iter().map(|der| der.as_ref().to_vec()).collect()),
        };
        Ok(api::OidcSettings { client_secret, certificates, ..self.settings.clone() })
    }
}

/// Checks what was typed.
pub fn from_typed(typed: typed::Oidc, directory: &Path) -> Result<Oidc, String> {
    let required = |text: Option<String>, key: &str| {
        text.filter(|text| !text.trim().is_empty()).ok_or_else(|| format!("oidc.{key} is missing"))
    };
    let issuer = required(typed.issuer, "issuer")?;
    if !api::is_safe_issuer(&issuer) {
        return Err(format!(
            "oidc.issuer '{issuer}' must start with https:// (http:// only for this machine itself) and have no query"
        ));
    }
    let roles = api::RoleValues {
        administrator: typed.administrator_values.unwrap_or_default(),
        operator: typed.operator_values.unwrap_or_default(),
        viewer: typed.viewer_values.unwrap_or_default(),
    };
    if roles == api::RoleValues::default() {
        return Err(
            "oidc gives nobody a role: set administrator_values, operator_values or viewer_values".to_owned()
        );
    }
    let skew = typed.clock_skew_seconds.unwrap_or(CLOCK_SKEW_SECONDS);
    if skew > CLOCK_SKEW_SECONDS_MAX {
        return Err(format!("oidc.clock_skew_seconds must be at most {CLOCK_SKEW_SECONDS_MAX}"));
    }
    let secret = match (typed.client_secret_file, typed.client_secret_env) {
        (Some(_), Some(_)) => {
            return Err("oidc has client_secret_file and client_secret_env; give one of them".to_owned());
        }
        (Some(file), None) => Some(Secret::File(below(directory, &file))),
        (None, variable) => variable.map(Secret::Variable),
    };
    let host = issuer.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default();
    Ok(Oidc {
        settings: api::OidcSettings {
            client_id: required(typed.client_id, "client_id")?,
            client_secret: None,
            scopes: typed.scopes.unwrap_or_else(|| vec!["openid".to_owned(), "profile".to_owned()]),
            username_claim: typed.username_claim.unwrap_or_else(|| "preferred_username".to_owned()),
            role_claim: required(typed.role_claim, "role_claim")?,
            roles,
            clock_skew: Duration::from_secs(skew),
            label: typed.label.unwrap_or(host),
            certificates: None,
            issuer,
        },
        secret,
        ca_file: typed.ca_file.map(|file| below(directory, &file)),
    })
}
