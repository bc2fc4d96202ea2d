//! A batch of files: planned by pack, fetched in stretches, written by several threads.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{AtFlags, FallocateFlags, Mode};
use rustix::io::Errno;

use super::Context;
use super::target::{make_file, open_present, os, reopen_file};
use crate::chunk::is_zero;
use crate::fetch::{range_of, stretches};
use crate::hash;
use crate::index::Place;
use crate::pack::{BlobKind, pack_key};
use crate::posix::{self, show};
use crate::repository::Opener;
use crate::tree::Node;
use crate::{Error, ErrorKind, Id, Result, fetchers, lock_mutex, parallel, threads};

/// A batch is run at so many blobs, or files.
const BLOBS_MAX: usize = 50_000;
const FILES_MAX: usize = 10_000;
/// Each directory of a batch holds a descriptor or two; this much of the limit may go to them.
const DESCRIPTOR_SHARE: u64 = 8;

/// Where content of a file may lie already on this machine.
enum Present {
    Nowhere,
    /// In a file of the same name in another directory.
    Beside(Arc<OwnedFd>),
    /// In the very file that is restored.
    Here,
}

/// Where a file is restored.
#[derive(Clone)]
pub(super) struct Into {
    pub(super) dir: Arc<OwnedFd>,
    /// The directory was made by this restore: nothing lies in it.
    pub(super) is_new: bool,
    /// The directory at the same place of what may be copied from.
    pub(super) reuse: Option<Arc<OwnedFd>>,
}

/// For what is not finished and has not its owner yet.
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// A file of the batch.
struct Target {
    dir: Arc<OwnedFd>,
    present: Present,
    node: Node,
    path: Vec<u8>,
    length: u64,
    /// Blobs that are not written yet.
    pending: AtomicUsize,
    failed: AtomicBool,
    /// This restore made the file, or wrote to it.
    touched: AtomicBool,
}

/// A blob that a file needs, and where it goes.
#[derive(Clone, Copy)]
struct Want {
    place: Place,
    id: Id,
    file: u32,
    at: u64,
}

/// Files that are restored together.
pub(super) struct Batch<'a> {
    context: &'a Context<'a>,
    files: Vec<Target>,
    wants: Vec<Want>,
    directories: usize,
    directories_max: usize,
}

impl<'a> Batch<'a> {
    pub(super) fn new(context: &'a Context<'a>) -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(4096);
        let directories_max = (limit / DESCRIPTOR_SHARE).clamp(64, 4096) as usize;
        Self { context, files: Vec::new(), wants: Vec::new(), directories: 0, directories_max }
    }

    pub(super) fn count_directory(&mut self) {
        self.directories += 1;
    }

    pub(super) fn is_full(&self) -> bool {
        self.wants.len() >= BLOBS_MAX
            || self.files.len() >= FILES_MAX
            || self.directories >= self.directories_max
    }

    /// Adds a file. An empty one, and one that is missing blobs altogether, is settled at once.
    pub(super) fn add(&mut self, into: Into, node: Node, path: &[u8]) -> Result<()> {
        let mut wants = Vec::with_capacity(node.content.len());
        let mut at = 0;
        for id in &node.content {
            let Some(place) = self.context.index.place(BlobKind::Data, id)? else {
                self.lose(&node, path, &format!("blob {id} is in no index"));
                return Ok(());
            };
            wants.push(Want { place, id: *id, file: self.files.len() as u32, at });
            at += u64::from(place.plain_length());
        }
        let Into { dir, is_new, reuse } = into;
        let here = if is_new { None } else { open_present(dir.as_fd(), &node.name) };
        let beside = reuse.filter(|fd| {
            posix::stat_at(fd.as_fd(), &node.name).is_ok_and(|stat| {
                posix::kind(&stat) == crate::NodeKind::File && stat.st_size as u64 == at && at > 0
            })
        });
        let present = match (&here, beside) {
            (Some(_), _) => Present::Here,
            (None, Some(dir)) => Present::Beside(dir),
            (None, None) => Present::Nowhere,
        };
        let alone = wants.len() == 1 && matches!(present, Present::Nowhere);
        let target = Target {
            dir,
            present,
            node,
            path: path.to_vec(),
            length: at,
            pending: AtomicUsize::new(wants.len()),
            failed: AtomicBool::new(false),
            touched: AtomicBool::new(here.is_none() && !alone),
        };
        if !alone {
            // Several threads will write it: it is made here, as one hole, if it is not there.
            let fail = |e: Errno| self.context.fail("write", path, e);
            let name = &target.node.name;
            let fd = match here {
                Some(fd) => fd,
                None => {
                    let fd = make_file(target.dir.as_fd(), name, PRIVATE).map_err(fail)?;
                    rustix::fs::ftruncate(&fd, at).map_err(fail)?;
                    fd
                }
            };
            let alike = !is_new
                && rustix::fs::fstat(&fd)
                    .is_ok_and(|stat| self.context.existing.trusts(&stat, &target.node, at));
            if alike {
                self.context.reused.fetch_add(at, Ordering::Relaxed);
                self.context.control.progress.bytes(at);
            }
            if alike || wants.is_empty() {
                return self.settle(&target, Some(&fd));
            }
        }
        self.files.push(target);
        self.wants.append(&mut wants);
        Ok(())
    }

    /// What mode a file may have from its beginning: the one that it shall have, if its owner is right at once and no
    /// attribute, which the mode may forbid to set, is to come. Where many small files are restored, each call on one
    /// counts.
    fn first_mode(&self, file: &Target) -> Mode {
        let owner = (file.node.uid, file.node.gid);
        let mode = Mode::from_raw_mode(file.node.permissions());
        let rights = Mode::RWXU | Mode::RWXG | Mode::RWXO;
        if owner == self.context.user && file.node.xattrs.is_empty() && rights.contains(mode) {
            mode
        } else {
            PRIVATE
        }
    }

    fn write_error(&self, file: &Target, e: Errno) -> Error {
        self.context.fail("write", &file.path, e)
    }

    fn lose(&self, node: &Node, path: &[u8], why: &str) {
        self.context.damaged.fetch_add(1, Ordering::Relaxed);
        if node.links > 1 {
            lock_mutex(&self.context.lost_links).insert(path.to_vec());
        }
        self.context.control.warn(show(path), format!("not restored, its content is damaged: {why}"));
    }

    /// Restores all files of the batch.
    pub(super) fn run(mut self) -> Result<()> {
        let mut wants = std::mem::take(&mut self.wants);
        if self.files.iter().any(|file| !matches!(file.present, Present::Nowhere)) {
            wants = self.reuse(wants)?;
        }
        wants.sort_unstable_by_key(|want| (want.place.pack, want.place.offset));
        let places: Vec<Place> = wants.iter().map(|want| want.place).collect();
        let fetches = stretches(&places);
        let next = AtomicUsize::new(0);
        let this = &self;
        parallel(fetchers(self.context.repository.storage()), fetches.len(), || {
            let (opener, stored, plain) = (Opener::new()?, Vec::new(), Default::default());
            let mut worker = Worker { batch: this, opener, stored, plain };
            while let Some(range) = fetches.get(next.fetch_add(1, Ordering::Relaxed)) {
                this.context.control.check()?;
                worker.fetch(&wants[range.clone()], range_of(&places[range.clone()]))?;
            }
            Ok(())
        })
    }

    /// Copies what lies on this machine already, or leaves it where it is; returns what must be fetched after all.
    fn reuse(&self, wants: Vec<Want>) -> Result<Vec<Want>> {
        let mut groups: Vec<&[Want]> = Vec::new();
        let mut rest = Vec::new();
        for group in wants.chunk_by(|a, b| a.file == b.file) {
            match self.files[group[0].file as usize].present {
                Present::Nowhere => rest.extend_from_slice(group),
                Present::Beside(_) | Present::Here => groups.push(group),
            }
        }
        let next = AtomicUsize::new(0);
        let missing = Mutex::new(rest);
        parallel(threads(), groups.len(), || {
            let mut buffer = Vec::new();
            while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.context.control.check()?;
                let wrong = self.reuse_file(group, &mut buffer)?;
                lock_mutex(&missing).extend(wrong);
            }
            Ok(())
        })?;
        Ok(missing.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn reuse_file(&self, group: &[Want], buffer: &mut Vec<u8>) -> Result<Vec<Want>> {
        let file = &self.files[group[0].file as usize];
        let output = reopen_file(file.dir.as_fd(), &file.node.name).map_err(|e| self.write_error(file, e))?;
        let opened = match &file.present {
            Present::Beside(dir) => posix::open_file(dir.as_fd(), &file.node.name).ok(),
            Present::Here | Present::Nowhere => None,
        };
        let source = match (&opened, &file.present) {
            (Some(source), _) => source,
            (None, Present::Here) => &output,
            (None, _) => return Ok(group.to_vec()),
        };
        let mut wrong = Vec::new();
        for want in group {
            buffer.resize(want.place.plain_length() as usize, 0);
            if read_exact_at(source, buffer, want.at).is_ok() && Id::of(buffer) == want.id {
                if opened.is_some() {
                    write_part(&output, buffer, want.at).map_err(|e| self.write_error(file, e))?;
                }
                self.context.reused.fetch_add(buffer.len() as u64, Ordering::Relaxed);
                self.done(file, buffer.len(), &output)?;
            } else {
                wrong.push(*want);
            }
        }
        Ok(wrong)
    }

    /// One blob of a file is written; after the last one the file gets its metadata, or goes if a blob was lost.
    fn done(&self, file: &Target, bytes: usize, fd: &OwnedFd) -> Result<()> {
        self.context.control.progress.bytes(bytes as u64);
        if file.pending.fetch_sub(1, Ordering::AcqRel) == 1 { self.settle(file, Some(fd)) } else { Ok(()) }
    }

    fn lost(&self, file: &Target, why: &Error) -> Result<()> {
        if !file.failed.swap(true, Ordering::AcqRel) {
            self.lose(&file.node, &file.path, &why.message);
        }
        if file.pending.fetch_sub(1, Ordering::AcqRel) == 1 { self.settle(file, None) } else { Ok(()) }
    }

    fn settle(&self, file: &Target, fd: Option<&OwnedFd>) -> Result<()> {
        if file.failed.load(Ordering::Acquire) {
            // Half of a file is worse than none; what was not touched stays.
            if file.touched.load(Ordering::Acquire) {
                let _ = rustix::fs::unlinkat(&file.dir, os(&file.node.name), AtFlags::empty());
            }
        } else if let Some(fd) = fd {
            if matches!(file.present, Present::Here) {
                // Only now: until here the old content might have had to stay.
                rustix::fs::ftruncate(fd, file.length).map_err(|e| self.write_error(file, e))?;
            }
            let problems = posix::apply_open(fd.as_fd(), &file.node, self.context.am_root());
            self.context.warn_all(&file.path, problems);
        }
        self.context.control.progress.file_done();
        Ok(())
    }
}

struct Worker<'a, 'b> {
    batch: &'a Batch<'b>,
    opener: Opener,
    /// A stretch of a pack.
    stored: Vec<u8>,
    /// Plaintexts of two blobs, which are hashed side by side.
    plain: [Vec<u8>; 2],
}

impl Worker<'_, '_> {
    /// Restores a stretch of a pack.
    fn fetch(&mut self, wants: &[Want], range: std::ops::Range<u64>) -> Result<()> {
        let context = self.batch.context;
        let first = &wants[0].place;
        let key = pack_key(context.index.pack_id(first.pack));
        context.control.progress.set_current(&show(&self.batch.files[wants[0].file as usize].path));
        let fetched = context.repository.storage().get_range_into(&key, range, &mut self.stored).is_ok();
        if fetched {
            context.control.progress.bytes_stored.fetch_add(self.stored.len() as u64, Ordering::Relaxed);
        } else {
            self.stored.clear();
        }
        // Each blob with all the places that want it.
        let blobs: Vec<&[Want]> = wants.chunk_by(|a, b| a.id == b.id).collect();
        for pair in blobs.chunks(2) {
            let right = self.open(first.offset, pair);
            for (i, wants) in pair.iter().enumerate() {
                let found = if right[i] { Ok(()) } else { self.open_another_copy(&wants[0], i) };
                match found {
                    Ok(()) => wants.iter().try_for_each(|want| self.write(want, &self.plain[i]))?,
                    // An outage is no damage: it ends the restore.
                    Err(e) if e.kind != ErrorKind::Damaged => return Err(e),
                    Err(e) => {
                        let mut files = wants.iter().map(|want| &self.batch.files[want.file as usize]);
                        files.try_for_each(|file| self.batch.lost(file, &e))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Opens up to two blobs of the fetched stretch, and tells which are right.
    fn open(&mut self, start: u32, blobs: &[&[Want]]) -> [bool; 2] {
        let Self { batch, opener, stored, plain } = self;
        let mut opened = [false; 2];
        for (i, wants) in blobs.iter().enumerate() {
            let place = &wants[0].place;
            let from = (place.offset - start) as usize;
            let sealed = stored.get(from..from + place.length as usize);
            opened[i] = sealed.is_some_and(|sealed| {
                let key = batch.context.repository.key();
                opener.unseal(key, sealed, place.uncompressed, &mut plain[i]).is_ok()
            });
        }
        let (a, b) = hash::pair(&plain[0], if blobs.len() == 2 { &plain[1] } else { &[] });
        for (i, (wants, id)) in blobs.iter().zip([a, b]).enumerate() {
            opened[i] &= id == wants[0].id;
        }
        opened
    }

    /// What the stretch held is damaged, or could not be fetched; perhaps the blob lies elsewhere too.
    fn open_another_copy(&mut self, want: &Want, i: usize) -> Result<()> {
        let context = self.batch.context;
        self.plain[i] =
            context.repository.read_blob(context.index, BlobKind::Data, want.id, &mut self.opener)?;
        Ok(())
    }

    fn write(&self, want: &Want, plain: &[u8]) -> Result<()> {
        let file = &self.batch.files[want.file as usize];
        let dir = file.dir.as_fd();
        let alone = file.node.content.len() == 1 && matches!(file.present, Present::Nowhere);
        let name = &file.node.name;
        let opened =
            if alone { make_file(dir, name, self.batch.first_mode(file)) } else { reopen_file(dir, name) };
        let fd = opened.map_err(|e| self.batch.write_error(file, e))?;
        if !file.touched.load(Ordering::Acquire) {
            // Nobody else may read what is about to be written.
            if matches!(file.present, Present::Here) {
                rustix::fs::fchmod(&fd, PRIVATE).map_err(|e| self.batch.write_error(file, e))?;
            }
            file.touched.store(true, Ordering::Release);
        }
        let written = match file.present {
            Present::Here => write_over(&fd, plain, want.at),
            _ if alone => write_whole(&fd, plain),
            _ => write_part(&fd, plain, want.at),
        };
        written.map_err(|e| self.batch.write_error(file, e))?;
        self.batch.done(file, plain.len(), &fd)
    }
}

fn read_exact_at(fd: &OwnedFd, mut buffer: &mut [u8], mut at: u64) -> Result<(), Errno> {
    while !buffer.is_empty() {
        match rustix::io::pread(fd, &mut *buffer, at) {
            Ok(0) => return Err(Errno::IO),
            Ok(n) => {
                buffer = &mut buffer[n..];
                at += n as u64;
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Writes a part of a file that was made as one hole; zeros are there already.
fn write_part(fd: &OwnedFd, data: &[u8], at: u64) -> Result<(), Errno> {
    if is_zero(data) {
        return Ok(());
    }
    write_bytes(fd, data, at)
}

/// Writes a part of a file that holds something else there; zeros become a hole if the file system has holes.
fn write_over(fd: &OwnedFd, data: &[u8], at: u64) -> Result<(), Errno> {
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if is_zero(data) && rustix::fs::fallocate(fd, hole, at, data.len() as u64).is_ok() {
        return Ok(());
    }
    write_bytes(fd, data, at)
}

fn write_bytes(fd: &OwnedFd, mut data: &[u8], mut at: u64) -> Result<(), Errno> {
    while !data.is_empty() {
        match rustix::io::pwrite(fd, data, at) {
            Ok(0) => return Err(Errno::IO),
            Ok(n) => {
                data = &data[n..];
                at += n as u64;
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn write_whole(fd: &OwnedFd, data: &[u8]) -> Result<(), Errno> {
    if is_zero(data) {
        return rustix::fs::ftruncate(fd, data.len() as u64);
    }
    write_part(fd, data, 0)
}
