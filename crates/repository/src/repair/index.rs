//! Brings the index in line with the packs that are there.
//!
//! A pack that no index file lists, or lists with a wrong size, is listed as its own header says. A pack that is gone
//! is listed no more. Index files that cannot be read, or say something wrong, go once new ones are stored; all others
//! stay as they are. A pack whose header does not open keeps what the index knew of it, for `repair packs`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{delete_index_files, index_files_naming, list_others};
use crate::file::Folder;
use crate::index::{BlobText, PackText};
use crate::pack::{pack_key, read_header_of};
use crate::pack_writer::PackWriter;
use crate::{
    Control, Error, ErrorKind, Finding, Id, Index, LockKind, LockOwner, Repository, Result, lock_mutex,
    parallel, threads,
};

/// How to repair the index.
#[derive(Clone, Copy, Debug, Default)]
pub struct RepairIndexRequest {
    /// Read the header of every pack, whatever the index says.
    pub read_all_packs: bool,
    /// Say what would be done, do nothing.
    pub dry_run: bool,
}

/// What a repair of the index did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairIndexReport {
    /// Packs that were in no index.
    pub packs_added: u64,
    /// Packs that were listed wrongly, or read again because that was asked for.
    pub packs_listed_anew: u64,
    /// Packs that the index listed and that are gone.
    pub packs_missing: Vec<Id>,
    /// Index files that were written.
    pub files_written: u64,
    /// Index files that were removed.
    pub files_removed: u64,
    /// Index files that could not be read.
    pub files_unreadable: Vec<Id>,
    /// Packs whose header cannot be read.
    pub damaged: Vec<Finding>,
}

/// Repairs the index under the exclusive lock, which it takes itself.
pub fn repair_index(
    repository: &Repository,
    owner: &LockOwner,
    request: RepairIndexRequest,
    control: &Control,
) -> Result<RepairIndexReport> {
    repository.check_removal()?;
    let lock = repository.lock(LockKind::Exclusive, owner)?;
    let mut report = RepairIndexReport::default();
    let (index, damaged) = Index::load_lenient(repository)?;
    report.files_unreadable = damaged.into_iter().map(|(id, _)| id).collect();
    let known = index.packs();
    let stored = repository.list_packs()?;
    if stored.is_empty() && !known.is_empty() {
        let message = "nothing was changed: the index lists packs and not a single one is there; is the place mounted as it should be?";
        return Err(Error::new(ErrorKind::Damaged, message));
    }
    report.packs_missing = known.keys().filter(|id| !stored.contains_key(*id)).copied().collect();
    report.packs_missing.sort_unstable();

    let writer = PackWriter::new(repository, control);
    let headers = Headers { repository, control, known: &known, stored: &stored };
    let read_anew = headers.list(request, &writer, &mut report)?;
    let mut outdated: HashSet<Id> = read_anew;
    outdated.extend(&report.packs_missing);
    let wrong = index_files_naming(&index, &outdated);
    let stale: BTreeSet<Id> = wrong.iter().chain(&report.files_unreadable).copied().collect();
    if request.dry_run {
        report.files_removed = stale.len() as u64;
        return Ok(report);
    }
    list_others(repository, &writer, &wrong, &outdated)?;
    report.files_written = writer.finish()?.indexes.len() as u64;
    report.files_removed = delete_index_files(repository, &lock, stale)?;
    Ok(report)
}

struct Headers<'a> {
    repository: &'a Repository,
    control: &'a Control,
    /// Size of each pack by the index, and by the listing.
    known: &'a HashMap<Id, u64>,
    stored: &'a HashMap<Id, u64>,
}

impl Headers<'_> {
    /// Reads the headers of the packs that the index does not know right, and lists these packs. Returns those that
    /// the index knew and that are listed anew.
    fn list(
        &self,
        request: RepairIndexRequest,
        writer: &PackWriter<'_>,
        report: &mut RepairIndexReport,
    ) -> Result<HashSet<Id>> {
        let wanted = |(id, size): &(&Id, &u64)| request.read_all_packs || self.known.get(*id) != Some(*size);
        let mut packs: Vec<(Id, u64)> =
            self.stored.iter().filter(wanted).map(|(id, size)| (*id, *size)).collect();
        packs.sort_unstable();
        self.control.progress.files_total.store(packs.len() as u64, Ordering::Relaxed);
        let next = AtomicUsize::new(0);
        let (read, damaged) = (Mutex::new(HashSet::new()), Mutex::new(Vec::new()));
        parallel(threads(), packs.len(), || {
            while let Some((id, size)) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.control.check()?;
                match read_header_of(self.repository, *id, *size)? {
                    Ok(blobs) => {
                        if !request.dry_run {
                            writer.list(PackText {
                                id: *id,
                                blobs: blobs.iter().map(BlobText::from).collect(),
                            })?;
                        }
                        lock_mutex(&read).insert(*id);
                    }
                    Err(problem) => lock_mutex(&damaged).push(Finding { file: pack_key(*id), problem }),
                }
                self.control.progress.file_done();
            }
            Ok(())
        })?;
        report.damaged = damaged.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        report.damaged.sort_by(|a, b| a.file.cmp(&b.file));
        let mut read = read.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let all = read.len();
        read.retain(|id| self.known.contains_key(id));
        report.packs_listed_anew = read.len() as u64;
        report.packs_added = (all - read.len()) as u64;
        Ok(read)
    }
}

impl RepairIndexReport {
    /// Whether the index was as it should be.
    pub fn was_right(&self) -> bool {
        self.packs_added == 0 && self.files_removed == 0 && self.damaged.is_empty()
    }

    /// Keys of the index files that could not be read.
    pub fn unreadable_keys(&self) -> impl Iterator<Item = String> + use<'_> {
        self.files_unreadable.iter().map(|id| Folder::Index.key(*id))
    }
}
