//! Directories by descriptor: what the swap is made of. Nothing here follows a symbolic link in a last component,
//! so that nobody who may write into the content can lead us out of it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// Opens the directory at `path`; what lies above its last component may be symbolic links.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    open_at(rustix::fs::CWD, path.as_os_str())
}

/// Opens the directory `name` in `parent`.
pub(super) fn open_at(parent: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(parent, name, DIRECTORY | OFlags::RDONLY, Mode::empty())?)
}

/// Opens the directory `name` in `parent` for reading and changing; where its mode forbids its owner (us) that, the
/// mode is widened first.
pub(super) fn open_for_change(parent: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let parent = parent.as_fd();
    // O_PATH needs no right on the directory itself, and holds it: no link can take its place meanwhile.
    let held = rustix::fs::openat(parent, name, DIRECTORY | OFlags::PATH, Mode::empty())?;
    let mode = rustix::fs::fstat(&held)?.st_mode;
    if mode & 0o700 != 0o700 {
        let path = format!("/proc/self/fd/{}", held.as_raw_fd());
        match rustix::fs::chmod(path, Mode::from_raw_mode(mode | 0o700)) {
            // Root needs no mode, and may not be allowed to change it either (a network disk).
            Ok(()) | Err(Errno::PERM | Errno::ACCESS | Errno::ROFS) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(rustix::fs::openat(&held, ".", DIRECTORY | OFlags::RDONLY, Mode::empty())?)
}

/// What `name` in `parent` is; `None` where there is nothing.
pub(super) fn stat(parent: impl AsFd, name: &OsStr) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Whether this is a directory.
pub(super) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Calls `visit` with each entry's name and kind (`Unknown` where the file system does not say).
pub(super) fn for_each(
    directory: impl AsFd,
    mut visit: impl FnMut(&OsStr, FileType) -> io::Result<()>,
) -> io::Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            visit(name, entry.file_type())?;
        }
    }
    Ok(())
}

/// The names of all entries.
pub(super) fn names(directory: impl AsFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for_each(directory, |name, _| {
        names.push(name.to_owned());
        Ok(())
    })?;
    Ok(names)
}

/// Makes the directory `name`, for the owner alone whatever the parent hands down, and opens it.
pub(super) fn make(parent: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let parent = parent.as_fd();
    rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
    let made = open_at(parent, name)?;
    // A parent's set-group-id bit and default ACL would otherwise go on into everything restored below.
    rustix::fs::fchmod(&made, Mode::RWXU)?;
    match rustix::fs::fremovexattr(&made, "system.posix_acl_default") {
        Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
        Err(e) => return Err(e.into()),
    }
    Ok(made)
}

/// Renames without replacing anything.
pub(super) fn rename(from: impl AsFd, name: &OsStr, to: impl AsFd, new_name: &OsStr) -> Result<(), Errno> {
    let (from, to) = (from.as_fd(), to.as_fd());
    match rustix::fs::renameat_with(from, name, to, new_name, RenameFlags::NOREPLACE) {
        // Some file systems do not know the flag.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            match rustix::fs::statat(to, new_name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Err(Errno::EXIST),
                Err(Errno::NOENT) => rustix::fs::renameat(from, name, to, new_name),
                Err(e) => Err(e),
            }
        }
        other => other,
    }
}

/// Makes everything written to this file system durable, and finds out what could not be written.
pub(super) fn sync_file_system(directory: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(directory)?)
}
