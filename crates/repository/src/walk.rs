//! Walks through the trees of a snapshot.

use std::collections::HashSet;

use crate::pack::BlobKind;
use crate::posix::show;
use crate::repository::Opener;
use crate::tree::{Node, NodeKind};
use crate::{Control, Error, ErrorKind, Id, Index, Repository, Result};

/// Sums over a snapshot or a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeSize {
    /// Regular files, and links, devices and the like.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Bytes of file content; a hard-linked file counts each time.
    pub bytes: u64,
}

/// Visits all entries of a snapshot, each directory before what is in it: path (`/srv/content/a`, raw bytes) and entry.
pub fn walk(
    repository: &Repository,
    index: &Index,
    snapshot: Id,
    visit: &mut dyn FnMut(&[u8], &Node) -> Result<()>,
) -> Result<()> {
    let tree = repository.snapshot(snapshot)?.tree;
    walk_tree(repository, index, tree, &mut Opener::new()?, visit)
}

/// Visits all entries below a tree. Only the listings on the way to the current entry are in memory.
pub(crate) fn walk_tree(
    repository: &Repository,
    index: &Index,
    tree: Id,
    opener: &mut Opener,
    visit: &mut dyn FnMut(&[u8], &Node) -> Result<()>,
) -> Result<()> {
    let mut path = Vec::new();
    let mut stack = vec![(0, repository.read_tree(index, tree, opener)?.into_iter())];
    while let Some((length, nodes)) = stack.last_mut() {
        path.truncate(*length);
        let Some(node) = nodes.next() else {
            stack.pop();
            continue;
        };
        path.push(b'/');
        path.extend_from_slice(&node.name);
        visit(&path, &node)?;
        if let Some(subtree) = directory_of(&node, &path)? {
            let nodes = repository.read_tree(index, subtree, opener).map_err(|e| in_directory(&path, e))?;
            stack.push((path.len(), nodes.into_iter()));
        }
    }
    Ok(())
}

/// The listing of a directory; `None` for other entries.
pub(crate) fn directory_of(node: &Node, path: &[u8]) -> Result<Option<Id>> {
    match (node.kind, node.subtree) {
        (NodeKind::Dir, Some(id)) => Ok(Some(id)),
        (NodeKind::Dir, None) => {
            Err(Error::damaged(format!("directory '{}'", show(path)), "it has no listing"))
        }
        _ => Ok(None),
    }
}

pub(crate) fn in_directory(path: &[u8], mut error: Error) -> Error {
    error.message = format!("directory '{}': {}", show(path), error.message);
    error
}

/// The entry at `path` (like `/srv/content`) below a tree; `None` for the root itself.
pub(crate) fn find(
    repository: &Repository,
    index: &Index,
    tree: Id,
    path: &[u8],
    opener: &mut Opener,
) -> Result<Option<Node>> {
    let mut found: Option<Node> = None;
    for part in path.split(|&b| b == b'/').filter(|part| !part.is_empty() && *part != b".") {
        let none = || Error::new(ErrorKind::NotFound, format!("the snapshot has no '{}'", show(path)));
        let listing = match &found {
            None => tree,
            Some(node) => node.subtree.ok_or_else(none)?,
        };
        let nodes = repository.read_tree(index, listing, opener)?;
        found = Some(nodes.into_iter().find(|node| node.name == part).ok_or_else(none)?);
    }
    Ok(found)
}

/// Sums of a snapshot, or of what lies at `subpath` in it; reads trees alone.
pub fn measure(
    repository: &Repository,
    index: &Index,
    snapshot: Id,
    subpath: Option<&[u8]>,
) -> Result<TreeSize> {
    let mut opener = Opener::new()?;
    let mut tree = repository.snapshot(snapshot)?.tree;
    let mut size = TreeSize::default();
    if let Some(node) = find(repository, index, tree, subpath.unwrap_or_default(), &mut opener)? {
        count(&mut size, &node);
        match node.subtree {
            Some(subtree) => tree = subtree,
            None => return Ok(size),
        }
    }
    walk_tree(repository, index, tree, &mut opener, &mut |_, node| {
        count(&mut size, node);
        Ok(())
    })?;
    Ok(size)
}

fn count(size: &mut TreeSize, node: &Node) {
    if node.kind == NodeKind::Dir {
        size.dirs += 1;
    } else {
        size.files += 1;
        size.bytes += node.size;
    }
}

/// Every pack that a snapshot needs. `Damaged` names the first blob that no index knows.
pub fn needed_packs(
    repository: &Repository,
    index: &Index,
    snapshot: Id,
    control: &Control,
) -> Result<HashSet<Id>> {
    let root = repository.snapshot(snapshot)?.tree;
    let mut packs = HashSet::new();
    let (mut seen, mut pending) = (HashSet::from([root]), vec![root]);
    let mut opener = Opener::new()?;
    let mut need = |kind, id: Id| match index.place(kind, &id) {
        Some(place) => {
            packs.insert(index.pack_id(place.pack));
            Ok(())
        }
        None => Err(Error::damaged(format!("snapshot {snapshot}"), format!("blob {id} is in no index"))),
    };
    while let Some(tree) = pending.pop() {
        control.check()?;
        need(BlobKind::Tree, tree)?;
        for node in repository.read_tree(index, tree, &mut opener)? {
            for id in &node.content {
                need(BlobKind::Data, *id)?;
            }
            pending.extend(node.subtree.filter(|id| seen.insert(*id)));
        }
    }
    Ok(packs)
}
