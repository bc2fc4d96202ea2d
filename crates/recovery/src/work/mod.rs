//! What a job does: backup, restore, verification, scrub. All of it blocks, knows a store and components, and nothing
//! of the server's state; whoever runs it (the server's jobs, the rescue command) watches through
//! [`repository::Control`] and [`StageSink`].
//!
//! Each work may be killed at any instant and run again under the same job id:
//!
//! * a **backup** is visible once its catalogue entry exists and not before (see `store` for the order of files);
//!   run again it returns the entry if it had got that far, else it starts anew and reuses the packs it had stored;
//! * a **restore** changes nothing before all components are staged; then each is swapped under its own journal, and
//!   [`recover_restore`] finishes or undoes what a kill left;
//! * a **replication** copies whole backups, each with its entry last; run again it goes on;
//! * a **drill** restores into scratch, which it removes again, and writes a report;
//! * **verification** and **scrub** change nothing.

mod backup;
mod check;
mod compaction;
mod drill;
mod entry_files;
mod leftovers;
mod locks;
mod replicate;
mod restore;
mod scrub;
mod stages;
mod undo;
mod vault_view;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use components::Component;
use repository::{Compression, Cost, Passcode, Warning};

use crate::Selection;

pub use backup::run_backup;
pub use check::verify_backup;
pub use drill::{DrillTask, run_drill};
pub use locks::clear_after_restore;
pub use replicate::{Replicated, replicate};
pub use restore::{check_portions, check_restore, recover_restore, run_restore};
pub use scrub::scrub;
pub use stages::StageSink;
pub use undo::undo_backup;

/// A backup to make.
#[derive(Clone, Debug)]
pub struct BackupTask {
    /// The job; also names the running record.
    pub job_id: String,
    /// Tells this server from all others: a host's name, a slash and a unique part.
    pub server_id: String,
    /// Who asked for it.
    pub username: String,
    /// The backup's name.
    pub name: String,
    /// The store's name, for messages.
    pub store_name: String,
    /// Free text.
    pub description: String,
    /// From when it may be cleaned; -1 = never.
    pub retention_date: i64,
    /// What seals it.
    pub passcode: Passcode,
    /// What is backed up.
    pub components: Vec<Arc<dyn Component>>,
    /// The deployment's name.
    pub site_name: String,
    /// The release that makes it.
    pub release: String,
    /// `MANUAL` or `SCHEDULED`.
    pub schedule_type: String,
    /// How hard to compress.
    pub compression: Compression,
    /// scrypt cost of a new vault.
    pub cost: Cost,
}

/// A backup to restore.
#[derive(Clone, Debug)]
pub struct RestoreTask {
    /// The job; also names the staging places and journals.
    pub job_id: String,
    /// The backup's name.
    pub name: String,
    /// The store's name, for messages.
    pub store_name: String,
    /// The passcode of its creation.
    pub passcode: Passcode,
    /// The configured components.
    pub components: Vec<Arc<dyn Component>>,
    /// What is restored.
    pub selection: Selection,
}

/// What a restore did.
#[derive(Clone, Debug, Default)]
pub struct RestoreDone {
    /// Files restored.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Bytes of them that were at hand and had not to be fetched.
    pub bytes_reused: u64,
    /// What is not in the backup or was not restored as it was.
    pub warnings: Vec<Warning>,
}
