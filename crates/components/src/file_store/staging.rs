//! The staging directory of one restore, held open by descriptor.
//!
//! ```text
//! journal.json   how far the restore has come
//! new/           the staged content; after an exchange of roots, what was there before
//! old/           what was there before (entries: one numbered directory for each time the target was emptied)
//! undone/        what was taken out of the target again
//! ```
//!
//! It belongs to us alone (mode 0700): nobody reaches restored content before its time.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::directory;
use super::journal;
use super::remove::{Left, remove};
use crate::{Error, ErrorKind, Result};

/// The staged content.
pub(super) const NEW: &str = "new";
/// What was there before.
pub(super) const OLD: &str = "old";
/// What an undo took out of the target.
pub(super) const UNDONE: &str = "undone";

/// An open staging directory.
#[derive(Debug)]
pub(super) struct Staging {
    pub path: PathBuf,
    pub directory: OwnedFd,
    parent: OwnedFd,
    name: OsString,
}

impl Staging {
    /// Makes it in `parent`, durably.
    pub fn create(parent: &Path, name: &OsStr) -> io::Result<Self> {
        let parent_fd = directory::open(parent)?;
        let made = directory::make(&parent_fd, name)?;
        rustix::fs::fsync(&parent_fd)?;
        Ok(Self { path: parent.join(name), directory: made, parent: parent_fd, name: name.to_owned() })
    }

    /// Opens the one that an earlier run made in `parent`; `None` if there is none.
    pub fn open(parent: &Path, name: &OsStr) -> Result<Option<Self>> {
        let path = parent.join(name);
        let fail = |e: io::Error| Error::io(format!("cannot open {}", path.display()), e);
        let opened = directory::open(parent).and_then(|p| directory::open_at(&p, name).map(|d| (p, d)));
        let (parent, directory) = match opened {
            Err(e) if e.kind() == io::ErrorKind::NotFound || e.kind() == io::ErrorKind::NotADirectory => {
                return Ok(None);
            }
            other => other.map_err(fail)?,
        };
        let owner = rustix::fs::fstat(&directory).map_err(|e| fail(e.into()))?.st_uid;
        if owner != rustix::process::geteuid().as_raw() {
            let message =
                format!("{} belongs to user {owner}, not to this server; remove it", path.display());
            return Err(Error::new(ErrorKind::Io, message));
        }
        Ok(Some(Self { path, directory, parent, name: name.to_owned() }))
    }

    /// Moves it into another directory of the same file system.
    pub fn move_into(&mut self, parent: &Path) -> io::Result<()> {
        let parent_fd = directory::open(parent)?;
        directory::rename(&self.parent, &self.name, &parent_fd, &self.name)?;
        self.parent = parent_fd;
        self.path = parent.join(&self.name);
        Ok(())
    }

    /// Makes the directory `name` inside, or opens it.
    pub fn make(&self, name: &str) -> io::Result<OwnedFd> {
        match directory::make(&self.directory, OsStr::new(name)) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                directory::open_at(&self.directory, OsStr::new(name))
            }
            other => other,
        }
    }

    /// Removes everything; nothing in it is needed any more.
    pub fn remove(&self) -> Left {
        let mut left = self.remove_content();
        if left.count == 0
            && let Err(e) = self.remove_self(&self.name)
        {
            left.note(&self.name, e);
        }
        left
    }

    /// Removes everything after a swap that is complete. A kill on the way leaves either the journal, or the name of
    /// one that has [finished](finished_name): never something that looks as if the swap had not been made.
    pub fn remove_finished(&self) -> Left {
        let mut left = self.remove_content();
        if left.count == 0 {
            let finished = finished_name(&self.name);
            let renamed = directory::rename(&self.parent, &self.name, &self.parent, &finished);
            if let Err(e) = renamed.map_err(io::Error::from).and_then(|()| self.remove_self(&finished)) {
                left.note(&self.name, e);
            }
        }
        left
    }

    fn remove_content(&self) -> Left {
        let mut left = Left::default();
        match directory::names(&self.directory) {
            Ok(names) => {
                for name in names.iter().filter(|name| *name != journal::FILE) {
                    remove(&self.directory, name, &mut left);
                }
            }
            Err(e) => left.note(&self.name, e),
        }
        left
    }

    /// Removes the journal alone, durably.
    pub fn remove_journal(&self) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.directory, journal::FILE, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(rustix::fs::fsync(&self.directory)?),
            Err(e) => Err(e.into()),
        }
    }

    fn remove_self(&self, name: &OsStr) -> io::Result<()> {
        rustix::fs::fsync(&self.parent)?;
        self.remove_journal()?;
        match rustix::fs::unlinkat(&self.parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(rustix::fs::fsync(&self.parent)?),
            Err(e) => Err(e.into()),
        }
    }
}

/// What a staging directory is called when the restore has ended and only its own removal is left.
pub(super) fn finished_name(name: &OsStr) -> OsString {
    let mut finished = name.to_owned();
    finished.push(".finished");
    finished
}
