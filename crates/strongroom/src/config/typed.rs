//! strongroom.toml as it was typed: every key that exists, none of them required here, no value checked beyond its type.

use std::path::Path;

use serde::Deserialize;

use super::suggestion;
use crate::exit::Failure;

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Typed {
    pub server: Server,
    pub state: State,
    pub security: Security,
    pub stores: Stores,
    pub drills: Drills,
    pub oidc: Option<Oidc>,
    pub limits: Limits,
    pub component: Vec<Component>,
    pub notify: Vec<Notify>,
}

/// `[server]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    pub listen: Option<String>,
    pub context: Option<String>,
    pub public_url: Option<String>,
    pub data_directory: Option<String>,
    pub site_name: Option<String>,
    pub tls: TlsKeys,
}

/// `[server.tls]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsKeys {
    pub enabled: Option<bool>,
    pub certificate_file: Option<String>,
    pub key_file: Option<String>,
}

/// `[state]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct State {
    pub url: Option<String>,
}

/// `[security]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Security {
    pub master_key_file: Option<String>,
    pub allowed_addresses: Option<Vec<String>>,
}

/// `[stores]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stores {
    pub allowed_directories: Option<Vec<String>>,
    pub hosted_directory: Option<String>,
}

/// `[drills]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Drills {
    pub directory: Option<String>,
}

/// `[oidc]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Oidc {
    pub issuer: Option<String>,
    pub client_id: Option<String>,
    pub client_secret_file: Option<String>,
    pub client_secret_env: Option<String>,
    pub scopes: Option<Vec<String>>,
    pub username_claim: Option<String>,
    pub role_claim: Option<String>,
    pub administrator_values: Option<Vec<String>>,
    pub operator_values: Option<Vec<String>>,
    pub viewer_values: Option<Vec<String>>,
    pub clock_skew_seconds: Option<u64>,
    pub label: Option<String>,
    pub ca_file: Option<String>,
}

/// `[limits]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub deletion_grace_minutes: Option<u64>,
    pub compression: Option<String>,
    pub memory_mib: Option<u64>,
    pub threads: Option<u64>,
    pub read_mib_per_s: Option<u64>,
    pub upload_mib_per_s: Option<u64>,
}

/// `[[component]]`: the keys of all kinds together; which of them fit is decided by `kind`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Component {
    pub kind: Option<String>,
    pub name: Option<String>,
    pub optional: Option<bool>,
    pub before_backup: Option<Vec<String>>,
    pub after_backup: Option<Vec<String>>,
    pub before_restore: Option<Vec<String>>,
    pub after_restore: Option<Vec<String>>,
    pub drill_check: Option<Vec<String>>,
    pub hook_timeout_seconds: Option<u64>,
    // fileStore
    pub path: Option<String>,
    pub exclude: Option<Vec<String>>,
    // relationalStore and objectStore
    pub url: Option<String>,
    pub password_file: Option<String>,
    pub password_env: Option<String>,
    pub databases: Option<Vec<String>>,
    pub connections: Option<u64>,
    pub tools_directory: Option<String>,
    pub method: Option<String>,
    pub base_every_days: Option<u64>,
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub path_style: Option<bool>,
    pub allow_http: Option<bool>,
    pub ca_file: Option<String>,
    pub access_key_id: Option<String>,
    pub secret_access_key_file: Option<String>,
    pub secret_access_key_env: Option<String>,
    pub account: Option<String>,
    pub account_key_file: Option<String>,
    pub account_key_env: Option<String>,
    pub managed_identity: Option<String>,
    pub service_account_file: Option<String>,
    // systemConfiguration
    pub namespace: Option<String>,
    pub kubeconfig: Option<String>,
    pub context: Option<String>,
}

/// `[[notify]]`: the keys of both kinds together; which of them fit is decided by `kind`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Notify {
    pub kind: Option<String>,
    pub name: Option<String>,
    pub events: Option<Vec<String>>,
    pub ca_file: Option<String>,
    // webhook
    pub url: Option<String>,
    pub url_file: Option<String>,
    pub secret_file: Option<String>,
    pub secret_env: Option<String>,
    pub allow_http: Option<bool>,
    // mail
    pub host: Option<String>,
    pub port: Option<u16>,
    pub tls: Option<String>,
    pub username: Option<String>,
    pub password_file: Option<String>,
    pub password_env: Option<String>,
    pub from: Option<String>,
    pub to: Option<Vec<String>>,
}

/// What is wrong with the text, and where.
#[derive(Debug)]
pub struct Mistake {
    message: String,
    hint: Option<String>,
    offset: Option<usize>,
}

impl Mistake {
    /// Reads what the parser says. An unknown key gets the known one that looks most like it.
    pub fn new(error: &toml::de::Error) -> Self {
        let offset = error.span().map(|span| span.start);
        // The first line; what follows repeats it or lists all known keys.
        let message = error.message().lines().next().unwrap_or("not valid TOML").to_owned();
        let Some(unknown) = UnknownKey::in_message(&message) else {
            return Self { message, hint: None, offset };
        };
        Self { message: format!("unknown key '{}'", unknown.key), hint: Some(unknown.advice()), offset }
    }

    /// As a failure of the command: with file and line.
    pub fn in_file(self, file: &Path, text: &str) -> Failure {
        let place = match self.offset {
            Some(offset) => format!("{} line {}", file.display(), line_of(text, offset)),
            None => file.display().to_string(),
        };
        self.at(&place)
    }

    /// As a failure of the command, at a place that is told in other words.
    pub fn at(self, place: &str) -> Failure {
        let failure = Failure::usage(format!("{place}: {}", self.message));
        match self.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// A key that is not known, and those that could stand in its place.
struct UnknownKey<'a> {
    key: &'a str,
    known: Vec<&'a str>,
}

impl<'a> UnknownKey<'a> {
    /// serde words it: unknown field `a`, expected one of `b`, `c`.
    fn in_message(message: &'a str) -> Option<Self> {
        let quoted = message.strip_prefix("unknown field `")?;
        let (key, rest) = quoted.split_once('`')?;
        let known = rest.split('`').skip(1).step_by(2).collect();
        Some(Self { key, known })
    }

    fn advice(&self) -> String {
        let secret = [format!("{}_file", self.key), format!("{}_env", self.key)];
        if secret.iter().all(|name| self.known.contains(&name.as_str())) {
            return format!("secrets do not stand in the configuration: use '{}'", secret[0]);
        }
        if let Some(meant) = suggestion::nearest(self.key, &self.known) {
            return format!("did you mean '{meant}'?");
        }
        format!("known here: {}", self.known.join(", "))
    }
}

/// Parses the text alone, without the environment.
pub fn parse(text: &str) -> Result<Typed, Mistake> {
    toml::from_str(text).map_err(|e| Mistake::new(&e))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
