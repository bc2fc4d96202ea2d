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
use crate::index::read_one;
use crate::pack_writer::PackWriter;
use crate::{Id, Index, Repository, Result};

/// Index files that name one of `packs`.
fn index_files_naming(index: &Index, packs: &HashSet<Id>) -> BTreeSet<Id> {
    let names = |listed: &Vec<Id>| listed.iter().any(|id| packs.contains(id));
    index.files().iter().filter(|(_, listed)| names(listed)).map(|(file, _)| *file).collect()
}

/// Lists once more what these index files say of all other packs.
fn list_others(
    repository: &Repository,
    writer: &PackWriter<'_>,
    files: &BTreeSet<Id>,
    but: &HashSet<Id>,
) -> Result<()> {
    for file in files {
        let text = read_one(repository.storage(), repository.key(), *file)?;
        for pack in text.packs.into_iter().chain(text.packs_to_delete) {
            if !but.contains(&pack.id) {
                writer.list(pack)?;
            }
        }
    }
    Ok(())
}

fn delete_index_files(repository: &Repository, files: impl IntoIterator<Item = Id>) -> Result<u64> {
    let mut removed = 0;
    for file in files {
        repository.storage().delete(&Folder::Index.key(file))?;
        removed += 1;
    }
    Ok(removed)
}
