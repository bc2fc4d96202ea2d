//! The scan: lists directories, compares each entry with the parent snapshot, and hands on what must be read.
//!
//! Several threads scan. Each goes down into directories by itself; one that finds others idle leaves the next
//! directory to them instead ([`Tasks`]), so that little waits in memory and no directory is too many.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crossbeam_channel::Sender;
use rustix::fs::{CWD, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::blobs::{BlobStore, count};
use super::content::FileJob;
use super::directory::{Before, Directory, End, Root};
use super::exclude::Excludes;
use super::source::{Place, Sources};
use crate::pack::BlobKind;
use crate::pack_writer::Sealer;
use crate::posix::{self, Attributed, Names, show};
use crate::repository::Opener;
use crate::tree::{Node, NodeKind};
use crate::{Error, ErrorKind, Id, Result, lock_mutex};

/// Directories nested deeper than this are named and left out: each level holds a descriptor.
const DEPTH_MAX: usize = 800;

/// A directory that another thread may scan.
struct Task {
    dir: Arc<OwnedFd>,
    name: Vec<u8>,
    stat: Stat,
    before: Option<usize>,
    into: Arc<Directory>,
    slot: usize,
    path: Vec<u8>,
    depth: usize,
}

/// Directories that were left to whoever is idle.
#[derive(Default)]
pub(super) struct Tasks {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    /// Threads that wait for a task. Read without the lock: a hint.
    idle: AtomicUsize,
}

#[derive(Default)]
struct Waiting {
    tasks: Vec<Task>,
    /// Threads that are scanning and may leave more.
    busy: usize,
}

impl Tasks {
    /// While what this returns is kept, the other threads wait for tasks.
    pub(super) fn begin(&self) -> Busy<'_> {
        lock_mutex(&self.waiting).busy += 1;
        Busy(self)
    }

    /// Leaves a directory to another thread, if one is idle.
    fn leave(&self, task: impl FnOnce() -> Task) -> bool {
        if self.idle.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut waiting = lock_mutex(&self.waiting);
        if waiting.tasks.len() >= self.idle.load(Ordering::Relaxed) {
            return false;
        }
        waiting.tasks.push(task());
        self.arrived.notify_one();
        true
    }

    /// The next directory; `None` once nobody is scanning and nothing is left.
    fn next(&self) -> Option<Task> {
        let mut waiting = lock_mutex(&self.waiting);
        loop {
            if let Some(task) = waiting.tasks.pop() {
                waiting.busy += 1;
                return Some(task);
            }
            if waiting.busy == 0 {
                return None;
            }
            self.idle.fetch_add(1, Ordering::Relaxed);
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            self.idle.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A thread that is scanning; dropped when it has done what it took, also by a failure or a panic.
pub(super) struct Busy<'t>(&'t Tasks);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        lock_mutex(&self.0.waiting).busy -= 1;
        self.0.arrived.notify_all();
    }
}

/// A scanning thread's tools.
pub(super) struct Scan<'a, 'b> {
    pub(super) blobs: &'a BlobStore<'b>,
    pub(super) excludes: &'a Excludes,
    pub(super) names: &'a Names,
    pub(super) tasks: &'a Tasks,
    pub(super) files: Sender<FileJob>,
    pub(super) opener: Opener,
}

/// An entry on its way through the scan.
struct Entry<'a> {
    dir: &'a Arc<OwnedFd>,
    name: &'a [u8],
    stat: Stat,
    /// Its number in the parent snapshot's listing, which `into` holds.
    before: Option<usize>,
    into: &'a Arc<Directory>,
    slot: usize,
}

impl Entry<'_> {
    fn node_before(&self) -> Option<&Node> {
        self.before.map(|number| &self.into.before.nodes[number])
    }
}

impl Scan<'_, '_> {
    /// Scans all sources into `root`, with the help of [`Scan::help`] on other threads.
    pub(super) fn run(
        mut self,
        busy: Busy<'_>,
        sources: &Sources,
        parent: Option<Id>,
        root: &Root,
    ) -> Result<()> {
        self.sources(sources, parent, root)?;
        drop(busy);
        self.help()
    }

    /// Scans what other threads leave, until there is nothing more.
    pub(super) fn help(mut self) -> Result<()> {
        let mut sealer = self.blobs.sealer()?;
        while let Some(task) = self.tasks.next() {
            let _busy = Busy(self.tasks);
            let Task { dir, name, stat, before, into, slot, mut path, depth } = task;
            let entry = Entry { dir: &dir, name: &name, stat, before, into: &into, slot };
            self.directory(&entry, &mut path, depth, &mut sealer)?;
        }
        Ok(())
    }

    fn sources(&mut self, sources: &Sources, parent: Option<Id>, root: &Root) -> Result<()> {
        let mut sealer = self.blobs.sealer()?;
        let directory = Directory::root(root, self.listing_before(parent, b"")?);
        directory.expect(sources.roots.len());
        let mut path = Vec::new();
        for (slot, (name, (place_of, place))) in sources.roots.iter().enumerate() {
            let dir = open_root(place_of.as_os_str().as_bytes())?;
            path.clear();
            if place_of.as_os_str().len() > 1 {
                path.extend_from_slice(place_of.as_os_str().as_bytes());
            }
            self.source_entry(&Arc::new(dir), name, place, &directory, slot, &mut path, &mut sealer)?;
        }
        directory.release(&mut End { blobs: self.blobs, sealer: &mut sealer })
    }

    /// An entry that was asked for, or lies on the way to one: it must exist.
    #[allow(clippy::too_many_arguments)]
    fn source_entry(
        &mut self,
        dir: &Arc<OwnedFd>,
        name: &[u8],
        place: &Place,
        into: &Arc<Directory>,
        slot: usize,
        path: &mut Vec<u8>,
        sealer: &mut Sealer,
    ) -> Result<()> {
        let before = into.before.nodes.iter().position(|node| node.name == name);
        let length = path.len();
        path.push(b'/');
        path.extend_from_slice(name);
        let stat = posix::stat_at(dir.as_fd(), name).map_err(|e| Error::path("back up", show(path), e))?;
        match place {
            Place::Whole => self.entry(&Entry { dir, name, stat, before, into, slot }, path, 0, sealer)?,
            Place::OnTheWay(below) => {
                self.on_the_way(&Entry { dir, name, stat, before, into, slot }, below, path, sealer)?;
            }
        }
        path.truncate(length);
        Ok(())
    }

    fn on_the_way(
        &mut self,
        entry: &Entry<'_>,
        below: &BTreeMap<Vec<u8>, Place>,
        path: &mut Vec<u8>,
        sealer: &mut Sealer,
    ) -> Result<()> {
        // A link on the way (like /var/run) is followed, and stands in the snapshot as the directory that it names.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fail = |e: Errno| Error::path("open", show(path), e);
        let fd = rustix::fs::openat(entry.dir, std::ffi::OsStr::from_bytes(entry.name), flags, Mode::empty());
        let fd = Arc::new(fd.map_err(fail)?);
        let stat = rustix::fs::fstat(&fd).map_err(fail)?;
        let mut node = posix::node(entry.name, &stat, self.names);
        node.xattrs = Attributed::Open(fd.as_fd()).read(path, self.blobs.control);
        if self.blobs.timeless_way {
            (node.mtime, node.atime, node.ctime) = Default::default();
        }
        let before = self.listing_before(entry.node_before().and_then(|node| node.subtree), path)?;
        let directory = Directory::child(entry.into, entry.slot, node, entry.before, before);
        directory.expect(below.len());
        for (slot, (name, place)) in below.iter().enumerate() {
            self.source_entry(&fd, name, place, &directory, slot, path, sealer)?;
        }
        directory.release(&mut End { blobs: self.blobs, sealer })
    }

    fn entry(
        &mut self,
        entry: &Entry<'_>,
        path: &mut Vec<u8>,
        depth: usize,
        sealer: &mut Sealer,
    ) -> Result<()> {
        match posix::kind(&entry.stat) {
            NodeKind::Dir => self.directory(entry, path, depth, sealer),
            NodeKind::File => self.file(entry, path, sealer),
            _ => self.special(entry, path, sealer),
        }
    }

    fn directory(
        &mut self,
        entry: &Entry<'_>,
        path: &mut Vec<u8>,
        depth: usize,
        sealer: &mut Sealer,
    ) -> Result<()> {
        let opened = if depth < DEPTH_MAX {
            posix::open_dir(entry.dir.as_fd(), entry.name).map_err(io::Error::from)
        } else {
            Err(io::Error::other(format!("directories are nested deeper than {DEPTH_MAX} levels here")))
        };
        let listed = opened.and_then(|fd| posix::read_dir(fd.as_fd()).map(|names| (Arc::new(fd), names)));
        let (fd, mut names) = match listed {
            Ok(listed) => listed,
            // What was asked for by name must not become an empty backup.
            Err(e) if depth == 0 => return Err(Error::path("list", show(path), e)),
            Err(e) => return self.unreadable(entry, path, &e, sealer),
        };
        let mut node = posix::node(entry.name, &entry.stat, self.names);
        node.xattrs = Attributed::Open(fd.as_fd()).read(path, self.blobs.control);
        let before = self.listing_before(entry.node_before().and_then(|node| node.subtree), path)?;
        let directory = Directory::child(entry.into, entry.slot, node, entry.before, before);
        let length = path.len();
        self.excludes.narrow(fd.as_fd(), &entry.stat, path, &mut names);
        directory.expect(names.len());
        // Both lists are sorted by name, so one pass compares them.
        let mut old = directory.before.nodes.iter().enumerate().peekable();
        for (slot, name) in names.iter().enumerate() {
            self.blobs.control.check()?;
            if self.blobs.writer.has_failed() {
                return Ok(());
            }
            while old.next_if(|(_, node)| node.name < *name).is_some() {}
            let before = old.next_if(|(_, node)| node.name == *name).map(|(number, _)| number);
            path.truncate(length);
            path.push(b'/');
            path.extend_from_slice(name);
            match posix::stat_at(fd.as_fd(), name) {
                Ok(stat) if self.excludes.refuses(&stat) => {
                    directory.done(slot, None, &mut End { blobs: self.blobs, sealer })?;
                }
                Ok(stat) => {
                    let entry = Entry { dir: &fd, name, stat, before, into: &directory, slot };
                    if posix::kind(&stat) != NodeKind::Dir || !self.leave(&entry, path, depth + 1) {
                        self.entry(&entry, path, depth + 1, sealer)?;
                    }
                }
                Err(e) => {
                    self.warn(path, &e.into());
                    directory.done(slot, None, &mut End { blobs: self.blobs, sealer })?;
                }
            }
        }
        path.truncate(length);
        directory.release(&mut End { blobs: self.blobs, sealer })
    }

    fn leave(&self, entry: &Entry<'_>, path: &[u8], depth: usize) -> bool {
        self.tasks.leave(|| Task {
            dir: entry.dir.clone(),
            name: entry.name.to_vec(),
            stat: entry.stat,
            before: entry.before,
            into: entry.into.clone(),
            slot: entry.slot,
            path: path.to_vec(),
            depth,
        })
    }

    fn file(&mut self, entry: &Entry<'_>, path: &[u8], sealer: &mut Sealer) -> Result<()> {
        if let Some(before) = entry.node_before()
            && self.is_unchanged(&entry.stat, before)?
        {
            let figures = &self.blobs.figures;
            count(&figures.files_unmodified);
            figures.bytes.fetch_add(before.size, Ordering::Relaxed);
            self.blobs.control.progress.bytes(before.size);
            self.blobs.control.progress.file_done();
            return self.metadata(entry, path, before, sealer);
        }
        let job = FileJob {
            dir: entry.dir.clone(),
            name: entry.name.to_vec(),
            path: path.to_vec(),
            stat: entry.stat,
            changed: entry.node_before().is_some_and(|node| node.kind == NodeKind::File),
            into: entry.into.clone(),
            slot: entry.slot,
        };
        self.files.send(job).map_err(|_| {
            Error::new(ErrorKind::Io, "the threads that read files ended early; please report this")
        })
    }

    /// Ends a file whose content did not change, with what `stat` says of it now.
    fn metadata(&self, entry: &Entry<'_>, path: &[u8], before: &Node, sealer: &mut Sealer) -> Result<()> {
        let end = &mut End { blobs: self.blobs, sealer };
        let mut node = posix::node(entry.name, &entry.stat, self.names);
        if let Some(number) = entry.before
            && node.has_metadata_of(before)
        {
            return entry.into.same(entry.slot, number, end);
        }
        node.content = before.content.clone();
        // A change of attributes moves ctime.
        node.xattrs = if before.ctime == node.ctime {
            before.xattrs.clone()
        } else {
            Attributed::At(entry.dir.as_fd(), entry.name).read(path, self.blobs.control)
        };
        entry.into.done(entry.slot, Some(&node), end)
    }

    /// Same kind, size, times and inode, and all content still stored.
    fn is_unchanged(&self, stat: &Stat, before: &Node) -> Result<bool> {
        let same = !self.blobs.force
            && before.kind == NodeKind::File
            && before.size == stat.st_size as u64
            && before.mtime == posix::mtime(stat)
            && (self.blobs.ignore_ctime || before.ctime == posix::ctime(stat))
            && (self.blobs.ignore_inode || before.inode == stat.st_ino);
        if !same {
            return Ok(false);
        }
        for id in &before.content {
            if !self.blobs.is_known(BlobKind::Data, id)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn special(&mut self, entry: &Entry<'_>, path: &[u8], sealer: &mut Sealer) -> Result<()> {
        let mut node = posix::node(entry.name, &entry.stat, self.names);
        if node.kind == NodeKind::Symlink {
            match rustix::fs::readlinkat(entry.dir, std::ffi::OsStr::from_bytes(entry.name), Vec::new()) {
                Ok(target) => node.link_target = Some(target.into_bytes()),
                Err(e) => return self.unreadable(entry, path, &e.into(), sealer),
            }
        }
        node.xattrs = Attributed::At(entry.dir.as_fd(), entry.name).read(path, self.blobs.control);
        count(if entry.before.is_some() {
            &self.blobs.figures.files_unmodified
        } else {
            &self.blobs.figures.files_new
        });
        self.blobs.control.progress.file_done();
        let end = &mut End { blobs: self.blobs, sealer };
        match entry.before {
            Some(number) if entry.into.before.nodes[number] == node => {
                entry.into.same(entry.slot, number, end)
            }
            _ => entry.into.done(entry.slot, Some(&node), end),
        }
    }

    fn unreadable(&self, entry: &Entry<'_>, path: &[u8], e: &io::Error, sealer: &mut Sealer) -> Result<()> {
        self.warn(path, e);
        entry.into.done(entry.slot, None, &mut End { blobs: self.blobs, sealer })
    }

    /// Names what cannot be read. What vanished since it was listed was not there to be backed up.
    fn warn(&self, path: &[u8], e: &io::Error) {
        if e.kind() != io::ErrorKind::NotFound {
            self.blobs.control.warn(show(path), format!("cannot be read: {e}"));
        }
    }

    fn listing_before(&mut self, tree: Option<Id>, path: &[u8]) -> Result<Before> {
        Before::read(self.blobs, tree, path, &mut self.opener)
    }
}

fn open_root(path: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, std::ffi::OsStr::from_bytes(path), flags, Mode::empty())
        .map_err(|e| Error::path("open", show(path), e))
}
