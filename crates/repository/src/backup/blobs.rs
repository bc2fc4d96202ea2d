//! Which blobs are known, and what becomes of those that are not.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

use super::BackupRequest;
use crate::index::PackMarks;
use crate::pack::BlobKind;
use crate::pack_writer::{PackWriter, Plain, Sealer};
use crate::repository::Opener;
use crate::{Control, ErrorKind, Id, Index, Repository, Result, Summary, lock_mutex};

/// New blobs are remembered in so many sets, so that threads seldom meet at one.
const SHARDS: usize = 64;

/// Figures of the running backup.
#[derive(Default)]
pub(super) struct Figures {
    pub(super) files_new: AtomicU64,
    pub(super) files_changed: AtomicU64,
    pub(super) files_unmodified: AtomicU64,
    pub(super) dirs_new: AtomicU64,
    pub(super) dirs_changed: AtomicU64,
    pub(super) dirs_unmodified: AtomicU64,
    data_blobs: AtomicU64,
    tree_blobs: AtomicU64,
    data_added: AtomicU64,
    data_added_packed: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// Counts one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Stores blobs that are not known yet, and marks the packs of those that are.
pub(super) struct BlobStore<'a> {
    pub(super) repository: &'a Repository,
    pub(super) index: &'a Index,
    pub(super) writer: &'a PackWriter<'a>,
    pub(super) control: &'a Control,
    pub(super) figures: Figures,
    pub(super) force: bool,
    pub(super) timeless_way: bool,
    pub(super) ignore_inode: bool,
    pub(super) ignore_ctime: bool,
    request: &'a BackupRequest,
    marks: PackMarks,
    /// Packs that turned out to be damaged: what lies in them is stored again.
    doubted: RwLock<HashSet<u32>>,
    new: Vec<Mutex<HashSet<(BlobKind, Id)>>>,
}

impl<'a> BlobStore<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        index: &'a Index,
        writer: &'a PackWriter<'a>,
        control: &'a Control,
        request: &'a BackupRequest,
    ) -> Self {
        Self {
            repository,
            index,
            writer,
            control,
            figures: Figures::default(),
            force: request.force,
            timeless_way: request.timeless_way,
            ignore_inode: request.ignore_inode,
            ignore_ctime: request.ignore_ctime || request.ignore_inode,
            request,
            marks: PackMarks::new(index),
            doubted: RwLock::default(),
            new: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// A sealer for one thread.
    pub(super) fn sealer(&self) -> Result<Sealer> {
        Sealer::new(self.request.compression, self.request.verify)
    }

    /// Is this blob stored already? Then its pack counts as used.
    pub(super) fn is_known(&self, kind: BlobKind, id: &Id) -> Result<bool> {
        let Some(place) = self.index.usable_place(kind, id)? else { return Ok(false) };
        // Only listings are read back, so only they can be found damaged: nothing is asked of the many other blobs.
        if kind == BlobKind::Tree && self.doubted().contains(&place.pack) {
            return Ok(false);
        }
        self.marks.mark(&place);
        Ok(true)
    }

    /// No listing that lies in this one's pack counts as stored any more.
    pub(super) fn doubt(&self, tree: &Id) -> Result<()> {
        if let Some(place) = self.index.usable_place(BlobKind::Tree, tree)? {
            self.doubted.write().unwrap_or_else(PoisonError::into_inner).insert(place.pack);
        }
        Ok(())
    }

    /// Once a listing was found damaged, what lies below it was not read: then every listing is, before it counts.
    fn is_lost(&self, kind: BlobKind, id: &Id) -> Result<bool> {
        if kind != BlobKind::Tree || self.doubted().is_empty() {
            return Ok(false);
        }
        match self.repository.read_blob(self.index, kind, *id, &mut Opener::new()?) {
            Err(e) if e.kind == ErrorKind::Damaged => self.doubt(id).map(|()| true),
            other => other.map(|_| false),
        }
    }

    fn doubted(&self) -> RwLockReadGuard<'_, HashSet<u32>> {
        self.doubted.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a blob unless it is known, or new in this very run; returns its id.
    pub(super) fn store(&self, sealer: &mut Sealer, kind: BlobKind, plain: &[u8]) -> Result<Id> {
        self.store_plain(sealer, kind, &Plain::new(plain))
    }

    /// The same for one that is hashed already.
    pub(super) fn store_plain(&self, sealer: &mut Sealer, kind: BlobKind, plain: &Plain<'_>) -> Result<Id> {
        let id = plain.id;
        if (!self.is_lost(kind, &id)? && self.is_known(kind, &id)?)
            || !lock_mutex(&self.new[usize::from(id.0[31]) % SHARDS]).insert((kind, id))
        {
            return Ok(id);
        }
        count(if kind == BlobKind::Tree { &self.figures.tree_blobs } else { &self.figures.data_blobs });
        self.figures.data_added.fetch_add(plain.bytes.len() as u64, Ordering::Relaxed);
        if !self.request.dry_run {
            let packed = sealer.store(self.writer, kind, plain)?;
            self.figures.data_added_packed.fetch_add(packed, Ordering::Relaxed);
        }
        Ok(id)
    }

    /// The packs of known blobs that were used, and the figures.
    pub(super) fn finish(&self) -> (Vec<Id>, Summary) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let f = &self.figures;
        let (new, changed, same) = (read(&f.files_new), read(&f.files_changed), read(&f.files_unmodified));
        let summary = Summary {
            files_new: new,
            files_changed: changed,
            files_unmodified: same,
            dirs_new: read(&f.dirs_new),
            dirs_changed: read(&f.dirs_changed),
            dirs_unmodified: read(&f.dirs_unmodified),
            data_blobs: read(&f.data_blobs),
            tree_blobs: read(&f.tree_blobs),
            data_added: read(&f.data_added),
            data_added_packed: read(&f.data_added_packed),
            total_files_processed: new + changed + same,
            total_bytes_processed: read(&f.bytes),
            ..Summary::default()
        };
        (self.marks.marked(self.index).collect(), summary)
    }
}
