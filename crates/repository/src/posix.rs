//! What a POSIX file system says of an entry, and how to say it back: the only place that speaks to it about metadata.
//!
//! Work goes through directory descriptors and never follows a symbolic link, so neither a hostile snapshot nor
//! somebody who renames directories meanwhile can lead it elsewhere.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
    fchmod, fsetxattr, futimens, openat, utimensat,
};
use rustix::io::Errno;

use crate::Control;
use crate::time::Time;
use crate::tree::{Node, NodeKind, go_mode};

/// Longest list of attribute names, and longest value, that Linux has.
const XATTR_BYTES_MAX: usize = 64 << 10;

/// A path for people: bytes that are not text, and control characters, are escaped.
pub(crate) fn show(path: &[u8]) -> String {
    match std::str::from_utf8(path) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => path.escape_ascii().to_string(),
    }
}

/// Names of users and groups, read once from the system's files.
pub(crate) struct Names {
    users: HashMap<u32, Arc<str>>,
    groups: HashMap<u32, Arc<str>>,
    none: Arc<str>,
}

impl Names {
    pub(crate) fn load() -> Self {
        Self { users: table("/etc/passwd"), groups: table("/etc/group"), none: Arc::from("") }
    }
}

/// The name of a user of this machine, by the number.
pub fn user_name(number: u32) -> Option<String> {
    table("/etc/passwd").get(&number).map(|name| name.to_string())
}

/// `name:password:number:…` lines. A system without them has numbers alone.
fn table(path: &str) -> HashMap<u32, Arc<str>> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number = fields.nth(1)?.parse().ok()?;
        Some((number, Arc::from(name)))
    };
    text.lines().filter_map(line).collect()
}

/// Time of last change of the content.
pub(crate) fn mtime(stat: &Stat) -> Time {
    Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 }
}

/// Time of last change of the metadata.
pub(crate) fn ctime(stat: &Stat) -> Time {
    Time { seconds: stat.st_ctime, nanoseconds: stat.st_ctime_nsec as u32 }
}

/// What kind of entry this is.
pub(crate) fn kind(stat: &Stat) -> NodeKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => NodeKind::File,
        FileType::Directory => NodeKind::Dir,
        FileType::Symlink => NodeKind::Symlink,
        FileType::BlockDevice => NodeKind::Dev,
        FileType::CharacterDevice => NodeKind::CharDev,
        FileType::Fifo => NodeKind::Fifo,
        FileType::Socket => NodeKind::Socket,
        FileType::Unknown => NodeKind::Irregular,
    }
}

fn mode_of(stat: &Stat) -> u32 {
    let bit = |posix: u32, go: u32| if stat.st_mode & posix != 0 { go } else { 0 };
    let special = match kind(stat) {
        NodeKind::File => 0,
        NodeKind::Dir => go_mode::DIR,
        NodeKind::Symlink => go_mode::SYMLINK,
        NodeKind::Dev => go_mode::DEVICE,
        NodeKind::CharDev => go_mode::DEVICE | go_mode::CHAR_DEVICE,
        NodeKind::Fifo => go_mode::FIFO,
        NodeKind::Socket => go_mode::SOCKET,
        NodeKind::Irregular => go_mode::IRREGULAR,
    };
    stat.st_mode & 0o777
        | bit(0o4000, go_mode::SETUID)
        | bit(0o2000, go_mode::SETGID)
        | bit(0o1000, go_mode::STICKY)
        | special
}

/// An entry without its content: everything that `stat` tells.
pub(crate) fn node(name: &[u8], stat: &Stat, names: &Names) -> Node {
    let kind = kind(stat);
    let mut node = Node::new(name.to_vec(), kind);
    node.mode = mode_of(stat);
    node.mtime = mtime(stat);
    // Reading changes it; recording it would make every rescan a new tree.
    node.atime = node.mtime;
    node.ctime = ctime(stat);
    node.uid = stat.st_uid;
    node.gid = stat.st_gid;
    node.user = names.users.get(&node.uid).unwrap_or(&names.none).clone();
    node.group = names.groups.get(&node.gid).unwrap_or(&names.none).clone();
    node.inode = stat.st_ino;
    node.device_id = stat.st_dev;
    if kind == NodeKind::File {
        node.size = stat.st_size as u64;
    }
    if kind != NodeKind::Dir {
        node.links = stat.st_nlink;
    }
    if matches!(kind, NodeKind::Dev | NodeKind::CharDev) {
        node.device = stat.st_rdev;
    }
    node
}

/// Where an entry whose descriptor we do not have is found without following links.
fn proc_path(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

/// Something with extended attributes.
pub(crate) enum Attributed<'a> {
    Open(BorrowedFd<'a>),
    At(BorrowedFd<'a>, &'a [u8]),
}

impl Attributed<'_> {
    fn list(&self, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Self::Open(fd) => rustix::fs::flistxattr(fd, buffer),
            Self::At(dir, name) => rustix::fs::llistxattr(OsStr::from_bytes(&proc_path(*dir, name)), buffer),
        }
    }

    fn get(&self, attribute: &OsStr, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Self::Open(fd) => rustix::fs::fgetxattr(fd, attribute, buffer),
            Self::At(dir, name) => {
                rustix::fs::lgetxattr(OsStr::from_bytes(&proc_path(*dir, name)), attribute, buffer)
            }
        }
    }

    fn set(&self, attribute: &str, value: &[u8]) -> rustix::io::Result<()> {
        let flags = XattrFlags::empty();
        match self {
            Self::Open(fd) => fsetxattr(fd, attribute, value, flags),
            Self::At(dir, name) => {
                rustix::fs::lsetxattr(OsStr::from_bytes(&proc_path(*dir, name)), attribute, value, flags)
            }
        }
    }

    fn remove(&self, attribute: &OsStr) -> rustix::io::Result<()> {
        match self {
            Self::Open(fd) => rustix::fs::fremovexattr(fd, attribute),
            Self::At(dir, name) => {
                rustix::fs::lremovexattr(OsStr::from_bytes(&proc_path(*dir, name)), attribute)
            }
        }
    }

    /// All attributes of the entry at `path`. Those that cannot be kept are named in `control`'s warnings.
    pub(crate) fn read(&self, path: &[u8], control: &Control) -> Vec<(String, Vec<u8>)> {
        let lost = |name: &[u8]| {
            // The format has room for names that are text alone.
            let reason = format!("its attribute '{}' is not kept: the name is no text", name.escape_ascii());
            control.warn(show(path), reason);
        };
        self.try_read(lost).unwrap_or_else(|e| {
            control.warn(show(path), format!("its extended attributes cannot be read: {e}"));
            Vec::new()
        })
    }

    /// The names of all attributes, a zero byte after each. A file system without attributes has none.
    fn names(&self) -> rustix::io::Result<Vec<u8>> {
        // Nearly always there are none: ask with a small buffer first.
        let mut small = [0; 256];
        match self.list(&mut small) {
            Ok(0) | Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
            Ok(length) => Ok(small[..length].to_vec()),
            Err(Errno::RANGE) => {
                let mut large = vec![0; XATTR_BYTES_MAX];
                let length = self.list(&mut large)?;
                large.truncate(length);
                Ok(large)
            }
            Err(e) => Err(e),
        }
    }

    /// Names that are no text are handed to `lost`.
    fn try_read(&self, lost: impl Fn(&[u8])) -> io::Result<Vec<(String, Vec<u8>)>> {
        let names = self.names()?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut attributes = Vec::new();
        let mut value = vec![0; XATTR_BYTES_MAX];
        for name in names.split(|&b| b == 0).filter(|name| !name.is_empty()) {
            let Ok(text) = std::str::from_utf8(name) else {
                lost(name);
                continue;
            };
            match self.get(OsStr::from_bytes(name), &mut value) {
                Ok(length) => attributes.push((text.to_owned(), value[..length].to_vec())),
                // Removed since it was listed.
                Err(Errno::NODATA) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(attributes)
    }
}

/// Reads a directory's names, sorted by their bytes.
pub(crate) fn read_dir(fd: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// Opens a directory inside `dir`; never through a symbolic link.
pub(crate) fn open_dir(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, OsStr::from_bytes(name), flags, Mode::empty())
}

/// Opens a file for reading; never through a symbolic link, never waiting for a FIFO's writer, and without moving
/// its time of last reading where that is allowed.
pub(crate) fn open_file(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let name = OsStr::from_bytes(name);
    match openat(dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(dir, name, flags, Mode::empty()),
        other => other,
    }
}

/// `stat` of an entry itself.
pub(crate) fn stat_at(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Stat> {
    rustix::fs::statat(dir, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)
}

fn timespec(time: Time) -> Timespec {
    Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() }
}

fn timestamps(node: &Node) -> Timestamps {
    Timestamps { last_access: timespec(node.atime), last_modification: timespec(node.mtime) }
}

fn owner_warning(e: Errno, am_root: bool) -> Option<String> {
    // Whoever is not root cannot give files away; everybody knows.
    (am_root || e != Errno::PERM).then(|| format!("its owner cannot be set: {}", io::Error::from(e)))
}

/// Gives an open file or directory the owner, mode, attributes and times of `node`, in the one order that works:
/// a change of owner clears set-uid bits, and everything moves the times. What is right already is not set again, which
/// costs the file system far more than looking. Returns what could not be set.
pub(crate) fn apply_open(fd: BorrowedFd<'_>, node: &Node, am_root: bool) -> Vec<String> {
    let mut problems = Vec::new();
    let owner = (Some(Uid::from_raw(node.uid)), Some(Gid::from_raw(node.gid)));
    let is_owned = rustix::fs::fstat(fd).is_ok_and(|stat| (stat.st_uid, stat.st_gid) == (node.uid, node.gid));
    if !is_owned && let Err(e) = rustix::fs::fchown(fd, owner.0, owner.1) {
        problems.extend(owner_warning(e, am_root));
    }
    // Before the mode, which may forbid even the owner to write them, and which an access list moves.
    apply_xattrs(&Attributed::Open(fd), node, &mut problems);
    let has_mode = rustix::fs::fstat(fd).is_ok_and(|stat| stat.st_mode & 0o7777 == node.permissions());
    if !has_mode && let Err(e) = fchmod(fd, Mode::from_raw_mode(node.permissions())) {
        problems.push(format!("its mode cannot be set: {}", io::Error::from(e)));
    }
    if let Err(e) = futimens(fd, &timestamps(node)) {
        problems.push(format!("its times cannot be set: {}", io::Error::from(e)));
    }
    problems
}

/// The same for links, devices, FIFOs and sockets, which are not opened.
pub(crate) fn apply_at(dir: BorrowedFd<'_>, node: &Node, am_root: bool) -> Vec<String> {
    let mut problems = Vec::new();
    let name = OsStr::from_bytes(&node.name);
    let owner = (Some(Uid::from_raw(node.uid)), Some(Gid::from_raw(node.gid)));
    if let Err(e) = chownat(dir, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW) {
        problems.extend(owner_warning(e, am_root));
    }
    if node.kind != NodeKind::Symlink
        && let Err(e) = chmodat(dir, name, Mode::from_raw_mode(node.permissions()), AtFlags::empty())
    {
        problems.push(format!("its mode cannot be set: {}", io::Error::from(e)));
    }
    apply_xattrs(&Attributed::At(dir, &node.name), node, &mut problems);
    if let Err(e) = utimensat(dir, name, &timestamps(node), AtFlags::SYMLINK_NOFOLLOW) {
        problems.push(format!("its times cannot be set: {}", io::Error::from(e)));
    }
    problems
}

/// Attributes that a restored entry has only if the snapshot has them: what programs and people attach, rights that
/// a file of that name had before, and access lists inherited from the directory. Others belong to the file system.
fn is_ours(attribute: &[u8]) -> bool {
    let rights: [&[u8]; 3] =
        [b"system.posix_acl_access", b"system.posix_acl_default", b"security.capability"];
    attribute.starts_with(b"user.") || rights.contains(&attribute)
}

fn apply_xattrs(to: &Attributed<'_>, node: &Node, problems: &mut Vec<String>) {
    for name in to.names().unwrap_or_default().split(|&b| b == 0).filter(|name| is_ours(name)) {
        let wanted = node.xattrs.iter().any(|(wanted, _)| wanted.as_bytes() == name);
        if !wanted && let Err(e) = to.remove(OsStr::from_bytes(name)) {
            let name = name.escape_ascii();
            problems.push(format!("its attribute {name} cannot be removed: {}", io::Error::from(e)));
        }
    }
    for (name, value) in &node.xattrs {
        if let Err(e) = to.set(name, value) {
            problems.push(format!(
                "its attribute {} cannot be set: {}",
                name.escape_debug(),
                io::Error::from(e)
            ));
        }
    }
}

/// Makes a link, device, FIFO or socket.
pub(crate) fn make_special(dir: BorrowedFd<'_>, node: &Node) -> rustix::io::Result<()> {
    let name = OsStr::from_bytes(&node.name);
    let kind = match node.kind {
        NodeKind::Symlink => {
            let target = node.link_target.as_deref().unwrap_or_default();
            return rustix::fs::symlinkat(OsStr::from_bytes(target), dir, name);
        }
        NodeKind::Dev => FileType::BlockDevice,
        NodeKind::CharDev => FileType::CharacterDevice,
        NodeKind::Fifo => FileType::Fifo,
        NodeKind::Socket => FileType::Socket,
        NodeKind::File | NodeKind::Dir | NodeKind::Irregular => return Err(Errno::INVAL),
    };
    rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(0o600), node.device)
}

/// How the metadata of an entry on disk differs from what the snapshot says of it; empty if it is the same.
pub(crate) fn differences(
    fd: &impl AsFd,
    name: &[u8],
    node: &Node,
    am_root: bool,
) -> io::Result<Vec<String>> {
    let stat = stat_at(fd.as_fd(), name)?;
    let mut problems = Vec::new();
    if node.kind != NodeKind::Symlink && stat.st_mode & 0o7777 != node.permissions() {
        problems.push(format!("its mode is {:o}, not {:o}", stat.st_mode & 0o7777, node.permissions()));
    }
    if am_root && (stat.st_uid, stat.st_gid) != (node.uid, node.gid) {
        problems.push(format!("its owner is {}:{}, not {}:{}", stat.st_uid, stat.st_gid, node.uid, node.gid));
    }
    if mtime(&stat) != node.mtime {
        problems.push(format!("its time is {}, not {}", mtime(&stat).text(), node.mtime.text()));
    }
    Ok(problems)
}
