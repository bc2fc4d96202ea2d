//! Reads a restored tree back and compares it with the snapshot: content by hash, metadata by value.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rustix::io::Errno;

use super::Context;
use super::choice::Fate;
use crate::pack::BlobKind;
use crate::posix;
use crate::repository::Opener;
use crate::tree::{Node, NodeKind};
use crate::walk::directory_of;
use crate::{Error, ErrorKind, Id, Result, parallel, threads};

/// Files are compared in groups of so many.
const GROUP: usize = 2_000;

struct Check {
    dir: Arc<OwnedFd>,
    node: Node,
    path: Vec<u8>,
}

/// Compares everything below `target` with `nodes`. A difference in content fails; one in metadata is a warning, as
/// there are file systems that cannot hold an owner or a mode.
pub(super) fn verify(
    context: &Context<'_>,
    mut opener: Opener,
    target: &Arc<OwnedFd>,
    nodes: Vec<Node>,
) -> Result<()> {
    let wrong = AtomicU64::new(0);
    let mut path = Vec::new();
    let mut group: Vec<Check> = Vec::new();
    let mut directories = 0;
    let mut stack = vec![(0, context.choice.of_target(), target.clone(), nodes.into_iter())];
    while let Some((length, fate, dir, nodes)) = stack.last_mut() {
        path.truncate(*length);
        let Some(node) = nodes.next() else {
            stack.pop();
            continue;
        };
        context.control.check()?;
        path.push(b'/');
        path.extend_from_slice(&node.name);
        let dir = dir.clone();
        let fate = context.choice.fate(&path, node.kind == NodeKind::Dir, *fate);
        if fate == Fate::LeftOut {
            continue;
        }
        if let Some(tree) = directory_of(&node, &path)? {
            let below = context.repository.read_tree(context.index, tree, &mut opener)?;
            let fd = match posix::open_dir(dir.as_fd(), &node.name) {
                // Nothing in it was chosen.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if fate == Fate::Passed => continue,
                other => other.map_err(|e| context.fail("open", &path, e))?,
            };
            stack.push((path.len(), fate, Arc::new(fd), below.into_iter()));
            directories += 1;
        }
        if node.kind != NodeKind::Irregular && fate == Fate::Restored {
            group.push(Check { dir, node, path: path.clone() });
        }
        if group.len() >= GROUP || directories >= 200 {
            compare(context, &group, &wrong)?;
            group.clear();
            directories = 0;
        }
    }
    compare(context, &group, &wrong)?;
    match wrong.into_inner() {
        0 => Ok(()),
        // The repository gave what it should, and something else stands there.
        n => Err(Error::new(
            ErrorKind::Invalid,
            format!("{n} entries differ from the snapshot after they were written; the warnings name them"),
        )),
    }
}

fn compare(context: &Context<'_>, group: &[Check], wrong: &AtomicU64) -> Result<()> {
    let next = AtomicUsize::new(0);
    parallel(threads(), group.len(), || {
        let mut buffer = Vec::new();
        while let Some(check) = group.get(next.fetch_add(1, Ordering::Relaxed)) {
            context.control.check()?;
            match posix::differences(&check.dir, &check.node.name, &check.node, context.am_root()) {
                Ok(problems) => context.warn_all(&check.path, problems),
                // Devices that may not be made are named already.
                Err(_) if !context.am_root() && check.node.device != 0 => continue,
                Err(_) => {}
            }
            if let Err(problem) = same_content(context, check, &mut buffer) {
                wrong.fetch_add(1, Ordering::Relaxed);
                context.warn_all(&check.path, vec![problem]);
            }
        }
        Ok(())
    })
}

fn same_content(context: &Context<'_>, check: &Check, buffer: &mut Vec<u8>) -> Result<(), String> {
    let Check { dir, node, .. } = check;
    let stat = posix::stat_at(dir.as_fd(), &node.name).map_err(|e| format!("is not there: {e}"))?;
    if posix::kind(&stat) != node.kind {
        return Err(format!("is a {}, not a {}", posix::kind(&stat), node.kind));
    }
    match node.kind {
        NodeKind::File => content(context, dir, node, stat.st_size as u64, buffer),
        NodeKind::Symlink => {
            let target = rustix::fs::readlinkat(dir, super::target::os(&node.name), Vec::new());
            let same = target.ok().map(std::ffi::CString::into_bytes) == node.link_target;
            if same { Ok(()) } else { Err("points elsewhere".to_owned()) }
        }
        _ => Ok(()),
    }
}

fn content(
    context: &Context<'_>,
    dir: &Arc<OwnedFd>,
    node: &Node,
    size: u64,
    buffer: &mut Vec<u8>,
) -> Result<(), String> {
    let fd = posix::open_file(dir.as_fd(), &node.name).map_err(|e| format!("cannot be opened: {e}"))?;
    let file = std::fs::File::from(fd);
    let mut at = 0;
    for id in &node.content {
        let place = context
            .index
            .place(BlobKind::Data, id)
            .map_err(|e| e.message)?
            .ok_or("its content is in no index")?;
        buffer.resize(place.plain_length() as usize, 0);
        std::os::unix::fs::FileExt::read_exact_at(&file, buffer, at)
            .map_err(|e| format!("cannot be read: {e}"))?;
        if Id::of(buffer) != *id {
            return Err(format!("its content differs at byte {at}"));
        }
        at += buffer.len() as u64;
    }
    if at == size { Ok(()) } else { Err(format!("has {size} bytes, not {at}")) }
}
