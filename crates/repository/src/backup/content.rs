//! Content of files: reading, cutting into chunks, hashing.
//!
//! A reader takes one file at a time. A small file is one chunk, which it hashes and stores itself. The chunks of a
//! large file go to the chunk workers, so that one large file uses all cores; while these are busy the reader works
//! on them itself, which saves copying them. Holes are not read: each is a row of zero chunks whose ids are computed
//! once.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender};
use rustix::fs::{SeekFrom, Stat};
use rustix::io::Errno;

use super::blobs::{BlobStore, count};
use super::directory::{Directory, End};
use crate::chunk::{CHUNK_MAX, CHUNK_MIN, Chunker};
use crate::pack::BlobKind;
use crate::pack_writer::{Plain, Sealer};
use crate::posix::{self, Attributed, Names, show};
use crate::tree::{Node, NodeKind};
use crate::{Error, ErrorKind, Id, Result, lock_mutex};

/// A reader's memory for a large file.
const BUFFER_BYTES: usize = CHUNK_MAX + (2 << 20);
/// With less than this at hand it reads on before it looks for a cut.
const CUT_BYTES_MIN: usize = 2 << 20;

/// Longest file, holes included: the list of its chunks must fit into its directory's listing.
const FILE_BYTES_MAX: u64 = 16 << 40;

/// A file that must be read.
pub(super) struct FileJob {
    pub(super) dir: Arc<OwnedFd>,
    pub(super) name: Vec<u8>,
    /// For people.
    pub(super) path: Vec<u8>,
    /// As the scan saw it.
    pub(super) stat: Stat,
    /// The parent snapshot has it with other content.
    pub(super) changed: bool,
    pub(super) into: Arc<Directory>,
    pub(super) slot: usize,
}

/// One or two chunks of a large file.
pub(super) struct ChunkJob {
    data: Vec<u8>,
    /// Length of the first one.
    first: usize,
    number: usize,
    file: Arc<LargeFile>,
}

/// A large file whose chunks are being worked on.
struct LargeFile {
    node: Mutex<Node>,
    into: Arc<Directory>,
    slot: usize,
    /// Chunks that are not done, and one for the reader. A reader that gives up keeps its own, so that the file
    /// is never finished.
    pending: AtomicUsize,
}

impl LargeFile {
    fn set(&self, number: usize, id: Id) {
        let content = &mut lock_mutex(&self.node).content;
        if content.len() <= number {
            content.resize(number + 1, Id([0; 32]));
        }
        content[number] = id;
    }

    fn release(&self, end: &mut End<'_, '_>) -> Result<()> {
        if self.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            let node = lock_mutex(&self.node);
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

/// Hashes and stores chunks until there are no more.
pub(super) fn run_chunk_worker(
    blobs: &BlobStore<'_>,
    chunks: &Receiver<ChunkJob>,
    spare: &Spare,
) -> Result<()> {
    let mut sealer = blobs.sealer()?;
    while let Ok(job) = chunks.recv() {
        if blobs.writer.has_failed() {
            continue;
        }
        let chunks = job.data.split_at(job.first);
        if let Err(error) = store_chunks(blobs, &mut sealer, &job.file, job.number, chunks) {
            blobs.writer.fail(error);
        }
        spare.give_back(job.data);
    }
    Ok(())
}

/// Stores a chunk and, unless it is empty, the next one.
fn store_chunks(
    blobs: &BlobStore<'_>,
    sealer: &mut Sealer,
    file: &Arc<LargeFile>,
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

/// Reads files until there are no more.
pub(super) fn run_reader(
    blobs: &BlobStore<'_>,
    chunker: &Chunker,
    names: &Names,
    files: &Receiver<FileJob>,
    chunks: &Sender<ChunkJob>,
    spare: &Spare,
) -> Result<()> {
    let mut reader = Reader {
        blobs,
        chunker,
        names,
        chunks,
        spare,
        sealer: blobs.sealer()?,
        small: vec![0; CHUNK_MIN + 1],
        buffer: Vec::new(),
        zeros: Vec::new(),
    };
    while let Ok(job) = files.recv() {
        if blobs.writer.has_failed() {
            continue;
        }
        if let Err(error) = blobs.control.check().and_then(|()| reader.file(&job)) {
            blobs.writer.fail(error);
        }
    }
    Ok(())
}

struct Reader<'a, 'b> {
    blobs: &'a BlobStore<'b>,
    chunker: &'a Chunker,
    names: &'a Names,
    chunks: &'a Sender<ChunkJob>,
    spare: &'a Spare,
    sealer: Sealer,
    /// Content of a small file, and one byte more, to see that it did not grow.
    small: Vec<u8>,
    /// Some of a large file; made for the first of them.
    buffer: Vec<u8>,
    /// Ids of the zero chunks of [`CHUNK_MIN`] and [`CHUNK_MAX`] bytes, once they are stored.
    zeros: Vec<(u64, Id)>,
}

/// What reading a file came to.
enum Read {
    /// All of it, so many bytes, is in `small`.
    Small(usize),
    /// Its chunks are on their way.
    Large(Arc<LargeFile>),
}

impl Reader<'_, '_> {
    fn file(&mut self, job: &FileJob) -> Result<()> {
        self.blobs.control.progress.set_current(&show(&job.path));
        let mut tries = 0;
        let failure = loop {
            tries += 1;
            match self.try_file(job, tries) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(Failure::Source(e)) => break e,
                Err(Failure::Engine(e)) => return Err(e),
            }
        };
        if failure.kind() != io::ErrorKind::NotFound {
            self.blobs.control.warn(show(&job.path), format!("cannot be read: {failure}"));
        }
        job.into.done(job.slot, None, &mut End { blobs: self.blobs, sealer: &mut self.sealer })
    }

    /// `false`: it changed meanwhile and is worth a second try.
    fn try_file(&mut self, job: &FileJob, tries: u32) -> Result<bool, Failure> {
        let fd = posix::open_file(job.dir.as_fd(), &job.name).map_err(source)?;
        // What the scan saw a moment ago will do for a small file: if it is another one by now, the look afterwards
        // tells, and little was read in vain.
        let seen = tries == 1 && job.stat.st_size as u64 <= CHUNK_MIN as u64;
        let stat = if seen { job.stat } else { rustix::fs::fstat(&fd).map_err(source)? };
        if posix::kind(&stat) != NodeKind::File {
            return Err(Failure::Source(io::Error::other("it was replaced by something that is no file")));
        }
        let read = match self.read(job, &fd, &stat) {
            Err(Failure::Source(_)) if seen => return Ok(false),
            read => read?,
        };
        let after = rustix::fs::fstat(&fd).map_err(source)?;
        let mark = |s: &Stat| (s.st_mode, s.st_dev, s.st_ino, posix::mtime(s), posix::ctime(s), s.st_size);
        if mark(&stat) != mark(&after) {
            if tries == 1 {
                return Ok(false);
            }
            let reason = "changed while it was read; its content may mix old and new";
            self.blobs.control.warn(show(&job.path), reason);
        }
        let mut node = posix::node(&job.name, &stat, self.names);
        node.xattrs = Attributed::Open(fd.as_fd()).read(&job.path, self.blobs.control);
        self.finish(job, node, read).map_err(Failure::Engine)?;
        Ok(true)
    }

    fn finish(&mut self, job: &FileJob, mut node: Node, read: Read) -> Result<()> {
        let figures = &self.blobs.figures;
        count(if job.changed { &figures.files_changed } else { &figures.files_new });
        match read {
            Read::Small(length) => {
                node.size = length as u64;
                if length > 0 {
                    let data = &self.small[..length];
                    node.content.push(self.blobs.store(&mut self.sealer, BlobKind::Data, data)?);
                }
                figures.bytes.fetch_add(node.size, Ordering::Relaxed);
                self.blobs.control.progress.bytes(node.size);
                self.blobs.control.progress.file_done();
                job.into.done(job.slot, Some(&node), &mut End { blobs: self.blobs, sealer: &mut self.sealer })
            }
            Read::Large(file) => {
                {
                    let mut shared = lock_mutex(&file.node);
                    // What was read counts, should the file have grown or shrunk.
                    node.size = shared.size;
                    node.content = std::mem::take(&mut shared.content);
                    *shared = node;
                    figures.bytes.fetch_add(shared.size, Ordering::Relaxed);
                }
                file.release(&mut End { blobs: self.blobs, sealer: &mut self.sealer })
            }
        }
    }

    fn read(&mut self, job: &FileJob, fd: &OwnedFd, stat: &Stat) -> Result<Read, Failure> {
        let size = stat.st_size as u64;
        if size <= CHUNK_MIN as u64
            && let Some(length) = self.read_small(fd, size as usize)?
        {
            return Ok(Read::Small(length));
        }
        if size > FILE_BYTES_MAX {
            let message =
                format!("it has {size} bytes, more than the {FILE_BYTES_MAX} that a listing can describe");
            return Err(Failure::Source(io::Error::other(message)));
        }
        let file = Arc::new(LargeFile {
            node: Mutex::new(Node::new(Vec::new(), NodeKind::File)),
            into: job.into.clone(),
            slot: job.slot,
            pending: AtomicUsize::new(1),
        });
        let mut number = 0;
        let mut at = 0;
        let sparse = (stat.st_blocks as u64).saturating_mul(512) < size;
        while let Some((data, hole_end)) = next_segment(fd, at, size, sparse).map_err(Failure::Source)? {
            self.zero_chunks(&file, &mut number, data.start - at).map_err(Failure::Engine)?;
            let end = data.end;
            at = self.chunk_data(fd, &file, &mut number, data)?;
            if at < end {
                // It shrank; the comparison afterwards will tell.
                break;
            }
            // Behind the last data: a hole up to the end, or what was appended meanwhile is left for the next time.
            if let Some(end) = hole_end {
                self.zero_chunks(&file, &mut number, end.saturating_sub(at)).map_err(Failure::Engine)?;
                at = end;
            }
        }
        lock_mutex(&file.node).size = at;
        Ok(Read::Large(file))
    }

    /// Reads a file of `size` bytes into `small`; `None` if it is too long for that by now.
    fn read_small(&mut self, fd: &OwnedFd, size: usize) -> Result<Option<usize>, Failure> {
        let mut length = 0;
        while length < self.small.len() {
            // One byte more than is left, so that usually one reading finds the end too.
            let wanted = self.small.len().min(length.max(size) + 1);
            let got = read_at(fd, &mut self.small[length..wanted], length as u64)?;
            length += got;
            if got == 0 || (length == size && length < wanted) {
                return Ok(Some(length));
            }
        }
        Ok(None)
    }

    /// Cuts the data of `range` into chunks and sees to each; returns where it ended (earlier if the file shrank).
    fn chunk_data(
        &mut self,
        fd: &OwnedFd,
        file: &Arc<LargeFile>,
        number: &mut usize,
        range: std::ops::Range<u64>,
    ) -> Result<u64, Failure> {
        self.buffer.resize(BUFFER_BYTES, 0);
        // What is read and not yet cut, where in the file it starts, and where it ends.
        let mut rest = 0..0;
        let mut at = range.start;
        let mut read_to = range.start;
        loop {
            self.blobs.control.check().map_err(Failure::Engine)?;
            let Some(length) = self.cut(&self.buffer[rest.clone()], read_to < range.end) else {
                self.buffer.copy_within(rest.clone(), 0);
                rest = 0..rest.len();
                let room = (self.buffer.len() - rest.end) as u64;
                let wanted = rest.end + room.min(range.end - read_to) as usize;
                while rest.end < wanted {
                    let got = read_at(fd, &mut self.buffer[rest.end..wanted], read_to)?;
                    if got == 0 {
                        read_to = range.end;
                        break;
                    }
                    rest.end += got;
                    read_to += got as u64;
                }
                continue;
            };
            if length == 0 {
                return Ok(at);
            }
            // Another one, if it is at hand, is hashed beside it.
            let behind = rest.start + length..rest.end;
            let second = self.cut(&self.buffer[behind], read_to < range.end).unwrap_or(0);
            let (chunks, count) = (rest.start..rest.start + length + second, 1 + usize::from(second > 0));
            rest.start = chunks.end;
            at += chunks.len() as u64;
            file.pending.fetch_add(count, Ordering::AcqRel);
            if self.chunks.is_full() {
                let chunks = self.buffer[chunks].split_at(length);
                store_chunks(self.blobs, &mut self.sealer, file, *number, chunks).map_err(Failure::Engine)?;
            } else {
                let data = self.spare.copy(&self.buffer[chunks]);
                let job = ChunkJob { data, first: length, number: *number, file: file.clone() };
                if self.chunks.send(job).is_err() {
                    let message = "the threads that store chunks ended early; please report this";
                    return Err(Failure::Engine(Error::new(ErrorKind::Io, message)));
                }
            }
            *number += count;
        }
    }

    /// Length of the chunk at the start of `rest`; `None` if what follows (`more`) may decide.
    fn cut(&self, rest: &[u8], more: bool) -> Option<usize> {
        if more && rest.len() < CUT_BYTES_MIN {
            return None;
        }
        let length = self.chunker.cut(rest);
        // A cut before the end of what is at hand is one whatever follows.
        (length < rest.len() || length == CHUNK_MAX || !more).then_some(length)
    }

    /// A hole of `length` bytes. It starts with a chunk of [`CHUNK_MIN`] zeros, since by such a one restic's
    /// `restore --sparse` knows a file with holes.
    fn zero_chunks(&mut self, file: &Arc<LargeFile>, number: &mut usize, mut length: u64) -> Result<()> {
        let mut part = length.min(CHUNK_MIN as u64);
        while length > 0 {
            self.blobs.control.check()?;
            file.set(*number, self.zero_chunk(part)?);
            *number += 1;
            self.blobs.control.progress.bytes(part);
            length -= part;
            part = length.min(CHUNK_MAX as u64);
        }
        Ok(())
    }

    fn zero_chunk(&mut self, length: u64) -> Result<Id> {
        if let Some((_, id)) = self.zeros.iter().find(|(known, _)| *known == length) {
            return Ok(*id);
        }
        let zeros = vec![0; usize::try_from(length).unwrap_or(CHUNK_MAX)];
        let id = self.blobs.store(&mut self.sealer, BlobKind::Data, &zeros)?;
        if [CHUNK_MIN, CHUNK_MAX].contains(&zeros.len()) {
            self.zeros.push((length, id));
        }
        Ok(id)
    }
}

/// Why a file is not in the backup, or why there is no backup.
enum Failure {
    Source(io::Error),
    Engine(Error),
}

fn source(e: Errno) -> Failure {
    Failure::Source(e.into())
}

fn read_at(fd: &OwnedFd, buffer: &mut [u8], offset: u64) -> Result<usize, Failure> {
    loop {
        match rustix::io::pread(fd, &mut *buffer, offset) {
            Err(Errno::INTR) => {}
            other => return other.map_err(source),
        }
    }
}

/// The next stretch of data at or behind `at`, and, if nothing but a hole follows it, where that ends. `None` at the end.
#[allow(clippy::type_complexity)]
fn next_segment(
    fd: &OwnedFd,
    at: u64,
    size: u64,
    sparse: bool,
) -> io::Result<Option<(std::ops::Range<u64>, Option<u64>)>> {
    if at >= size {
        return Ok(None);
    }
    if !sparse {
        return Ok(Some((at..size, None)));
    }
    let start = match rustix::fs::seek(fd, SeekFrom::Data(at)) {
        Ok(start) => start.min(size),
        // Nothing but a hole is left.
        Err(Errno::NXIO) => return Ok(Some((at..at, Some(size)))),
        // This file system does not tell its holes.
        Err(Errno::INVAL) => return Ok(Some((at..size, None))),
        Err(e) => return Err(e.into()),
    };
    let end = match rustix::fs::seek(fd, SeekFrom::Hole(start)) {
        Ok(end) => end.min(size),
        Err(Errno::NXIO) => size,
        Err(e) => return Err(e.into()),
    };
    Ok(Some((start..end.max(start), None)))
}
