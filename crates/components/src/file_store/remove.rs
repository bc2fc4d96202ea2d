//! Removes a tree, and nothing else: through descriptors, following no symbolic link, leaving no file system.
//!
//! What cannot be removed (immutable, a mount point) is named, and the rest goes all the same.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::directory;

/// One descriptor is open for each level; deeper trees are first brought up to the root.
const DEPTH_MAX: u32 = 64;
/// How many failures are kept as text.
const FAILURES_MAX: usize = 5;

/// What could not be removed.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The first ones, for people.
    pub failures: Vec<String>,
    /// All of them.
    pub count: u64,
}

impl Left {
    /// One more.
    pub fn note(&mut self, name: &OsStr, why: impl std::fmt::Display) {
        self.count += 1;
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(format!("{name:?}: {why}"));
        }
    }
}

/// Removes `name` and all below it from the directory `top`. That it is not there is fine.
pub(super) fn remove(top: impl AsFd, name: &OsStr, left: &mut Left) {
    let top = top.as_fd();
    let Ok(root) = rustix::fs::fstat(top) else { return left.note(name, "its directory cannot be read") };
    let mut removal = Removal { top, device: root.st_dev, deep: Vec::new(), moved: 0, left };
    removal.entry(top, name, FileType::Unknown, 0);
    while let Some(deep) = removal.deep.pop() {
        removal.entry(top, &deep, FileType::Directory, 0);
    }
}

struct Removal<'a> {
    top: BorrowedFd<'a>,
    device: u64,
    /// Directories from too deep below that were moved to `top`.
    deep: Vec<OsString>,
    moved: u64,
    left: &'a mut Left,
}

impl Removal<'_> {
    /// Whether it is gone.
    fn entry(&mut self, parent: BorrowedFd<'_>, name: &OsStr, kind: FileType, depth: u32) -> bool {
        let result = match kind {
            FileType::Directory => self.directory(parent, name, depth),
            FileType::Unknown => match directory::stat(parent, name) {
                Ok(None) => Ok(true),
                Ok(Some(stat)) if directory::is_directory(&stat) => self.directory(parent, name, depth),
                Ok(Some(_)) => unlink(parent, name, AtFlags::empty()),
                Err(e) => Err(e),
            },
            _ => unlink(parent, name, AtFlags::empty()),
        };
        result.unwrap_or_else(|e| {
            self.left.note(name, e);
            false
        })
    }

    fn directory(&mut self, parent: BorrowedFd<'_>, name: &OsStr, depth: u32) -> io::Result<bool> {
        if is_mount_root(parent, name) {
            return Err(io::Error::other("a file system is mounted there"));
        }
        if depth >= DEPTH_MAX {
            return self.bring_up(parent, name);
        }
        let opened = match directory::open_for_change(parent, name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(true),
            other => other?,
        };
        if rustix::fs::fstat(&opened)?.st_dev != self.device {
            return Err(io::Error::other("it lies on another file system"));
        }
        // A listing may miss entries while others are being removed, so go on as long as a pass achieves something.
        loop {
            let (mut removed, mut failed) = (false, false);
            directory::for_each(&opened, |child, kind| {
                let gone = self.entry(opened.as_fd(), child, kind, depth + 1);
                (removed, failed) = (removed || gone, failed || !gone);
                Ok(())
            })?;
            if failed {
                return Ok(false); // named already, where it failed
            }
            match unlink(parent, name, AtFlags::REMOVEDIR) {
                Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty && removed => {}
                other => return other,
            }
        }
    }

    fn bring_up(&mut self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
        drop(directory::open_for_change(parent, name)?); // its ".." changes, which needs the right to write
        let up = loop {
            self.moved += 1;
            let up = OsString::from(format!("deep-{}", self.moved));
            match directory::rename(parent, name, self.top, &up) {
                Ok(()) => break up,
                Err(Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
        };
        self.deep.push(up);
        Ok(true)
    }
}

fn unlink(parent: BorrowedFd<'_>, name: &OsStr, flags: AtFlags) -> io::Result<bool> {
    match rustix::fs::unlinkat(parent, name, flags) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

/// A bind mount may have the same device number, so the kernel is asked outright. Old kernels do not say.
pub(super) fn is_mount_root(parent: impl AsFd, name: &OsStr) -> bool {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(parent, name, flags, StatxFlags::BASIC_STATS)
        .is_ok_and(|s| s.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::file_store::test_support::{Mount, is_root};

    fn remove_in(dir: &std::path::Path, name: &str) -> Left {
        let mut left = Left::default();
        remove(directory::open(dir).unwrap(), OsStr::new(name), &mut left);
        left
    }

    #[test]
    fn a_tree_goes_whole_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        fs::create_dir_all(tree.join("a/b/locked/in")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "x").unwrap();
        symlink(&outside, tree.join("a/link")).unwrap();
        symlink("nowhere", tree.join("a/dangling")).unwrap();
        fs::hard_link(outside.join("kept"), tree.join("hard")).unwrap();
        for n in 0..3000 {
            fs::write(tree.join(format!("a/b/{n}")), "").unwrap();
        }
        fs::set_permissions(tree.join("a/b/locked"), fs::Permissions::from_mode(0o000)).unwrap();
        assert_eq!(remove_in(dir.path(), "tree").count, 0);
        assert!(!tree.exists());
        assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), "x");
        assert_eq!(remove_in(dir.path(), "tree").count, 0, "again: nothing to do");
    }

    #[test]
    fn a_tree_deeper_than_any_path_goes_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut at = directory::make(directory::open(dir.path()).unwrap(), OsStr::new("tree")).unwrap();
        for _ in 0..3000 {
            at = directory::make(&at, OsStr::new("deeper")).unwrap();
        }
        drop(at);
        assert_eq!(remove_in(dir.path(), "tree").count, 0);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_mounted_inside_is_named_and_stays_whole() {
        if !is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "x").unwrap();
        fs::create_dir_all(dir.path().join("tree/mounted")).unwrap();
        fs::write(dir.path().join("tree/other"), "x").unwrap();
        let mount = Mount::bind(&outside, &dir.path().join("tree/mounted"));
        let left = remove_in(dir.path(), "tree");
        drop(mount);
        assert_eq!(left.count, 1);
        assert!(left.failures[0].contains("mounted"), "{left:?}");
        assert!(outside.join("kept").exists());
        assert!(!dir.path().join("tree/other").exists());
    }
}
