//! How much lies in a tree, by `lstat` alone: what was staged is counted, and after the swap the target again.
//!
//! The content itself was read back and compared in staging, and a rename does not change it. The count would show
//! a swap that left something behind. It is no proof: whoever uses the target may write there right after the
//! swap, so a difference is told and not taken for damage.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use super::{directory, is_kept};

/// Deeper directories count as themselves alone: one descriptor is open for each level.
const DEPTH_MAX: u32 = 256;

/// Numbers of entries by kind, and the bytes of the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Totals {
    pub files: u64,
    pub directories: u64,
    pub others: u64,
    pub bytes: u64,
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { files, directories, others, bytes } = self;
        write!(f, "{files} files, {directories} directories, {others} others, {bytes} bytes")
    }
}

/// Counts what lies below an open root, without the names that a swap leaves alone.
pub(super) fn count(root: impl AsFd) -> io::Result<Totals> {
    let mut totals = Totals::default();
    count_below(root.as_fd(), 0, &mut totals)?;
    Ok(totals)
}

fn count_below(parent: impl AsFd, depth: u32, totals: &mut Totals) -> io::Result<()> {
    let parent = parent.as_fd();
    directory::for_each(parent, |name, _| {
        if depth == 0 && is_kept(name) {
            return Ok(());
        }
        let Some(stat) = directory::stat(parent, name)? else { return Ok(()) };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                totals.files += 1;
                totals.bytes = totals.bytes.saturating_add(u64::try_from(stat.st_size).unwrap_or(0));
            }
            FileType::Directory => {
                totals.directories += 1;
                if depth < DEPTH_MAX {
                    match directory::open_at(parent, name) {
                        Ok(child) => count_below(child, depth + 1, totals)?,
                        // What may not be read is the same in both counts; what vanished is no longer there.
                        Err(e) if ignorable(&e) => {}
                        Err(e) => return Err(e),
                    }
                }
            }
            _ => totals.others += 1,
        }
        Ok(())
    })
}

fn ignorable(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
}
