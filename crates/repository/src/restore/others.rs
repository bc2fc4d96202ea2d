//! What lies in the target and not in the snapshot: found for a plan, removed by a restore.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::Context;
use super::choice::Fate;
use super::target::os;
use crate::posix::{self, show};
use crate::tree::{Node, NodeKind};
use crate::{Error, Result};

/// What is said where nothing is removed.
pub(super) const ELSEWHERE: &str = "nothing is removed in it: another file system begins here";

/// The names of these entries, in order.
pub(super) fn names_of(nodes: &[Node]) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = nodes.iter().map(|node| node.name.clone()).collect();
    names.sort_unstable();
    names
}

/// Whether two directories lie on one file system; if that cannot be told, they do not.
pub(super) fn same_file_system(a: &impl AsFd, b: &impl AsFd) -> bool {
    let device = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).map(|stat| stat.st_dev).ok();
    device(a.as_fd()).is_some_and(|a| device(b.as_fd()) == Some(a))
}

/// The entries of a directory but those with these names, which are in order. Where a file system takes different
/// names for the same, what bears one of the names under another is none of them.
pub(super) fn others_in(dir: BorrowedFd<'_>, path: &[u8], names: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    let mut found = posix::read_dir(dir).map_err(|e| Error::path("read", show(path), e))?;
    found.retain(|name| names.binary_search(name).is_err());
    if found.is_empty() {
        return Ok(found);
    }
    let place = |stat: &rustix::fs::Stat| (stat.st_dev, stat.st_ino);
    let kept: HashSet<_> =
        names.iter().filter_map(|name| posix::stat_at(dir, name).ok()).map(|stat| place(&stat)).collect();
    found.retain(|name| {
        posix::stat_at(dir, name).is_ok_and(|stat| {
            let has_one_name = posix::kind(&stat) == NodeKind::Dir || stat.st_nlink == 1;
            !(has_one_name && kept.contains(&place(&stat)))
        })
    });
    Ok(found)
}

/// Removes all chosen entries of a directory but those with these names, which are in order. Tells how many went. What
/// cannot be removed is named in the warnings.
pub(super) fn remove(
    context: &Context<'_>,
    dir: BorrowedFd<'_>,
    path: &[u8],
    fate: Fate,
    names: &[Vec<u8>],
) -> Result<u64> {
    let others = match others_in(dir, path, names) {
        Ok(others) => others,
        Err(e) => {
            context.control.warn(show(path), format!("nothing is removed in it: {}", e.message));
            return Ok(0);
        }
    };
    let mut removed = 0;
    for name in others {
        context.control.check()?;
        let mut path = path.to_vec();
        path.push(b'/');
        path.extend_from_slice(&name);
        removed += remove_entry(context, dir, &name, &path, fate)?;
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
    let stays = |e: Errno| {
        if e != Errno::NOENT {
            context.control.warn(show(path), format!("cannot be removed: {e}"));
        }
    };
    let stat = match posix::stat_at(dir, name) {
        Ok(stat) => stat,
        Err(e) => {
            stays(e);
            return Ok(0);
        }
    };
    let is_dir = posix::kind(&stat) == NodeKind::Dir;
    let fate = context.choice.fate(path, is_dir, above);
    if fate != Fate::Restored {
        return Ok(0);
    }
    let mut removed = 0;
    if is_dir {
        let fd = match posix::open_dir(dir, name) {
            Ok(fd) => fd,
            Err(e) => {
                stays(e);
                return Ok(0);
            }
        };
        if !same_file_system(&dir, &fd) {
            context.control.warn(show(path), ELSEWHERE);
            return Ok(0);
        }
        removed += remove(context, fd.as_fd(), path, fate, &[])?;
    }
    let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    match unlinkat(dir, os(name), flags) {
        Ok(()) => removed += 1,
        // Something in it was not chosen, or is named already.
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(e) => stays(e),
    }
    Ok(removed)
}
