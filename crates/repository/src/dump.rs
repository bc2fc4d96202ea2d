//! Content out of a snapshot without a file system in between: one file, or a directory as a tar or zip archive.
//!
//! Several threads read and open chunks ahead; they are written in order, and each is hashed before it is written.

use std::collections::HashMap;
use std::io::Write;

use crossbeam_channel::bounded;

use crate::pack::BlobKind;
use crate::posix::show;
use crate::repository::Opener;
use crate::tree::{Node, NodeKind};
use crate::{Control, Error, ErrorKind, Id, Index, Repository, Result, join, spawn, threads};
use crate::{tar, walk, zip};

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

/// The kind of archive that a directory becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveKind {
    /// Holds all but sockets.
    Tar,
    /// Holds files, directories and symbolic links, uncompressed; its list of names is in memory until the end.
    Zip,
}

/// Writes what lies below `tree`, which stands at `path` in its snapshot, as an archive. Names in the archive are
/// the whole paths without the leading slash, as restic gives them.
pub fn dump_archive(
    repository: &Repository,
    index: &Index,
    kind: ArchiveKind,
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
    let (links, zip) = Default::default();
    let mut archive = Archive { repository, index, control, out, kind, links, zip };
    if let Some(directory) = directory {
        archive.entry(&root, directory)?;
    }
    walk::walk_tree(repository, index, tree, &mut Opener::new()?, &mut |below, node| {
        control.check()?;
        archive.entry(&[&root, below].concat(), node)
    })?;
    archive.end()
}

struct Archive<'a> {
    repository: &'a Repository,
    index: &'a Index,
    control: &'a Control,
    out: &'a mut dyn Write,
    kind: ArchiveKind,
    /// In a tar archive, first names of files with several, and what content they have.
    links: HashMap<(u64, u64), (Vec<u8>, Id)>,
    /// What a zip archive ends with.
    zip: zip::Directory,
}

impl Archive<'_> {
    fn entry(&mut self, path: &[u8], node: &Node) -> Result<()> {
        let name = path.strip_prefix(b"/").unwrap_or(path);
        match self.kind {
            ArchiveKind::Tar => self.tar_entry(name, node),
            ArchiveKind::Zip => self.zip_entry(name, node),
        }
    }

    fn tar_entry(&mut self, name: &[u8], node: &Node) -> Result<()> {
        if matches!(node.kind, NodeKind::Socket | NodeKind::Irregular) {
            self.cannot_hold(name, "tar", &node.kind);
            return Ok(());
        }
        if node.kind == NodeKind::File && node.links > 1 && node.inode != 0 {
            let inode = (node.device_id, node.inode);
            match self.links.get(&inode) {
                Some((first, content)) if *content == node.content_mark() => {
                    let header = tar::hard_link(name, first, node);
                    return self.write(&header);
                }
                Some(_) => {}
                None => drop(self.links.insert(inode, (name.to_vec(), node.content_mark()))),
            }
        }
        let size = self.size(node)?;
        self.write(&tar::header(name, node, size))?;
        if node.kind == NodeKind::File {
            dump_file(self.repository, self.index, node, self.control, self.out)?;
            self.write(tar::padding(size))?;
            self.control.progress.file_done();
        }
        Ok(())
    }

    fn zip_entry(&mut self, name: &[u8], node: &Node) -> Result<()> {
        let content = match node.kind {
            NodeKind::Dir => zip::Content::Here(b""),
            NodeKind::Symlink => zip::Content::Here(node.link_target.as_deref().unwrap_or_default()),
            NodeKind::File => zip::Content::Follows(self.size(node)?),
            _ => {
                self.cannot_hold(name, "zip", &node.kind);
                return Ok(());
            }
        };
        let Some((header, entry)) = self.zip.begin(name, node, content) else {
            self.cannot_hold(name, "zip", &"a name so long");
            return Ok(());
        };
        self.write(&header)?;
        let mut written = None;
        if node.kind == NodeKind::File {
            let mut summed = Summed { out: &mut *self.out, crc: zip::Crc::new(), length: 0 };
            dump_file(self.repository, self.index, node, self.control, &mut summed)?;
            written = Some((summed.crc.value(), summed.length));
            self.control.progress.file_done();
        }
        let behind = self.zip.end(entry, written);
        self.write(&behind)
    }

    fn cannot_hold(&self, name: &[u8], archive: &str, what: &dyn std::fmt::Display) {
        self.control
            .warn(show(&[b"/", name].concat()), format!("a {archive} archive cannot hold it: {what}"));
    }

    /// What the chunks add up to is what will be written.
    fn size(&self, node: &Node) -> Result<u64> {
        let mut size = 0;
        for id in &node.content {
            let place = self.index.place(BlobKind::Data, id)?;
            size += place.map_or(0, |place| u64::from(place.plain_length()));
        }
        Ok(size)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(write_error)
    }

    fn end(mut self) -> Result<()> {
        match self.kind {
            ArchiveKind::Tar => self.write(&tar::END)?,
            ArchiveKind::Zip => {
                let directory = std::mem::take(&mut self.zip).finish();
                self.write(&directory)?;
            }
        }
        self.out.flush().map_err(write_error)
    }
}

/// Counts and sums what goes through.
struct Summed<'a> {
    out: &'a mut dyn Write,
    crc: zip::Crc,
    length: u64,
}

impl Write for Summed<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.crc.add(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
