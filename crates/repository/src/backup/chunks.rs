//! Files that are cut into chunks, and who stores these.
//!
//! Whoever reads a file hands its chunks to the chunk workers, so that one large file uses all cores; while these are
//! busy it works on them itself, which saves copying them. Whoever is the last to be done with a chunk of a file tells
//! the file's directory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender};

use super::blobs::BlobStore;
use super::directory::{Directory, End};
use crate::chunk::{CHUNK_MAX, CHUNK_MIN, Chunker};
use crate::pack::BlobKind;
use crate::pack_writer::{Plain, Sealer};
use crate::tree::Node;
use crate::{Error, ErrorKind, Id, Result, lock_mutex};

/// With less than this at hand more is read before a cut is looked for.
const CUT_BYTES_MIN: usize = 2 << 20;

/// One or two chunks of a file.
pub(super) struct ChunkJob {
    data: Vec<u8>,
    /// Length of the first one.
    first: usize,
    number: usize,
    file: Arc<CutFile>,
}

/// A file whose chunks are being worked on.
pub(super) struct CutFile {
    content: Mutex<Vec<Id>>,
    /// What its directory is told, once it is read to its end.
    node: Mutex<Option<Node>>,
    into: Arc<Directory>,
    slot: usize,
    /// Chunks that are not done, and one for the reader. A reader that gives up keeps its own, so that the file
    /// is never finished.
    pending: AtomicUsize,
}

impl CutFile {
    pub(super) fn new(into: Arc<Directory>, slot: usize) -> Arc<Self> {
        let (content, node) = Default::default();
        Arc::new(Self { content, node, into, slot, pending: AtomicUsize::new(1) })
    }

    /// The id of one of its chunks.
    pub(super) fn set(&self, number: usize, id: Id) {
        let mut content = lock_mutex(&self.content);
        if content.len() <= number {
            content.resize(number + 1, Id([0; 32]));
        }
        content[number] = id;
    }

    /// It was read to its end. `node` is all of it but its chunks.
    pub(super) fn end(&self, node: Node, end: &mut End<'_, '_>) -> Result<()> {
        end.blobs.figures.bytes.fetch_add(node.size, Ordering::Relaxed);
        *lock_mutex(&self.node) = Some(node);
        self.release(end)
    }

    fn release(&self, end: &mut End<'_, '_>) -> Result<()> {
        if self.pending.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(mut node) = lock_mutex(&self.node).take()
        {
            node.content = std::mem::take(&mut *lock_mutex(&self.content));
            end.blobs.control.progress.file_done();
            self.into.done(self.slot, Some(&node), end)?;
        }
        Ok(())
    }
}

/// Memory of chunks that were stored, for the next ones.
#[derive(Default)]
pub(super) struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    fn copy(&self, data: &[u8]) -> Vec<u8> {
        let mut copy = lock_mutex(&self.0).pop().unwrap_or_default();
        copy.extend_from_slice(data);
        copy
    }

    fn give_back(&self, mut data: Vec<u8>) {
        data.clear();
        lock_mutex(&self.0).push(data);
    }
}

/// The way to the chunk workers.
#[derive(Clone)]
pub(super) struct Chunks<'a> {
    sender: Sender<ChunkJob>,
    spare: &'a Spare,
}

impl<'a> Chunks<'a> {
    pub(super) fn new(sender: Sender<ChunkJob>, spare: &'a Spare) -> Self {
        Self { sender, spare }
    }

    /// Sees to a chunk, which is the `number`th of its file, and to the next one unless that is empty. Returns how many
    /// these are.
    pub(super) fn store(
        &self,
        blobs: &BlobStore<'_>,
        sealer: &mut Sealer,
        file: &Arc<CutFile>,
        number: usize,
        chunks: (&[u8], &[u8]),
    ) -> Result<usize> {
        // The workers only take jobs from the queue then, and whoever gives us the content would go on for nothing.
        if blobs.writer.has_failed() {
            return Err(Error::new(ErrorKind::Cancelled, "something else has failed"));
        }
        let count = 1 + usize::from(!chunks.1.is_empty());
        file.pending.fetch_add(count, Ordering::AcqRel);
        // What is short is not worth the copy.
        if self.sender.is_full() || chunks.0.len() + chunks.1.len() < CHUNK_MIN {
            store(blobs, sealer, file, number, chunks)?;
            return Ok(count);
        }
        let mut data = self.spare.copy(chunks.0);
        data.extend_from_slice(chunks.1);
        let job = ChunkJob { data, first: chunks.0.len(), number, file: Arc::clone(file) };
        match self.sender.send(job) {
            Ok(()) => Ok(count),
            Err(_) => {
                let message = "the threads that store chunks ended early; please report this";
                Err(Error::new(ErrorKind::Io, message))
            }
        }
    }
}

/// A chunk worker: hashes and stores chunks until there are no more.
pub(super) fn work(blobs: &BlobStore<'_>, jobs: &Receiver<ChunkJob>, spare: &Spare) -> Result<()> {
    let mut sealer = blobs.sealer()?;
    while let Ok(job) = jobs.recv() {
        if blobs.writer.has_failed() {
            continue;
        }
        let chunks = job.data.split_at(job.first);
        if let Err(error) = store(blobs, &mut sealer, &job.file, job.number, chunks) {
            blobs.writer.fail(error);
        }
        spare.give_back(job.data);
    }
    Ok(())
}

/// Stores a chunk and, unless it is empty, the next one.
fn store(
    blobs: &BlobStore<'_>,
    sealer: &mut Sealer,
    file: &CutFile,
    number: usize,
    chunks: (&[u8], &[u8]),
) -> Result<()> {
    let chunks = Plain::pair(chunks.0, chunks.1);
    for (i, chunk) in chunks.iter().enumerate().filter(|(_, chunk)| !chunk.bytes.is_empty()) {
        file.set(number + i, blobs.store_plain(sealer, BlobKind::Data, chunk)?);
        blobs.control.progress.bytes(chunk.bytes.len() as u64);
        file.release(&mut End { blobs, sealer: &mut *sealer })?;
    }
    Ok(())
}

/// Length of the chunk at the start of `rest`, and of that and the next one, if that is at hand too: they are hashed side
/// by side. `None` if what follows (`more`) may decide, 0 at the end.
pub(super) fn cut_two(chunker: &Chunker, rest: &[u8], more: bool) -> Option<(usize, usize)> {
    let first = cut(chunker, rest, more)?;
    let second = cut(chunker, &rest[first..], more).unwrap_or(0);
    Some((first, first + second))
}

fn cut(chunker: &Chunker, rest: &[u8], more: bool) -> Option<usize> {
    if more && rest.len() < CUT_BYTES_MIN {
        return None;
    }
    let length = chunker.cut(rest);
    // A cut before the end of what is at hand is one whatever follows.
    (length < rest.len() || length == CHUNK_MAX || !more).then_some(length)
}
