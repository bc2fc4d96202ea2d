//! Taking back what a backup left that did not come to its entry.

use std::collections::HashSet;

use repository::{Id, Repository, Snapshot};

use super::BackupTask;
use crate::Result;
use crate::store::sealed::Found;
use crate::store::{Store, failure, layout};

const JOB_TAG: &str = "job=";
const BACKUP_TAG: &str = "backup=";

/// The tag that ties a snapshot to the job that made it.
pub(super) fn job_tag(job_id: &str) -> String {
    format!("{JOB_TAG}{job_id}")
}

/// After a cancelled or failed job, or one that is given up after a kill: runs the components' `after_backup` hooks,
/// takes from the job's run the right to commit, and removes its snapshots, group and running record. A backup that
/// had been committed stays.
pub fn undo_backup(store: &Store, task: &BackupTask) -> Result<()> {
    for component in &task.components {
        if let Err(error) = component.after_backup() {
            tracing::warn!(component = component.name(), %error, "an after_backup hook failed while a backup was undone");
        }
    }
    if store.backup(&task.name)?.is_some_and(|entry| entry.job_id == task.job_id) {
        return store.storage().delete(&layout::running_key(&task.job_id)).map_err(failure::storage);
    }
    let run = match store.read_running(&task.job_id)? {
        Found::Good(record, _) => Some(record.run),
        Found::Missing | Found::Damaged(..) => None,
    };
    if let Some(run) = &run
        && store.revoke(run, &task.name)?.is_some()
    {
        return store.storage().delete(&layout::running_key(&task.job_id)).map_err(failure::storage);
    }
    let vault = store.vault_of(&task.passcode)?;
    let config = store.storage().head(&layout::vault_key(&vault, "config")).map_err(failure::storage)?;
    if config.is_some() {
        let repository = store.open_or_make_vault(&vault, &task.passcode, task.cost)?;
        // Of a job that is given up after a kill; one that failed has taken its lock away itself.
        repository
            .break_locks_of(&task.server_id)
            .map_err(|e| failure::engine("cannot clear the locks of a killed backup", e))?;
        remove_snapshots_of_job(store, &repository, &task.job_id)?;
    }
    if let Some(run) = run {
        store.storage().delete(&layout::group_key(&run)).map_err(failure::storage)?;
    }
    store.storage().delete(&layout::running_key(&task.job_id)).map_err(failure::storage)
}

/// Removes the snapshots that this job made and that neither catalogue nor deletions name.
pub(super) fn remove_snapshots_of_job(store: &Store, repository: &Repository, job_id: &str) -> Result<()> {
    let snapshots = snapshots(repository)?;
    let tag = job_tag(job_id);
    let named = named_snapshots(store)?.0;
    for (id, _) in snapshots.iter().filter(|(id, s)| s.tags.contains(&tag) && !named.contains(id)) {
        delete(repository, *id)?;
    }
    Ok(())
}

/// Removes the snapshots of backups that died, this job's own earlier attempts among them: those that were made by a
/// job and that nothing accounts for: no entry, no deletion, no running record of another job. Somebody's own
/// snapshots have no job and stay.
///
/// Snapshots are listed first, then running records, then the catalogue: what a backup wrote before the first look is
/// then accounted for by its record, or by its entry. If any of these is damaged, only this job's own go.
///
/// They stay too while the vault has a group that speaks of a backup whose entry is lost: one of them may be that one's.
pub(super) fn remove_stale_snapshots(
    store: &Store,
    repository: &Repository,
    vault: &str,
    job_id: &str,
) -> Result<()> {
    let snapshots = snapshots(repository)?;
    // The vault counts as at work by now, with this job's own record.
    let lost = store.lost_groups_beside(job_id)?;
    let (running, damaged) = store.running_records()?;
    let (named, complete) = named_snapshots(store)?;
    let all_known = complete && damaged.is_empty() && !lost.iter().any(|(_, of)| of == vault);
    let at_work: HashSet<String> = running
        .iter()
        .filter(|record| record.job_id != job_id)
        .map(|record| job_tag(&record.job_id))
        .collect();
    let own = job_tag(job_id);
    for (id, snapshot) in snapshots.iter().filter(|(id, _)| !named.contains(id)) {
        let Some(job) = made_by_a_job(snapshot) else { continue };
        if *job == own || (all_known && !at_work.contains(job)) {
            delete(repository, *id)?;
        }
    }
    Ok(())
}

fn made_by_a_job(snapshot: &Snapshot) -> Option<&String> {
    snapshot.tags.iter().find(|tag| tag.starts_with(BACKUP_TAG))?;
    snapshot.tags.iter().find(|tag| tag.starts_with(JOB_TAG))
}

fn snapshots(repository: &Repository) -> Result<Vec<(Id, Snapshot)>> {
    let listed =
        repository.snapshots().map_err(|e| failure::engine("cannot list the snapshots of the vault", e))?;
    Ok(listed.0)
}

/// What the catalogue and the deletions name, and whether both could be read completely.
fn named_snapshots(store: &Store) -> Result<(HashSet<Id>, bool)> {
    let catalogue = store.catalogue()?;
    let (deleted, damaged) = store.deleted_records()?;
    let mut named: HashSet<Id> = catalogue.entries.iter().flat_map(|entry| entry.snapshots()).collect();
    named.extend(deleted.iter().flat_map(|(_, record)| &record.snapshots));
    Ok((named, catalogue.findings.is_empty() && damaged.is_empty()))
}

fn delete(repository: &Repository, id: Id) -> Result<()> {
    match repository.delete_snapshot(id) {
        Err(e) if e.kind != repository::ErrorKind::NotFound => {
            Err(failure::engine("cannot remove the snapshot of a backup that was not completed", e))
        }
        _ => Ok(()),
    }
}
