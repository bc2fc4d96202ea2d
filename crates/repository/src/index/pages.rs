//! A local file of sealed pages, the form of everything that the index puts on a disk.
//!
//! Ids of blobs are hashes of content: in the clear they would tell whoever finds the file what the repository
//! holds. So each page is sealed like a blob of the repository, and what it seals names its file and its number: a
//! page that was damaged, moved, or comes from another file is refused.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::entry::{ENTRY_BYTES, Entry};
use crate::seal::{OVERHEAD, SealKey};
use crate::{Error, ErrorKind, Result};

/// A page on the disk.
pub(super) const PAGE_BYTES: usize = 4096;
/// What a page may carry.
pub(super) const PAYLOAD_BYTES: usize = ENTRIES_PER_PAGE * ENTRY_BYTES;
pub(super) const ENTRIES_PER_PAGE: usize = 84;
/// After the payload: the file's mark (16 bytes), the page's number (8), the length of the payload (4), zeros.
const PLAIN_BYTES: usize = PAGE_BYTES - OVERHEAD;
const MARK_AT: usize = PAYLOAD_BYTES;
const NUMBER_AT: usize = MARK_AT + 16;
const LENGTH_AT: usize = NUMBER_AT + 8;

/// Memory for one thread's pages.
#[derive(Default)]
pub(super) struct Buffers {
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

/// An open file of pages.
pub(super) struct PageFile {
    file: File,
    /// For messages.
    path: PathBuf,
    key: SealKey,
    /// Random; tells this file from all others.
    mark: [u8; 16],
    /// The name is there for as long as this is in use.
    temporary: AtomicBool,
}

impl Drop for PageFile {
    fn drop(&mut self) {
        if *self.temporary.get_mut() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl PageFile {
    /// A new file, which goes again unless it is renamed.
    pub(super) fn create(path: &Path, key: SealKey) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|e| Error::path("make", path.display(), e))?;
        Ok(Self { file, path: path.to_owned(), key, mark: rand::random(), temporary: AtomicBool::new(true) })
    }

    /// A new file that nobody else can open and that goes with the process, under a key that is written nowhere.
    pub(super) fn scratch(dir: &Path) -> Result<Self> {
        let path = dir.join(format!(".strongroom-index.tmp-{:016x}", rand::random::<u64>()));
        let pages = Self::create(&path, SealKey::random())?;
        std::fs::remove_file(&path).map_err(|e| Error::path("delete", path.display(), e))?;
        pages.temporary.store(false, Ordering::Relaxed);
        Ok(pages)
    }

    /// A file that is there; its first page tells its mark.
    pub(super) fn open(path: &Path, key: SealKey) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::path("open", path.display(), e))?;
        let temporary = AtomicBool::new(false);
        let mut pages = Self { file, path: path.to_owned(), key, mark: [0; 16], temporary };
        let mut buffers = Buffers::default();
        pages.open_page(0, &mut buffers)?;
        pages.mark.copy_from_slice(&buffers.plain[MARK_AT..NUMBER_AT]);
        Ok(pages)
    }

    /// Gives a new file its name, once all is on the disk. One without any name stays so.
    pub(super) fn rename(&self, to: &Path) -> Result<()> {
        if self.temporary.load(Ordering::Relaxed) {
            self.file.sync_all().map_err(|e| Error::path("write", self.path.display(), e))?;
            std::fs::rename(&self.path, to).map_err(|e| Error::path("make", to.display(), e))?;
            self.temporary.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Is it new, and waits for its name?
    pub(super) fn awaits_name(&self) -> bool {
        self.temporary.load(Ordering::Relaxed)
    }

    /// Pages that the file has room for.
    pub(super) fn length(&self) -> Result<u64> {
        let metadata = self.file.metadata().map_err(|e| Error::path("look at", self.path.display(), e))?;
        Ok(metadata.len() / PAGE_BYTES as u64)
    }

    /// Writes a page of up to [`PAYLOAD_BYTES`].
    pub(super) fn write(&self, number: u64, payload: &[u8], buffers: &mut Buffers) -> Result<()> {
        let plain = &mut buffers.plain;
        plain.clear();
        plain.resize(PLAIN_BYTES, 0);
        plain[..payload.len()].copy_from_slice(payload);
        self.finish(number, payload.len(), buffers)
    }

    /// Writes a page of up to [`ENTRIES_PER_PAGE`] entries.
    pub(super) fn write_entries(&self, number: u64, entries: &[Entry], buffers: &mut Buffers) -> Result<()> {
        let plain = &mut buffers.plain;
        plain.clear();
        plain.resize(PLAIN_BYTES, 0);
        for (entry, out) in entries.iter().zip(plain.as_chunks_mut().0) {
            entry.write(out);
        }
        self.finish(number, entries.len() * ENTRY_BYTES, buffers)
    }

    fn finish(&self, number: u64, length: usize, buffers: &mut Buffers) -> Result<()> {
        let Buffers { plain, sealed } = buffers;
        plain[MARK_AT..NUMBER_AT].copy_from_slice(&self.mark);
        plain[NUMBER_AT..LENGTH_AT].copy_from_slice(&number.to_le_bytes());
        plain[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&(length as u32).to_le_bytes());
        sealed.clear();
        self.key.seal_into(plain, sealed);
        self.file
            .write_all_at(sealed, number * PAGE_BYTES as u64)
            .map_err(|e| Error::path("write the index to", self.path.display(), e))
    }

    /// The payload of a page.
    pub(super) fn read<'b>(&self, number: u64, buffers: &'b mut Buffers) -> Result<&'b [u8]> {
        self.open_page(number, buffers)?;
        let plain = &buffers.plain;
        let length = u32::from_le_bytes(std::array::from_fn(|i| plain[LENGTH_AT + i])) as usize;
        let ours =
            plain[MARK_AT..NUMBER_AT] == self.mark && plain[NUMBER_AT..LENGTH_AT] == number.to_le_bytes();
        if !ours || length > PAYLOAD_BYTES {
            return Err(self.damaged(number, "it belongs elsewhere"));
        }
        Ok(&plain[..length])
    }

    /// Appends the entries of a page.
    pub(super) fn read_entries(
        &self,
        number: u64,
        buffers: &mut Buffers,
        out: &mut Vec<Entry>,
    ) -> Result<()> {
        let payload = self.read(number, buffers)?;
        out.extend(payload.as_chunks().0.iter().map(Entry::read));
        Ok(())
    }

    fn open_page(&self, number: u64, buffers: &mut Buffers) -> Result<()> {
        let Buffers { plain, sealed } = buffers;
        sealed.resize(PAGE_BYTES, 0);
        self.file.read_exact_at(sealed, number * PAGE_BYTES as u64).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged(number, "the file is too short"),
            _ => Error::path("read", self.path.display(), e),
        })?;
        self.key.open_into(sealed, plain).map_err(|_| self.damaged(number, "its seal is broken"))
    }

    /// A local file is at fault, not the repository; what is done is to be done again without it.
    fn damaged(&self, number: u64, problem: &str) -> Error {
        let message = format!(
            "page {number} of the local index '{}' is damaged: {problem}; delete that file and try again",
            self.path.display()
        );
        Error::new(ErrorKind::Io, message)
    }
}
