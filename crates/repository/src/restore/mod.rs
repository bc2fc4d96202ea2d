//! Restore: from a snapshot to a directory.
//!
//! One thread walks the trees, makes directories, links and devices, and gathers files into batches. A batch is
//! planned by pack: each needed stretch of a pack is fetched once, its blobs are opened, decompressed and hashed,
//! and only then written, while the next batch is gathered. A file that is there already is read first, and only those
//! of its blobs are fetched and written that are wrong; content that lies elsewhere on this machine is copied from
//! there, blob by blob, if the hash is right. Hard links and the metadata of directories come last, as everything before would move them.
//!
//! A blob that is damaged in all its copies loses the files that need it, or the entries of the directory that it
//! lists: they are left out and named, all else is restored, and the restore ends as `Damaged`. No byte is written
//! that does not fit its hash.

mod batch;
mod choice;
mod others;
mod plan;
mod target;
mod verify;

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use crate::posix::{self, show};
use crate::repository::Opener;
use crate::tree::{Node, NodeKind};
use crate::walk::{directory_of, find, in_directory};
use crate::{Control, Error, ErrorKind, Id, Index, Repository, Result, join, lock_mutex, measure, spawn};
use batch::{Batch, Into};
use choice::Fate;
pub use choice::{Choice, Existing};
use others::names_of;
pub use plan::{Planned, RestorePlan, VisitPlanned, plan_restore};
use target::{make_dir, make_way};

/// What to restore, and where to.
#[derive(Clone, Debug)]
pub struct RestoreRequest {
    /// The snapshot.
    pub snapshot: Id,
    /// Only what lies below this path inside the snapshot, as [`crate::walk`] shows it: that directory's entries and
    /// own metadata become `target` itself. A path that is no directory appears in `target` under its name.
    pub subpath: Option<Vec<u8>>,
    /// Made if missing. What is there already is made equal where names are equal (a regular file without further hard
    /// links in its place, anything else by replacing it), unless `existing` keeps it.
    pub target: PathBuf,
    /// Content of files that lie at the same path below this directory is copied from there where its hash is right.
    pub reuse_from: Option<PathBuf>,
    /// Which of its entries.
    pub choice: Choice,
    /// What becomes of entries of the target that have the same names.
    pub existing: Existing,
    /// Remove what was chosen and lies in directories of the snapshot, but is not in the snapshot. It goes last, once
    /// everything else is restored; what lies on another file system stays.
    pub remove_others: bool,
    /// Read everything back afterwards and compare content and metadata. Not for an `existing` that keeps entries.
    pub verify: bool,
}

impl RestoreRequest {
    /// A whole snapshot, over whatever lies in `target`, not read back afterwards.
    pub fn new(snapshot: Id, target: impl std::convert::Into<PathBuf>) -> Self {
        Self {
            snapshot,
            subpath: None,
            target: target.into(),
            reuse_from: None,
            choice: Choice::All,
            existing: Existing::default(),
            remove_others: false,
            verify: false,
        }
    }
}

/// What a restore did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreOutcome {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Links, devices, FIFOs, sockets.
    pub other: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Of these, bytes that were copied from `reuse_from` or right in the target already.
    pub bytes_reused: u64,
    /// Entries that were there and kept as they were.
    pub kept: u64,
    /// Entries that were removed, as the snapshot does not have them.
    pub removed: u64,
}

/// Restores. What could not be set (an owner, an attribute) is named in `control`'s warnings. A file whose content is
/// damaged in the repository is named there too, left out, and makes the call fail as `Damaged` at the end; one of that
/// name that is there already stays if nothing of it had been written over.
pub fn restore(
    repository: &Repository,
    index: &Index,
    request: &RestoreRequest,
    control: &Arc<Control>,
) -> Result<RestoreOutcome> {
    let mut opener = Opener::new()?;
    let snapshot = repository.snapshot(request.snapshot)?;
    expect(repository, index, request, snapshot.summary.as_ref(), control)?;
    let Start { own, nodes, is_directory } = Start::find(repository, index, request, &mut opener)?;
    let was_there = std::fs::symlink_metadata(&request.target).is_ok();
    let target = make_target(&request.target)?;
    let reuse = request.reuse_from.as_ref().and_then(|path| {
        rustix::fs::open(path, target::DIRECTORY, rustix::fs::Mode::empty()).ok().map(Arc::new)
    });
    let context = Context {
        repository,
        index,
        control,
        target: &request.target,
        choice: &request.choice,
        existing: request.existing,
        user: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
        damaged: AtomicU64::new(0),
        lost_links: Mutex::default(),
        reused: AtomicU64::new(0),
    };
    let mut walk = Walk {
        context: &context,
        opener,
        links: HashMap::new(),
        later: Vec::new(),
        passed: HashSet::new(),
        kept: HashSet::new(),
        outcome: RestoreOutcome::default(),
    };
    if was_there {
        walk.keep_directory(b"");
    }
    walk.entries(Into { dir: target.clone(), is_new: false, reuse }, nodes.clone())?;
    walk.make_links(&target)?;
    // Nothing goes before all that the snapshot has is there.
    let removes = request.remove_others && is_directory && context.damaged.load(Ordering::Relaxed) == 0;
    walk.directories(&target, &nodes, own.as_ref(), removes)?;
    let Walk { mut outcome, opener, .. } = walk;
    outcome.bytes_reused = context.reused.load(Ordering::Relaxed);
    let damaged = context.damaged.load(Ordering::Relaxed);
    if damaged > 0 {
        let message = format!(
            "{damaged} files or directories could not be restored because their content is damaged in the repository; they are named in the warnings"
        );
        return Err(Error::new(ErrorKind::Damaged, message));
    }
    if request.verify {
        verify::verify(&context, opener, &target, nodes)?;
    }
    Ok(outcome)
}

/// Where in a snapshot a restore begins.
struct Start {
    /// What becomes the target itself, if the snapshot knows it.
    own: Option<Node>,
    nodes: Vec<Node>,
    /// `nodes` are all that the directory has; else a single entry of it.
    is_directory: bool,
}

impl Start {
    fn find(
        repository: &Repository,
        index: &Index,
        request: &RestoreRequest,
        opener: &mut Opener,
    ) -> Result<Self> {
        let root = repository.snapshot(request.snapshot)?.tree;
        let node = match &request.subpath {
            Some(path) => find(repository, index, root, path, opener)?,
            None => None,
        };
        Ok(match node {
            None => Self { own: None, nodes: repository.read_tree(index, root, opener)?, is_directory: true },
            Some(node) => match directory_of(&node, b"")? {
                Some(tree) => {
                    let nodes = repository.read_tree(index, tree, opener)?;
                    Self { own: Some(node), nodes, is_directory: true }
                }
                None => Self { own: None, nodes: vec![node], is_directory: false },
            },
        })
    }
}

/// Tells the progress how much there is.
fn expect(
    repository: &Repository,
    index: &Index,
    request: &RestoreRequest,
    summary: Option<&crate::Summary>,
    control: &Control,
) -> Result<()> {
    if !matches!(request.choice, Choice::All) {
        return Ok(()); // known at the end alone
    }
    let (files, bytes) = match (summary, &request.subpath) {
        (Some(summary), None) => (summary.total_files_processed, summary.total_bytes_processed),
        _ => match measure(repository, index, request.snapshot, request.subpath.as_deref()) {
            Ok(size) => (size.files, size.bytes),
            // Unknown then; the restore itself names the damage and goes on.
            Err(e) if e.kind == ErrorKind::Damaged => (0, 0),
            Err(e) => return Err(e),
        },
    };
    control.progress.files_total.store(files, Ordering::Relaxed);
    control.progress.bytes_total.store(bytes, Ordering::Relaxed);
    Ok(())
}

fn make_target(path: &std::path::Path) -> Result<Arc<OwnedFd>> {
    std::fs::create_dir_all(path).map_err(|e| Error::path("make", path.display(), e))?;
    rustix::fs::open(path, target::DIRECTORY, rustix::fs::Mode::empty())
        .map(Arc::new)
        .map_err(|e| Error::path("open", path.display(), e))
}

/// What all parts of one restore share.
pub(crate) struct Context<'a> {
    repository: &'a Repository,
    index: &'a Index,
    control: &'a Control,
    target: &'a Path,
    choice: &'a Choice,
    existing: Existing,
    /// Who owns what this process makes: user and group.
    user: (u32, u32),
    /// Files and directories that could not be restored.
    damaged: AtomicU64,
    /// Of these, files with hard links: their other names are lost too.
    lost_links: Mutex<HashSet<Vec<u8>>>,
    /// Bytes copied from `reuse_from`, or right in the target already.
    reused: AtomicU64,
}

impl Context<'_> {
    fn am_root(&self) -> bool {
        self.user.0 == 0
    }

    /// A failed system call on an entry, which is named where it lies.
    fn fail(&self, what: &str, path: &[u8], e: Errno) -> Error {
        let mut whole = self.target.as_os_str().as_bytes().to_vec();
        whole.extend_from_slice(path);
        Error::path(what, show(&whole), e)
    }

    fn warn_all(&self, path: &[u8], problems: Vec<String>) {
        for problem in problems {
            self.control.warn(show(path), problem);
        }
    }
}

/// A hard link to be made at the end: to the first file of its inode.
struct Later {
    first: Vec<u8>,
    path: Vec<u8>,
}

struct Walk<'a> {
    context: &'a Context<'a>,
    opener: Opener,
    /// First path of each hard-linked file, by device and inode.
    links: HashMap<(u64, u64), (Vec<u8>, Id)>,
    later: Vec<Later>,
    /// Directories that were made although not chosen themselves, on the way to something that was.
    passed: HashSet<Vec<u8>>,
    /// Directories that were there, whose metadata is kept with them.
    kept: HashSet<Vec<u8>>,
    outcome: RestoreOutcome,
}

/// A directory on the way to the current entry.
struct Level {
    path_length: usize,
    fate: Fate,
    nodes: std::vec::IntoIter<Node>,
}

impl Walk<'_> {
    /// Everything but hard links and the metadata of directories.
    fn entries(&mut self, into: Into, nodes: Vec<Node>) -> Result<()> {
        // One batch is restored while the next is gathered.
        std::thread::scope(|scope| {
            let mut batch = Batch::new(self.context);
            let mut running = None;
            let mut path = Vec::new();
            let fate = self.context.choice.of_target();
            let mut stack = vec![Level { path_length: 0, fate, nodes: nodes.into_iter() }];
            // The first directories of the stack: those further down are not made until something in them is chosen.
            let mut made = vec![into];
            while let Some(level) = stack.last_mut() {
                path.truncate(level.path_length);
                let Some(node) = level.nodes.next() else {
                    stack.pop();
                    made.truncate(stack.len());
                    continue;
                };
                self.context.control.check()?;
                path.push(b'/');
                path.extend_from_slice(&node.name);
                let fate = self.context.choice.fate(&path, node.kind == NodeKind::Dir, level.fate);
                if fate == Fate::LeftOut {
                    continue;
                }
                if let Some(tree) = directory_of(&node, &path)? {
                    let nodes = self.listing(tree, &path)?.into_iter();
                    stack.push(Level { path_length: path.len(), fate, nodes });
                    if fate == Fate::Restored {
                        self.make_way_to(&path, &stack, &mut made, &mut batch)?;
                    }
                } else {
                    let into = self.make_way_to(&path, &stack, &mut made, &mut batch)?;
                    self.leaf(&mut batch, into, node, &path)?;
                }
                if batch.is_full() {
                    running.take().map_or(Ok(()), join)?;
                    let full = std::mem::replace(&mut batch, Batch::new(self.context));
                    running = Some(spawn(scope, || full.run())?);
                }
            }
            running.map_or(Ok(()), join)?;
            batch.run()
        })
    }

    /// Makes the directories on the way to an entry that are not made yet; returns the last one.
    fn make_way_to(
        &mut self,
        path: &[u8],
        stack: &[Level],
        made: &mut Vec<Into>,
        batch: &mut Batch<'_>,
    ) -> Result<Into> {
        for pair in stack.windows(2).skip(made.len() - 1) {
            let above = &made[made.len() - 1];
            let (path, name) =
                (&path[..pair[1].path_length], &path[pair[0].path_length + 1..pair[1].path_length]);
            let may_replace = self.context.existing.gives_way_to_directories();
            let (dir, is_new) = make_dir(above.dir.as_fd(), name, may_replace)
                .map_err(|e| self.context.fail("make", path, e))?;
            let reuse = above.reuse.as_ref().and_then(|fd| posix::open_dir(fd.as_fd(), name).ok());
            self.outcome.dirs += 1;
            batch.count_directory();
            if is_new && pair[1].fate == Fate::Passed {
                self.passed.insert(path.to_vec());
            }
            if !is_new {
                self.keep_directory(path);
            }
            made.push(Into { dir: Arc::new(dir), is_new, reuse: reuse.map(Arc::new) });
        }
        Ok(made[made.len() - 1].clone())
    }

    /// A directory's entries. One whose listing is damaged is restored empty and named: it must not cost the rest.
    fn listing(&mut self, tree: Id, path: &[u8]) -> Result<Vec<Node>> {
        match self.context.repository.read_tree(self.context.index, tree, &mut self.opener) {
            Err(e) if e.kind == ErrorKind::Damaged => {
                self.context.damaged.fetch_add(1, Ordering::Relaxed);
                let problem = format!("nothing in it was restored, its listing is damaged: {}", e.message);
                self.context.control.warn(show(path), problem);
                Ok(Vec::new())
            }
            other => other.map_err(|e| in_directory(path, e)),
        }
    }

    /// Notes a directory that was there, if such are kept as they are.
    fn keep_directory(&mut self, path: &[u8]) {
        if self.context.existing == Existing::Kept {
            self.kept.insert(path.to_vec());
        }
    }

    fn leaf(&mut self, batch: &mut Batch<'_>, into: Into, node: Node, path: &[u8]) -> Result<()> {
        if !into.is_new && self.context.existing.keeps(into.dir.as_fd(), &node) {
            self.outcome.kept += 1;
            self.context.control.progress.bytes(node.size);
            self.context.control.progress.file_done();
            return Ok(());
        }
        if node.links > 1 && node.inode != 0 {
            let inode = (node.device_id, node.inode);
            let same = node.content_mark();
            let first = self.links.entry(inode).or_insert_with(|| (path.to_vec(), same));
            // The same inode with other content: it changed between the two readings, or its number was given anew.
            if first.1 == same && first.0 != path {
                let first = &first.0;
                self.later.push(Later { first: first.clone(), path: path.to_vec() });
                self.context.control.progress.bytes(node.size);
                self.context.control.progress.file_done();
                self.outcome.files += u64::from(node.kind == NodeKind::File);
                return Ok(());
            }
        }
        match node.kind {
            NodeKind::File => {
                self.outcome.files += 1;
                self.outcome.bytes += node.size;
                batch.add(into, node, path)
            }
            NodeKind::Irregular => {
                self.context.control.warn(show(path), "is of a kind that cannot be restored");
                Ok(())
            }
            _ => {
                self.outcome.other += 1;
                self.special(into.dir.as_fd(), &node, path)
            }
        }
    }

    fn special(&self, dir: std::os::fd::BorrowedFd<'_>, node: &Node, path: &[u8]) -> Result<()> {
        make_way(dir, &node.name).map_err(|e| self.context.fail("replace", path, e))?;
        match posix::make_special(dir, node) {
            Ok(()) => self.context.warn_all(path, posix::apply_at(dir, node, self.context.am_root())),
            // Devices need rights that a user may lack: named, not fatal.
            Err(e @ (Errno::PERM | Errno::ACCESS)) => {
                self.context.control.warn(show(path), format!("this {} cannot be made: {e}", node.kind));
            }
            Err(e) => return Err(self.context.fail("make", path, e)),
        }
        self.context.control.progress.file_done();
        Ok(())
    }

    fn make_links(&mut self, target: &OwnedFd) -> Result<()> {
        for Later { first, path } in std::mem::take(&mut self.later) {
            if lock_mutex(&self.context.lost_links).contains(&first) {
                self.context.damaged.fetch_add(1, Ordering::Relaxed);
                let problem = format!("not restored: it is a hard link to {}, which is lost", show(&first));
                self.context.control.warn(show(&path), problem);
                continue;
            }
            let fail = |e| self.context.fail("link", &path, e);
            let (from, from_name) = target::open_parent(target, &first).map_err(fail)?;
            let (to, to_name) = target::open_parent(target, &path).map_err(fail)?;
            make_way(to.as_fd(), to_name).map_err(fail)?;
            let (from_name, to_name) = (target::os(from_name), target::os(to_name));
            rustix::fs::linkat(&from, from_name, &to, to_name, rustix::fs::AtFlags::empty()).map_err(fail)?;
        }
        Ok(())
    }

    /// Metadata of directories, the deepest first; before it, if `removes` says so, what the snapshot does not have goes
    /// from them.
    fn directories(
        &mut self,
        target: &Arc<OwnedFd>,
        nodes: &[Node],
        own: Option<&Node>,
        removes: bool,
    ) -> Result<()> {
        struct Open {
            fd: OwnedFd,
            node: Option<Node>,
            fate: Fate,
            path_length: usize,
            nodes: std::vec::IntoIter<Node>,
            /// What the snapshot has here, in order; `None` if nothing is to go.
            names: Option<Vec<Vec<u8>>>,
        }
        let only_dirs = |nodes: Vec<Node>| {
            nodes.into_iter().filter(|node| node.kind == NodeKind::Dir).collect::<Vec<_>>().into_iter()
        };
        let mut path = Vec::new();
        let root = target.try_clone().map_err(|e| Error::path("open", "the target", e))?;
        let fate = self.context.choice.of_target();
        let mut stack = vec![Open {
            fd: root,
            node: own.cloned(),
            fate,
            path_length: 0,
            nodes: only_dirs(nodes.to_vec()),
            names: removes.then(|| names_of(nodes)),
        }];
        while let Some(level) = stack.last_mut() {
            path.truncate(level.path_length);
            if let Some(node) = level.nodes.next() {
                path.push(b'/');
                path.extend_from_slice(&node.name);
                let fate = self.context.choice.fate(&path, true, level.fate);
                let fd = match posix::open_dir(level.fd.as_fd(), &node.name) {
                    _ if fate == Fate::LeftOut => continue,
                    // Nothing in it was chosen.
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if fate == Fate::Passed => continue,
                    other => other.map_err(|e| self.context.fail("open", &path, e))?,
                };
                let Some(tree) = directory_of(&node, &path)? else { continue };
                let below = self.context.repository.read_tree(self.context.index, tree, &mut self.opener);
                let below = match below {
                    Err(e) if e.kind == ErrorKind::Damaged => {
                        // Named already when its entries were to be restored, unless it was whole then.
                        if removes {
                            self.context.damaged.fetch_add(1, Ordering::Relaxed);
                            self.context.control.warn(show(&path), e.message);
                        }
                        None
                    }
                    other => Some(other.map_err(|e| in_directory(&path, e))?),
                };
                // What begins on another file system is not emptied, whatever the snapshot has of it.
                let is_elsewhere = level.names.is_some() && !others::same_file_system(&level.fd, &fd);
                if is_elsewhere {
                    self.context.control.warn(show(&path), others::ELSEWHERE);
                }
                let removes_here = level.names.is_some() && !is_elsewhere;
                let names = below.as_deref().filter(|_| removes_here).map(names_of);
                let below = below.unwrap_or_default();
                let (path_length, nodes) = (path.len(), only_dirs(below));
                stack.push(Open { fd, node: Some(node), fate, path_length, nodes, names });
            } else if let Some(Open { fd, node, fate, names, .. }) = stack.pop() {
                if let Some(names) = names {
                    self.outcome.removed += others::remove(self.context, fd.as_fd(), &path, fate, &names)?;
                }
                let is_ours = fate == Fate::Restored || self.passed.contains(&path);
                if let Some(node) = node.filter(|_| is_ours && !self.kept.contains(&path)) {
                    self.context
                        .warn_all(&path, posix::apply_open(fd.as_fd(), &node, self.context.am_root()));
                }
            }
        }
        Ok(())
    }
}
