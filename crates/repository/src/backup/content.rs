//! Content of files: reading, cutting into chunks, hashing.
//!
//! A reader takes one file at a time. A small file is one chunk, which it hashes and stores itself. The chunks of a
//! large file go to the chunk workers ([`Chunks`]). Holes are not read: each is a row of zero chunks whose ids are
//! computed once.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Receiver;
use rustix::fs::{SeekFrom, Stat};
use rustix::io::Errno;

use super::blobs::{BlobStore, count};
use super::chunks::{Chunks, CutFile, cut_two};
use super::directory::{Directory, End};
use crate::chunk::{CHUNK_MAX, CHUNK_MIN, Chunker};
use crate::pack::BlobKind;
use crate::pack_writer::Sealer;
use crate::posix::{self, Attributed, Names, show};
use crate::tree::{Node, NodeKind};
use crate::{Error, Id, Result};

/// A reader's memory for a large file.
const BUFFER_BYTES: usize = CHUNK_MAX + (2 << 20);

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

/// Reads files until there are no more.
pub(super) fn run_reader(
    blobs: &BlobStore<'_>,
    chunker: &Chunker,
    names: &Names,
    files: &Receiver<FileJob>,
    chunks: Chunks<'_>,
) -> Result<()> {
    let mut reader = Reader {
        blobs,
        chunker,
        names,
        chunks,
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
    chunks: Chunks<'a>,
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
    Large(Arc<CutFile>, u64),
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
            Read::Large(file, size) => {
                // What was read counts, should the file have grown or shrunk.
                node.size = size;
                file.end(node, &mut End { blobs: self.blobs, sealer: &mut self.sealer })
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
        let file = CutFile::new(job.into.clone(), job.slot);
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
        Ok(Read::Large(file, at))
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
        file: &Arc<CutFile>,
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
            let more = read_to < range.end;
            let Some((first, both)) = cut_two(self.chunker, &self.buffer[rest.clone()], more) else {
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
            if first == 0 {
                return Ok(at);
            }
            let chunks = self.buffer[rest.start..rest.start + both].split_at(first);
            *number += self
                .chunks
                .store(self.blobs, &mut self.sealer, file, *number, chunks)
                .map_err(Failure::Engine)?;
            rest.start += both;
            at += both as u64;
        }
    }

    /// A hole of `length` bytes. It starts with a chunk of [`CHUNK_MIN`] zeros, since by such a one restic's
    /// `restore --sparse` knows a file with holes.
    fn zero_chunks(&mut self, file: &Arc<CutFile>, number: &mut usize, mut length: u64) -> Result<()> {
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
