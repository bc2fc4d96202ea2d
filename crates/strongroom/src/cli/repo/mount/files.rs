//! What the kernel asks, and the answers.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyXattr, Request,
};
use repository::{Browser, ErrorKind, Listing, Node, NodeKind, OpenFile, Time, Warning};

use super::folders::{Folders, Item};
use super::numbers::{Directory, Entry, Key, Numbers};
use crate::progress::printable;
use crate::terminal;

/// What is in a snapshot never changes, so the kernel may keep it; our own folders change.
const KEEP: Duration = Duration::from_secs(3600);
const KEEP_FOLDER_MAX: Duration = Duration::from_secs(1);
/// Longer names the kernel does not take.
const NAME_BYTES_MAX: usize = 1024;
/// So many different warnings are remembered, so that none is given again and again.
const TOLD_MAX: usize = 1000;

/// What was said of damage.
#[derive(Default)]
pub struct Told {
    said: Mutex<HashSet<String>>,
    damage: AtomicBool,
}

impl Told {
    /// Says that something is not as it should be, once.
    fn warn(&self, text: String, kind: ErrorKind) {
        if kind == ErrorKind::Damaged {
            self.damage.store(true, Ordering::Relaxed);
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() >= TOLD_MAX {
            said.clear();
        }
        if !said.contains(&text) {
            terminal::warn(printable(&text));
            said.insert(text);
        }
    }

    /// A snapshot or an index file is damaged.
    pub fn warning(&self, warning: &Warning) {
        let text = format!("{}: {} (what it tells of is not shown)", warning.item, warning.reason);
        self.warn(text, ErrorKind::Damaged);
    }

    /// Whether damage was met.
    pub fn damage(&self) -> bool {
        self.damage.load(Ordering::Relaxed)
    }
}

/// An open directory: all its entries.
type Names = Vec<(u64, FileType, OsString)>;

/// Something that is open.
#[derive(Clone)]
enum Opened {
    File(Arc<OpenFile>),
    Directory(Arc<Names>),
}

/// Snapshots as files.
pub struct SnapshotFiles {
    browser: Browser,
    folders: RwLock<Arc<Folders>>,
    numbers: Numbers,
    open: Mutex<HashMap<u64, Opened>>,
    next_handle: AtomicU64,
    told: Arc<Told>,
    owner: Option<(u32, u32)>,
    /// Whose our own folders are.
    us: (u32, u32),
    looked: Mutex<Instant>,
    look_again: Duration,
}

impl SnapshotFiles {
    /// The snapshots that the browser sees.
    pub fn new(browser: Browser, told: Arc<Told>, owner_root: bool, look_again: Duration) -> Self {
        let us = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        Self {
            folders: RwLock::new(Arc::new(Folders::new(&browser.snapshots()))),
            browser,
            numbers: Numbers::new(),
            open: Mutex::default(),
            next_handle: AtomicU64::new(1),
            told,
            owner: owner_root.then_some((0, 0)),
            us,
            looked: Mutex::new(Instant::now()),
            look_again,
        }
    }

    /// Our folders, after another look if the last was long ago. Whoever comes while somebody looks gets the old ones.
    fn folders(&self) -> Arc<Folders> {
        if let Ok(mut looked) = self.looked.try_lock()
            && looked.elapsed() >= self.look_again
        {
            let before = self.browser.snapshots();
            match self.browser.look_again() {
                Ok(warnings) => warnings.iter().for_each(|warning| self.told.warning(warning)),
                Err(e) => self.told.warn(format!("cannot look for new snapshots: {e}"), e.kind),
            }
            let now = self.browser.snapshots();
            if !Arc::ptr_eq(&before, &now) {
                *self.folders.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Folders::new(&now));
            }
            *looked = Instant::now();
        }
        self.folders.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// So long the kernel may keep what it knows of our folders.
    fn keep_folder(&self) -> Duration {
        self.look_again.min(KEEP_FOLDER_MAX)
    }

    fn entry(&self, number: INodeNo) -> Result<Entry, Errno> {
        self.numbers.entry(number.0).ok_or(Errno::ESTALE)
    }

    fn directory(&self, number: INodeNo) -> Result<Directory, Errno> {
        self.numbers.directory(number.0).ok_or(Errno::ESTALE)
    }

    /// Whoever started the mount is told what is wrong; who reads sees an I/O error.
    fn failed(&self, number: u64, error: &repository::Error) -> Errno {
        self.told.warn(format!("{}: {error}", self.numbers.path(number)), error.kind);
        Errno::EIO
    }

    /// The listing of a directory of a snapshot.
    fn listing(&self, directory: &Directory) -> Result<Arc<Listing>, Errno> {
        let tree = match &directory.entry {
            Entry::Snapshot(root) => root.tree,
            Entry::Node(_, node) if node.kind == NodeKind::Dir => node.subtree.ok_or_else(|| {
                let error = repository::Error::damaged("the directory", "it has no listing");
                self.failed(directory.number, &error)
            })?,
            _ => return Err(Errno::ENOTDIR),
        };
        self.browser.list(tree).map_err(|e| self.failed(directory.number, &e))
    }

    fn find(&self, parent: INodeNo, name: &OsStr) -> Result<(Duration, FileAttr), Errno> {
        let directory = self.directory(parent)?;
        let (keep, key, entry) = match &directory.entry {
            Entry::Folder(path) => {
                let folders = self.folders();
                let item = folders.get(path).and_then(|folder| folder.get(name)).ok_or(Errno::ENOENT)?;
                (self.keep_folder(), key_of(parent.0, name, item), entry_of(path, name, item))
            }
            Entry::Snapshot(_) | Entry::Node(..) => {
                let listing = self.listing(&directory)?;
                let node = listing.find(name.as_bytes()).ok_or(Errno::ENOENT)?;
                let key = Key::of_node(parent.0, directory.snapshot, node);
                (
                    KEEP,
                    key,
                    Entry::Node(
                        tree_of(&directory.entry).ok_or(Errno::ENOTDIR)?,
                        Arc::new(without_content(node)),
                    ),
                )
            }
            Entry::Link(_) => return Err(Errno::ENOTDIR),
        };
        let number = self.numbers.tell(&directory, name.as_bytes(), key, entry.clone());
        Ok((keep, self.attributes(number, &entry)))
    }

    /// What is in a directory, itself and the one above first.
    fn names(&self, number: INodeNo) -> Result<Names, Errno> {
        let directory = self.directory(number)?;
        let mut names = vec![
            (number.0, FileType::Directory, ".".into()),
            (self.numbers.parent(number.0), FileType::Directory, "..".into()),
        ];
        if let Entry::Folder(path) = &directory.entry {
            let folders = self.folders();
            let folder = folders.get(path).ok_or(Errno::ENOENT)?;
            names.extend(folder.iter().map(|(name, item)| {
                let kind =
                    if matches!(item, Item::Link(_)) { FileType::Symlink } else { FileType::Directory };
                (self.numbers.number(&key_of(number.0, name, item)), kind, name.clone())
            }));
            return Ok(names);
        }
        let listing = self.listing(&directory)?;
        let nodes = listing.nodes().iter().filter(|node| node.name.len() <= NAME_BYTES_MAX);
        names.extend(nodes.map(|node| {
            let key = Key::of_node(number.0, directory.snapshot, node);
            (self.numbers.number(&key), file_type(node.kind), OsString::from_vec(node.name.clone()))
        }));
        Ok(names)
    }

    /// The whole entry of something in a snapshot; `None` for what is ours.
    fn with_content<T>(
        &self,
        number: INodeNo,
        use_it: impl FnOnce(&Node) -> Result<T, Errno>,
    ) -> Option<Result<T, Errno>> {
        let (tree, node) = match self.entry(number) {
            Ok(Entry::Node(tree, node)) => (tree, node),
            Ok(_) => return None,
            Err(e) => return Some(Err(e)),
        };
        let listing = match self.browser.list(tree) {
            Ok(listing) => listing,
            Err(e) => return Some(Err(self.failed(number.0, &e))),
        };
        Some(listing.find(&node.name).ok_or(Errno::ESTALE).and_then(use_it))
    }

    fn opened(&self) -> MutexGuard<'_, HashMap<u64, Opened>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_open(&self, opened: Opened) -> FileHandle {
        let handle = self.next_handle.fetch_add(1, Ordering::Relaxed);
        self.opened().insert(handle, opened);
        FileHandle(handle)
    }

    fn attributes(&self, number: u64, entry: &Entry) -> FileAttr {
        let (uid, gid) = self.owner.unwrap_or(self.us);
        let mut attributes = FileAttr {
            ino: INodeNo(number),
            size: 0,
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: FileType::Directory,
            perm: 0o555,
            nlink: 1,
            uid,
            gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        };
        let mut times = |atime, mtime, ctime| {
            [attributes.atime, attributes.mtime, attributes.ctime] = [atime, mtime, ctime].map(system_time);
        };
        match entry {
            Entry::Folder(_) => {}
            Entry::Snapshot(root) => times(root.time, root.time, root.time),
            Entry::Link(target) => {
                (attributes.kind, attributes.perm) = (FileType::Symlink, 0o777);
                attributes.size = target.len() as u64;
            }
            Entry::Node(_, node) => {
                times(node.atime, node.mtime, node.ctime);
                attributes.kind = file_type(node.kind);
                attributes.perm = node.permissions() as u16;
                (attributes.uid, attributes.gid) = self.owner.unwrap_or((node.uid, node.gid));
                attributes.size = match (&node.kind, &node.link_target) {
                    (NodeKind::File, _) => node.size,
                    (NodeKind::Symlink, Some(target)) => target.len() as u64,
                    _ => 0,
                };
                attributes.blocks = attributes.size.div_ceil(512);
                attributes.nlink = u32::try_from(node.links.max(1)).unwrap_or(u32::MAX);
                attributes.rdev = u32::try_from(node.device).unwrap_or(0);
            }
        }
        attributes
    }
}

fn key_of(parent: u64, name: &OsStr, item: &Item) -> Key {
    let snapshot = if let Item::Snapshot(root) = item { Some(root.id) } else { None };
    Key::Named(parent, name.as_bytes().to_vec(), snapshot)
}

fn entry_of(path: &str, name: &OsStr, item: &Item) -> Entry {
    match item {
        Item::Folder if path.is_empty() => Entry::Folder(name.to_string_lossy().into()),
        Item::Folder => Entry::Folder(format!("{path}/{}", name.to_string_lossy()).into()),
        Item::Link(target) => Entry::Link(target.clone()),
        Item::Snapshot(root) => Entry::Snapshot(*root),
    }
}

fn tree_of(entry: &Entry) -> Option<repository::Id> {
    match entry {
        Entry::Snapshot(root) => Some(root.tree),
        Entry::Node(_, node) => node.subtree,
        _ => None,
    }
}

/// What the kernel may keep for long is to be small.
fn without_content(node: &Node) -> Node {
    let mut small = node.clone();
    (small.content, small.xattrs) = Default::default();
    small
}

fn file_type(kind: NodeKind) -> FileType {
    match kind {
        NodeKind::Dir => FileType::Directory,
        NodeKind::Symlink => FileType::Symlink,
        NodeKind::Dev => FileType::BlockDevice,
        NodeKind::CharDev => FileType::CharDevice,
        NodeKind::Fifo => FileType::NamedPipe,
        NodeKind::Socket => FileType::Socket,
        // What is irregular cannot be opened.
        NodeKind::File | NodeKind::Irregular => FileType::RegularFile,
    }
}

fn system_time(time: Time) -> SystemTime {
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let at = if time.seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    at.and_then(|at| at.checked_add(Duration::from_nanos(time.nanoseconds.into()))).unwrap_or(UNIX_EPOCH)
}

impl Filesystem for SnapshotFiles {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // One slow lookup in a directory need not keep the others waiting. An old kernel may not know that.
        let _ = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.find(parent, name) {
            Ok((keep, attributes)) => reply.entry(&keep, &attributes, Generation(0)),
            Err(e) => reply.error(e),
        }
    }

    fn forget(&self, _: &Request, number: INodeNo, times: u64) {
        self.numbers.forget(number.0, times);
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.entry(number) {
            Ok(entry) => {
                let keep = if matches!(entry, Entry::Node(..)) { KEEP } else { self.keep_folder() };
                reply.attr(&keep, &self.attributes(number.0, &entry));
            }
            Err(e) => reply.error(e),
        }
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        match self.entry(number) {
            Ok(Entry::Link(target)) => reply.data(target.as_bytes()),
            Ok(Entry::Node(_, node)) => match &node.link_target {
                Some(target) => reply.data(target),
                None => reply.error(Errno::EINVAL),
            },
            Ok(_) => reply.error(Errno::EINVAL),
            Err(e) => reply.error(e),
        }
    }

    fn open(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let open = |node: &Node| self.browser.open(node).map_err(|e| self.failed(number.0, &e));
        match self.with_content(number, open).unwrap_or(Err(Errno::EISDIR)) {
            Ok(file) => {
                reply.opened(self.keep_open(Opened::File(Arc::new(file))), FopenFlags::FOPEN_KEEP_CACHE);
            }
            Err(e) => reply.error(e),
        }
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(Opened::File(file)) = self.opened().get(&handle.0).cloned() else {
            return reply.error(Errno::EBADF);
        };
        match self.browser.read(&file, offset, size as usize) {
            Ok(bytes) => reply.data(&bytes),
            Err(e) => reply.error(self.failed(number.0, &e)),
        }
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.opened().remove(&handle.0);
        reply.ok();
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.names(number) {
            Ok(names) => {
                reply.opened(self.keep_open(Opened::Directory(Arc::new(names))), FopenFlags::empty());
            }
            Err(e) => reply.error(e),
        }
    }

    fn readdir(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let Some(Opened::Directory(names)) = self.opened().get(&handle.0).cloned() else {
            return reply.error(Errno::EBADF);
        };
        // The offset of an entry is where to go on after it.
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (at, (number, kind, name)) in names.iter().enumerate().skip(from) {
            if reply.add(INodeNo(*number), at as u64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.opened().remove(&handle.0);
        reply.ok();
    }

    fn listxattr(&self, _: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        let names = self.with_content(number, |node| {
            Ok(node.xattrs.iter().flat_map(|(name, _)| name.bytes().chain([0])).collect::<Vec<u8>>())
        });
        answer(names.unwrap_or(Ok(Vec::new())), size, reply);
    }

    fn getxattr(&self, _: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let value = self.with_content(number, |node| {
            let found = node.xattrs.iter().find(|(known, _)| known.as_bytes() == name.as_bytes());
            found.map(|(_, value)| value.clone()).ok_or(Errno::NO_XATTR)
        });
        answer(value.unwrap_or(Err(Errno::NO_XATTR)), size, reply);
    }
}

/// How attributes are asked for: first how long, then what.
fn answer(value: Result<Vec<u8>, Errno>, size: u32, reply: ReplyXattr) {
    match value {
        Err(e) => reply.error(e),
        Ok(value) if size == 0 => reply.size(u32::try_from(value.len()).unwrap_or(u32::MAX)),
        Ok(value) if value.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(value) => reply.data(&value),
    }
}
