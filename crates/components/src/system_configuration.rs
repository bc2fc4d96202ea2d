//! The system configuration: Strongroom's own, so that a new machine needs a store and its passcode alone.
//!
//! A backup holds the configuration file, every file that it names (keys, certificates, passwords), a copy of the state
//! database (users, stores, schedules, jobs), and a manifest of where each lay. The right to the store then is the right to all
//! of these: they are sealed with the passcode like all content. A running server does not replace its own ground:
//! `strongroom rescue rebuild` puts the files in their places.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use repository::{BackupRequest, Control, Fed, FedContent, FedFile, Time};
use serde::{Deserialize, Serialize};

use crate::{
    Backup, BackupContext, Component, DrillContext, Drilled, Error, ErrorKind, Facts, Hooks, Kind, Portion,
    Recovered, RestoreContext, Result, StagedRestore, file_store, portion,
};

/// Where the files lie in a snapshot.
const ROOT: &str = "/strongroom";
const MANIFEST: &str = "manifest.json";
const FORMAT: u32 = 1;

/// Strongroom's own configuration, as configured.
#[derive(Clone, Debug)]
pub struct SystemConfigurationSettings {
    /// The component's name, unique in the deployment.
    pub name: String,
    /// The configuration file.
    pub configuration: PathBuf,
    /// What it names: the key, and the file.
    pub files: Vec<(String, PathBuf)>,
    /// The file without which the state is of no use; one of these.
    pub master_key_file: PathBuf,
    /// The state database.
    pub state_file: PathBuf,
    /// Copies it, as it is at one instant.
    pub copy_state: CopyState,
    /// Where the copy lies while it is backed up.
    pub scratch_directory: PathBuf,
    /// Whether a backup may go on without this component.
    pub optional: bool,
    /// Programs to run before and after.
    pub hooks: Hooks,
}

type Copy = dyn Fn(&Path) -> Result<(), String> + Send + Sync;

/// Copies the state database to a new file.
#[derive(Clone)]
pub struct CopyState(pub Arc<Copy>);

impl fmt::Debug for CopyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CopyState")
    }
}

/// What a backup of the system configuration holds, and where each file lay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemManifest {
    /// 1.
    pub format: u32,
    /// Strongroom's release.
    pub version: String,
    /// All files, the configuration last.
    pub files: Vec<KeptFile>,
}

/// A file of the system configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptFile {
    /// Its path in the snapshot, below the root.
    pub name: String,
    /// What it is: the key that names it, `state`, or `configuration`.
    pub what: String,
    /// Where it lay.
    pub path: PathBuf,
    /// Its rights, as in `chmod`.
    pub mode: u32,
}

impl SystemManifest {
    /// Its path in a snapshot.
    pub const PATH: &str = "/strongroom/manifest.json";

    /// Reads the text of one. `Damaged` says what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let damaged = |why: String| {
            Error::new(ErrorKind::Damaged, format!("the manifest of the system configuration: {why}"))
        };
        let manifest: Self = serde_json::from_slice(text).map_err(|e| damaged(e.to_string()))?;
        if manifest.format != FORMAT {
            return Err(damaged(format!("its format {} is of a newer release", manifest.format)));
        }
        let is_odd = |file: &&KeptFile| {
            !file.path.is_absolute()
                || file.path.components().any(|part| part == std::path::Component::ParentDir)
        };
        match manifest.files.iter().find(is_odd) {
            Some(file) => Err(damaged(format!("'{}' is no absolute path", file.path.display()))),
            None => Ok(manifest),
        }
    }
}

impl KeptFile {
    /// Its path in a snapshot.
    pub fn path_in_snapshot(&self) -> String {
        format!("{ROOT}/{}", self.name)
    }
}

/// Strongroom's own configuration.
#[derive(Clone, Debug)]
pub(crate) struct SystemConfiguration {
    settings: SystemConfigurationSettings,
}

impl SystemConfiguration {
    pub(crate) fn new(settings: SystemConfigurationSettings) -> Self {
        Self { settings }
    }

    /// All files but the state, which is there; one that is missing is named and left out.
    fn present(&self, control: &Control) -> Result<Vec<(KeptFile, PathBuf)>> {
        let mut found = Vec::new();
        for (key, path) in &self.settings.files {
            let mode = match std::fs::metadata(path) {
                Ok(metadata) if metadata.is_file() => metadata.permissions().mode() & 0o777,
                Ok(_) => {
                    control.warn(path.display().to_string(), format!("{key} names it, and it is no file"));
                    continue;
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound && *path != self.settings.master_key_file => {
                    control.warn(path.display().to_string(), format!("{key} names it, and it is not there"));
                    continue;
                }
                Err(e) => return Err(unreadable(path, e)),
            };
            let name = format!("files/{:04}", found.len());
            found.push((KeptFile { name, what: key.clone(), path: path.clone(), mode }, path.clone()));
        }
        Ok(found)
    }

    fn configuration(&self) -> Result<KeptFile> {
        let path = &self.settings.configuration;
        let metadata = std::fs::metadata(path).map_err(|e| unreadable(path, e))?;
        Ok(KeptFile {
            name: "strongroom.toml".to_owned(),
            what: "configuration".to_owned(),
            path: path.clone(),
            mode: metadata.permissions().mode() & 0o777,
        })
    }

    fn store(&self, context: &BackupContext<'_>, copy: &Path) -> Result<Backup> {
        let mut kept = self.present(&context.control)?;
        let state = KeptFile {
            name: "state.db".to_owned(),
            what: "state".to_owned(),
            path: self.settings.state_file.clone(),
            mode: 0o600,
        };
        kept.push((state, copy.to_owned()));
        kept.push((self.configuration()?, self.settings.configuration.clone()));
        let manifest = SystemManifest {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            files: kept.iter().map(|(file, _)| file.clone()).collect(),
        };
        let text = serde_json::to_vec_pretty(&manifest)
            .map_err(|e| Error::io("cannot write the manifest of the system configuration", e))?;
        let mut files: Vec<(String, FedContent<'_>)> = vec![(
            "manifest.json".to_owned(),
            Box::new(move |out| {
                out.write_all(&text)?;
                Ok(Fed::Whole)
            }),
        )];
        for (file, from) in kept {
            let content: FedContent<'_> = Box::new(move |out| {
                io::copy(&mut File::open(&from)?, out)?;
                Ok(Fed::Whole)
            });
            files.push((file.name, content));
        }
        files.sort_by(|a, b| a.0.cmp(&b.0));
        let now = Time::now();
        let mut rest = files.into_iter();
        let mut next = || {
            Ok(rest.next().map(|(name, content)| FedFile {
                path: name.split('/').map(|part| part.as_bytes().to_vec()).collect(),
                mtime: now,
                attributes: Vec::new(),
                same_if_size: None,
                content,
            }))
        };
        let mut request = BackupRequest::new(vec![PathBuf::from(ROOT)]);
        request.tags = context.tags.clone();
        request.hostname = context.hostname.clone();
        request.compression = context.compression;
        let outcome = repository::backup_feed(
            context.repository,
            context.index,
            &request,
            &mut next,
            1,
            &context.control,
        )
        .map_err(|e| Error::engine(format!("cannot back up component '{}'", self.settings.name), e))?;
        Ok(Backup { outcome, facts: Facts::default() })
    }
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    let kind = if error.kind() == io::ErrorKind::NotFound { ErrorKind::Missing } else { ErrorKind::Io };
    Error::new(kind, format!("cannot read {}: {error}", path.display()))
}

impl Component for SystemConfiguration {
    fn kind(&self) -> Kind {
        Kind::SystemConfiguration
    }

    fn name(&self) -> &str {
        &self.settings.name
    }

    fn optional(&self) -> bool {
        self.settings.optional
    }

    fn place(&self) -> String {
        self.settings.configuration.display().to_string()
    }

    fn probe(&self) -> Result<()> {
        for path in [&self.settings.configuration, &self.settings.master_key_file] {
            File::open(path).map_err(|e| unreadable(path, e))?;
        }
        Ok(())
    }

    fn backup(&self, context: &BackupContext<'_>) -> Result<Backup> {
        self.settings.hooks.before_backup(self, &context.control)?;
        let directory = &self.settings.scratch_directory;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|e| Error::io(format!("cannot make {}", directory.display()), e))?;
        let copy = directory.join("state-copy.db");
        // Of a backup that was killed.
        remove(&copy)?;
        let stored = (self.settings.copy_state.0)(&copy)
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot copy the state: {e}")))
            .and_then(|()| self.store(context, &copy));
        remove(&copy)?;
        stored
    }

    fn after_backup(&self) -> Result<()> {
        self.settings.hooks.after_backup(self)
    }

    /// Changes nothing, and says what does.
    fn stage(&self, context: &RestoreContext<'_>) -> Result<Box<dyn StagedRestore>> {
        let advice = "a running server does not replace its own configuration; `strongroom rescue rebuild` does on a new machine";
        context.control.warn(&self.settings.name, advice);
        Ok(Box::new(Untouched))
    }

    fn check(
        &self,
        _repository: &repository::Repository,
        _index: &repository::Index,
        _snapshot: repository::Id,
        portion: &Portion,
        _control: &Control,
    ) -> Result<()> {
        portion::refuse("the configuration of the server itself", self.name(), portion)
    }

    fn plan(
        &self,
        _: &repository::Repository,
        _: &repository::Index,
        _: repository::Id,
        _: &Portion,
        _: &Control,
        _: &mut repository::VisitPlanned<'_>,
    ) -> Result<repository::RestorePlan> {
        Ok(repository::RestorePlan::default())
    }

    fn recover(&self, _: &str, _: &Portion) -> Result<Recovered> {
        Ok(Recovered::Nothing)
    }

    fn after_restore(&self) -> Result<()> {
        Ok(())
    }

    /// All that the manifest names must be there.
    fn drill(&self, context: &DrillContext<'_>, drilled: &mut Drilled) -> Result<()> {
        file_store::drill_files(self, &self.settings.hooks, context, drilled, &|content| {
            let text = std::fs::read(content.join(MANIFEST))
                .map_err(|e| Error::new(ErrorKind::Damaged, format!("the backup lacks its manifest: {e}")))?;
            let manifest = SystemManifest::parse(&text)?;
            if let Some(file) = manifest.files.iter().find(|file| !content.join(&file.name).is_file()) {
                let message = format!("the backup lacks '{}', which its manifest names", file.name);
                return Err(Error::new(ErrorKind::Damaged, message));
            }
            Ok(())
        })?;
        let text = "that a server starts with the restored configuration; `strongroom rescue rebuild` on another machine shows it";
        drilled.not_proven.push(text.to_owned());
        Ok(())
    }
}

fn remove(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("cannot remove {}", file.display()), e))
        }
        _ => Ok(()),
    }
}

/// A restore that changes nothing.
struct Untouched;

impl StagedRestore for Untouched {
    fn swap(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<repository::RestoreOutcome> {
        Ok(repository::RestoreOutcome::default())
    }

    fn abandon(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_names_absolute_paths_alone() {
        let text = |path: &str, format: u32| {
            let file = format!("{{\"name\":\"a\",\"what\":\"b\",\"path\":\"{path}\",\"mode\":384}}");
            format!("{{\"format\":{format},\"version\":\"1\",\"files\":[{file}]}}")
        };
        let parse = |path, format| SystemManifest::parse(text(path, format).as_bytes());
        assert_eq!(parse("/etc/a", 1).unwrap().files[0].path_in_snapshot(), "/strongroom/a");
        for (path, format) in [("etc/a", 1), ("/etc/../a", 1), ("/etc/a", 2)] {
            assert_eq!(parse(path, format).unwrap_err().kind, ErrorKind::Damaged, "{path}");
        }
    }
}
