//! The file store: a protected directory.
//!
//! ```text
//! backup    hooks → is the root there? → engine reads, chunks, stores → one snapshot with one path
//! restore   hooks → stage beside the target (`stage`) → swap under the journal (`swap`, `root`, `entries`)
//!           → count and remove the old (`verify`, `remove`)
//! recover   journal → finish or undo (`recover`)
//! ```
//!
//! What a restore needs on the disk lies in one directory, `.strongroom-restore-<job>-<hash>`, beside the target or,
//! where the target is a mount point, inside it. See `staging` for what is in it.

mod backup;
mod directory;
mod drill;
mod entries;
mod journal;
mod metadata;
mod part;
mod place;
mod recover;
mod remove;
#[cfg(test)]
mod restore_tests;
mod root;
mod stage;
mod staging;
mod swap;
#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tests;
mod verify;

use std::path::Path;

pub(crate) use drill::{drill_files, refuse_without_room};
pub use place::STAGING_PREFIX;
use place::is_kept;
pub(crate) use stage::missing_room;

use crate::{
    Backup, BackupContext, Component, DrillContext, Drilled, Facts, FileStoreSettings, Kind, Portion,
    Recovered, RestoreContext, Result, StagedRestore,
};

/// One protected directory.
#[derive(Debug)]
pub(crate) struct FileStore {
    settings: FileStoreSettings,
}

impl FileStore {
    pub(crate) fn new(settings: FileStoreSettings) -> Self {
        Self { settings }
    }
}

impl Component for FileStore {
    fn kind(&self) -> Kind {
        Kind::FileStore
    }

    fn name(&self) -> &str {
        &self.settings.name
    }

    fn optional(&self) -> bool {
        self.settings.optional
    }

    fn place(&self) -> String {
        self.settings.path.display().to_string()
    }

    fn probe(&self) -> Result<()> {
        backup::probe(&self.settings)
    }

    fn backup(&self, context: &BackupContext<'_>) -> Result<Backup> {
        self.settings.hooks.before_backup(self, &context.control)?;
        self.probe()?; // after the hooks: one may mount it
        let outcome = backup::backup(&self.settings, context)?;
        Ok(Backup { outcome, facts: Facts::default() })
    }

    fn after_backup(&self) -> Result<()> {
        self.settings.hooks.after_backup(self)
    }

    fn stage(&self, context: &RestoreContext<'_>) -> Result<Box<dyn StagedRestore>> {
        self.recover(context.job_id, &context.portion)?;
        self.settings.hooks.before_restore(self, &context.control)?;
        stage::stage(&self.settings.name, &self.settings.path, context)
    }

    fn check(
        &self,
        repository: &repository::Repository,
        index: &repository::Index,
        snapshot: repository::Id,
        portion: &Portion,
        _control: &repository::Control,
    ) -> Result<()> {
        let relative = part::relative(portion)?;
        part::find(self.name(), (repository, index, snapshot), relative)?;
        part::target(&self.settings.path, relative).map(drop)
    }

    fn plan(
        &self,
        repository: &repository::Repository,
        index: &repository::Index,
        snapshot: repository::Id,
        portion: &Portion,
        control: &repository::Control,
        visit: &mut repository::VisitPlanned<'_>,
    ) -> Result<repository::RestorePlan> {
        let snapshot = (repository, index, snapshot);
        stage::plan(&self.settings, snapshot, part::relative(portion)?, control, visit)
    }

    fn recover(&self, job_id: &str, portion: &Portion) -> Result<Recovered> {
        match part::target_before(&self.settings.path, part::relative(portion)?)? {
            Some(target) => recover::recover(&self.settings.name, &target, job_id),
            None => Ok(Recovered::Nothing),
        }
    }

    fn after_restore(&self) -> Result<()> {
        self.settings.hooks.after_restore(self)
    }

    fn drill(&self, context: &DrillContext<'_>, drilled: &mut Drilled) -> Result<()> {
        drill_files(self, &self.settings.hooks, context, drilled, &|_| Ok(()))
    }
}

/// Removes `name` and all below it from a directory: through descriptors, following no link.
pub(crate) fn remove_tree(parent: &Path, name: &std::ffi::OsStr) -> Result<()> {
    let fail = |e| crate::Error::io(format!("cannot open {}", parent.display()), e);
    let mut left = remove::Left::default();
    remove::remove(directory::open(parent).map_err(fail)?, name, &mut left);
    match left.count {
        0 => Ok(()),
        count => {
            let path = parent.join(name);
            let message = format!(
                "{count} entries of {} could not be removed, among them {}; remove them by hand",
                path.display(),
                left.failures.join(", ")
            );
            Err(crate::Error::new(crate::ErrorKind::Io, message))
        }
    }
}
