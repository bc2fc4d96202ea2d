//! Places below the target, reached without following any symbolic link.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::{Errno, Result};

use crate::posix;

/// How directories are opened that the caller named: links on the way there are the caller's own.
pub(super) const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Bytes as the system's kind of text.
pub(super) fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

/// Makes a directory, opens it and tells that it is new. One that is there is used; anything else of that name is
/// removed, or if that may not be an error.
pub(super) fn make_dir(dir: BorrowedFd<'_>, name: &[u8], may_replace: bool) -> Result<(OwnedFd, bool)> {
    match mkdirat(dir, os(name), Mode::RWXU) {
        Ok(()) => {}
        Err(Errno::EXIST) => match posix::open_dir(dir, name) {
            Err(Errno::NOTDIR | Errno::LOOP) if !may_replace => return Err(Errno::EXIST),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                unlinkat(dir, os(name), AtFlags::empty())?;
                mkdirat(dir, os(name), Mode::RWXU)?;
            }
            other => return Ok((other?, false)),
        },
        Err(e) => return Err(e),
    }
    Ok((posix::open_dir(dir, name)?, true))
}

/// Removes what stands in the way of a new entry; a directory that is not empty stays and is an error.
pub(super) fn make_way(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    match unlinkat(dir, os(name), AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => unlinkat(dir, os(name), AtFlags::REMOVEDIR),
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Makes a new file for writing with this mode; what had its name is removed.
pub(super) fn make_file(dir: BorrowedFd<'_>, name: &[u8], mode: Mode) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(dir, os(name), flags, mode) {
        Err(Errno::EXIST) => {
            make_way(dir, name)?;
            openat(dir, os(name), flags, mode)
        }
        other => other,
    }
}

/// Opens a file that is there already and can be made right where it lies. None if it has to be replaced.
pub(super) fn open_present(dir: BorrowedFd<'_>, name: &[u8]) -> Option<OwnedFd> {
    let fd = reopen_file(dir, name).ok()?;
    let (owner, me) = (rustix::fs::fstat(&fd).ok()?.st_uid, rustix::process::geteuid());
    (me.is_root() || me.as_raw() == owner).then_some(fd)
}

/// Opens a file again, to read and write it: a regular one that has no other name, as what bears that other name is
/// not ours to change.
pub(super) fn reopen_file(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = openat(dir, os(name), flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&fd)?;
    let is_ours = posix::kind(&stat) == crate::NodeKind::File && stat.st_nlink == 1;
    if is_ours { Ok(fd) } else { Err(Errno::INVAL) }
}

/// Opens the directory of `path` (`/a/b/name`, below `root`) and tells the name in it.
pub(super) fn open_parent<'p>(root: &OwnedFd, path: &'p [u8]) -> Result<(OwnedFd, &'p [u8])> {
    let mut parts: Vec<&[u8]> = path.split(|&b| b == b'/').filter(|part| !part.is_empty()).collect();
    let name = parts.pop().ok_or(Errno::INVAL)?;
    let mut dir = posix::open_dir(root.as_fd(), b".")?;
    for part in parts {
        dir = posix::open_dir(dir.as_fd(), part)?;
    }
    Ok((dir, name))
}
