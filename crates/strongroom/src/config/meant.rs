//! What the configuration means: checked, with every default filled in and every path absolute.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use components::{Component, FileStoreSettings};
use recovery::Subscription;
use repository::{Compression, Cost};
use storage::{AddressRule, Network};

use super::oidc::{self, Oidc};
use super::typed::{self, Typed};
use crate::words;

const DEFAULT_LISTEN: &str = "127.0.0.1:7443";
const DEFAULT_CONTEXT: &str = "strongroom";
const DEFAULT_STATE_URL: &str = "sqlite:state.db";
const DEFAULT_DELETION_GRACE: Duration = Duration::from_secs(60 * 60);
/// Kinds of components, as requests name them.
const KIND_WORDS: [&str; 4] = ["fileStore", "relationalStore", "objectStore", "systemConfiguration"];
const DEFAULT_HOOK_TIMEOUT: Duration = Duration::from_secs(10 * 60);
const HOOK_TIMEOUT_SECONDS_MAX: u64 = 7 * 24 * 3600;
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
    /// Directory of each component, by name.
    pub component_paths: Vec<(String, PathBuf)>,
    /// Through which people may sign in beside their passwords.
    pub oidc: Option<Oidc>,
    /// Keys that are understood but have no effect in this build.
    pub without_effect: Vec<&'static str>,
    state_file: PathBuf,
    master_key_file: PathBuf,
    allowed_directories: Vec<PathBuf>,
    hosted_directory: PathBuf,
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

/// Checks and completes. Relative paths start at `directory`, the one that holds the file.
pub fn from_typed(typed: Typed, directory: &Path) -> Result<Config, String> {
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
    let oidc = typed.oidc.map(|typed| oidc::from_typed(typed, directory)).transpose()?;
    let without_effect = without_effect(&typed.limits);
    let (components, component_paths) = components(typed.component, directory)?;
    let listed = networks(typed.security.allowed_addresses.unwrap_or_default())?;
    keep_apart(
        &component_paths,
        &[
            ("server.data_directory", &data_directory),
            ("state.url", &state_file),
            ("security.master_key_file", &master_key_file),
            ("stores.hosted_directory", &hosted_directory),
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

type Components = (Vec<Arc<dyn Component>>, Vec<(String, PathBuf)>);

fn components(typed: Vec<typed::Component>, directory: &Path) -> Result<Components, String> {
    let mut built: Vec<Arc<dyn Component>> = Vec::new();
    let mut paths = Vec::new();
    let mut names = HashSet::new();
    for (at, component) in typed.into_iter().enumerate() {
        let name = component.name.clone().unwrap_or_default();
        let place =
            if name.is_empty() { format!("component {}", at + 1) } else { format!("component '{name}'") };
        let settings = file_store(component, directory).map_err(|problem| format!("{place}: {problem}"))?;
        if !names.insert(settings.name.clone()) {
            return Err(format!("{place}: two components have this name"));
        }
        paths.push((settings.name.clone(), settings.path.clone()));
        built.push(components::file_store(settings));
    }
    Ok((built, paths))
}

/// A restore exchanges a component's whole directory: neither another component nor what the running server works with
/// may lie in it.
fn keep_apart(components: &[(String, PathBuf)], ours: &[(&str, &PathBuf)]) -> Result<(), String> {
    for (name, path) in components {
        if let Some((inner, _)) = components.iter().find(|(other, at)| other != name && at.starts_with(path))
        {
            return Err(format!(
                "component '{name}': the directory of component '{inner}' lies in its path {}; protect one of the two",
                path.display()
            ));
        }
        if let Some((key, place)) = ours.iter().find(|(_, place)| place.starts_with(path)) {
            return Err(format!(
                "component '{name}': {key} ({}) lies in its path {}, and a restore would exchange it under the running \
                 server; put it elsewhere",
                place.display(),
                path.display()
            ));
        }
    }
    Ok(())
}

fn file_store(component: typed::Component, directory: &Path) -> Result<FileStoreSettings, String> {
    match component.kind.as_deref() {
        Some("fileStore") => {}
        Some(kind @ ("relationalStore" | "objectStore" | "systemConfiguration")) => {
            return Err(format!("kind {kind} is not in this build yet; only fileStore is"));
        }
        Some(kind) => {
            return Err(format!(
                "kind '{kind}' is none of fileStore, relationalStore, objectStore, systemConfiguration"
            ));
        }
        None => return Err("kind is missing".to_owned()),
    }
    if let Some(key) = foreign_key(&component) {
        return Err(format!("'{key}' is no key of a fileStore"));
    }
    let name = component.name.filter(|name| !name.trim().is_empty()).ok_or("name is missing")?;
    if KIND_WORDS.iter().any(|word| word.eq_ignore_ascii_case(name.trim())) {
        return Err(format!(
            "'{name}' is the word for a kind, by which a restore may choose; give it another name"
        ));
    }
    let path = component.path.filter(|path| !path.is_empty()).ok_or("path is missing")?;
    let path = below(directory, &path);
    if path == Path::new("/") {
        return Err("path is the root of the whole machine; name the directory to protect".to_owned());
    }
    let hook_timeout = match component.hook_timeout_seconds {
        None => DEFAULT_HOOK_TIMEOUT,
        Some(seconds @ 1..=HOOK_TIMEOUT_SECONDS_MAX) => Duration::from_secs(seconds),
        Some(_) => {
            return Err(format!("hook_timeout_seconds must be 1 to {HOOK_TIMEOUT_SECONDS_MAX} (a week)"));
        }
    };
    Ok(FileStoreSettings {
        name,
        path,
        exclude: component.exclude.unwrap_or_default(),
        optional: component.optional.unwrap_or(false),
        before_backup: component.before_backup.unwrap_or_default(),
        after_backup: component.after_backup.unwrap_or_default(),
        before_restore: component.before_restore.unwrap_or_default(),
        after_restore: component.after_restore.unwrap_or_default(),
        hook_timeout,
    })
}

/// A key that was typed and belongs to another kind.
fn foreign_key(component: &typed::Component) -> Option<&'static str> {
    let c = component;
    [
        ("url", c.url.is_some()),
        ("password_file", c.password_file.is_some()),
        ("password_env", c.password_env.is_some()),
        ("databases", c.databases.is_some()),
        ("endpoint", c.endpoint.is_some()),
        ("region", c.region.is_some()),
        ("path_style", c.path_style.is_some()),
        ("allow_http", c.allow_http.is_some()),
        ("ca_file", c.ca_file.is_some()),
        ("access_key_id", c.access_key_id.is_some()),
        ("secret_access_key_file", c.secret_access_key_file.is_some()),
        ("secret_access_key_env", c.secret_access_key_env.is_some()),
        ("namespace", c.namespace.is_some()),
        ("kubeconfig", c.kubeconfig.is_some()),
        ("context", c.context.is_some()),
    ]
    .into_iter()
    .find_map(|(key, typed)| typed.then_some(key))
}
