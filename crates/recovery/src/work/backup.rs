//! A backup, from its running record to its catalogue entry.
//!
//! running record → vault (made if new) → shared restic lock → snapshots of dead attempts removed → what the vault
//! holds → each component: read, store, snapshot → group → all needed packs listed once more → last look at
//! cancellation, lock and running record → **entry** → the vault compacted, if it is worth while → running record removed.
//! Table and invariants: see `store`.

use std::collections::HashSet;
use std::sync::Arc;

use components::{BackupContext, Component};
use repository::{Control, Lock, LockKind, LockOwner, Repository};

use super::compaction::{Compaction, Limits};
use super::stages::{self, StageSink, Stages};
use super::undo;
use super::vault_view::VaultView;
use super::{BackupTask, leftovers, locks};
use crate::clock::now_ms;
use crate::store::sealed::Found;
use crate::store::vaults::load_index;
use crate::store::{CatalogueEntry, EntryComponent, FORMAT_VERSION, RunningRecord, Store, failure, layout};
use crate::{Error, ErrorKind, Result};

/// Makes a backup. Idempotent per job: if this job's entry is in the catalogue already, it is returned at once.
///
/// After an error nothing is visible, and snapshots and running record of this attempt are gone as far as the store
/// could still be reached; after `LeaseLost` everything is left for the worker that took over.
pub fn run_backup(
    store: &Store,
    task: &BackupTask,
    control: &Arc<Control>,
    stages: &dyn StageSink,
) -> Result<CatalogueEntry> {
    if let Some(entry) = store.backup(&task.name)? {
        if entry.job_id == task.job_id {
            locks::clear_after_backup(store, task);
            end_record(store, task);
            return Ok(entry);
        }
        let message = format!("there is a backup '{}' in the store '{}' already", task.name, task.store_name);
        return Err(Error::new(ErrorKind::BackupExists, message));
    }
    let vault = store.vault_of(&task.passcode)?;
    let mut attempt = match Attempt::begin(store, task, vault)? {
        Begun::Committed(entry) => {
            locks::clear_after_backup(store, task);
            return Ok(*entry);
        }
        Begun::Attempt(attempt) => attempt,
    };
    let mut stages = Stages::new(stages);
    match attempt.work(control, &mut stages) {
        Ok(entry) => {
            end_record(store, task);
            stages.end(stages::BACKUP_CLEANUP, stages::COMPLETED);
            Ok(entry)
        }
        Err(error) => match attempt.give_up(&error) {
            Some(entry) => Ok(entry),
            None => {
                stages.fail(&error);
                Err(error)
            }
        },
    }
}

/// A record that stays is no harm: the next reclaim sees that its run committed.
fn end_record(store: &Store, task: &BackupTask) {
    if let Err(error) = store.storage().delete(&layout::running_key(&task.job_id)) {
        tracing::warn!(job = %task.job_id, %error, "the running record of a finished backup could not be removed");
    }
}

/// One try at making the backup.
struct Attempt<'a> {
    store: &'a Store,
    task: &'a BackupTask,
    record: RunningRecord,
    repository: Option<Repository>,
    group_written: bool,
    committing: bool,
}

enum Begun<'a> {
    Committed(Box<CatalogueEntry>),
    Attempt(Attempt<'a>),
}

/// What the components' backups came to.
#[derive(Default)]
struct Parts {
    components: Vec<EntryComponent>,
    used: HashSet<repository::Id>,
}

impl<'a> Attempt<'a> {
    /// Writes the running record. An earlier attempt of the same job is revoked first, unless it had committed.
    fn begin(store: &'a Store, task: &'a BackupTask, vault: String) -> Result<Begun<'a>> {
        let record = RunningRecord {
            job_id: task.job_id.clone(),
            run: layout::new_token(),
            server: task.server_id.clone(),
            backup: task.name.clone(),
            vault,
            started_at: now_ms(),
        };
        let before = match store.read_running(&task.job_id)? {
            Found::Missing => None,
            Found::Damaged(_, version) => version,
            Found::Good(old, version) => {
                if let Some(entry) = store.revoke(&old.run, &task.name)? {
                    end_record(store, task);
                    return Ok(Begun::Committed(Box::new(entry)));
                }
                Some(version)
            }
        };
        store.put_running(&record, before.as_ref())?;
        Ok(Begun::Attempt(Attempt {
            store,
            task,
            record,
            repository: None,
            group_written: false,
            committing: false,
        }))
    }

    fn work(&mut self, control: &Arc<Control>, stages: &mut Stages<'_>) -> Result<CatalogueEntry> {
        let (store, task) = (self.store, self.task);
        stages.begin(stages::VALIDATION);
        let repository = store.open_or_make_vault(&self.record.vault, &task.passcode, task.cost)?;
        self.repository = Some(repository.clone());
        let owner = LockOwner { hostname: task.server_id.clone(), username: task.username.clone() };
        // This server is one process and makes one backup at a time: a lock under its name is left from a kill, and
        // would keep deletions waiting until it is stale.
        repository
            .break_locks_of(&task.server_id)
            .map_err(|e| failure::engine("cannot clear the locks of a killed backup", e))?;
        let lock = repository
            .lock(LockKind::Shared, &owner)
            .map_err(|e| failure::engine("cannot lock the vault for a backup", e))?;
        undo::remove_stale_snapshots(store, &repository, &self.record.vault, &task.job_id)?;
        let mut view = VaultView::load(store, &repository, &self.record.vault)?;
        stages.end(stages::VALIDATION, stages::COMPLETED);

        let parts = self.back_up_components(&repository, &mut view, control, stages)?;
        stages.begin(stages::BACKUP_CLEANUP);
        // Read once more, so that what was written is known to be readable.
        let index = load_index(&repository, &|_| true)?;
        let (group, unsound) = (view.group(&repository, &index)?, view.is_unsound(&index));
        drop(index);
        let groups = view.groups_of(&parts.used, &self.record.run, &group)?;
        if !group.is_empty() {
            self.group_written = true;
            store.create_group(&self.record.run, &group)?;
            // What dead attempts left and this one does not use.
            if group.packs.keys().any(|pack| !parts.used.contains(pack)) {
                store.mark_waste(&self.record.vault)?;
            }
        }
        view.confirm(&repository, &parts.used)?;
        let entry = self.entry(parts, groups, control)?;
        let (entry, bytes) = entry.sealed_under(&repository)?;
        lock.check().map_err(|e| failure::engine("the lock on the vault was lost during the backup", e))?;
        store.still_running(&self.record)?;
        control.check().map_err(|e| failure::engine("the backup was not completed", e))?;
        self.committing = true;
        store.commit(&entry, &bytes)?;
        self.compact(&repository, &lock, unsound, control);
        Ok(entry)
    }

    /// The backup is complete, whatever becomes of this.
    fn compact(&self, repository: &Repository, lock: &Lock, unsound: bool, control: &Arc<Control>) {
        let (store, record, limits) = (self.store, &self.record, Limits::default());
        let compaction = Compaction { store, repository, record, lock, control, limits };
        if let Err(error) = compaction.run(unsound) {
            tracing::warn!(job = %self.task.job_id, %error, "the vault could not be compacted; a later backup tries again");
        }
    }

    fn back_up_components(
        &self,
        repository: &Repository,
        view: &mut VaultView,
        control: &Arc<Control>,
        stages: &mut Stages<'_>,
    ) -> Result<Parts> {
        let mut parts = Parts::default();
        for kind in stages::KINDS {
            let stage = stages::backup_stage(kind);
            let of_kind: Vec<_> = self.task.components.iter().filter(|c| c.kind() == kind).collect();
            if of_kind.is_empty() {
                stages.skip(&stage);
                continue;
            }
            stages.begin(&stage);
            let warnings_before = control.warning_count();
            for component in of_kind {
                control.check().map_err(|e| failure::engine("the backup was stopped", e))?;
                let done = self.back_up(component.as_ref(), repository, view, control);
                // On every way out: what a hook froze must not stay frozen.
                if let Err(error) = component.after_backup() {
                    control.warn(component.name(), format!("after the backup: {error}"));
                }
                if let Some((part, outcome)) = done? {
                    view.add(&outcome.new_packs);
                    parts.used.extend(outcome.used_packs);
                    parts.components.push(part);
                }
            }
            let warned = control.warning_count() > warnings_before;
            stages.end(&stage, if warned { stages::WITH_WARNINGS } else { stages::COMPLETED });
        }
        match parts.components.is_empty() {
            true => Err(Error::new(
                ErrorKind::Configuration,
                "nothing could be backed up: no component was readable",
            )),
            false => Ok(parts),
        }
    }

    /// `None`: the component is optional and could not be read; a warning says so.
    fn back_up(
        &self,
        component: &dyn Component,
        repository: &Repository,
        view: &mut VaultView,
        control: &Arc<Control>,
    ) -> Result<Option<(EntryComponent, repository::BackupOutcome)>> {
        let (start_time, warnings_before) = (now_ms(), control.warning_count());
        let index = view.index(repository)?;
        let tags = vec![
            format!("backup={}", self.task.name),
            format!("component={}", component.name()),
            undo::job_tag(&self.task.job_id),
        ];
        let context = BackupContext {
            repository,
            index: &index,
            tags,
            hostname: self.task.server_id.split('/').next().unwrap_or_default().to_owned(),
            compression: self.task.compression,
            control: Arc::clone(control),
        };
        let components::Backup { outcome, facts } = match component.backup(&context) {
            Ok(backup) => backup,
            Err(e) if component.optional() && is_about_the_source(&e) => {
                control.warn(component.name(), format!("this optional component is not in the backup: {e}"));
                return Ok(None);
            }
            Err(e) => return Err(failure::component(component.name(), e)),
        };
        let Some(snapshot) = outcome.snapshot else {
            let message = format!("component '{}' made no snapshot", component.name());
            return Err(Error::new(ErrorKind::Internal, message));
        };
        let warned = control.warning_count() > warnings_before;
        let part = EntryComponent {
            kind: component.kind(),
            name: component.name().to_owned(),
            place: component.place(),
            snapshot,
            start_time,
            end_time: now_ms(),
            status: if warned { stages::WITH_WARNINGS } else { stages::COMPLETED }.to_owned(),
            files: outcome.summary.total_files_processed,
            bytes: outcome.summary.total_bytes_processed,
            bytes_added: outcome.new_packs.iter().map(|(_, size)| size).sum(),
            facts,
        };
        Ok(Some((part, outcome)))
    }

    fn entry(&self, parts: Parts, groups: Vec<String>, control: &Control) -> Result<CatalogueEntry> {
        let (task, components) = (self.task, parts.components);
        let (files, copies) = self.store.both_small_files(&self.record.vault)?;
        let config = files.config_digest().ok_or_else(|| {
            failure::damaged(
                &layout::vault_key(&self.record.vault, "config"),
                "it vanished during the backup",
            )
        })?;
        // Another server may have begun the vault at the same time, and died before it copied its key.
        let (mut vault_keys, copied) = (files.intact_keys(), copies.intact_keys());
        vault_keys.retain(|key| copied.contains(key));
        let mut entry = CatalogueEntry {
            format_version: FORMAT_VERSION,
            name: task.name.clone(),
            store_id: self.store.identity().id.clone(),
            vault: self.record.vault.clone(),
            vault_config: config,
            vault_keys,
            job_id: task.job_id.clone(),
            run: self.record.run.clone(),
            site_name: task.site_name.clone(),
            release: task.release.clone(),
            description: task.description.clone(),
            schedule_type: task.schedule_type.clone(),
            status: if control.warning_count() > 0 { stages::WITH_WARNINGS } else { stages::COMPLETED }
                .to_owned(),
            start_time: self.record.started_at,
            complete_time: now_ms(),
            retention_date: task.retention_date,
            bytes_read: components.iter().map(|part| part.bytes).sum(),
            bytes_added: components.iter().map(|part| part.bytes_added).sum(),
            files_total: components.iter().map(|part| part.files).sum(),
            components,
            groups,
            ..CatalogueEntry::default()
        };
        entry.set_warnings(control.warnings(), control.warning_count());
        Ok(entry)
    }

    /// Cleans up after an error, as far as the store can be reached; what stays is cleaned by the next attempt or by
    /// `undo_backup`. Returns the entry if the backup had been committed after all.
    fn give_up(&self, error: &Error) -> Option<CatalogueEntry> {
        // Somebody else may be at work on this job: nothing here is ours to remove.
        if error.kind == ErrorKind::LeaseLost {
            return None;
        }
        match self.remove_traces(error) {
            Ok(committed) => committed,
            Err(e) => {
                tracing::warn!(job = %self.task.job_id, error = %e, "a failed backup could not be cleaned up yet");
                None
            }
        }
    }

    fn remove_traces(&self, error: &Error) -> Result<Option<CatalogueEntry>> {
        // The entry may still land if the answer to its creation was lost; so it is made void first.
        if self.committing
            && let Some(entry) = self.store.revoke(&self.record.run, &self.task.name)?
        {
            end_record(self.store, self.task);
            return Ok(Some(entry));
        }
        if let Some(repository) = &self.repository {
            undo::remove_snapshots_of_job(self.store, repository, &self.task.job_id)?;
        }
        if self.group_written {
            self.store.storage().delete(&layout::group_key(&self.record.run)).map_err(failure::storage)?;
        }
        self.store.still_running(&self.record)?;
        if error.kind == ErrorKind::NoSpace
            && let Some(repository) = &self.repository
        {
            leftovers::give_up(self.store, repository, &self.record)?;
        }
        self.store.storage().delete(&layout::running_key(&self.task.job_id)).map_err(failure::storage)?;
        Ok(None)
    }
}

/// Whether it was the protected content that could not be read, and not the store that failed.
fn is_about_the_source(error: &components::Error) -> bool {
    use components::ErrorKind as Part;
    error.source.is_none() && matches!(error.kind, Part::Missing | Part::Hook | Part::Io)
}
