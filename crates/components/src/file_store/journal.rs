//! The journal of one restore: `journal.json` in its staging directory.
//!
//! It says how far the restore has come and what must be known to finish or undo it: whose target it is, which
//! directory is the staged one and which the old one, how much was staged, and the metadata of both roots. It is
//! replaced whole (temporary name, sync, rename, sync of the directory), and always written before the step that
//! it announces.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::metadata::RootMetadata;
use super::verify::Totals;
use crate::{Error, ErrorKind, Result};

/// Its name in the staging directory.
pub(super) const FILE: &str = "journal.json";
const TEMPORARY: &str = "journal.json.tmp";
const VERSION: u32 = 1;
/// Ours is a few KiB; attributes of the roots may add to it.
const BYTES_MAX: u64 = 16 << 20;

/// How the swap is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Method {
    /// The target's root is renamed as a whole.
    Root,
    /// The root stays (a mount point), its entries are moved one by one.
    Entries,
}

/// How far the restore has come. What stands here was begun; the phase before it is complete and durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Phase {
    /// The staged content is incomplete, or no longer wanted. The target is untouched.
    Staging,
    /// The staged content is complete, verified and durable. The target is untouched.
    Staged,
    /// Root: the two directories are being exchanged.
    Swapping,
    /// Entries: what is there goes into `old`. Nothing staged is in the target yet.
    MovingOut,
    /// Entries: the staged entries go into the target. Nothing old is there any more.
    MovingIn,
    /// The target is the restored one; what was there before may go.
    Swapped,
    /// Undo, entries: what came in goes out again, into `undone`.
    TakingOut,
    /// Undo: what was there before comes back.
    PuttingBack,
}

/// What is known once everything is staged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Staged {
    /// Inode of the staged root. Device numbers may change with a restart of the machine and are not kept;
    /// all of this lies on the staging directory's file system, which is compared instead.
    pub staged_inode: u64,
    /// Inode of the target's root, if there was one.
    pub old_inode: Option<u64>,
    /// What was staged.
    pub totals: Totals,
    /// The staged root's own metadata.
    pub staged_root: RootMetadata,
    /// The old root's.
    pub old_root: Option<RootMetadata>,
}

/// The journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Journal {
    version: u32,
    /// The target's path, its bytes in hex.
    target: String,
    /// The same for people.
    target_text: String,
    pub method: Method,
    pub phase: Phase,
    pub staged: Option<Staged>,
}

impl Journal {
    pub fn new(target: &Path, method: Method) -> Self {
        Self {
            version: VERSION,
            target: hex::encode(target.as_os_str().as_bytes()),
            target_text: target.display().to_string(),
            method,
            phase: Phase::Staging,
            staged: None,
        }
    }

    /// Reads the journal of a staging directory; `None` where none was written yet.
    pub fn load(staging: impl AsFd, staging_path: &Path, target: &Path) -> Result<Option<Self>> {
        let damaged = |why: String| {
            Error::new(
                ErrorKind::Damaged,
                format!(
                    "the journal of an interrupted restore in {} {why}; compare {} with what lies there, \
                     put right what is wrong, then remove the directory",
                    staging_path.display(),
                    target.display()
                ),
            )
        };
        let bytes = match read(staging.as_fd()) {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) => bytes,
            Err(e) => return Err(Error::io(format!("cannot read {FILE} in {}", staging_path.display()), e)),
        };
        let journal: Self =
            serde_json::from_slice(&bytes).map_err(|e| damaged(format!("is damaged ({e})")))?;
        if journal.version != VERSION {
            return Err(damaged(format!(
                "has version {}, which this program does not know",
                journal.version
            )));
        }
        if journal.target != hex::encode(target.as_os_str().as_bytes()) {
            return Err(damaged(format!("is for another target, {:?}", journal.target_text)));
        }
        if journal.staged.is_none() && journal.phase != Phase::Staging {
            return Err(damaged("lacks what was staged".to_owned()));
        }
        Ok(Some(journal))
    }

    /// Replaces the journal durably.
    pub fn store(&self, staging: impl AsFd) -> io::Result<()> {
        let staging = staging.as_fd();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Always a new file: the pages of one whose sync failed must not be trusted again.
        match rustix::fs::unlinkat(staging, TEMPORARY, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(e.into()),
        }
        let file = rustix::fs::openat(staging, TEMPORARY, flags | OFlags::EXCL, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(file);
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        rustix::fs::renameat(staging, TEMPORARY, staging, FILE)?;
        Ok(rustix::fs::fsync(staging)?)
    }
}

fn read(staging: BorrowedFd<'_>) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(staging, FILE, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;

    use super::*;
    use crate::file_store::directory;

    fn path() -> &'static Path {
        Path::new(OsStr::from_bytes(b"/srv/caf\xe9"))
    }

    #[test]
    fn a_journal_reads_back_as_written_although_its_target_is_no_unicode() {
        let dir = tempfile::tempdir().unwrap();
        let fd = directory::open(dir.path()).unwrap();
        assert_eq!(Journal::load(&fd, dir.path(), path()).unwrap(), None);
        let journal = Journal::new(path(), Method::Entries);
        journal.store(&fd).unwrap();
        journal.store(&fd).unwrap();
        assert_eq!(Journal::load(&fd, dir.path(), path()).unwrap(), Some(journal));
        assert_eq!(directory::names(&fd).unwrap(), [FILE]);
    }

    #[test]
    fn a_damaged_or_foreign_journal_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let fd = directory::open(dir.path()).unwrap();
        Journal::new(Path::new("/srv/other"), Method::Root).store(&fd).unwrap();
        let error = Journal::load(&fd, dir.path(), path()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Damaged);
        assert!(error.message.contains("/srv/other"), "{error}");
        for text in ["", "\0\0\0\0", "{}", "{\"version\":1"] {
            fs::write(dir.path().join(FILE), text).unwrap();
            let error = Journal::load(&fd, dir.path(), path()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Damaged, "{text:?}");
        }
        let text = serde_json::to_string(&Journal::new(path(), Method::Root)).unwrap();
        fs::write(dir.path().join(FILE), text.replace("\"version\":1", "\"version\":9")).unwrap();
        let error = Journal::load(&fd, dir.path(), path()).unwrap_err();
        assert!(error.message.contains("version 9"), "{error}");
    }
}
