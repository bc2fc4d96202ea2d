//! Content of files: reading, cutting into chunks, hashing.
//!
//! A reader takes one file at a time. A small file is one chunk, which it hashes and stores itself. The chunks of a
//! large file go to the chunk workers, so that one large file uses all cores. Holes are not read: each is a row of
//! zero chunks whose ids are computed once.

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
use crate::pack_writer::Sealer;
use crate::posix::{self, Attributed, Names, show};
use crate::tree::{Node, NodeKind};
use crate::{Error, ErrorKind, Id, Result, lock_mutex};

/// A large file is read in pieces of this size.
const READ_BYTES: usize = 1 << 20;

/// Longest file, holes included: the list of its chunks must fit into its directory's listing.
const FILE_BYTES_MAX: u64 = 16 << 40;

/// A file that must be read.
pub(super) struct FileJob {
    pub(super) dir: Arc<OwnedFd>,
    pub(super) name: Vec<u8>,
    /// For people.
    pub(super) path: Vec<u8>,
    /// The parent snapshot has it with other content.
    pub(super) changed: bool,
    pub(super) into: Arc<Directory>,
    pub(super) slot: usize,
}

/// A chunk of a large file.
pub(super) struct ChunkJob {
    data: Vec<u8>,
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

/// Hashes and stores chunks until there are no more.
pub(super) fn run_chunk_worker(blobs: &BlobStore<'_>, chunks: &Receiver<ChunkJob>) -> Result<()> {
    let mut sealer = blobs.sealer()?;
    while let Ok(job) = chunks.recv() {
        if blobs.writer.has_failed() {
            continue;
        }
        let id = Id::of(&job.data);
        let stored = blobs.store(&mut sealer, BlobKind::Data, id, &job.data).and_then(|()| {
            job.file.set(job.number, id);
            blobs.control.progress.bytes(job.data.len() as u64);
            job.file.release(&mut End { blobs, sealer: &mut sealer })
        });
        if let Err(error) = stored {
            blobs.writer.fail(error);
        }
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
) -> Result<()> {
    let mut reader = Reader {
        blobs,
        chunker,
        names,
        chunks,
        sealer: blobs.sealer()?,
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
    sealer: Sealer,
    buffer: Vec<u8>,
    /// Ids of the zero chunks of [`CHUNK_MIN`] and [`CHUNK_MAX`] bytes, once they are stored.
    zeros: Vec<(u64, Id)>,
}

/// What reading a file came to.
enum Read {
    /// All of it is in the buffer.
    Small,
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
        let stat = rustix::fs::fstat(&fd).map_err(source)?;
        if posix::kind(&stat) != NodeKind::File {
            return Err(Failure::Source(io::Error::other("it was replaced by something that is no file")));
        }
        let read = self.read(job, &fd, &stat)?;
        let after = rustix::fs::fstat(&fd).map_err(source)?;
        let changed = |a: &Stat, b: &Stat| {
            (posix::mtime(a), posix::ctime(a), a.st_size) != (posix::mtime(b), posix::ctime(b), b.st_size)
        };
        if changed(&stat, &after) {
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
            Read::Small => {
                node.size = self.buffer.len() as u64;
                if !self.buffer.is_empty() {
                    let id = Id::of(&self.buffer);
                    node.content.push(id);
                    self.blobs.store(&mut self.sealer, BlobKind::Data, id, &self.buffer)?;
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
        if size <= CHUNK_MIN as u64 {
            self.buffer.clear();
            // One byte more than a small file has, to see that it did not grow.
            let whole = self.fill(fd, 0, CHUNK_MIN + 1, usize::try_from(size).unwrap_or(CHUNK_MIN) + 1)?;
            if whole {
                return Ok(Read::Small);
            }
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

    /// Appends to the buffer from `offset` until it holds `length` bytes; `true` if the file ended before that.
    fn fill(&mut self, fd: &OwnedFd, mut offset: u64, length: usize, step: usize) -> Result<bool, Failure> {
        while self.buffer.len() < length {
            let start = self.buffer.len();
            let want = step.min(length - start);
            self.buffer.resize(start + want, 0);
            let got = loop {
                match rustix::io::pread(fd, &mut self.buffer[start..], offset) {
                    Err(Errno::INTR) => {}
                    other => break other,
                }
            };
            let got = match got {
                Ok(got) => got,
                Err(e) => {
                    self.buffer.truncate(start);
                    return Err(source(e));
                }
            };
            self.buffer.truncate(start + got);
            if got == 0 {
                return Ok(true);
            }
            offset += got as u64;
        }
        Ok(false)
    }

    /// Cuts the data of `range` into chunks and hands them on; returns where it ended (earlier if the file shrank).
    fn chunk_data(
        &mut self,
        fd: &OwnedFd,
        file: &Arc<LargeFile>,
        number: &mut usize,
        range: std::ops::Range<u64>,
    ) -> Result<u64, Failure> {
        self.buffer.clear();
        let mut used = 0;
        let mut read_to = range.start;
        let mut at = range.start;
        loop {
            if self.buffer.len() - used < CHUNK_MAX && read_to < range.end {
                self.buffer.drain(..used);
                used = 0;
                let before = self.buffer.len();
                let wanted = (before as u64 + (range.end - read_to)).min((CHUNK_MAX + READ_BYTES) as u64);
                let ended =
                    self.fill(fd, read_to, usize::try_from(wanted).unwrap_or(CHUNK_MAX), READ_BYTES)?;
                read_to = if ended { range.end } else { read_to + (self.buffer.len() - before) as u64 };
            }
            let rest = &self.buffer[used..];
            if rest.is_empty() {
                return Ok(at);
            }
            self.blobs.control.check().map_err(Failure::Engine)?;
            let length = self.chunker.cut(rest);
            let data = rest[..length].to_vec();
            used += length;
            at += length as u64;
            file.pending.fetch_add(1, Ordering::AcqRel);
            let job = ChunkJob { data, number: *number, file: file.clone() };
            *number += 1;
            if self.chunks.send(job).is_err() {
                let message = "the threads that store chunks ended early; please report this";
                return Err(Failure::Engine(Error::new(ErrorKind::Io, message)));
            }
        }
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
        let id = Id::of(&zeros);
        self.blobs.store(&mut self.sealer, BlobKind::Data, id, &zeros)?;
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
