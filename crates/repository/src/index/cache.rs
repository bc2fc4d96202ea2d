//! The index of a large repository, kept in a local file for the next time.
//!
//! ```text
//! page 0              what this is: version, repository, counts
//! pages 1 to n        entries in order
//! pages after that    packs, index files with what they list, fences, filter
//! ```
//! The file tells which index files it covers. Index files never change, so those that came since are merged into a
//! new file, and if one is gone the cache is of no use. Whatever is wrong with it, it is made anew: nothing depends
//! on it, and it may be deleted at any time. It is written aside, synced, and renamed into place.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::filter::Filter;
use super::packs::Packs;
use super::pages::{Buffers, PAYLOAD_BYTES, PageFile};
use super::sorted::{FIRST_PAGE, InFile, Sorted};
use crate::seal::SealKey;
use crate::{Error, Id, Repository, Result};

/// Changes with every change of the form.
const VERSION: &[u8; 24] = b"strongroom index cache 1";
const REPOSITORY_BYTES: usize = 64;
/// What a killed process left is deleted after so long.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Where the index of one repository is kept.
pub(super) struct Cache {
    dir: PathBuf,
    name: String,
    key: SealKey,
    repository: [u8; REPOSITORY_BYTES],
}

impl Cache {
    pub(super) fn new(dir: &Path, repository: &Repository) -> Self {
        let (low, high) = (
            repository.derive_key("strongroom index cache v1: encrypt"),
            repository.derive_key("strongroom index cache v1: authenticate"),
        );
        let half = |from: usize| std::array::from_fn(|i| high[from + i]);
        let mut id = [0; REPOSITORY_BYTES];
        let text = repository.id().as_bytes();
        let length = text.len().min(REPOSITORY_BYTES);
        id[..length].copy_from_slice(&text[..length]);
        Self {
            dir: dir.to_owned(),
            // By a derived name: the id in it is not for others to know.
            name: format!(
                "{}.index",
                hex::encode(&repository.derive_key("strongroom index cache v1: name")[..16])
            ),
            key: SealKey { encrypt: *low, k: half(0), r: half(16) }.masked(),
            repository: id,
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    /// What was kept, if it is whole.
    pub(super) fn open(&self) -> Option<(Packs, InFile)> {
        let opened = self.try_open();
        if opened.is_err() {
            self.remove();
        }
        opened.ok()
    }

    fn try_open(&self) -> Result<(Packs, InFile)> {
        let pages = PageFile::open(&self.path(), self.key.clone())?;
        let mut buffers = Buffers::default();
        let head = pages.read(0, &mut buffers)?;
        let wrong = || Error::damaged(self.path().display(), "it is no index of this repository");
        let (version, rest) = head.split_first_chunk::<24>().ok_or_else(wrong)?;
        let (repository, rest) = rest.split_first_chunk::<REPOSITORY_BYTES>().ok_or_else(wrong)?;
        if version != VERSION || *repository != self.repository {
            return Err(wrong());
        }
        let (count, rest) = rest.split_first_chunk::<8>().ok_or_else(wrong)?;
        let (entry_pages, _) = rest.split_first_chunk::<8>().ok_or_else(wrong)?;
        let (count, entry_pages) = (u64::from_le_bytes(*count), u64::from_le_bytes(*entry_pages));
        if entry_pages > pages.length()? {
            return Err(wrong());
        }
        let mut source =
            Source { pages: &pages, page: FIRST_PAGE + entry_pages, buffers, payload: Vec::new(), at: 0 };
        let packs = source.packs()?;
        let fences = source.list(|s| s.number())?;
        let filter = Filter { words: source.list(|s| s.number())? };
        if fences.len() as u64 != entry_pages || filter.words.len() < 8 {
            return Err(wrong());
        }
        Ok((packs, InFile::new(pages, count, fences, filter)))
    }

    /// A new file, which [`Cache::keep`] makes the cache.
    pub(super) fn create(&self) -> Result<PageFile> {
        make_dir(&self.dir)?;
        self.remove_leftovers();
        let name = format!(".{}.tmp-{:016x}", self.name, rand::random::<u64>());
        PageFile::create(&self.dir.join(name), self.key.clone())
    }

    /// Completes the file and puts it in place. It stays usable whatever becomes of the name.
    pub(super) fn keep(&self, packs: &Packs, entries: &InFile) -> Result<()> {
        if !entries.pages.awaits_name() {
            return Ok(());
        }
        self.complete(packs, entries)?;
        entries.pages.rename(&self.path())?;
        let synced = fs::File::open(&self.dir).and_then(|dir| dir.sync_all());
        synced.map_err(|e| Error::path("write", self.dir.display(), e))
    }

    fn complete(&self, packs: &Packs, entries: &InFile) -> Result<()> {
        let entry_pages = entries.fences.len() as u64;
        let mut sink = Sink {
            pages: &entries.pages,
            page: FIRST_PAGE + entry_pages,
            payload: Vec::with_capacity(PAYLOAD_BYTES),
            buffers: Buffers::default(),
        };
        sink.packs(packs)?;
        sink.list(&entries.fences, |sink, fence| sink.put(&fence.to_le_bytes()))?;
        sink.list(&entries.filter.words, |sink, word| sink.put(&word.to_le_bytes()))?;
        sink.flush()?;
        let mut head = VERSION.to_vec();
        head.extend_from_slice(&self.repository);
        head.extend_from_slice(&entries.count.to_le_bytes());
        head.extend_from_slice(&entry_pages.to_le_bytes());
        entries.pages.write(0, &head, &mut sink.buffers)
    }

    /// Forgets what was kept.
    pub(super) fn remove(&self) {
        let _ = fs::remove_file(self.path());
    }

    fn remove_leftovers(&self) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let ours = entry.file_name().to_string_lossy().starts_with(&format!(".{}.tmp-", self.name));
            let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|time| time.elapsed().ok());
            if ours && age.is_some_and(|age| age > LEFTOVER_AGE) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Makes the directory of caches, for its owner alone.
pub(super) fn make_dir(dir: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| Error::path("make", dir.display(), e))
}

/// Puts `Sorted` on the disk for the next time, where it is large enough to lie in a file.
pub(super) fn keep(cache: &Cache, packs: &Packs, entries: &Sorted) -> Result<()> {
    match entries {
        Sorted::File(file) => cache.keep(packs, file),
        // Small again: reading it anew is as fast.
        Sorted::Memory(_) => {
            cache.remove();
            Ok(())
        }
    }
}

/// Writes numbers and ids one after the other, over many pages.
struct Sink<'f> {
    pages: &'f PageFile,
    page: u64,
    payload: Vec<u8>,
    buffers: Buffers,
}

impl Sink<'_> {
    fn put(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PAYLOAD_BYTES - self.payload.len()));
            self.payload.extend_from_slice(now);
            bytes = later;
            if self.payload.len() == PAYLOAD_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.pages.write(self.page, &self.payload, &mut self.buffers)?;
        self.page += 1;
        self.payload.clear();
        Ok(())
    }

    fn list<T>(&mut self, items: &[T], put: impl Fn(&mut Self, &T) -> Result<()>) -> Result<()> {
        self.put(&(items.len() as u64).to_le_bytes())?;
        items.iter().try_for_each(|item| put(self, item))
    }

    fn packs(&mut self, packs: &Packs) -> Result<()> {
        self.list(&packs.ids, |sink, id| sink.put(&id.0))?;
        self.list(&packs.sizes, |sink, size| sink.put(&size.to_le_bytes()))?;
        self.list(&packs.counts, |sink, count| sink.put(&count.to_le_bytes()))?;
        self.list(&packs.doomed, |sink, doomed| sink.put(&[u8::from(*doomed)]))?;
        self.put(&(packs.files.len() as u64).to_le_bytes())?;
        for (id, numbers) in &packs.files {
            self.put(&id.0)?;
            self.list(numbers, |sink, number| sink.put(&number.to_le_bytes()))?;
        }
        Ok(())
    }
}

/// Reads what [`Sink`] wrote.
struct Source<'f> {
    pages: &'f PageFile,
    page: u64,
    buffers: Buffers,
    payload: Vec<u8>,
    at: usize,
}

impl Source<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        for byte in &mut out {
            while self.at == self.payload.len() {
                self.payload.clear();
                self.payload.extend_from_slice(self.pages.read(self.page, &mut self.buffers)?);
                self.page += 1;
                self.at = 0;
            }
            *byte = self.payload[self.at];
            self.at += 1;
        }
        Ok(out)
    }

    fn number(&mut self) -> Result<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn list<T>(&mut self, take: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let count = self.number()?;
        // The seal vouches for the number, which was a length of a list in memory.
        let mut items = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        for _ in 0..count {
            items.push(take(self)?);
        }
        Ok(items)
    }

    fn packs(&mut self) -> Result<Packs> {
        let mut packs = Packs {
            ids: self.list(|s| s.take().map(Id))?,
            sizes: self.list(Self::number)?,
            counts: self.list(|s| s.take().map(u32::from_le_bytes))?,
            doomed: self.list(|s| Ok(s.take::<1>()? != [0]))?,
            ..Packs::default()
        };
        for _ in 0..self.number()? {
            let id = Id(self.take()?);
            let numbers = self.list(|s| s.take().map(u32::from_le_bytes))?;
            packs.files.insert(id, numbers);
        }
        Ok(packs)
    }
}
