//! Repair: makes the best of a damaged repository, in three steps that a person runs in this order.
//!
//! [`repair_index`] brings the index in line with the packs that are there. [`repair_packs`] saves the whole blobs of
//! damaged packs into new ones. [`repair_snapshots`] then takes out of the snapshots what is lost for good. Each first
//! adds what is new and only then removes what it replaces, so that a death at any instant loses nothing more.

mod index;
mod packs;
mod snapshots;

pub use index::{RepairIndexReport, RepairIndexRequest, repair_index};
pub use packs::{RepairPacksReport, copy_pack_file, repair_packs};
pub use snapshots::{RepairSnapshotsRequest, RepairedSnapshot, repair_snapshots};

use std::collections::{BTreeSet, HashSet};

use crate::file::Folder;
use crate::index::{BlobText, PackText, visit_index_file};
use crate::pack_writer::PackWriter;
use crate::{Id, Index, Lock, Repository, Result};

/// Index files that name one of `packs`.
fn index_files_naming(index: &Index, packs: &HashSet<Id>) -> BTreeSet<Id> {
    index
        .files()
        .filter_map(|(file, mut listed)| listed.any(|id| packs.contains(&id)).then_some(file))
        .collect()
}

/// Lists once more what these index files say of all other packs.
fn list_others(
    repository: &Repository,
    writer: &PackWriter<'_>,
    files: &BTreeSet<Id>,
    but: &HashSet<Id>,
) -> Result<()> {
    for file in files {
        visit_index_file(repository, *file, &mut |pack| {
            if but.contains(&pack.id) {
                return Ok(());
            }
            writer.list(PackText { id: pack.id, blobs: pack.blobs.iter().map(BlobText::from).collect() })
        })?;
    }
    Ok(())
}

fn delete_index_files(
    repository: &Repository,
    lock: &Lock,
    files: impl IntoIterator<Item = Id>,
) -> Result<u64> {
    lock.removing(files, |file| Ok(repository.storage().delete(&Folder::Index.key(file))?))
}
