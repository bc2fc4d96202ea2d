//! What a backup had stored that found no room for the rest is given back.
//!
//! Usually what dead backups left is of use to the next one. In a full store it is what keeps a smaller one out. So all
//! packs and index files that belong to no group go into one, with a record in `deleted/` beside it: from then on no
//! backup builds on them, and `reclaim` removes them by its own rules, which honour whoever had built on them before.

use repository::Repository;

use super::vault_view::VaultView;
use crate::Result;
use crate::clock::now_ms;
use crate::store::deletion::{Cause, DeletedRecord};
use crate::store::vaults::load_index;
use crate::store::{RunningRecord, Store, layout};

/// Gives up what no group of the record's vault lists. Nothing, if another backup is at work there: it may be just
/// writing it.
pub(super) fn give_up(store: &Store, repository: &Repository, record: &RunningRecord) -> Result<()> {
    let (running, damaged) = store.running_records()?;
    let is_other = |other: &RunningRecord| other.vault == record.vault && other.run != record.run;
    if !damaged.is_empty() || running.iter().any(is_other) {
        return Ok(());
    }
    let view = VaultView::load(store, repository, &record.vault)?;
    let group = view.group(repository, &load_index(repository, &|_| true)?)?;
    if group.is_empty() {
        return Ok(());
    }
    let id = layout::new_token();
    store.create_deleted_record(DeletedRecord {
        name: record.backup.clone(),
        run: record.run.clone(),
        vault: record.vault.clone(),
        snapshots: Vec::new(),
        groups: vec![id.clone()],
        deleted_at: now_ms(),
        cause: Cause::Unfinished,
        successors: Vec::new(),
    })?;
    store.create_group(&id, &group)
}
