//! Locks that a killed job left in a vault. Until they are stale, half an hour later, they would keep restic clients
//! and reclaiming out. All of this is best effort: what stays becomes stale by itself.

use repository::Repository;

use super::{BackupTask, RestoreTask};
use crate::Result;
use crate::store::Store;

/// The name under which a restore locks its vault.
pub(super) fn name_of_restore(job_id: &str) -> String {
    format!("strongroom/{job_id}")
}

/// Clears the lock of a backup that is not run again: it turned out to be committed.
pub(super) fn clear_after_backup(store: &Store, task: &BackupTask) {
    let vault = store
        .vault_of(&task.passcode)
        .and_then(|vault| store.open_or_make_vault(&vault, &task.passcode, task.cost));
    clear(vault, &task.server_id);
}

/// Clears the lock of a restore that is not run again after a kill: it turned out to be finished, or was given up.
pub fn clear_after_restore(store: &Store, task: &RestoreTask) {
    let vault = store
        .backup(&task.name)
        .and_then(|entry| entry.map(|entry| store.open_vault(&entry, &task.passcode)).transpose());
    if let Some(vault) = vault.transpose() {
        clear(vault, &name_of_restore(&task.job_id));
    }
}

/// Clears what dead processes left under this name.
fn clear(vault: Result<Repository>, name: &str) {
    let cleared = match vault {
        Ok(vault) => vault.break_locks_of(name).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = cleared {
        tracing::warn!(name, "the lock of a killed job stays in its vault until it is stale: {error}");
    }
}
