//! A stream as a backup: one file, whose content comes from a pipe.
//!
//! The caller's thread reads and cuts; workers hash, compress and seal the chunks. The snapshot exists only once the
//! stream ended well: whoever gives it lets the last read fail if it did not.

use std::io::Read;
use std::path::{Component, Path};
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use crossbeam_channel::bounded;

use super::blobs::{BlobStore, count};
use super::{BackupOutcome, BackupRequest, outcome_of};
use crate::chunk::{CHUNK_MAX, Chunker};
use crate::pack::BlobKind;
use crate::pack_writer::PackWriter;
use crate::tree::{Node, NodeKind, go_mode, tree_text};
use crate::uploaders::with_uploaders;
use crate::{
    Control, Error, ErrorKind, Id, Index, Repository, Result, Time, join, lock_mutex, spawn, threads,
};

/// Read in pieces of this size.
const READ_BYTES: usize = 1 << 20;
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;

/// Backs up what `input` gives as the file `name`, which may have directories in front. `request.paths` is not used.
pub fn backup_stream(
    repository: &Repository,
    index: &Index,
    request: &BackupRequest,
    name: &Path,
    input: &mut dyn Read,
    control: &Control,
) -> Result<BackupOutcome> {
    let started = crate::time::now_text();
    let parts = components(name)?;
    let writer = PackWriter::new(repository, control);
    let blobs = BlobStore::new(repository, index, &writer, control, request);
    let mut tree = Id([0; 32]);
    with_uploaders(&writer, || {
        let (content, size) = store(&blobs, input)?;
        count(&blobs.figures.files_new);
        blobs.figures.bytes.fetch_add(size, Ordering::Relaxed);
        tree = directories(&blobs, &parts, content, size)?;
        Ok(())
    })?;
    let names = [format!("/{}", parts.join("/"))];
    let stored = (blobs.finish(), writer.finish()?);
    outcome_of(repository, request, stored, (&names, None), tree, started)
}

fn components(name: &Path) -> Result<Vec<String>> {
    let invalid = || {
        let name = name.display().to_string();
        Error::new(ErrorKind::Invalid, format!("'{}' cannot be a file's name", name.escape_debug()))
    };
    let mut parts = Vec::new();
    for component in name.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(part) => parts.push(part.to_str().ok_or_else(invalid)?.to_owned()),
            Component::ParentDir | Component::Prefix(_) => return Err(invalid()),
        }
    }
    if parts.is_empty() { Err(invalid()) } else { Ok(parts) }
}

/// Stores the content; returns its chunks in order, and its length.
fn store(blobs: &BlobStore<'_>, input: &mut dyn Read) -> Result<(Vec<Id>, u64)> {
    let chunker = Chunker::new(&blobs.repository.derive_key("strongroom chunker v1"));
    let content = Mutex::new(Vec::new());
    let (sender, receiver) = bounded::<(usize, Vec<u8>)>(threads());
    let mut size = 0;
    std::thread::scope(|scope| {
        let mut workers = Vec::new();
        for _ in 0..threads() {
            let (receiver, content) = (receiver.clone(), &content);
            workers.push(spawn(scope, move || {
                let mut sealer = blobs.sealer()?;
                while let Ok((number, data)) = receiver.recv() {
                    let id = blobs.store(&mut sealer, BlobKind::Data, &data)?;
                    let mut content = lock_mutex(content);
                    if content.len() <= number {
                        content.resize(number + 1, Id([0; 32]));
                    }
                    content[number] = id;
                }
                Ok(())
            })?);
        }
        drop(receiver);
        let read = read(blobs, &chunker, input, &mut |number, data: Vec<u8>| {
            size += data.len() as u64;
            // Workers that failed say why when they are joined, and uploaders told the writer.
            !blobs.writer.has_failed() && sender.send((number, data)).is_ok()
        });
        drop(sender);
        let worked: Result<Vec<()>> = workers.into_iter().map(join).collect();
        worked.and(read)
    })?;
    Ok((content.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner), size))
}

/// Reads to the end and hands on one chunk after the other, until `take` wants no more.
fn read(
    blobs: &BlobStore<'_>,
    chunker: &Chunker,
    input: &mut dyn Read,
    take: &mut dyn FnMut(usize, Vec<u8>) -> bool,
) -> Result<()> {
    let mut buffer = Vec::with_capacity(CHUNK_MAX + READ_BYTES);
    let (mut number, mut ended) = (0, false);
    loop {
        while buffer.len() < CHUNK_MAX && !ended {
            let before = buffer.len();
            let mut piece = (&mut *input).take(READ_BYTES as u64);
            piece.read_to_end(&mut buffer).map_err(|e| Error::path("read", "the stream", e))?;
            ended = buffer.len() == before;
            blobs.control.check()?;
        }
        if buffer.is_empty() {
            return Ok(());
        }
        let rest = buffer.split_off(chunker.cut(&buffer));
        let chunk = std::mem::replace(&mut buffer, rest);
        blobs.control.progress.bytes(chunk.len() as u64);
        if !take(number, chunk) {
            return Ok(());
        }
        number += 1;
    }
}

/// Stores the listings of the file and of the directories above it; returns that of the root.
fn directories(blobs: &BlobStore<'_>, parts: &[String], content: Vec<Id>, size: u64) -> Result<Id> {
    let mut sealer = blobs.sealer()?;
    let now = Time::now();
    let mut below = None;
    for (depth, name) in parts.iter().enumerate().rev() {
        let is_file = depth + 1 == parts.len();
        let mut node =
            Node::new(name.as_bytes().to_vec(), if is_file { NodeKind::File } else { NodeKind::Dir });
        (node.mtime, node.atime, node.ctime) = (now, now, now);
        node.uid = rustix::process::getuid().as_raw();
        node.gid = rustix::process::getgid().as_raw();
        if is_file {
            node.mode = FILE_MODE;
            node.size = size;
            node.content = content.clone();
        } else {
            node.mode = DIRECTORY_MODE | go_mode::DIR;
            node.subtree = below;
            count(&blobs.figures.dirs_new);
        }
        let text = tree_text(std::iter::once(node.text()));
        below = Some(blobs.store(&mut sealer, BlobKind::Tree, &text)?);
    }
    below.ok_or_else(|| Error::new(ErrorKind::Invalid, "a stream needs a name"))
}
