//! What the configuration means: checked, with every default filled in and every path absolute.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use components::Component;
use recovery::Subscription;
use repository::{Compression, Cost};
use storage::{AddressRule, Network};

use super::oidc::{self, Oidc};
use super::protected;
use super::typed::{self, Typed};
use crate::words;

const DEFAULT_LISTEN: &str = "127.0.0.1:7443";
const DEFAULT_CONTEXT: &str = "strongroom";
const DEFAULT_STATE_URL: &str = "sqlite:state.db";
const DEFAULT_DELETION_GRACE: Duration = Duration::from_secs(60 * 60);
/// A job whose server has not reported for so long may be taken over.
const LEASE: Duration = Duration::from_secs(30);

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the server listens.
    pub listen: SocketAddr,
    /// First segment of every path.
    pub context: String,
    /// What URLs in replies start with; `None`: made of address and context.
    pub public_url: Option<String>,
    /// Certificate and key, or plain HTTP.
    pub tls: Tls,
    /// State, master key and self-made certificate lie here.
    pub data_directory: PathBuf,
    /// What a component's kind needs is checked here already; the domain gets it as it is.
    pub components: Vec<Arc<dyn Component>>,
    /// Directory of each component that is one, by name.
    pub component_paths: Vec<(String, PathBuf)>,
    /// Through which people may sign in beside their passwords.
    pub oidc: Option<Oidc>,
    /// Keys that are understood but have no effect in this build.
    pub without_effect: Vec<&'static str>,
    state_file: PathBuf,
    master_key_file: PathBuf,
    allowed_directories: Vec<PathBuf>,
    hosted_directory: PathBuf,
    drill_directory: PathBuf,
    site_name: String,
    compression: Compression,
    deletion_grace: Duration,
    store_addresses: Arc<AddressRule>,
    notify: Vec<Subscription>,
}

/// How the server speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Plain HTTP, for a proxy in front.
    Off,
    /// These files, which must exist.
    Files {
        /// The chain, PEM.
        certificate: PathBuf,
        /// The private key, PEM.
        key: PathBuf,
    },
    /// These files; a self-signed certificate is made if they do not exist.
    SelfSigned {
        /// The certificate, PEM.
        certificate: PathBuf,
        /// The private key, PEM.
        key: PathBuf,
    },
}

impl Config {
    /// `https://127.0.0.1:7443/strongroom`, or what the configuration says, for a server at `address`.
    pub fn url_at(&self, address: SocketAddr) -> String {
        if let Some(url) = &self.public_url {
            return url.clone();
        }
        let scheme = if self.tls == Tls::Off { "http" } else { "https" };
        let host = match address.ip() {
            ip if ip.is_unspecified() => words::host_name(),
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
            ip => ip.to_string(),
        };
        format!("{scheme}://{host}:{}/{}", address.port(), self.context)
    }

    /// What the domain is told, for a server that is reached at `public_url`.
    pub fn settings(&self, public_url: String) -> recovery::Settings {
        recovery::Settings {
            data_directory: self.data_directory.clone(),
            state_file: self.state_file.clone(),
            master_key_file: self.master_key_file.clone(),
            allowed_directories: self.allowed_directories.clone(),
            hosted_directory: self.hosted_directory.clone(),
            drill_directory: self.drill_directory.clone(),
            public_url,
            components: self.components.clone(),
            site_name: self.site_name.clone(),
            compression: self.compression,
            cost: Cost::DEFAULT,
            deletion_grace: self.deletion_grace,
            store_addresses: Arc::clone(&self.store_addresses),
            notify: self.notify.clone(),
            lease: LEASE,
        }
    }
}

/// Checks and completes. Relative paths start at `directory`, the one that holds the `file`; `named` are the files that it
/// names.
pub fn from_typed(
    typed: Typed,
    file: &Path,
    directory: &Path,
    named: Vec<(String, PathBuf)>,
) -> Result<Config, String> {
    let server = typed.server;
    let listen_text = server.listen.as_deref().unwrap_or(DEFAULT_LISTEN);
    let listen = listen_text.parse().map_err(|_| {
        format!("server.listen '{listen_text}' is not an address and a port, like {DEFAULT_LISTEN}")
    })?;
    let context = context(server.context)?;
    let data_directory = below(directory, server.data_directory.as_deref().unwrap_or("data"));
    let tls = tls(server.tls, directory, &data_directory)?;
    let public_url = server.public_url.map(public_url).transpose()?;
    let state_file = state_file(typed.state.url.as_deref().unwrap_or(DEFAULT_STATE_URL), &data_directory)?;
    let master_key_file = match typed.security.master_key_file {
        Some(file) => below(directory, &file),
        None => data_directory.join("master.key"),
    };
    let allowed = typed.stores.allowed_directories.unwrap_or_default();
    let hosted_directory = match typed.stores.hosted_directory {
        Some(hosted) => below(directory, &hosted),
        None => data_directory.join("stores"),
    };
    let drill_directory = match typed.drills.directory {
        Some(drills) => below(directory, &drills),
        None => data_directory.join("drills"),
    };
    let oidc = typed.oidc.map(|typed| oidc::from_typed(typed, directory)).transpose()?;
    let without_effect = without_effect(&typed.limits);
    let scratch = data_directory.join("scratch");
    let own = protected::Own {
        configuration: file.to_owned(),
        files: own_files(named, &master_key_file, &tls),
        master_key_file: master_key_file.clone(),
        state_file: state_file.clone(),
        scratch,
        clusters: drill_directory.clone(),
        log_directory: data_directory.join("log"),
    };
    let (components, component_paths) = protected::build(typed.component, directory, &own)?;
    let listed = networks(typed.security.allowed_addresses.unwrap_or_default())?;
    protected::keep_apart(
        &component_paths,
        &[
            ("server.data_directory", &data_directory),
            ("state.url", &state_file),
            ("security.master_key_file", &master_key_file),
            ("stores.hosted_directory", &hosted_directory),
            ("drills.directory", &drill_directory),
        ],
    )?;
    Ok(Config {
        listen,
        context,
        public_url,
        tls,
        components,
        component_paths,
        oidc,
        without_effect,
        state_file,
        master_key_file,
        allowed_directories: allowed.iter().map(|path| below(directory, path)).collect(),
        hosted_directory,
        drill_directory,
        site_name: server.site_name.unwrap_or_else(words::host_name),
        compression: compression(typed.limits.compression.as_deref())?,
        deletion_grace: match typed.limits.deletion_grace_minutes {
            Some(minutes) => Duration::from_secs(minutes.saturating_mul(60)),
            None => DEFAULT_DELETION_GRACE,
        },
        store_addresses: Arc::new(AddressRule::inner_networks_too(listed.clone())),
        notify: super::notify::subscriptions(typed.notify, directory, Arc::new(AddressRule::public(listed)))?,
        data_directory,
    })
}

/// All files without which this server is not the same: those that it was given, and those that it made.
fn own_files(mut named: Vec<(String, PathBuf)>, master_key: &Path, tls: &Tls) -> Vec<(String, PathBuf)> {
    named.insert(0, ("security.master_key_file".to_owned(), master_key.to_owned()));
    if let Tls::Files { certificate, key } | Tls::SelfSigned { certificate, key } = tls {
        named.push(("server.tls.certificate_file".to_owned(), certificate.clone()));
        named.push(("server.tls.key_file".to_owned(), key.clone()));
    }
    let mut seen = std::collections::HashSet::new();
    named.retain(|(_, path)| seen.insert(path.clone()));
    named
}

fn networks(texts: Vec<String>) -> Result<Vec<Network>, String> {
    let network = |text: &String| text.parse().map_err(|e| format!("security.allowed_addresses: {e}"));
    texts.iter().map(network).collect()
}

/// Joins and tidies: `.` goes, `..` takes the segment before it.
pub(super) fn below(directory: &Path, path: &str) -> PathBuf {
    use std::path::Component as Segment;
    let mut tidy = PathBuf::new();
    for segment in directory.join(path).components() {
        match segment {
            Segment::CurDir => {}
            Segment::ParentDir => {
                tidy.pop();
            }
            other => tidy.push(other),
        }
    }
    tidy
}

fn context(text: Option<String>) -> Result<String, String> {
    let context = text.unwrap_or_else(|| DEFAULT_CONTEXT.to_owned());
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
    if context.is_empty() || context.len() > 100 || !context.chars().all(plain) || context.starts_with('.') {
        return Err(format!(
            "server.context '{context}' must be one path segment of letters, digits, '-', '_', '.' or '~'"
        ));
    }
    if context == "health" {
        return Err("server.context cannot be 'health', where the probes are".to_owned());
    }
    Ok(context)
}

fn public_url(text: String) -> Result<String, String> {
    let url = text.trim_end_matches('/');
    if !(url.starts_with("https://") || url.starts_with("http://")) {
        return Err(format!("server.public_url '{text}' must start with https:// or http://"));
    }
    Ok(url.to_owned())
}

fn tls(keys: typed::TlsKeys, directory: &Path, data_directory: &Path) -> Result<Tls, String> {
    if keys.enabled == Some(false) {
        if keys.certificate_file.is_some() || keys.key_file.is_some() {
            return Err("server.tls has enabled = false and yet a certificate or key".to_owned());
        }
        return Ok(Tls::Off);
    }
    match (keys.certificate_file, keys.key_file) {
        (Some(certificate), Some(key)) => {
            Ok(Tls::Files { certificate: below(directory, &certificate), key: below(directory, &key) })
        }
        (None, None) => {
            let kept = data_directory.join("tls");
            Ok(Tls::SelfSigned { certificate: kept.join("certificate.pem"), key: kept.join("key.pem") })
        }
        _ => Err("server.tls needs certificate_file and key_file together, or neither".to_owned()),
    }
}

/// The state is data of the server, not configuration: a relative file lies in the data directory.
fn state_file(url: &str, data_directory: &Path) -> Result<PathBuf, String> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Err("state.url: PostgreSQL is not in this build yet; use sqlite:FILE".to_owned());
    }
    match url.strip_prefix("sqlite:") {
        Some(file) if !file.trim_start_matches('/').is_empty() => {
            // sqlite:///var/lib/state.db is an absolute path, too.
            let file = file.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(file);
            Ok(below(data_directory, file))
        }
        _ => Err(format!("state.url '{url}' must be sqlite:FILE")),
    }
}

fn compression(text: Option<&str>) -> Result<Compression, String> {
    match text {
        None | Some("auto") => Ok(Compression::Auto),
        Some("off") => Ok(Compression::Off),
        Some("fastest") => Ok(Compression::Fastest),
        Some("max") => Ok(Compression::Max),
        Some(other) => Err(format!("limits.compression '{other}' must be off, fastest, auto or max")),
    }
}

fn without_effect(limits: &typed::Limits) -> Vec<&'static str> {
    [
        ("limits.memory_mib", limits.memory_mib),
        ("limits.threads", limits.threads),
        ("limits.read_mib_per_s", limits.read_mib_per_s),
        ("limits.upload_mib_per_s", limits.upload_mib_per_s),
    ]
    .into_iter()
    .filter_map(|(key, value)| value.map(|_| key))
    .collect()
}
