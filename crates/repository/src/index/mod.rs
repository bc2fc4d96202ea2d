//! The index: where each blob lies.
//!
//! Index files are read in parallel, pack by pack ([`text`]). Their entries, 48 bytes each, are put in order
//! ([`build`]): in one array in memory while there are few, else in a file of sealed pages of which little is in
//! memory ([`sorted`], [`pages`]), so that memory does not grow with the repository. Where there is a directory for
//! it, that file is kept for the next time ([`cache`]). One blob may lie in several packs; a damaged copy falls back
//! on the next one.

mod build;
mod cache;
mod entry;
mod filter;
mod marks;
mod packs;
mod pages;
mod sorted;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::file::{self, Folder};
use crate::pack::{BlobKind, PackedBlob};
use crate::{Error, ErrorKind, Id, Repository, Result, lock_mutex};
use build::Builder;
pub(crate) use build::IN_MEMORY_MAX;
use cache::Cache;
pub(crate) use entry::{Entry, Place};
pub(crate) use marks::{Bits, PackMarks};
use packs::{Listed, Listings, Packs};
use pages::PageFile;
use sorted::{InMemory, Next, Sorted};
pub(crate) use text::{BLOBS_PER_FILE_MAX, BlobText, IndexText, ListedPack, PackText, visit_packs};

/// Threads that read index files; each holds the text of one.
const READERS_MAX: usize = 4;
/// An index file has about so many bytes for each blob, as an id does not compress.
const FILE_BYTES_PER_BLOB: u64 = 40;

/// Everything that the index files say.
pub struct Index {
    packs: Packs,
    /// May a new backup refer to the pack?
    usable: Vec<bool>,
    entries: Sorted,
}

/// Index files that are damaged, each with what is wrong.
type Unreadable = Vec<(Id, Error)>;

/// What to do about index files that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Nothing but the whole index will do.
    Strict,
    /// They are left out and named.
    Lenient,
}

impl Index {
    /// An index of nothing.
    pub fn empty() -> Self {
        Self {
            packs: Packs::default(),
            usable: Vec::new(),
            entries: Sorted::Memory(InMemory::new(Vec::new())),
        }
    }

    /// Reads all index files, or what the cache keeps of them. Blobs in packs that `usable` refuses can be read, but
    /// count as unknown in backups.
    pub(crate) fn load(repository: &Repository, usable: &dyn Fn(Id) -> bool) -> Result<Self> {
        let cache = repository.cache().map(|dir| Cache::new(dir, repository));
        let loading = Loading::new(repository, cache, IN_MEMORY_MAX);
        loading.load().map(|(packs, entries)| Self::new(packs, entries, usable))
    }

    /// Reads all index files themselves: for whoever removes things, or looks for damage.
    pub(crate) fn load_fresh(repository: &Repository) -> Result<Self> {
        let loading = Loading::new(repository, None, IN_MEMORY_MAX);
        loading.load().map(|(packs, entries)| Self::new(packs, entries, &|_| true))
    }

    /// Like [`Index::load_fresh`], but names index files that are damaged instead of failing.
    pub(crate) fn load_lenient(repository: &Repository) -> Result<(Self, Unreadable)> {
        let loading = Loading::new(repository, None, IN_MEMORY_MAX);
        let files = file::list(repository.storage(), Folder::Index)?;
        let (packs, entries, damaged) = loading.read(&files, None, Reading::Lenient)?;
        Ok((Self::new(packs, entries, &|_| true), damaged))
    }

    fn new(packs: Packs, entries: Sorted, usable: &dyn Fn(Id) -> bool) -> Self {
        let usable = packs.ids.iter().zip(&packs.doomed).map(|(id, doomed)| !doomed && usable(*id)).collect();
        Self { packs, usable, entries }
    }

    /// Refuses packs as [`Index::load`] does, by what `is_whole` says of each and its size; returns those.
    pub(crate) fn refuse_packs(&mut self, is_whole: impl Fn(&Id, u64) -> bool) -> Vec<Id> {
        let mut refused = Vec::new();
        for ((id, size), usable) in self.packs.ids.iter().zip(&self.packs.sizes).zip(&mut self.usable) {
            if *usable && !is_whole(id, *size) {
                *usable = false;
                refused.push(*id);
            }
        }
        refused
    }

    /// Every copy of a blob.
    pub(crate) fn places(&self, kind: BlobKind, id: &Id) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        self.entries.copies(kind, id, &mut |_, entry| {
            places.push(entry.place());
            Next::More
        })?;
        Ok(places)
    }

    /// The first copy of a blob.
    pub(crate) fn place(&self, kind: BlobKind, id: &Id) -> Result<Option<Place>> {
        Ok(self.first(kind, id)?.map(|(_, place)| place))
    }

    /// The first copy of a blob, and the number that stands for the blob.
    pub(crate) fn first(&self, kind: BlobKind, id: &Id) -> Result<Option<(u64, Place)>> {
        let mut first = None;
        self.entries.copies(kind, id, &mut |number, entry| {
            first = Some((number, entry.place()));
            Next::Enough
        })?;
        Ok(first)
    }

    /// The first copy that a new backup may refer to.
    pub(crate) fn usable_place(&self, kind: BlobKind, id: &Id) -> Result<Option<Place>> {
        let mut found = None;
        self.entries.copies(kind, id, &mut |_, entry| {
            if self.usable[entry.pack as usize] {
                found = Some(entry.place());
                return Next::Enough;
            }
            Next::More
        })?;
        Ok(found)
    }

    /// Does the index list exactly this blob in the pack?
    pub(crate) fn lists(&self, pack: u32, blob: &PackedBlob) -> Result<bool> {
        let mut listed = false;
        self.entries.copies(blob.kind, &blob.id, &mut |_, entry| {
            listed = entry.pack == pack && entry.packed() == *blob;
            if listed { Next::Enough } else { Next::More }
        })?;
        Ok(listed)
    }

    /// Shows all blobs in order of their ids: the number that stands for the blob, and its copies.
    pub(crate) fn blobs(&self, visit: &mut dyn FnMut(u64, &[Entry]) -> Result<()>) -> Result<()> {
        let mut held: (u64, Vec<Entry>) = (0, Vec::new());
        self.entries.pieces(&mut |number, piece| {
            let mut number = number;
            for copies in piece.chunk_by(|a, b| (a.id, a.kind()) == (b.id, b.kind())) {
                // The copies of a blob may go over the end of a piece.
                if held.1.first().is_some_and(|e| (e.id, e.kind()) != (copies[0].id, copies[0].kind())) {
                    visit(held.0, &held.1)?;
                    held.1.clear();
                }
                if held.1.is_empty() {
                    held.0 = number;
                }
                held.1.extend_from_slice(copies);
                number += copies.len() as u64;
            }
            Ok(())
        })?;
        if held.1.is_empty() { Ok(()) } else { visit(held.0, &held.1) }
    }

    /// What is listed of these packs, in order of offsets.
    pub(crate) fn blobs_of(&self, packs: &HashSet<Id>) -> Result<HashMap<Id, Vec<PackedBlob>>> {
        let known = packs.iter().filter(|id| self.pack_number(id).is_some());
        let mut found: HashMap<Id, Vec<PackedBlob>> = known.map(|id| (*id, Vec::new())).collect();
        self.entries.pieces(&mut |_, piece| {
            for entry in piece {
                if let Some(blobs) = found.get_mut(&self.pack_id(entry.pack)) {
                    blobs.push(entry.packed());
                }
            }
            Ok(())
        })?;
        for blobs in found.values_mut() {
            blobs.sort_unstable_by_key(|blob| blob.offset);
        }
        Ok(found)
    }

    /// The id of a pack. Packs are numbered in order of their ids.
    pub(crate) fn pack_id(&self, number: u32) -> Id {
        self.packs.ids[number as usize]
    }

    /// The number of a pack.
    pub(crate) fn pack_number(&self, id: &Id) -> Option<u32> {
        self.packs.number(id)
    }

    /// The size of a pack as its blobs add up to.
    pub(crate) fn pack_size(&self, number: u32) -> u64 {
        self.packs.sizes[number as usize]
    }

    /// How many blobs of a pack are listed.
    pub(crate) fn blobs_in_pack(&self, number: u32) -> u32 {
        self.packs.counts[number as usize]
    }

    /// Does an index file say that the pack will go?
    pub(crate) fn is_doomed(&self, number: u32) -> bool {
        self.packs.doomed[number as usize]
    }

    pub(crate) fn pack_count(&self) -> usize {
        self.packs.ids.len()
    }

    /// For each index file its id and the packs that it lists.
    pub fn files(&self) -> impl Iterator<Item = (Id, impl Iterator<Item = Id> + '_)> + '_ {
        let id = |number: &u32| self.pack_id(*number);
        self.packs.files.iter().map(move |(file, numbers)| (*file, numbers.iter().map(id)))
    }

    /// For each index file its id and the numbers of the packs that it lists.
    pub(crate) fn numbered_files(&self) -> impl Iterator<Item = (Id, &[u32])> + '_ {
        self.packs.files.iter().map(|(file, numbers)| (*file, &numbers[..]))
    }

    /// All packs with the size that the index reckons.
    pub fn packs(&self) -> HashMap<Id, u64> {
        self.packs.ids.iter().copied().zip(self.packs.sizes.iter().copied()).collect()
    }

    /// How many blobs are listed, copies included.
    pub fn blob_count(&self) -> u64 {
        self.entries.count()
    }
}

/// How an index is loaded.
struct Loading<'a> {
    repository: &'a Repository,
    cache: Option<Cache>,
    /// Large temporary files lie there, if that works.
    beside: Option<&'a Path>,
    in_memory_max: usize,
}

impl<'a> Loading<'a> {
    fn new(repository: &'a Repository, cache: Option<Cache>, in_memory_max: usize) -> Self {
        Self { repository, cache, beside: repository.cache(), in_memory_max }
    }

    fn load(&self) -> Result<(Packs, Sorted)> {
        let mut files = file::list(self.repository.storage(), Folder::Index)?;
        let kept = self.cache.as_ref().and_then(Cache::open).filter(|(packs, _)| {
            packs.files.keys().all(|id| files.binary_search_by_key(id, |(id, _)| *id).is_ok())
        });
        if let Some(kept) = kept {
            files.retain(|(id, _)| !kept.0.files.contains_key(id));
            if files.is_empty() {
                return Ok((kept.0, Sorted::File(kept.1)));
            }
            match self.read(&files, Some(&kept), Reading::Strict) {
                Ok((packs, entries, _)) => return Ok((packs, entries)),
                // A damaged cache: without it then, from the index files alone.
                Err(e) if is_local(&e) => {
                    if let Some(cache) = &self.cache
                        && !kept.1.is_whole()
                    {
                        cache.remove();
                    }
                    files = file::list(self.repository.storage(), Folder::Index)?;
                }
                Err(e) => return Err(e),
            }
        }
        let (packs, entries, _) = self.read(&files, None, Reading::Strict)?;
        Ok((packs, entries))
    }

    /// Reads these index files, and adds them to what is there. Where the disk with the cache is full or broken, once
    /// more without it: nothing is kept then.
    fn read(
        &self,
        files: &[(Id, u64)],
        base: Option<&(Packs, sorted::InFile)>,
        reading: Reading,
    ) -> Result<(Packs, Sorted, Unreadable)> {
        match self.read_once(files, base, reading) {
            Err(e) if self.beside.is_some() && is_local(&e) => {
                Self { cache: None, beside: None, ..*self }.read_once(files, base, reading)
            }
            other => other,
        }
    }

    fn read_once(
        &self,
        files: &[(Id, u64)],
        base: Option<&(Packs, sorted::InFile)>,
        reading: Reading,
    ) -> Result<(Packs, Sorted, Unreadable)> {
        let bytes: u64 = files.iter().map(|(_, size)| size).sum();
        let scratch = || self.scratch();
        let builder = Builder::new(&scratch, bytes / FILE_BYTES_PER_BLOB, self.in_memory_max);
        let listings = Mutex::new(base.map(|(packs, _)| Listings::after(packs)).unwrap_or_default());
        let base = base.map(|(_, entries)| entries);
        let (next, damaged) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        crate::parallel(crate::threads().min(READERS_MAX), files.len(), || {
            let mut entries = Vec::new();
            while let Some((file, _)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                match read_file(self.repository, *file, &listings, &builder, &mut entries) {
                    Err(e) if reading == Reading::Lenient && e.kind == ErrorKind::Damaged => {
                        lock_mutex(&damaged).push((*file, e));
                    }
                    other => other?,
                }
            }
            Ok(())
        })?;
        let listings = listings.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (mut packs, number_of) = listings.finish();
        let target = || match &self.cache {
            // Where nothing can be kept, the work goes on without.
            Some(cache) => cache.create().or_else(|_| self.scratch()),
            None => self.scratch(),
        };
        let entries = builder.finish(base, &number_of, &mut packs, &target)?;
        if let Some(cache) = &self.cache {
            // What cannot be kept is read again the next time.
            let _ = cache::keep(cache, &packs, &entries);
        }
        let mut damaged = damaged.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        damaged.sort_unstable_by_key(|(id, _)| *id);
        Ok((packs, entries, damaged))
    }

    /// A file without a name: beside the cache, else where large temporary files belong. `/tmp` is often memory.
    fn scratch(&self) -> Result<PageFile> {
        if let Some(dir) = self.beside
            && cache::make_dir(dir).is_ok()
            && let Ok(pages) = PageFile::scratch(dir)
        {
            return Ok(pages);
        }
        PageFile::scratch(&match std::env::var_os("TMPDIR") {
            Some(dir) if !dir.is_empty() => dir.into(),
            _ if Path::new("/var/tmp").is_dir() => PathBuf::from("/var/tmp"),
            _ => std::env::temp_dir(),
        })
    }
}

/// The failure of a file on this machine, not of the repository's storage.
fn is_local(error: &Error) -> bool {
    let of_storage = error.source.as_ref().is_some_and(|source| source.is::<storage::Error>());
    matches!(error.kind, ErrorKind::Io | ErrorKind::NoSpace) && !of_storage
}

/// Visits the packs of an index file in order.
pub(crate) fn visit_index_file(
    repository: &Repository,
    file: Id,
    visit: &mut dyn FnMut(ListedPack) -> Result<()>,
) -> Result<()> {
    let text = file::read_text(repository.storage(), repository.key(), Folder::Index, file)?;
    visit_packs(&Folder::Index.key(file), &text, visit)
}

/// Reads one index file into the builder, whole or not at all.
fn read_file(
    repository: &Repository,
    file: Id,
    listings: &Mutex<Listings>,
    builder: &Builder<'_>,
    entries: &mut Vec<Entry>,
) -> Result<()> {
    let mut packs: Vec<Listed> = Vec::new();
    entries.clear();
    visit_index_file(repository, file, &mut |pack| {
        entries.extend(pack.blobs.iter().map(|blob| Entry::new(packs.len() as u32, blob)));
        packs.push(Listed { id: pack.id, doomed: pack.doomed });
        Ok(())
    })?;
    let first = lock_mutex(listings).add(file, &packs)?;
    entries.iter_mut().for_each(|entry| entry.pack += first);
    builder.add(entries)
}
