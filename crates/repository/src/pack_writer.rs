//! Fills packs, stores them, and lists them in index files.
//!
//! Sealed blobs go into one of the open packs; a full pack is handed to the uploaders, and once it is stored its blobs
//! are put on the next index file. So an index never names a pack that is not durable, and
//! of a killed run everything that an index file lists is found again by the next one.
//!
//! Two packs of file content are open at a time and each blob chooses one by chance: whoever watches the store
//! cannot read the sizes of a file's chunks off the order of blobs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use twox_hash::XxHash3_64;

use crate::compress::{Compression, Zstd};
use crate::file::{self, Folder};
use crate::index::{BLOBS_PER_FILE_MAX, BlobText, IndexText, PackText};
use crate::pack::{BlobKind, PackBuilder, StoredPack};
use crate::repository::{BLOB_BYTES_MAX, Opener};
use crate::seal::SealKey;
use crate::{Control, Error, ErrorKind, Id, Repository, Result, hash, lock_mutex, uploaders};

/// A pack is closed at this size, restic's default.
const PACK_BYTES: usize = 16 << 20;
/// And at this number of blobs, so that its header stays far below the longest that is read.
const PACK_BLOBS_MAX: usize = 100_000;
/// Packs that wait for an uploader: none, a full pack is handed over. So there are the open ones and one for each
/// uploader; where the store takes objects whole, all of these are in memory.
const QUEUE: usize = 0;
/// An index file is written at least so often, so that little is lost with a killed run.
const INDEX_EVERY: Duration = Duration::from_secs(10 * 60);
const DATA_PACKS: usize = 2;
/// A large chunk is compressed unless all of so many samples of it prove to be noise.
const SAMPLES: usize = 4;
const SAMPLE_BYTES: usize = 8 << 10;
const SAMPLE_LEVEL: i32 = 1;

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
    open: [Mutex<Option<PackBuilder>>; DATA_PACKS + 1],
    queue: (Mutex<Option<Sender<PackBuilder>>>, Receiver<PackBuilder>),
    /// Threads that have a full pack and no uploader for it.
    waiting: AtomicUsize,
    /// Memory of packs that were held in it, for the next ones: allocating it anew each time costs page faults and
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
            waiting: AtomicUsize::new(0),
            spare: Mutex::default(),
            index: Mutex::default(),
            written: Mutex::default(),
            failure: Mutex::default(),
            failed: AtomicBool::new(false),
        }
    }

    /// How many threads should run [`PackWriter::run_uploader`].
    pub(crate) fn uploaders(&self) -> usize {
        uploaders(self.repository.storage())
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
        let full = {
            let mut open = self.open_pack(kind);
            let pack = match &mut *open {
                Some(pack) => pack,
                none => none.insert(PackBuilder::new(self.repository.storage(), || self.pack_memory())?),
            };
            pack.add(kind, id, sealed, uncompressed)?;
            let full = pack.length() >= PACK_BYTES as u64 || pack.blob_count() >= PACK_BLOBS_MAX;
            if full { open.take() } else { None }
        };
        full.map_or(Ok(()), |pack| self.enqueue(pack))
    }

    /// One of the open packs for blobs of this kind; another thread's is left alone if there is a choice.
    fn open_pack(&self, kind: BlobKind) -> MutexGuard<'_, Option<PackBuilder>> {
        if kind == BlobKind::Tree {
            return lock_mutex(&self.open[DATA_PACKS]);
        }
        let chosen = rand::random_range(0..DATA_PACKS);
        let free = (chosen..chosen + DATA_PACKS).find_map(|i| self.open[i % DATA_PACKS].try_lock().ok());
        free.unwrap_or_else(|| lock_mutex(&self.open[chosen]))
    }

    fn pack_memory(&self) -> Vec<u8> {
        let mut memory = lock_mutex(&self.spare).pop().unwrap_or_default();
        memory.reserve(PACK_BYTES + (1 << 20));
        memory
    }

    /// Does somebody wait with a full pack, as all uploaders are busy?
    fn keeps_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn enqueue(&self, pack: PackBuilder) -> Result<()> {
        let sender = lock_mutex(&self.queue.0).clone();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let sent = sender.is_some_and(|sender| sender.send(pack).is_ok());
        self.waiting.fetch_sub(1, Ordering::Relaxed);
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
        let StoredPack { id, size, blobs, memory } = pack.store(self.repository.key())?;
        self.control.progress.bytes_stored.fetch_add(size, Ordering::Relaxed);
        lock_mutex(&self.written).packs.push((id, size));
        if let Some(mut memory) = memory {
            memory.clear();
            lock_mutex(&self.spare).push(memory);
        }
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
            if let Some(pack) = lock_mutex(open).take()
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

/// A blob's plaintext with its id, and a fingerprint that was taken before the id was.
pub(crate) struct Plain<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) id: Id,
    fingerprint: u64,
}

impl<'a> Plain<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let fingerprint = XxHash3_64::oneshot(bytes);
        Self { bytes, id: Id::of(bytes), fingerprint }
    }

    /// Two of them, which are hashed side by side.
    pub(crate) fn pair(a: &'a [u8], b: &'a [u8]) -> [Self; 2] {
        let fingerprints = [XxHash3_64::oneshot(a), XxHash3_64::oneshot(b)];
        let (id_a, id_b) = hash::pair(a, b);
        [
            Self { bytes: a, id: id_a, fingerprint: fingerprints[0] },
            Self { bytes: b, id: id_b, fingerprint: fingerprints[1] },
        ]
    }

    /// The same for whoever knows the id already.
    pub(crate) fn of_id(id: Id, bytes: &'a [u8]) -> Self {
        Self { bytes, id, fingerprint: XxHash3_64::oneshot(bytes) }
    }
}

/// Compresses and seals the blobs of one thread, with its memory reused from blob to blob.
pub(crate) struct Sealer {
    compression: Compression,
    /// Content that gains nothing is compressed all the same.
    of_noise_too: bool,
    verify: bool,
    zstd: Zstd,
    opener: Opener,
    frame: Vec<u8>,
    sealed: Vec<u8>,
}

impl Sealer {
    pub(crate) fn new(compression: Compression, verify: bool) -> Result<Self> {
        let zstd =
            Zstd::new().map_err(|e| Error::new(ErrorKind::Io, format!("cannot prepare compression: {e}")))?;
        let (opener, frame, sealed) = (Opener::new()?, Vec::new(), Vec::new());
        Ok(Self { compression, of_noise_too: false, verify, zstd, opener, frame, sealed })
    }

    /// The same, but content that gains nothing is compressed all the same.
    pub(crate) fn of_noise_too(self) -> Self {
        Self { of_noise_too: true, ..self }
    }

    /// Compresses, seals, verifies and adds one blob; returns its stored length.
    pub(crate) fn store(
        &mut self,
        writer: &PackWriter<'_>,
        kind: BlobKind,
        plain: &Plain<'_>,
    ) -> Result<u64> {
        let Plain { bytes, id, .. } = *plain;
        let everything = kind == BlobKind::Tree || self.of_noise_too;
        let wanted = everything || self.compression != Compression::Off;
        if bytes.len() as u64 > u64::from(BLOB_BYTES_MAX) {
            let problem = format!(
                "it would have {} bytes, more than can be read back; split that directory",
                bytes.len()
            );
            return Err(Error::new(ErrorKind::Invalid, format!("a listing cannot be stored: {problem}")));
        }
        let compress = wanted && !bytes.is_empty() && writer.repository.version() >= 2;
        let mut uncompressed = None;
        if compress && (everything || !self.is_noise(bytes)) {
            let level = self.compression.level(writer.keeps_waiting());
            self.zstd
                .compress(bytes, level, &mut self.frame)
                .map_err(|e| Error::new(ErrorKind::Io, format!("cannot compress a blob: {e}")))?;
            // Content mostly only if it gains, since reading it back then costs less.
            if everything || self.frame.len() + bytes.len() / 64 < bytes.len() {
                uncompressed = u32::try_from(bytes.len()).ok();
            }
        }
        let payload = if uncompressed.is_some() { &self.frame[..] } else { bytes };
        let key = writer.repository.key();
        key.seal_into(payload, &mut self.sealed);
        if self.verify {
            self.verify(key, uncompressed, plain).map_err(|problem| {
                Error::damaged(
                    format!("new blob {id}"),
                    format!("{problem}; is this machine's memory sound?"),
                )
            })?;
        }
        writer.add(kind, id, &self.sealed, uncompressed)?;
        Ok(self.sealed.len() as u64)
    }

    /// Does a large chunk look as if nothing could be gained by compressing it? A few samples tell.
    fn is_noise(&mut self, bytes: &[u8]) -> bool {
        let step = bytes.len() / SAMPLES;
        step >= 4 * SAMPLE_BYTES
            && (0..SAMPLES).all(|i| {
                let sample = &bytes[i * step..][..SAMPLE_BYTES];
                let done = self.zstd.compress(sample, SAMPLE_LEVEL, &mut self.frame);
                done.is_ok() && self.frame.len() >= sample.len()
            })
    }

    /// Compilers, compressors and memory have been wrong before: what was sealed is read as a restore would read it.
    /// The fingerprint is older than the id, so content that changed in memory after either was taken does not fit it,
    /// and it costs a tenth of hashing once more.
    fn verify(&mut self, key: &SealKey, uncompressed: Option<u32>, plain: &Plain<'_>) -> Result<(), String> {
        // The frame is sealed by now, its memory takes the plaintext.
        self.opener.unseal(key, &self.sealed, uncompressed, &mut self.frame)?;
        let same =
            self.frame.len() == plain.bytes.len() && XxHash3_64::oneshot(&self.frame) == plain.fingerprint;
        if same { Ok(()) } else { Err("its content is not what was read".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_that_changed_in_memory_after_it_was_hashed_is_not_stored() {
        let key = SealKey::random();
        let before = vec![7; 10_000];
        let mut after = before.clone();
        after[5_000] ^= 1;
        let mut sealer = Sealer::new(Compression::Auto, true).unwrap();
        let hashed = Plain::new(&before);
        for (bytes, fits) in [(&before, true), (&after, false)] {
            sealer.sealed = key.seal(bytes);
            let plain = Plain { bytes, id: hashed.id, fingerprint: hashed.fingerprint };
            assert_eq!(sealer.verify(&key, None, &plain).is_ok(), fits);
        }
    }
}
