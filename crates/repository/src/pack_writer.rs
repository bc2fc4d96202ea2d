//! Fills packs, stores them, and lists them in index files.
//!
//! Sealed blobs go into one of the open packs; a full pack goes through a bounded queue to the uploaders, and once
//! it is stored its blobs are put on the next index file. So an index never names a pack that is not durable, and
//! of a killed run everything that an index file lists is found again by the next one.
//!
//! Two packs of file content are open at a time and each blob chooses one by chance: whoever watches the store
//! cannot read the sizes of a file's chunks off the order of blobs.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::compress::{Compression, Zstd};
use crate::file::{self, Folder};
use crate::index::{BLOBS_PER_FILE_MAX, BlobText, IndexText, PackText};
use crate::pack::{BlobKind, FinishedPack, PackBuilder, pack_key};
use crate::repository::{BLOB_BYTES_MAX, Opener};
use crate::{Control, Error, ErrorKind, Id, Repository, Result, lock_mutex};

/// A pack is closed at this size, restic's default.
const PACK_BYTES: usize = 16 << 20;
/// And at this number of blobs, so that its header stays far below the longest that is read.
const PACK_BLOBS_MAX: usize = 100_000;
/// Packs that wait for an uploader: none, a full pack is handed over. So the packs in memory are the open ones and
/// one for each uploader.
const QUEUE: usize = 0;
/// An index file is written at least so often, so that little is lost with a killed run.
const INDEX_EVERY: Duration = Duration::from_secs(10 * 60);
const DATA_PACKS: usize = 2;

/// What one run stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    /// Packs with their sizes.
    pub(crate) packs: Vec<(Id, u64)>,
    /// Index files.
    pub(crate) indexes: Vec<Id>,
}

struct NextIndex {
    text: IndexText,
    blobs: usize,
    since: Instant,
}

impl Default for NextIndex {
    fn default() -> Self {
        Self { text: IndexText::default(), blobs: 0, since: Instant::now() }
    }
}

/// Takes sealed blobs from many threads.
pub(crate) struct PackWriter<'a> {
    repository: &'a Repository,
    control: &'a Control,
    /// Content packs, then the tree pack.
    open: [Mutex<PackBuilder>; DATA_PACKS + 1],
    queue: (Mutex<Option<Sender<PackBuilder>>>, Receiver<PackBuilder>),
    /// Memory of packs that were stored, for the next ones: allocating it anew each time costs page faults and
    /// leaves the allocator with holes.
    spare: Mutex<Vec<Vec<u8>>>,
    index: Mutex<NextIndex>,
    written: Mutex<Written>,
    failure: Mutex<Option<Error>>,
    failed: AtomicBool,
}

impl<'a> PackWriter<'a> {
    pub(crate) fn new(repository: &'a Repository, control: &'a Control) -> Self {
        let (sender, receiver) = bounded(QUEUE);
        Self {
            repository,
            control,
            open: Default::default(),
            queue: (Mutex::new(Some(sender)), receiver),
            spare: Mutex::default(),
            index: Mutex::default(),
            written: Mutex::default(),
            failure: Mutex::default(),
            failed: AtomicBool::new(false),
        }
    }

    /// Keeps the first failure; everybody who works for this writer then stops.
    pub(crate) fn fail(&self, error: Error) {
        let mut failure = lock_mutex(&self.failure);
        failure.get_or_insert(error);
        self.failed.store(true, Ordering::SeqCst);
    }

    /// The first failure, if there was one.
    pub(crate) fn take_failure(&self) -> Option<Error> {
        lock_mutex(&self.failure).take()
    }

    /// True once something failed: work that is still queued need not be done.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Adds a sealed blob to an open pack.
    pub(crate) fn add(&self, kind: BlobKind, id: Id, sealed: &[u8], uncompressed: Option<u32>) -> Result<()> {
        let slot = match kind {
            BlobKind::Tree => DATA_PACKS,
            BlobKind::Data => rand::random_range(0..DATA_PACKS),
        };
        let full = {
            let mut pack = lock_mutex(&self.open[slot]);
            if pack.body.capacity() == 0 {
                pack.body = lock_mutex(&self.spare).pop().unwrap_or_default();
                pack.body.reserve(PACK_BYTES + (1 << 20));
            }
            pack.add(kind, id, sealed, uncompressed)?;
            (pack.body.len() >= PACK_BYTES || pack.blobs.len() >= PACK_BLOBS_MAX)
                .then(|| std::mem::take(&mut *pack))
        };
        match full {
            Some(pack) => self.enqueue(pack),
            None => Ok(()),
        }
    }

    fn enqueue(&self, pack: PackBuilder) -> Result<()> {
        let sender = lock_mutex(&self.queue.0).clone();
        let sent = sender.is_some_and(|sender| sender.send(pack).is_ok());
        if sent { Ok(()) } else { Err(Error::new(ErrorKind::Cancelled, "the pack writer was closed")) }
    }

    /// Stores packs until the writer is closed; run by each uploader thread. After a failure it only empties the queue.
    pub(crate) fn run_uploader(&self) {
        while let Ok(pack) = self.queue.1.recv() {
            if self.has_failed() {
                continue;
            }
            if let Err(error) = self.control.check().and_then(|()| self.store(pack)) {
                self.fail(error);
            }
        }
    }

    fn store(&self, pack: PackBuilder) -> Result<()> {
        let FinishedPack { mut body, blobs } = pack.finish(self.repository.key());
        let id = Id::of(&body);
        match self.repository.storage().create(&pack_key(id), &[&body]) {
            // The name is the content's hash: what is there already is this very pack (a repeated call).
            Err(e) if e.kind == storage::ErrorKind::Exists => {}
            other => other?,
        }
        self.control.progress.bytes_stored.fetch_add(body.len() as u64, Ordering::Relaxed);
        lock_mutex(&self.written).packs.push((id, body.len() as u64));
        body.clear();
        lock_mutex(&self.spare).push(body);
        self.list(PackText { id, blobs: blobs.iter().map(BlobText::from).collect() })
    }

    /// Puts a stored pack on the next index file, and writes that once it is full or old.
    pub(crate) fn list(&self, pack: PackText) -> Result<()> {
        let full = {
            let mut next = lock_mutex(&self.index);
            next.blobs += pack.blobs.len();
            next.text.packs.push(pack);
            let due = next.blobs >= BLOBS_PER_FILE_MAX || next.since.elapsed() >= INDEX_EVERY;
            due.then(|| std::mem::take(&mut *next))
        };
        full.map_or(Ok(()), |next| self.write_index(&next.text))
    }

    fn write_index(&self, text: &IndexText) -> Result<()> {
        if text.packs.is_empty() {
            return Ok(());
        }
        let id = file::write_json(self.repository, Folder::Index, text)?;
        lock_mutex(&self.written).indexes.push(id);
        Ok(())
    }

    /// Hands the packs that are not full to the uploaders and lets them end. No blob may be added after this.
    pub(crate) fn close(&self) {
        for open in &self.open {
            let pack = std::mem::take(&mut *lock_mutex(open));
            if !pack.blobs.is_empty()
                && !self.has_failed()
                && let Err(error) = self.enqueue(pack)
            {
                self.fail(error);
            }
        }
        lock_mutex(&self.queue.0).take();
    }

    /// After the uploaders ended: writes the last index file. The first failure of the run, if there was one.
    pub(crate) fn finish(self) -> Result<Written> {
        if let Some(failure) = self.take_failure() {
            return Err(failure);
        }
        self.control.check()?;
        let last = std::mem::take(&mut *lock_mutex(&self.index));
        self.write_index(&last.text)?;
        Ok(lock_mutex(&self.written).clone())
    }
}

/// Compresses and seals the blobs of one thread, with its memory reused from blob to blob.
pub(crate) struct Sealer {
    compression: Compression,
    verify: bool,
    zstd: Zstd,
    opener: Opener,
    frame: Vec<u8>,
    sealed: Vec<u8>,
}

impl Sealer {
    pub(crate) fn new(compression: Compression, verify: bool) -> Result<Self> {
        let zstd = Zstd::new(compression)
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot prepare compression: {e}")))?;
        Ok(Self { compression, verify, zstd, opener: Opener::new()?, frame: Vec::new(), sealed: Vec::new() })
    }

    /// Compresses, seals, verifies and adds one blob; returns its stored length.
    pub(crate) fn store(
        &mut self,
        writer: &PackWriter<'_>,
        kind: BlobKind,
        id: Id,
        plain: &[u8],
    ) -> Result<u64> {
        let wanted = kind == BlobKind::Tree || self.compression != Compression::Off;
        if plain.len() as u64 > u64::from(BLOB_BYTES_MAX) {
            let problem = format!(
                "it would have {} bytes, more than can be read back; split that directory",
                plain.len()
            );
            return Err(Error::new(ErrorKind::Invalid, format!("a listing cannot be stored: {problem}")));
        }
        let compress = wanted && !plain.is_empty() && writer.repository.version() >= 2;
        let mut uncompressed = None;
        if compress {
            self.zstd
                .compress(plain, &mut self.frame)
                .map_err(|e| Error::new(ErrorKind::Io, format!("cannot compress a blob: {e}")))?;
            // Trees always; content only if it gains, since reading it back then costs less.
            if kind == BlobKind::Tree || self.frame.len() + plain.len() / 64 < plain.len() {
                uncompressed = u32::try_from(plain.len()).ok();
            }
        }
        let payload = if uncompressed.is_some() { &self.frame[..] } else { plain };
        self.sealed.clear();
        let key = writer.repository.key();
        key.seal_into(payload, &mut self.sealed);
        if self.verify {
            // Compilers, compressors and memory have been wrong before: read it as a restore would. The frame is sealed
            // by now, its memory takes the plaintext.
            self.opener.open(key, &self.sealed, uncompressed, id, &mut self.frame).map_err(|problem| {
                Error::damaged(
                    format!("new blob {id}"),
                    format!("{problem}; is this machine's memory sound?"),
                )
            })?;
        }
        writer.add(kind, id, &self.sealed, uncompressed)?;
        Ok(self.sealed.len() as u64)
    }
}
