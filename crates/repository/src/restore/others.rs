//! Removes from the target what the snapshot does not have.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::Context;
use super::choice::Fate;
use super::target::os;
use crate::posix;
use crate::tree::NodeKind;
use crate::{Error, Result};

/// Removes all chosen entries of a directory but those with these names, which are in order. Tells how many went. What
/// cannot be removed is named in the warnings.
pub(super) fn remove(
    context: &Context<'_>,
    dir: BorrowedFd<'_>,
    path: &[u8],
    fate: Fate,
    names: &[Vec<u8>],
) -> Result<u64> {
    let present = posix::read_dir(dir).map_err(|e| Error::path("read", posix::show(path), e))?;
    let mut removed = 0;
    for name in present {
        context.control.check()?;
        if names.binary_search(&name).is_err() {
            let mut path = path.to_vec();
            path.push(b'/');
            path.extend_from_slice(&name);
            removed += remove_entry(context, dir, &name, &path, fate)?;
        }
    }
    Ok(removed)
}

/// Removes an entry with all that lies in it, as far as it is chosen.
fn remove_entry(
    context: &Context<'_>,
    dir: BorrowedFd<'_>,
    name: &[u8],
    path: &[u8],
    above: Fate,
) -> Result<u64> {
    let gone = |e: Errno| e == Errno::NOENT;
    let stat = match posix::stat_at(dir, name) {
        Err(e) if gone(e) => return Ok(0),
        other => other.map_err(|e| context.fail("look at", path, e))?,
    };
    let is_dir = posix::kind(&stat) == NodeKind::Dir;
    let fate = context.choice.fate(path, is_dir, above);
    if fate != Fate::Restored {
        return Ok(0);
    }
    let mut removed = 0;
    let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    if is_dir {
        let is_elsewhere = rustix::fs::fstat(dir).is_ok_and(|above| above.st_dev != stat.st_dev);
        if is_elsewhere {
            context.control.warn(posix::show(path), "is not removed: another file system begins here");
            return Ok(0);
        }
        let fd = posix::open_dir(dir, name).map_err(|e| context.fail("open", path, e))?;
        removed += remove(context, fd.as_fd(), path, fate, &[])?;
    }
    match unlinkat(dir, os(name), flags) {
        Ok(()) => removed += 1,
        // Something in it was not chosen, or is named already.
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(e) if gone(e) => {}
        Err(e) => context.control.warn(posix::show(path), format!("cannot be removed: {e}")),
    }
    Ok(removed)
}
