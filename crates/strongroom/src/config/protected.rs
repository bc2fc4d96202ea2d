//! `[[component]]`: what is protected. The keys of all kinds are typed together; here each kind takes its own, and refuses
//! those of others.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use components::{
    Component, CopyState, FileStoreSettings, Hooks, Method, Password, PhysicalSettings,
    RelationalStoreSettings, SystemConfigurationSettings,
};
use secrecy::SecretString;

use super::meant::below;
use super::{bucket, typed};

/// Kinds of components, as requests name them.
const KIND_WORDS: [&str; 4] = ["fileStore", "relationalStore", "objectStore", "systemConfiguration"];
const HOOK_TIMEOUT_SECONDS_MAX: u64 = 7 * 24 * 3600;
/// Tables that are read or loaded at once, unless it is said.
const DEFAULT_CONNECTIONS: usize = 4;
const CONNECTIONS_MAX: u64 = 64;
/// So often the files of a server are backed up anew, unless it is said.
const DEFAULT_BASE_DAYS: u64 = 7;
const BASE_DAYS_MAX: u64 = 366;

/// The components, and the directory of each that is one, by name.
pub(super) type Built = (Vec<Arc<dyn Component>>, Vec<(String, PathBuf)>);

/// The server's own files.
pub(super) struct Own {
    pub(super) configuration: PathBuf,
    /// What it names and what the server made, with the keys.
    pub(super) files: Vec<(String, PathBuf)>,
    pub(super) master_key_file: PathBuf,
    pub(super) state_file: PathBuf,
    /// For what a backup or restore needs only meanwhile.
    pub(super) scratch: PathBuf,
    /// For servers of our own.
    pub(super) clusters: PathBuf,
    /// For logs of database servers that no backup holds yet.
    pub(super) log_directory: PathBuf,
}

/// Checks and builds. Relative paths start at `directory`.
pub(super) fn build(typed: Vec<typed::Component>, directory: &Path, own: &Own) -> Result<Built, String> {
    let mut built: Vec<Arc<dyn Component>> = Vec::new();
    let mut paths = Vec::new();
    let mut names = HashSet::new();
    for (at, component) in typed.into_iter().enumerate() {
        let name = component.name.clone().unwrap_or_default();
        let place =
            if name.is_empty() { format!("component {}", at + 1) } else { format!("component '{name}'") };
        let one =
            one(component, directory, own, &mut paths).map_err(|problem| format!("{place}: {problem}"))?;
        if !names.insert(one.name().to_owned()) {
            return Err(format!("{place}: two components have this name"));
        }
        if let Some(other) = built.iter().find(|other| share_a_bucket(other.as_ref(), one.as_ref())) {
            return Err(format!(
                "{place}: it and component '{}' share objects of a bucket; protect them once",
                other.name()
            ));
        }
        built.push(one);
    }
    Ok((built, paths))
}

/// A restore of one would take the other's objects, and what its restore has laid down, for objects that should not be there.
fn share_a_bucket(one: &dyn Component, other: &dyn Component) -> bool {
    let is_bucket = |component: &dyn Component| component.kind() == components::Kind::ObjectStore;
    let (here, there) = (PathBuf::from(one.place()), PathBuf::from(other.place()));
    is_bucket(one) && is_bucket(other) && (here.starts_with(&there) || there.starts_with(&here))
}

fn one(
    component: typed::Component,
    directory: &Path,
    own: &Own,
    paths: &mut Vec<(String, PathBuf)>,
) -> Result<Arc<dyn Component>, String> {
    match component.kind.as_deref() {
        Some("fileStore") => {
            let settings = file_store(component, directory)?;
            paths.push((settings.name.clone(), settings.path.clone()));
            Ok(components::file_store(settings))
        }
        Some("relationalStore") => components::relational_store(relational_store(component, directory, own)?),
        Some("objectStore") => components::object_store(bucket::object_store(component, directory)?),
        Some("systemConfiguration") => {
            Ok(components::system_configuration(system_configuration(component, own)?))
        }
        Some(kind) => Err(format!(
            "kind '{kind}' is none of fileStore, relationalStore, objectStore, systemConfiguration"
        )),
        None => Err("kind is missing".to_owned()),
    }
}

/// A restore exchanges a component's whole directory: neither another component nor what the running server works with
/// may lie in it.
pub(super) fn keep_apart(components: &[(String, PathBuf)], ours: &[(&str, &PathBuf)]) -> Result<(), String> {
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

fn file_store(mut component: typed::Component, directory: &Path) -> Result<FileStoreSettings, String> {
    refuse_foreign(&component, "kind fileStore", &["path", "exclude"])?;
    let path = component.path.take().filter(|path| !path.is_empty()).ok_or("path is missing")?;
    let path = below(directory, &path);
    if path == Path::new("/") {
        return Err("path is the root of the whole machine; name the directory to protect".to_owned());
    }
    Ok(FileStoreSettings {
        name: name(&component)?,
        path,
        exclude: component.exclude.take().unwrap_or_default(),
        optional: component.optional.unwrap_or(false),
        hooks: hooks(component)?,
    })
}

fn relational_store(
    mut component: typed::Component,
    directory: &Path,
    own: &Own,
) -> Result<RelationalStoreSettings, String> {
    let keys = [
        "url",
        "password_file",
        "password_env",
        "databases",
        "ca_file",
        "connections",
        "tools_directory",
        "method",
        "base_every_days",
    ];
    refuse_foreign(&component, "kind relationalStore", &keys)?;
    let name = name(&component)?;
    let method = method(&component, own.log_directory.join(file_name(&name)))?;
    let password = match (component.password_file.take(), component.password_env.take()) {
        (None, None) => None,
        (Some(file), None) => Some(Password::File(below(directory, &file))),
        (None, Some(variable)) => {
            let value = std::env::var(&variable)
                .map_err(|_| format!("password_env names the variable {variable}, which is not set"))?;
            Some(Password::Value(SecretString::from(value)))
        }
        (Some(_), Some(_)) => return Err("give password_file or password_env, not both".to_owned()),
    };
    let connections = connections(&component)?.unwrap_or(DEFAULT_CONNECTIONS);
    let databases = component.databases.take().unwrap_or_else(|| vec!["*".to_owned()]);
    if databases.is_empty() {
        return Err("databases is empty; name some, or \"*\" for all".to_owned());
    }
    Ok(RelationalStoreSettings {
        name,
        url: component.url.take().ok_or("url is missing")?,
        password,
        ca_file: component.ca_file.take().map(|file| below(directory, &file)),
        databases,
        connections,
        tools_directory: component.tools_directory.take().map(|tools| below(directory, &tools)),
        method,
        clusters_directory: own.clusters.clone(),
        scratch_directory: own.scratch.clone(),
        optional: component.optional.unwrap_or(false),
        hooks: hooks(component)?,
    })
}

fn method(component: &typed::Component, log_directory: PathBuf) -> Result<Method, String> {
    match (component.method.as_deref(), component.base_every_days) {
        (None | Some("logical"), None) => Ok(Method::Logical),
        (None | Some("logical"), Some(_)) => {
            Err("base_every_days belongs to method = \"physical\"".to_owned())
        }
        (Some("physical"), days) => match days.unwrap_or(DEFAULT_BASE_DAYS) {
            days @ 1..=BASE_DAYS_MAX => Ok(Method::Physical(PhysicalSettings {
                base_every: Duration::from_secs(days * 24 * 3600),
                log_directory,
            })),
            _ => Err(format!("base_every_days must be 1 to {BASE_DAYS_MAX}")),
        },
        (Some(other), _) => Err(format!("method '{other}' is neither logical nor physical")),
    }
}

/// A name of a directory that no other component has.
fn file_name(component: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    let encoded = component.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    encoded.collect()
}

fn system_configuration(
    component: typed::Component,
    own: &Own,
) -> Result<SystemConfigurationSettings, String> {
    let of_a_cluster = [
        ("namespace", component.namespace.is_some()),
        ("kubeconfig", component.kubeconfig.is_some()),
        ("context", component.context.is_some()),
    ];
    if let Some((key, _)) = of_a_cluster.into_iter().find(|(_, typed)| *typed) {
        return Err(format!(
            "'{key}': the resources of a cluster are not in this build yet; without it Strongroom's own configuration is protected"
        ));
    }
    refuse_foreign(&component, "kind systemConfiguration", &[])?;
    if component.before_restore.is_some() || component.after_restore.is_some() {
        return Err("a restore leaves a systemConfiguration as it is: before_restore and after_restore would never run".to_owned());
    }
    let state_file = own.state_file.clone();
    let copy = move |to: &Path| recovery::copy_state(&state_file, to).map_err(|e| e.message);
    Ok(SystemConfigurationSettings {
        name: name(&component)?,
        configuration: own.configuration.clone(),
        files: own.files.clone(),
        master_key_file: own.master_key_file.clone(),
        state_file: own.state_file.clone(),
        copy_state: CopyState(Arc::new(copy)),
        scratch_directory: own.scratch.clone(),
        optional: component.optional.unwrap_or(false),
        hooks: hooks(component)?,
    })
}

/// How much at once, if that was said.
pub(super) fn connections(component: &typed::Component) -> Result<Option<usize>, String> {
    match component.connections {
        None => Ok(None),
        Some(some @ 1..=CONNECTIONS_MAX) => Ok(usize::try_from(some).ok()),
        Some(_) => Err(format!("connections must be 1 to {CONNECTIONS_MAX}")),
    }
}

pub(super) fn name(component: &typed::Component) -> Result<String, String> {
    let name = component.name.clone().filter(|name| !name.trim().is_empty()).ok_or("name is missing")?;
    if KIND_WORDS.iter().any(|word| word.eq_ignore_ascii_case(name.trim())) {
        return Err(format!(
            "'{name}' is the word for a kind, by which a restore may choose; give it another name"
        ));
    }
    Ok(name)
}

pub(super) fn hooks(component: typed::Component) -> Result<Hooks, String> {
    let timeout = match component.hook_timeout_seconds {
        None => Hooks::default().timeout,
        Some(seconds @ 1..=HOOK_TIMEOUT_SECONDS_MAX) => Duration::from_secs(seconds),
        Some(_) => {
            return Err(format!("hook_timeout_seconds must be 1 to {HOOK_TIMEOUT_SECONDS_MAX} (a week)"));
        }
    };
    Ok(Hooks {
        before_backup: component.before_backup.unwrap_or_default(),
        after_backup: component.after_backup.unwrap_or_default(),
        before_restore: component.before_restore.unwrap_or_default(),
        after_restore: component.after_restore.unwrap_or_default(),
        drill_check: component.drill_check.unwrap_or_default(),
        timeout,
    })
}

/// A key that was typed and belongs to another kind.
pub(super) fn refuse_foreign(component: &typed::Component, what: &str, own: &[&str]) -> Result<(), String> {
    let c = component;
    let typed = [
        ("path", c.path.is_some()),
        ("exclude", c.exclude.is_some()),
        ("url", c.url.is_some()),
        ("password_file", c.password_file.is_some()),
        ("password_env", c.password_env.is_some()),
        ("databases", c.databases.is_some()),
        ("connections", c.connections.is_some()),
        ("tools_directory", c.tools_directory.is_some()),
        ("method", c.method.is_some()),
        ("base_every_days", c.base_every_days.is_some()),
        ("endpoint", c.endpoint.is_some()),
        ("region", c.region.is_some()),
        ("path_style", c.path_style.is_some()),
        ("allow_http", c.allow_http.is_some()),
        ("ca_file", c.ca_file.is_some()),
        ("access_key_id", c.access_key_id.is_some()),
        ("secret_access_key_file", c.secret_access_key_file.is_some()),
        ("secret_access_key_env", c.secret_access_key_env.is_some()),
        ("account", c.account.is_some()),
        ("account_key_file", c.account_key_file.is_some()),
        ("account_key_env", c.account_key_env.is_some()),
        ("managed_identity", c.managed_identity.is_some()),
        ("service_account_file", c.service_account_file.is_some()),
        ("namespace", c.namespace.is_some()),
        ("kubeconfig", c.kubeconfig.is_some()),
        ("context", c.context.is_some()),
    ];
    match typed.into_iter().find(|(key, typed)| *typed && !own.contains(key)) {
        Some((key, _)) => Err(format!("'{key}' is no key of {what}")),
        None => Ok(()),
    }
}
