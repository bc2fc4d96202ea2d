//! Content out of a snapshot without a file system in between: one file, or a directory as a tar archive.
//!
//! Several threads read and open chunks ahead; they are written in order, and each is hashed before it is written.

use std::collections::HashMap;
use std::io::Write;

use crossbeam_channel::bounded;

use crate::pack::BlobKind;
use crate::posix::show;
use crate::repository::Opener;
use crate::tar;
use crate::tree::{Node, NodeKind};
use crate::walk;
use crate::{Control, Error, ErrorKind, Id, Index, Repository, Result, join, spawn, threads};

/// The entry at `path` in a snapshot; `None` for its root.
pub fn entry_at(repository: &Repository, index: &Index, tree: Id, path: &[u8]) -> Result<Option<Node>> {
    walk::find(repository, index, tree, path, &mut Opener::new()?)
}

/// Writes the content of a file.
pub fn dump_file(
    repository: &Repository,
    index: &Index,
    node: &Node,
    control: &Control,
    out: &mut dyn Write,
) -> Result<()> {
    let readers = threads().min(node.content.len());
    std::thread::scope(|scope| {
        let (mut receivers, mut handles) = (Vec::new(), Vec::new());
        for first in 0..readers {
            // Reader n has every nth chunk, so taking from each in turn gives them in order.
            let (sender, receiver) = bounded(1);
            receivers.push(receiver);
            handles.push(spawn(scope, move || {
                let mut opener = Opener::new()?;
                for id in node.content.iter().skip(first).step_by(readers) {
                    control.check()?;
                    let plain = repository.read_blob(index, BlobKind::Data, *id, &mut opener)?;
                    if sender.send(plain).is_err() {
                        break;
                    }
                }
                Ok(())
            })?);
        }
        let mut written = Ok(());
        for number in 0..node.content.len() {
            // A reader that failed says why when it is joined.
            let Ok(chunk) = receivers[number % readers].recv() else { break };
            control.progress.bytes(chunk.len() as u64);
            written = out.write_all(&chunk).map_err(write_error);
            if written.is_err() {
                break;
            }
        }
        drop(receivers);
        let read: Result<Vec<()>> = handles.into_iter().map(join).collect();
        written.and(read.map(drop))
    })
}

pub(crate) fn write_error(e: std::io::Error) -> Error {
    let kind = match e.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
        _ => ErrorKind::Io,
    };
    Error { kind, message: format!("cannot write the output: {e}"), source: Some(Box::new(e)) }
}

/// Writes what lies below `tree`, which stands at `path` in its snapshot, as a tar archive. Names in the archive are
/// the whole paths without the leading slash, as restic gives them.
pub fn dump_tar(
    repository: &Repository,
    index: &Index,
    (tree, path): (Id, &[u8]),
    directory: Option<&Node>,
    control: &Control,
    out: &mut dyn Write,
) -> Result<()> {
    let root: Vec<u8> = path
        .split(|&b| b == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .flat_map(|part| std::iter::once(b'/').chain(part.iter().copied()))
        .collect();
    let mut archive = Archive { repository, index, control, out, links: HashMap::new() };
    if let Some(directory) = directory {
        archive.entry(&root, directory)?;
    }
    walk::walk_tree(repository, index, tree, &mut Opener::new()?, &mut |below, node| {
        control.check()?;
        archive.entry(&[&root, below].concat(), node)
    })?;
    archive.out.write_all(&tar::END).map_err(write_error)?;
    archive.out.flush().map_err(write_error)
}

struct Archive<'a> {
    repository: &'a Repository,
    index: &'a Index,
    control: &'a Control,
    out: &'a mut dyn Write,
    /// First names of files with several.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl Archive<'_> {
    fn entry(&mut self, path: &[u8], node: &Node) -> Result<()> {
        let name = path.strip_prefix(b"/").unwrap_or(path);
        if matches!(node.kind, NodeKind::Socket | NodeKind::Irregular) {
            self.control.warn(show(path), format!("a tar archive cannot hold it: {}", node.kind));
            return Ok(());
        }
        if node.kind == NodeKind::File && node.links > 1 && node.inode != 0 {
            if let Some(first) = self.links.get(&(node.device_id, node.inode)) {
                let header = tar::hard_link(name, first, node);
                return self.out.write_all(&header).map_err(write_error);
            }
            self.links.insert((node.device_id, node.inode), name.to_vec());
        }
        // What the chunks add up to is what will be written.
        let mut size = 0;
        for id in &node.content {
            let place = self.index.place(BlobKind::Data, id)?;
            size += place.map_or(0, |place| u64::from(place.plain_length()));
        }
        self.out.write_all(&tar::header(name, node, size)).map_err(write_error)?;
        if node.kind == NodeKind::File {
            dump_file(self.repository, self.index, node, self.control, self.out)?;
            self.out.write_all(tar::padding(size)).map_err(write_error)?;
            self.control.progress.file_done();
        }
        Ok(())
    }
}
