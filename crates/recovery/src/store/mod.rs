//! What lies in a store, and every change of it. All calls block; nothing here knows jobs or the server's state.
//!
//! A store describes itself: whoever has it and the passcodes needs nothing else. These files, in this order, make
//! and unmake a backup; each is created once, and the few that change do so by conditional put:
//!
//! | step | file | a crash right after it leaves | cleaned by |
//! |---|---|---|---|
//! | begin | `running/<job>.json` | a record that holds deletion back | the job's next attempt, or `undo_backup` |
//! | vault | `vaults/<id>/keys`, `config`, `copies/…` | an empty vault | nobody need, the next backup uses it |
//! | data | packs, then index files, then snapshots of the vault | packs and snapshots that no entry names | the next backup there takes packs and indexes over and removes the snapshots |
//! | group | `groups/<run>` | a group that no entry names | `reclaim`; its packs count as in no group |
//! | **commit** | `backups/<name>.json` | a complete backup | the record: the job's next attempt, or `reclaim` |
//! | compaction | `running/<job>.json` with a new run; packs, index files | packs that no entry needs | the next backup there takes them over and compacts again |
//! | | `deleted/compaction.<time>.json`, new `groups/<token>` | groups that no entry names | `reclaim`, as the record names them |
//! | | entries name old and new groups, then new ones alone | entries that name more groups than they need | the next compaction |
//! | drill | `reports/<name>/<time>.<outcome>.json` | a report | nobody |
//! | end | `running/<job>.json` removed | nothing | |
//! | delete | `deleted/<name>.<time>.json` | the backup as it was | the repeated deletion |
//! | **deleted** | `backups/<name>.json` removed | snapshots and packs without entry | `reclaim`, after the grace |
//! | reclaim | snapshots, indexes, packs, groups, `waste/<vault>.json`, the record | some of these | the next `reclaim` |
//!
//! What must hold at every instant:
//!
//! * An entry in the catalogue names groups that exist and list every pack that its snapshots need.
//! * A backup never uses a pack of a group that a deletion names, unless a living entry names a group with it too.
//! * Groups whose entry is gone, and packs that only they list, never come to life again.
//! * An attempt that was given up by others cannot commit any more (`revoked/<run>.json`, see `running`).
//! * The catalogue is public and anyone who can write to the store can forge it; so with the passcode at hand an
//!   entry counts only if its MAC matches.

pub(crate) mod cache;
pub(crate) mod catalogue;
mod copy;
pub(crate) mod deletion;
pub(crate) mod failure;
pub(crate) mod groups;
pub(crate) mod identity;
pub(crate) mod layout;
pub(crate) mod lost;
mod mended;
pub(crate) mod owner;
mod parallel;
mod probe;
mod reclaim;
mod regroup;
pub(crate) mod reports;
pub(crate) mod running;
pub(crate) mod sealed;
pub(crate) mod vaults;
mod waste;

use std::sync::Arc;

pub use catalogue::{CatalogueEntry, EntryComponent};
pub use identity::{FORMAT_VERSION, StoreIdentity};
pub use owner::Owner;
pub use reclaim::ReclaimReport;
pub use running::RunningRecord;

/// An open store; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    storage: storage::Shared,
    identity: Arc<StoreIdentity>,
}

impl Store {
    /// What the store says of itself.
    pub fn identity(&self) -> &StoreIdentity {
        &self.identity
    }

    /// Where it lies.
    pub fn storage(&self) -> &storage::Shared {
        &self.storage
    }

    /// The same store behind another view of the same place, like one that guards writes by a lease.
    pub fn with_storage(&self, storage: storage::Shared) -> Store {
        Store { storage, identity: Arc::clone(&self.identity) }
    }
}
