//! Files that come from elsewhere than a directory: tables of a database, objects of a bucket.
//!
//! The caller's thread names one file after the other, in the order of their paths, and keeps the listings of the
//! directories that it is in. Workers take the files in turn: each lets a file write its content, and cuts that as it
//! comes; the chunks are stored by it or by a chunk worker ([`Chunks`]), so that one long file uses all cores. A file
//! that is the same as in the parent snapshot is not asked for its content. The queues are bounded.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::blobs::{BlobStore, count};
use super::chunks::{self, ChunkJob, Chunks, CutFile, Spare, cut_two};
use super::directory::{Before, Directory, End, Root};
use super::source::Sources;
use super::{BackupOutcome, BackupRequest, find_parent, outcome_of};
use crate::chunk::{CHUNK_MAX, Chunker};
use crate::pack::BlobKind;
use crate::pack_writer::{PackWriter, Sealer};
use crate::posix::show;
use crate::repository::Opener;
use crate::tree::{Node, NodeKind, go_mode};
use crate::uploaders::with_uploaders;
use crate::{Control, Error, ErrorKind, Id, Index, Repository, Result, Time, join, spawn, threads};

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// With this much at hand chunks are cut; more than the longest of them, so that one always is.
const BUFFER_BYTES: usize = CHUNK_MAX + (2 << 20);
/// Named files that wait for a worker.
const QUEUE: usize = 64;

/// Whether a file's content could be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fed {
    /// All of it was written.
    Whole,
    /// All of it was written, and these attributes belong to it; they take the place of those that it was named with.
    Described(Vec<(String, Vec<u8>)>),
    /// It went since it was named: it is not in the backup.
    Gone,
}

/// Writes a file's content; called at most once, on a worker's thread. Its error ends the backup, as [`ErrorKind::Source`].
pub type FedContent<'f> = Box<dyn FnOnce(&mut dyn Write) -> io::Result<Fed> + Send + 'f>;

/// One file that does not come from a directory.
pub struct FedFile<'f> {
    /// Names from below the root of the backup to the file. Files come in the order of these lists, byte by byte,
    /// each once, and no file has the path of a directory.
    pub path: Vec<Vec<u8>>,
    /// Time of last change of the content.
    pub mtime: Time,
    /// Stored as extended attributes, in this order.
    pub attributes: Vec<(String, Vec<u8>)>,
    /// Its length, if that is known beforehand and, with the time and these attributes as the first of all, tells whether the
    /// content is the same as in the parent snapshot.
    pub same_if_size: Option<u64>,
    /// Its content.
    pub content: FedContent<'f>,
}

/// Backs up the files that `files` names, below the one absolute path of `request.paths`, with so many `workers`. The
/// rules about what to leave out do not apply.
pub fn backup_feed<'f>(
    repository: &Repository,
    index: &Index,
    request: &BackupRequest,
    files: &mut dyn FnMut() -> Result<Option<FedFile<'f>>>,
    workers: usize,
    control: &Control,
) -> Result<BackupOutcome> {
    let started = crate::time::now_text();
    let sources = Sources::new(&request.paths)?;
    let parent = find_parent(repository, request, &sources)?;
    let writer = PackWriter::new(repository, control);
    let blobs = BlobStore::new(repository, index, &writer, control, request);
    let root = Root::default();
    with_uploaders(&writer, || {
        let top = sources.names().first().map(String::as_str).unwrap_or_default();
        let before = parent.as_ref().map(|(_, snapshot)| snapshot.tree);
        run(&blobs, top, before, &root, files, workers.max(1))
    })?;
    let stored = (blobs.finish(), writer.finish()?);
    control.check()?;
    let tree = root.tree().ok_or_else(|| {
        Error::new(ErrorKind::Io, "the backup ended without a listing of its root; please report this")
    })?;
    outcome_of(repository, request, stored, (sources.names(), parent.map(|(id, _)| id)), tree, started)
}

/// A named file on its way to a worker.
struct Job<'f> {
    node: Node,
    path: String,
    content: FedContent<'f>,
    changed: bool,
    into: Arc<Directory>,
    slot: usize,
}

fn run<'f>(
    blobs: &BlobStore<'_>,
    top: &str,
    before: Option<Id>,
    root: &Root,
    files: &mut dyn FnMut() -> Result<Option<FedFile<'f>>>,
    workers: usize,
) -> Result<()> {
    let chunker = Chunker::new(&blobs.repository.derive_key("strongroom chunker v1"));
    let (sender, receiver) = bounded::<Job<'f>>(QUEUE);
    let (chunk_sender, chunk_receiver) = bounded::<ChunkJob>(threads());
    let spare = Spare::default();
    std::thread::scope(|scope| {
        let mut handles = Vec::new();
        for _ in 0..workers {
            let chunks = Chunks::new(chunk_sender.clone(), &spare);
            let (receiver, chunker) = (receiver.clone(), &chunker);
            handles.push(spawn(scope, move || work(blobs, chunker, &receiver, chunks))?);
        }
        for _ in 0..threads() {
            let (jobs, spare) = (chunk_receiver.clone(), &spare);
            handles.push(spawn(scope, move || chunks::work(blobs, &jobs, spare))?);
        }
        // They end when nobody sends any more.
        drop((receiver, chunk_sender, chunk_receiver));
        let mut naming =
            Naming { blobs, sealer: blobs.sealer()?, opener: Opener::new()?, open: Vec::new(), sender };
        let named = naming.run(top, before, root, files);
        drop(naming);
        if let Err(error) = named {
            blobs.writer.fail(error);
        }
        handles.into_iter().try_for_each(join)
    })
}

/// The caller's thread: from names to listings and jobs.
struct Naming<'a, 'b, 'f> {
    blobs: &'a BlobStore<'b>,
    sealer: Sealer,
    opener: Opener,
    /// The directories from the root down to the last file, each held open.
    open: Vec<(Vec<u8>, Arc<Directory>)>,
    sender: Sender<Job<'f>>,
}

impl<'f> Naming<'_, '_, 'f> {
    fn run(
        &mut self,
        top: &str,
        before: Option<Id>,
        root: &Root,
        files: &mut dyn FnMut() -> Result<Option<FedFile<'f>>>,
    ) -> Result<()> {
        let before = Before::read(self.blobs, before, b"", &mut self.opener)?;
        self.open.push((Vec::new(), Directory::root(root, before)));
        let top: Vec<Vec<u8>> =
            top.split('/').filter(|name| !name.is_empty()).map(|name| name.as_bytes().to_vec()).collect();
        self.descend(&top, 0)?;
        while let Some(mut file) = files()? {
            self.blobs.control.check()?;
            if self.blobs.writer.has_failed() {
                return Ok(());
            }
            let name = file.path.pop().ok_or_else(|| invalid("a file without a name"))?;
            let directory = [&top[..], &file.path[..]].concat();
            let shared =
                self.open[1..].iter().zip(&directory).take_while(|((open, _), name)| open == *name).count();
            self.ascend(1 + shared)?;
            self.descend(&directory, shared)?;
            self.file(name, file)?;
        }
        self.ascend(0)
    }

    /// Leaves all directories but the first `keep`.
    fn ascend(&mut self, keep: usize) -> Result<()> {
        while self.open.len() > keep {
            if let Some((_, directory)) = self.open.pop() {
                directory.release(&mut End { blobs: self.blobs, sealer: &mut self.sealer })?;
            }
        }
        Ok(())
    }

    /// Opens the directories of `path` below the first `from`, which are open.
    fn descend(&mut self, path: &[Vec<u8>], from: usize) -> Result<()> {
        for (depth, name) in path.iter().enumerate().skip(from) {
            check_name(name)?;
            let Some((_, parent)) = self.open.last() else { return Err(invalid("no root")) };
            let parent = Arc::clone(parent);
            let number = position(&parent, name);
            let subtree = number.and_then(|number| parent.before.nodes[number].subtree);
            let before = Before::read(self.blobs, subtree, &shown(&path[..=depth]), &mut self.opener)?;
            let mut node = Node::new(name.clone(), NodeKind::Dir);
            node.mode = DIRECTORY_MODE | go_mode::DIR;
            let slot = parent.expect_one();
            self.open.push((name.clone(), Directory::child(&parent, slot, node, number, before)));
        }
        Ok(())
    }

    fn file(&mut self, name: Vec<u8>, file: FedFile<'f>) -> Result<()> {
        check_name(&name)?;
        let Some((_, into)) = self.open.last() else { return Err(invalid("no root")) };
        let into = Arc::clone(into);
        let slot = into.expect_one();
        let mut path = file.path;
        path.push(name.clone());
        let path = show(&shown(&path));
        let mut node = Node::new(name, NodeKind::File);
        node.mode = FILE_MODE;
        (node.mtime, node.atime, node.ctime) = (file.mtime, file.mtime, file.mtime);
        node.links = 1;
        node.size = file.same_if_size.unwrap_or(0);
        node.xattrs = file.attributes;
        let number = position(&into, &node.name);
        if let Some(number) = number
            && file.same_if_size.is_some()
            && self.is_same(&node, &into.before.nodes[number])?
        {
            let figures = &self.blobs.figures;
            count(&figures.files_unmodified);
            figures.bytes.fetch_add(node.size, Ordering::Relaxed);
            self.blobs.control.progress.bytes(node.size);
            self.blobs.control.progress.file_done();
            return into.same(slot, number, &mut End { blobs: self.blobs, sealer: &mut self.sealer });
        }
        let job = Job { node, path, content: file.content, changed: number.is_some(), into, slot };
        self.sender
            .send(job)
            .map_err(|_| Error::new(ErrorKind::Io, "the threads that read ended early; please report this"))
    }

    /// Same metadata, and all content still stored.
    fn is_same(&self, node: &Node, before: &Node) -> Result<bool> {
        if self.blobs.force || !node.has_metadata_of(before) || !before.xattrs.starts_with(&node.xattrs) {
            return Ok(false);
        }
        for id in &before.content {
            if !self.blobs.is_known(BlobKind::Data, id)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn position(directory: &Directory, name: &[u8]) -> Option<usize> {
    directory.before.nodes.binary_search_by(|node| node.name.as_slice().cmp(name)).ok()
}

fn shown(path: &[Vec<u8>]) -> Vec<u8> {
    path.iter().flat_map(|name| [b"/", &name[..]]).flatten().copied().collect()
}

fn check_name(name: &[u8]) -> Result<()> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
        return Err(invalid(&format!("'{}' cannot be a file's name", show(name))));
    }
    Ok(())
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

/// A worker: takes the content of one file after the other.
fn work(
    blobs: &BlobStore<'_>,
    chunker: &Chunker,
    jobs: &Receiver<Job<'_>>,
    chunks: Chunks<'_>,
) -> Result<()> {
    let mut worker = Worker { blobs, chunker, chunks, sealer: blobs.sealer()?, buffer: Vec::new() };
    while let Ok(job) = jobs.recv() {
        // After a failure the rest is only taken from the queue.
        if blobs.writer.has_failed() {
            continue;
        }
        if let Err(error) = blobs.control.check().and_then(|()| worker.file(job)) {
            blobs.writer.fail(error);
        }
    }
    Ok(())
}

struct Worker<'a, 'b> {
    blobs: &'a BlobStore<'b>,
    chunker: &'a Chunker,
    chunks: Chunks<'a>,
    sealer: Sealer,
    /// Of the file, not yet cut.
    buffer: Vec<u8>,
}

impl Worker<'_, '_> {
    fn file(&mut self, job: Job<'_>) -> Result<()> {
        let Job { mut node, path, content, changed, into, slot } = job;
        let blobs = self.blobs;
        blobs.control.progress.set_current(&path);
        self.buffer.clear();
        let file = CutFile::new(Arc::clone(&into), slot);
        let mut sink = Sink { worker: &mut *self, file, number: 0, size: 0, failed: None };
        let fed = content(&mut sink);
        // The engine's own failure reached the source as an error of its writing.
        if let Some(error) = sink.failed.take() {
            return Err(error);
        }
        match fed {
            Err(e) => {
                let message = format!("cannot read '{path}': {e}");
                Err(Error { kind: ErrorKind::Source, message, source: Some(Box::new(e)) })
            }
            Ok(Fed::Gone) => {
                blobs.control.progress.file_done();
                into.done(slot, None, &mut End { blobs, sealer: &mut self.sealer })
            }
            Ok(whole) => {
                if let Fed::Described(attributes) = whole {
                    node.xattrs = attributes;
                }
                sink.cut(true)?;
                let Sink { file, size, .. } = sink;
                node.size = size;
                count(if changed { &blobs.figures.files_changed } else { &blobs.figures.files_new });
                file.end(node, &mut End { blobs, sealer: &mut self.sealer })
            }
        }
    }
}

/// Cuts what is written to it.
struct Sink<'w, 'a, 'b> {
    worker: &'w mut Worker<'a, 'b>,
    file: Arc<CutFile>,
    /// Chunks, and bytes in them.
    number: usize,
    size: u64,
    failed: Option<Error>,
}

impl Sink<'_, '_, '_> {
    /// Sees to all chunks whose end does not depend on what is still to come; at the `end` to all.
    fn cut(&mut self, end: bool) -> Result<()> {
        let worker = &mut *self.worker;
        let mut at = 0;
        while let Some((first, both)) = cut_two(worker.chunker, &worker.buffer[at..], !end)
            && first > 0
        {
            worker.blobs.control.check()?;
            let chunks = worker.buffer[at..at + both].split_at(first);
            let (blobs, sealer) = (worker.blobs, &mut worker.sealer);
            self.number += worker.chunks.store(blobs, sealer, &self.file, self.number, chunks)?;
            self.size += both as u64;
            at += both;
        }
        worker.buffer.drain(..at);
        Ok(())
    }
}

impl Write for Sink<'_, '_, '_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.worker.buffer.len() >= BUFFER_BYTES
            && let Err(error) = self.cut(false)
        {
            let message = error.message.clone();
            self.failed = Some(error);
            return Err(io::Error::other(message));
        }
        // Something was cut, as there was more than the longest chunk.
        let buffer = &mut self.worker.buffer;
        let taken = data.len().min(BUFFER_BYTES - buffer.len());
        buffer.extend_from_slice(&data[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
